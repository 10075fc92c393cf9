//! Tells a server that does not read from one that is gone.
//!
//! TCP_USER_TIMEOUT ends a connection whose bytes are not acknowledged. It also ends one whose server
//! answers every probe and only does not read, as a server does whose own answers are not read: Linux
//! counts a closed window as well. So while the window is closed that limit is lifted, and the kernel is
//! asked now and then whether probes are answered.

use super::on_wake::OnWake;
use crate::sys::Sent;
use std::{
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// The socket under an upstream.
pub(crate) trait Path {
    /// Sets, or lifts, how long sent bytes may stay unacknowledged.
    fn set_user_timeout(&self, limit: Option<Duration>);
    /// How the bytes fare that were sent, where the kernel can be asked.
    fn sent(&self) -> Option<Sent>;
    /// The session is over: what the server says from now on is heard at once.
    fn settle(&mut self) {}
}

/// Watches one upstream.
pub(super) struct Stall {
    limit: Duration,
    /// From one look to the next.
    span: Duration,
    /// Stays for one span after the session has come to rest: not made anew for every query.
    timer: Option<OnWake<Sleep>>,
    is_lifted: bool,
}

impl Stall {
    /// `limit` is how long a server may leave bytes or probes unacknowledged.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, span: (limit / LOOKS).max(SPAN_MIN), timer: None, is_lifted: false }
    }

    /// Ready once the server is gone. Asks the kernel six times in `limit` while the session is at work,
    /// else never; in between it costs one atomic load.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_at_work: bool, path: &impl Path) -> Poll<()> {
        if !is_at_work && self.timer.is_none() {
            return Poll::Pending;
        }
        let span = self.span;
        loop {
            ready!(self.timer.get_or_insert_with(|| OnWake::new(sleep(span))).poll(cx));
            let sent = path.sent();
            self.lift(sent.is_some_and(|sent| sent.is_window_closed), path);
            if sent.is_some_and(|sent| sent.are_probes_unanswered && sent.last_ack >= self.limit) {
                return Poll::Ready(());
            }
            if !is_at_work && !self.is_lifted {
                self.timer = None;
                return Poll::Pending;
            }
            self.timer = Some(OnWake::new(sleep(span)));
        }
    }

    /// Nothing is watched any more: the limit holds again.
    pub(super) fn settle(&mut self, path: &impl Path) {
        self.lift(false, path);
    }

    fn lift(&mut self, is_lifted: bool, path: &impl Path) {
        if is_lifted != self.is_lifted {
            path.set_user_timeout((!is_lifted).then_some(self.limit));
            self.is_lifted = is_lifted;
        }
    }
}

const LOOKS: u32 = 6;
/// However short a limit was asked for.
const SPAN_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, future::poll_fn};
    use tokio::time::timeout;

    const LIMIT: Duration = Duration::from_secs(30);

    struct Fake {
        sent: Cell<Sent>,
        user_timeout: Cell<Option<Duration>>,
    }

    impl Path for Fake {
        fn set_user_timeout(&self, limit: Option<Duration>) {
            self.user_timeout.set(limit);
        }
        fn sent(&self) -> Option<Sent> {
            Some(self.sent.get())
        }
    }

    fn fake(is_window_closed: bool, are_probes_unanswered: bool, last_ack: Duration) -> Fake {
        let sent = Sent { is_window_closed, are_probes_unanswered, last_ack };
        Fake { sent: Cell::new(sent), user_timeout: Cell::new(Some(LIMIT)) }
    }

    async fn is_gone_within(stall: &mut Stall, path: &Fake, is_at_work: bool, limit: Duration) -> bool {
        timeout(limit, poll_fn(|cx| stall.poll(cx, is_at_work, path))).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_probes_and_does_not_read_is_waited_for() {
        let (mut stall, path) = (Stall::new(LIMIT), fake(true, false, LIMIT * 4));

        assert!(!is_gone_within(&mut stall, &path, true, LIMIT * 100).await);
        assert_eq!(path.user_timeout.get(), None);
        path.sent.set(Sent { is_window_closed: false, ..path.sent.get() });
        assert!(!is_gone_within(&mut stall, &path, false, LIMIT).await);

        assert_eq!(path.user_timeout.get(), Some(LIMIT), "put back once bytes move again");
        assert!(stall.timer.is_none(), "a session at rest has no timer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_window_is_noticed_before_the_kernel_gives_up() {
        let (mut stall, path) = (Stall::new(LIMIT), fake(true, false, LIMIT));

        assert!(!is_gone_within(&mut stall, &path, true, LIMIT / 2).await);

        assert_eq!(path.user_timeout.get(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_no_longer_answers_probes_is_gone_after_the_limit() {
        let (mut stall, path) = (Stall::new(LIMIT), fake(true, true, LIMIT / 2));
        assert!(!is_gone_within(&mut stall, &path, true, LIMIT * 2).await);

        path.sent.set(Sent { last_ack: LIMIT, ..path.sent.get() });

        assert!(is_gone_within(&mut stall, &path, true, LIMIT).await);
    }
}
