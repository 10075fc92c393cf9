//! Tells a server that does not read from one that is gone.
//!
//! TCP_USER_TIMEOUT ends a connection whose bytes are not acknowledged. It also ends one whose server
//! answers every probe and only does not read, as a server does whose own answers are not read: Linux
//! counts a closed window as well. So when bytes do not get through for a while, that limit is lifted and
//! the kernel is asked what it hears.

use crate::sys::Heard;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// The socket under an upstream.
pub(crate) trait Path {
    /// Sets, or lifts, how long sent bytes may stay unacknowledged.
    fn set_user_timeout(&self, limit: Option<Duration>);
    /// What the kernel hears from the other side, where it can be asked.
    fn heard(&self) -> Option<Heard>;
}

/// Watches one upstream for bytes that do not get through.
pub(super) struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    written: u64,
    is_lifted: bool,
}

impl Stall {
    /// `limit` is how long a server may be silent that owes acknowledgements.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, written: 0, is_lifted: false }
    }

    /// Ready once the server is gone. `written` counts the bytes that got through, `is_stuck` says that
    /// more are waiting. Costs nothing while none are.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, written: u64, is_stuck: bool, path: &impl Path) -> Poll<()> {
        if !is_stuck && self.timer.is_none() {
            return Poll::Pending;
        }
        let (limit, pause) = (self.limit, self.limit / 3);
        let timer = self.timer.get_or_insert_with(|| {
            self.written = written;
            Box::pin(sleep(pause))
        });
        loop {
            ready!(timer.as_mut().poll(cx));
            if !is_stuck || written != self.written {
                // Bytes move, if slowly. The timer stays while they might not, so that it is not made anew
                // for every write that has to wait.
                if self.is_lifted {
                    path.set_user_timeout(Some(limit));
                    self.is_lifted = false;
                }
                if !is_stuck {
                    self.timer = None;
                    return Poll::Pending;
                }
                self.written = written;
            } else {
                if !self.is_lifted {
                    path.set_user_timeout(None);
                    self.is_lifted = true;
                }
                if path.heard().is_some_and(|heard| heard.is_owed && heard.last_ack >= limit) {
                    return Poll::Ready(());
                }
            }
            timer.as_mut().reset(Instant::now() + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, future::poll_fn};
    use tokio::time::timeout;

    const LIMIT: Duration = Duration::from_secs(30);

    struct Fake {
        heard: Cell<Heard>,
        user_timeout: Cell<Option<Duration>>,
    }

    impl Path for Fake {
        fn set_user_timeout(&self, limit: Option<Duration>) {
            self.user_timeout.set(limit);
        }
        fn heard(&self) -> Option<Heard> {
            Some(self.heard.get())
        }
    }

    fn fake(is_owed: bool, last_ack: Duration) -> Fake {
        Fake { heard: Cell::new(Heard { is_owed, last_ack }), user_timeout: Cell::new(Some(LIMIT)) }
    }

    async fn is_gone_within(stall: &mut Stall, path: &Fake, written: u64, is_stuck: bool, limit: Duration) -> bool {
        timeout(limit, poll_fn(|cx| stall.poll(cx, written, is_stuck, path))).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_probes_and_does_not_read_is_waited_for() {
        let (mut stall, path) = (Stall::new(LIMIT), fake(false, LIMIT * 4));

        assert!(!is_gone_within(&mut stall, &path, 7, true, LIMIT * 100).await);
        assert_eq!(path.user_timeout.get(), None);
        assert!(!is_gone_within(&mut stall, &path, 8, false, LIMIT).await);

        assert_eq!(path.user_timeout.get(), Some(LIMIT), "put back once bytes move again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_owes_acknowledgements_is_gone_after_the_limit() {
        let (mut stall, path) = (Stall::new(LIMIT), fake(true, LIMIT / 2));
        assert!(!is_gone_within(&mut stall, &path, 7, true, LIMIT * 2).await);

        path.heard.set(Heard { is_owed: true, last_ack: LIMIT });

        assert!(is_gone_within(&mut stall, &path, 7, true, LIMIT).await);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_move_keep_the_kernels_own_limit_in_force() {
        let (mut stall, path) = (Stall::new(LIMIT), fake(true, LIMIT * 9));

        for written in 0..20 {
            assert!(!is_gone_within(&mut stall, &path, written, true, LIMIT / 4).await);
        }

        assert_eq!(path.user_timeout.get(), Some(LIMIT));
    }
}
