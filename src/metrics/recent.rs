//! How long the last clients of a listener waited for their upstreams, for people who look now; dashboards
//! take the histogram. Bounded in number and in age, and touched once for each client.

use crate::{clock::Moment, settings::Name};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// Waits of one listener's clients, the newest last.
#[derive(Debug, Default)]
pub struct RecentClaims(Mutex<VecDeque<(Moment, Duration)>>);

/// What half of the clients waited at most, and what all but one in a hundred did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: Duration,
    /// Of fewer than a hundred clients the longest.
    pub p99: Duration,
}

impl RecentClaims {
    /// Notes that a client got its upstream after so long.
    pub fn note(&self, now: Moment, waited: Duration) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.len() >= WAITS_MAX {
            waits.pop_front();
        }
        waits.push_back((now, waited));
    }

    /// Of the clients of late; `None` where there was none.
    pub fn percentiles(&self, now: Moment) -> Option<Percentiles> {
        let mut waits: Vec<Duration> = {
            let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Clients that were served at once may stand in another order than their moments.
            waits.retain(|(at, _)| now.since(*at) < AGE_MAX);
            waits.iter().map(|(_, waited)| *waited).collect()
        };
        waits.sort_unstable();
        let at = |percent: usize| waits.get((waits.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Percentiles { p50: at(50)?, p99: at(99)? })
    }
}

/// Those of every listener by its name, so that a reload forgets none.
#[derive(Default)]
pub(super) struct AllRecentClaims(Mutex<HashMap<Name, Weak<RecentClaims>>>);

impl AllRecentClaims {
    /// Those of this listener. Kept by whoever has them: a listener that is gone leaves nothing behind.
    pub(super) fn of(&self, listener: &Name) -> Arc<RecentClaims> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| known.strong_count() > 0);
        let known = all.get(listener).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let new = Arc::default();
            all.insert(listener.clone(), Arc::downgrade(&new));
            new
        })
    }
}

const WAITS_MAX: usize = 500;
const AGE_MAX: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn percentiles_are_waits_that_clients_really_had() {
        let (recent, now) = (RecentClaims::default(), Moment::default());
        assert_eq!(recent.percentiles(now), None);

        recent.note(now, ms(7));
        assert_eq!(recent.percentiles(now), Some(Percentiles { p50: ms(7), p99: ms(7) }));

        for wait in (1..=200).rev().filter(|wait| *wait != 7) {
            recent.note(now, ms(wait));
        }
        assert_eq!(recent.percentiles(now), Some(Percentiles { p50: ms(100), p99: ms(198) }));
    }

    #[test]
    fn waits_are_forgotten_by_age_and_beyond_a_number() {
        let (recent, now) = (RecentClaims::default(), Moment::default());
        for wait in 0..2_000 {
            recent.note(now, ms(wait));
        }

        assert_eq!(recent.0.lock().unwrap().len(), WAITS_MAX);
        assert!(recent.percentiles(now).is_some_and(|found| found.p50 > ms(1_500)), "the newest are kept");
        assert!(recent.percentiles(now.after(AGE_MAX - ms(1))).is_some());
        assert_eq!(recent.percentiles(now.after(AGE_MAX)), None);
    }

    #[test]
    fn a_listener_finds_its_own_again_until_it_is_gone() {
        let (all, main, other) = (AllRecentClaims::default(), Name::new("main").unwrap(), Name::new("other").unwrap());
        let before = all.of(&main);
        before.note(Moment::default(), ms(1));

        let again = all.of(&main);
        assert!(again.percentiles(Moment::default()).is_some());
        assert!(all.of(&other).percentiles(Moment::default()).is_none());

        drop((before, again));
        assert!(all.of(&main).percentiles(Moment::default()).is_none());
    }
}
