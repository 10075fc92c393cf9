//! When a relay must end although both sides could go on: limits and the daemon's stop. A session with
//! no limit, while the daemon runs, never asks a clock.

use crate::{
    metrics::labels::CloseReason,
    shutdown::{Drain, Phase},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// What limits one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Longest silence at an idle point.
    pub(crate) idle_limit: Option<Duration>,
    /// From then on the next idle point is the last.
    pub(crate) ends_at: Option<Instant>,
    /// Longest silence once one side has ended and the other has not.
    pub(crate) close_limit: Duration,
    /// Longest silence of a server that owes acknowledgements.
    pub(crate) tcp_user_timeout: Duration,
}

/// What a rule demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The session ends for this reason.
    Close(CloseReason),
    /// One side has ended, and the other neither gives nor takes anything more.
    Stalled,
}

/// Rules, and what they judge by.
pub(super) struct Pace<'a> {
    rules: &'a Rules,
    phase: Phase,
    last_activity: Instant,
    is_idle: bool,
    has_side_ended: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(rules: &'a Rules, phase: Phase) -> Self {
        Self { rules, phase, last_activity: Instant::now(), is_idle: true, has_side_ended: false, timer: None }
    }

    /// The daemon goes on to `phase`.
    pub(super) fn enter(&mut self, phase: Phase) {
        if !self.is_timed() {
            self.last_activity = Instant::now();
        }
        self.phase = phase;
    }

    /// Notes where the session stands, and whether bytes have moved since the last time.
    pub(super) fn note(&mut self, has_moved: bool, is_idle: bool, has_side_ended: bool) {
        let end_is_new = has_side_ended && !self.has_side_ended;
        (self.is_idle, self.has_side_ended) = (is_idle, has_side_ended);
        if (has_moved || end_is_new) && self.is_timed() {
            self.last_activity = Instant::now();
        }
    }

    /// Ready once a rule demands the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        if !self.is_timed() {
            return Poll::Pending;
        }
        loop {
            let next = match self.judge(Instant::now()) {
                Judgement::Ends(verdict) => return Poll::Ready(verdict),
                Judgement::NotBefore(None) => return Poll::Pending,
                Judgement::NotBefore(Some(next)) => next,
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            // A timer that fires early is moved then: not with every message.
            if timer.is_elapsed() || timer.deadline() > next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn is_timed(&self) -> bool {
        self.rules.idle_limit.is_some()
            || self.rules.ends_at.is_some()
            || self.has_side_ended
            || !self.phase.is_serving()
    }

    fn judge(&self, now: Instant) -> Judgement {
        if self.phase == Phase::Cutting {
            return Judgement::Ends(Verdict::Close(CloseReason::DrainLimit));
        }
        let mut judgement = Judgement::NotBefore(None);
        if self.has_side_ended {
            judgement = judgement.or_at(now, self.last_activity + self.rules.close_limit, Verdict::Stalled);
        }
        // Before such a moment a timer is needed to notice it; after it, only the idle point is.
        let matters = |moment: Instant| self.is_idle || now < moment;
        if let Some(ends_at) = self.rules.ends_at.filter(|moment| matters(*moment)) {
            judgement = judgement.or_at(now, ends_at, Verdict::Close(CloseReason::AgeLimit));
        }
        if let Phase::Draining(Drain { idle_close, hurry_from }) = self.phase {
            if matters(hurry_from) {
                judgement = judgement.or_at(now, hurry_from, Verdict::Close(CloseReason::Drain));
            }
            if self.is_idle {
                judgement = judgement.or_at(now, self.last_activity + idle_close, Verdict::Close(CloseReason::Drain));
            }
        }
        if let Some(limit) = self.rules.idle_limit
            && self.is_idle
        {
            judgement = judgement.or_at(now, self.last_activity + limit, Verdict::Close(CloseReason::IdleLimit));
        }
        judgement
    }
}

#[derive(Clone, Copy)]
enum Judgement {
    Ends(Verdict),
    /// Nothing will change by time alone before then.
    NotBefore(Option<Instant>),
}

impl Judgement {
    /// Adds a rule that demands `verdict` from `moment` on. The first to demand one has it.
    fn or_at(self, now: Instant, moment: Instant, verdict: Verdict) -> Self {
        match self {
            Self::Ends(_) => self,
            Self::NotBefore(_) if now >= moment => Self::Ends(verdict),
            Self::NotBefore(next) => Self::NotBefore(Some(next.map_or(moment, |next| next.min(moment)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const MINUTE: Duration = Duration::from_secs(60);

    fn rules() -> Rules {
        Rules { idle_limit: None, ends_at: None, close_limit: MINUTE, tcp_user_timeout: MINUTE }
    }

    async fn ends_within(pace: &mut Pace<'_>, limit: Duration) -> Option<Verdict> {
        tokio::time::timeout(limit, poll_fn(|cx| pace.poll(cx))).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_ends() {
        let rules = rules();
        let mut pace = Pace::new(&rules, Phase::Running);

        assert_eq!(ends_within(&mut pace, 1000 * MINUTE).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_bytes_and_only_at_an_idle_point() {
        let rules = Rules { idle_limit: Some(10 * MINUTE), ..rules() };
        let mut pace = Pace::new(&rules, Phase::Running);

        assert_eq!(ends_within(&mut pace, 9 * MINUTE).await, None);
        pace.note(true, false, false);
        assert_eq!(ends_within(&mut pace, 100 * MINUTE).await, None);
        pace.note(true, true, false);
        assert_eq!(ends_within(&mut pace, 9 * MINUTE).await, None);
        assert_eq!(ends_within(&mut pace, 2 * MINUTE).await, Some(Verdict::Close(CloseReason::IdleLimit)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_session_ends_at_its_next_idle_point() {
        let rules = Rules { ends_at: Some(Instant::now() + MINUTE), ..rules() };
        let mut pace = Pace::new(&rules, Phase::Running);

        pace.note(true, false, false);
        assert_eq!(ends_within(&mut pace, 5 * MINUTE).await, None);
        pace.note(true, true, false);

        assert_eq!(ends_within(&mut pace, MINUTE / 60).await, Some(Verdict::Close(CloseReason::AgeLimit)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_silence_then_for_any_idle_point_then_for_nothing() {
        let rules = rules();
        let drain = || Drain { idle_close: MINUTE, hurry_from: Instant::now() + 10 * MINUTE };
        let drained = Some(Verdict::Close(CloseReason::Drain));

        let mut silent = Pace::new(&rules, Phase::Running);
        silent.enter(Phase::Draining(drain()));
        assert_eq!(ends_within(&mut silent, MINUTE / 2).await, None);
        assert_eq!(ends_within(&mut silent, MINUTE).await, drained);

        let mut busy = Pace::new(&rules, Phase::Draining(drain()));
        busy.note(true, false, false);
        assert_eq!(ends_within(&mut busy, 20 * MINUTE).await, None);
        busy.note(true, true, false);
        assert_eq!(ends_within(&mut busy, MINUTE / 60).await, drained);

        let mut stubborn = Pace::new(&rules, Phase::Draining(drain()));
        stubborn.note(true, false, false);
        stubborn.enter(Phase::Cutting);
        assert_eq!(ends_within(&mut stubborn, MINUTE).await, Some(Verdict::Close(CloseReason::DrainLimit)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_left_is_waited_for_while_answers_flow() {
        let rules = rules();
        let mut pace = Pace::new(&rules, Phase::Running);

        pace.note(true, false, true);
        assert_eq!(ends_within(&mut pace, MINUTE / 2).await, None);
        pace.note(true, false, true);
        assert_eq!(ends_within(&mut pace, MINUTE / 2).await, None);
        assert_eq!(ends_within(&mut pace, MINUTE).await, Some(Verdict::Stalled));
    }
}
