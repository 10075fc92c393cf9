//! An upstream that stood ready may have led into a black hole for a moment, which shows only once something
//! is sent. So from the first bytes that it is sent until the first that it says, what goes unacknowledged is
//! given up soon. An idle session is under the usual limits: one lost keepalive probe must not end it.

use super::stall::Path;
use std::time::Duration;

/// How far an upstream has shown that it leads somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// Nothing was sent to it yet.
    Untried,
    /// It was sent something, and has said nothing.
    Tried,
    /// It has said something, or was connected for this session.
    Over,
}

impl Trial {
    /// Nothing is tried any more: the usual limit holds again.
    pub(super) fn settle(&mut self, usual: Duration, path: &impl Path) {
        if *self == Self::Tried {
            path.set_user_timeout(Some(usual));
        }
        *self = Self::Over;
    }

    /// Costs a comparison once it is over; `usual` is the limit that holds then.
    pub(super) fn look(&mut self, was_asked: bool, was_heard: bool, usual: Duration, path: &impl Path) {
        match *self {
            Self::Over => {}
            Self::Untried if was_heard => *self = Self::Over,
            Self::Untried if was_asked => {
                path.set_user_timeout(Some(LIMIT.min(usual)));
                *self = Self::Tried;
            }
            Self::Tried if was_heard => {
                path.set_user_timeout(Some(usual));
                *self = Self::Over;
            }
            Self::Untried | Self::Tried => {}
        }
    }
}

/// Some retransmissions, also over a long way.
const LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Sent;
    use std::cell::RefCell;

    const USUAL: Duration = Duration::from_secs(30);

    #[derive(Default)]
    struct Fake(RefCell<Vec<Option<Duration>>>);

    impl Path for Fake {
        fn set_user_timeout(&self, limit: Option<Duration>) {
            self.0.borrow_mut().push(limit);
        }
        fn sent(&self) -> Option<Sent> {
            None
        }
    }

    /// The limits that were set, for what was known at each look.
    fn limits(looks: &[(bool, bool)], usual: Duration) -> Vec<Option<Duration>> {
        let (mut trial, path) = (Trial::Untried, Fake::default());
        for (was_asked, was_heard) in looks {
            trial.look(*was_asked, *was_heard, usual, &path);
        }
        path.0.into_inner()
    }

    #[test]
    fn the_short_limit_holds_from_the_first_question_to_the_first_answer() {
        let looks = [(false, false), (true, false), (true, false), (true, true), (true, true)];

        assert_eq!(limits(&looks, USUAL), [Some(LIMIT), Some(USUAL)]);
    }

    #[test]
    fn an_idle_session_keeps_the_usual_limit() {
        assert_eq!(limits(&[(false, false); 10], USUAL), []);
        assert_eq!(limits(&[(false, true), (true, true)], USUAL), [], "the server spoke first");
    }

    #[test]
    fn a_limit_that_is_shorter_anyway_stays() {
        let short = LIMIT / 2;

        assert_eq!(limits(&[(true, false), (true, true)], short), [Some(short), Some(short)]);
    }
}
