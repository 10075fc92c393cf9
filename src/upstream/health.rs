//! What is known of one endpoint from the attempts to reach it: a state with its reason, and a distance.
//! Pure: no I/O, and the time is handed in.

use crate::{clock::Moment, metrics::labels::EndpointState, settings::Limits};
use std::time::Duration;

/// The health of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: EndpointState,
    since: Moment,
    reason: Option<String>,
    /// Since when it has been well again, if it was not before.
    returned_at: Option<Moment>,
    /// Nodes in a row that turned somebody away, and since when.
    turned_away: u32,
    turned_away_since: Moment,
    latency: Option<Duration>,
    tried_at: Option<Moment>,
}

/// A change of state, for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The state before.
    pub(crate) was: EndpointState,
    /// The state now.
    pub(crate) is: EndpointState,
    /// Why, when it is not well.
    pub(crate) reason: Option<String>,
}

/// How an endpoint stands among others; the better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Well, or not known to be anything else.
    Steady,
    /// Well again, but not for `failback_after`.
    Returning,
    /// It failed once.
    Suspect,
    /// It keeps failing.
    Down,
}

impl Health {
    /// Nothing is known.
    pub(crate) fn unknown(now: Moment) -> Self {
        Self {
            state: EndpointState::Unknown,
            since: now,
            reason: None,
            returned_at: None,
            turned_away: 0,
            turned_away_since: now,
            latency: None,
            tried_at: None,
        }
    }

    /// It answered SSLRequest after so long: a sample of its distance.
    /// What comes after a failure tells of that, not of the distance.
    pub(crate) fn answered(&mut self, sample: Duration) {
        if matches!(self.state, EndpointState::Suspect | EndpointState::Down) && self.latency.is_some() {
            return;
        }
        self.latency = Some(match self.latency {
            // As TCP smooths round trips, but quicker to learn: samples are few.
            Some(smoothed) => smoothed.saturating_mul(3).saturating_add(sample) / 4,
            None => sample,
        });
    }

    /// It can be reached.
    pub(crate) fn succeeded(&mut self, now: Moment) -> Option<Change> {
        self.tried_at = Some(now);
        self.turned_away = 0;
        if matches!(self.state, EndpointState::Suspect | EndpointState::Down) {
            self.returned_at = Some(now);
        }
        self.enter(EndpointState::Well, None, now)
    }

    /// It cannot be reached. One failure makes it suspect, a second one in a row down.
    pub(crate) fn failed(&mut self, reason: String, now: Moment) -> Option<Change> {
        self.tried_at = Some(now);
        self.returned_at = None;
        let state = match self.state {
            EndpointState::Unknown | EndpointState::Well => EndpointState::Suspect,
            EndpointState::Suspect | EndpointState::Down => EndpointState::Down,
        };
        self.enter(state, Some(reason), now)
    }

    /// One of its nodes turned somebody away, as a node does that restarts. That is no mark against the
    /// endpoint, unless nobody has got in for so many tries that no node can be left.
    pub(crate) fn turned_away(&mut self, reason: String, now: Moment) -> Option<Change> {
        self.tried_at = Some(now);
        if self.turned_away == 0 {
            self.turned_away_since = now;
        }
        self.turned_away = self.turned_away.saturating_add(1);
        // Many clients that meet one restart at once are one event, not many.
        if self.turned_away < TURNED_AWAY_MAX || now.since(self.turned_away_since) < TURNED_AWAY_FOR {
            return None;
        }
        self.turned_away = 0;
        self.failed(reason, now)
    }

    /// What was known holds no longer, as after a suspend; distances do.
    pub(crate) fn forget(&mut self, now: Moment) -> Option<Change> {
        (self.returned_at, self.turned_away, self.tried_at) = (None, 0, None);
        self.enter(EndpointState::Unknown, None, now)
    }

    /// How it stands at `now`.
    pub(crate) fn standing(&self, failback_after: Duration, now: Moment) -> Standing {
        match self.state {
            EndpointState::Suspect => Standing::Suspect,
            EndpointState::Down => Standing::Down,
            EndpointState::Unknown | EndpointState::Well => match self.returned_at {
                Some(at) if now.since(at) < failback_after => Standing::Returning,
                _ => Standing::Steady,
            },
        }
    }

    /// When it counts as steady by time alone; `None` when it does, or when more than time is needed.
    pub(crate) fn steady_at(&self, failback_after: Duration, now: Moment) -> Option<Moment> {
        let at = self.returned_at.map(|at| at.after(failback_after))?;
        (self.state == EndpointState::Well && now < at).then_some(at)
    }

    /// When it is to be looked at again, unless somebody tries it before.
    pub(crate) fn probe_at(&self, limits: &Limits, now: Moment) -> Moment {
        let Some(tried_at) = self.tried_at else { return now };
        tried_at.after(match self.state {
            // Whether it was one node or all of them is to be known soon, although no client comes.
            EndpointState::Unknown | EndpointState::Well if self.turned_away > 0 => {
                SUSPECT_INTERVAL.min(limits.probe_interval)
            }
            EndpointState::Suspect => SUSPECT_INTERVAL.min(limits.probe_down_interval),
            EndpointState::Down => limits.probe_down_interval,
            EndpointState::Unknown | EndpointState::Well => limits.probe_interval,
        })
    }

    /// How long it may leave SSLRequest unanswered before another one is dialled beside it.
    pub(crate) fn patience(&self) -> Duration {
        self.latency.map_or(PATIENCE_MIN, |latency| PATIENCE_MIN.max(latency.saturating_mul(4)))
    }

    /// The state.
    pub(crate) fn state(&self) -> EndpointState {
        self.state
    }

    /// Since when.
    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    /// Why it is not well.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// From SSLRequest to the answer, smoothed.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// When it was tried last, with whatever result.
    pub(crate) fn tried_at(&self) -> Option<Moment> {
        self.tried_at
    }

    /// Whether it has been tried, with whatever result.
    pub(crate) fn is_tried(&self) -> bool {
        self.tried_at.is_some()
    }

    fn enter(&mut self, state: EndpointState, reason: Option<String>, now: Moment) -> Option<Change> {
        self.reason = reason;
        let was = std::mem::replace(&mut self.state, state);
        if was == state {
            return None;
        }
        self.since = now;
        Some(Change { was, is: state, reason: self.reason.clone() })
    }
}

/// The shortest patience, and that with an endpoint whose distance is not known.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// A suspect is looked at again so soon: most likely it was one lost packet.
const SUSPECT_INTERVAL: Duration = Duration::from_secs(1);
/// Two clients with four tries each. A balancer sends one in three to a node that restarts, so eight in a
/// row are not by chance …
const TURNED_AWAY_MAX: u32 = 8;
/// … unless they all come at the moment at which the node goes.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointState::{Down, Suspect, Unknown, Well};

    const HOLD_OFF: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    fn failed(health: &mut Health, seconds: u64) -> Option<EndpointState> {
        health.failed("refused".into(), at(seconds)).map(|change| change.is)
    }

    #[test]
    fn one_failure_makes_suspect_and_a_second_one_down() {
        let mut health = Health::unknown(at(0));
        assert_eq!(health.succeeded(at(1)).map(|change| (change.was, change.is)), Some((Unknown, Well)));

        assert_eq!(failed(&mut health, 2), Some(Suspect));
        assert_eq!(failed(&mut health, 3), Some(Down));
        assert_eq!(failed(&mut health, 4), None);

        assert_eq!((health.since(), health.reason()), (at(3), Some("refused")));
    }

    #[test]
    fn an_endpoint_that_returns_is_steady_only_after_the_hold_off() {
        let mut health = Health::unknown(at(0));
        assert_eq!(health.standing(HOLD_OFF, at(0)), Standing::Steady);
        failed(&mut health, 1);

        health.succeeded(at(10));
        assert_eq!(health.standing(HOLD_OFF, at(69)), Standing::Returning);
        assert_eq!(health.steady_at(HOLD_OFF, at(69)), Some(at(70)));
        health.succeeded(at(69));

        assert_eq!(health.standing(HOLD_OFF, at(70)), Standing::Steady, "counted from its return");
        assert_eq!(health.steady_at(HOLD_OFF, at(70)), None);
    }

    #[test]
    fn nodes_that_turn_away_are_no_mark_until_none_can_be_left() {
        let mut health = Health::unknown(at(0));
        health.succeeded(at(0));
        let away =
            |health: &mut Health, seconds| health.turned_away("57P03".into(), at(seconds)).map(|change| change.is);

        for _ in 0..100 {
            assert_eq!(away(&mut health, 1), None, "all at once");
        }
        health.succeeded(at(2));
        for _ in 1..TURNED_AWAY_MAX {
            assert_eq!(away(&mut health, 3), None, "somebody got in meanwhile");
        }
        assert_eq!(away(&mut health, 4), None);
        assert_eq!(away(&mut health, 5), Some(Suspect));
    }

    #[test]
    fn probes_follow_the_state_and_whoever_tried_last() {
        let limits = crate::settings::default_limits();
        let mut health = Health::unknown(at(0));
        assert_eq!(health.probe_at(&limits, at(5)), at(5));

        health.succeeded(at(10));
        assert_eq!(health.probe_at(&limits, at(11)), at(70));
        health.turned_away("57P03".into(), at(15));
        assert_eq!(health.probe_at(&limits, at(15)), at(16));
        failed(&mut health, 20);
        assert_eq!(health.probe_at(&limits, at(20)), at(21));
        failed(&mut health, 21);
        assert_eq!(health.probe_at(&limits, at(21)), at(26));
    }

    #[test]
    fn latency_is_smoothed_and_sets_the_patience() {
        let mut health = Health::unknown(at(0));
        assert_eq!(health.patience(), PATIENCE_MIN);

        health.answered(Duration::from_millis(100));
        health.answered(Duration::from_millis(200));
        assert_eq!((health.latency(), health.patience()), (Some(Duration::from_millis(125)), PATIENCE_MIN));
        health.answered(Duration::from_secs(4));

        assert!(health.patience() > Duration::from_secs(4));
    }

    #[test]
    fn an_answer_that_ends_an_outage_does_not_count_as_distance() {
        let mut health = Health::unknown(at(0));
        health.answered(Duration::from_millis(3));
        failed(&mut health, 1);

        health.answered(Duration::from_secs(4));
        health.succeeded(at(5));
        assert_eq!(health.latency(), Some(Duration::from_millis(3)));
        health.answered(Duration::from_millis(7));

        assert_eq!(health.latency(), Some(Duration::from_millis(4)));
    }

    #[test]
    fn after_a_suspend_only_distances_are_still_known() {
        let mut health = Health::unknown(at(0));
        health.answered(Duration::from_millis(3));
        failed(&mut health, 1);

        assert_eq!(health.forget(at(2)).map(|change| change.is), Some(Unknown));

        assert_eq!(health.standing(HOLD_OFF, at(2)), Standing::Steady);
        assert!(health.latency().is_some() && !health.is_tried());
    }
}
