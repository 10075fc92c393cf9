//! The clock for ages and hold-offs: it counts the time that the machine was suspended, which timers do
//! not. Handed in, so that tests decide what time it is.

use crate::sys;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// A moment on a [`Clock`]; only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

/// What time it is.
pub trait Clock: Send + Sync {
    /// Now. Never runs backwards.
    fn now(&self) -> Moment;

    /// For how long the machine has been suspended since it started.
    fn suspended(&self) -> Duration;

    /// The time of day of a moment, for people.
    fn time_of(&self, moment: Moment) -> SystemTime {
        let (now, today) = (self.now(), SystemTime::now());
        let shifted =
            if moment > now { today.checked_add(moment.since(now)) } else { today.checked_sub(now.since(moment)) };
        shifted.unwrap_or(today)
    }
}

impl Moment {
    /// The moment that is so much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How much later this one is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Moment {
        Moment(sys::time_since_boot())
    }

    fn suspended(&self) -> Duration {
        sys::time_suspended()
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Clone, Debug, Default)]
pub struct SetClock(Arc<Mutex<(Duration, Duration)>>);

impl SetClock {
    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.0 = times.0.saturating_add(span);
    }

    /// Lets time pass while the machine is suspended.
    pub fn suspend(&self, span: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *times = (times.0.saturating_add(span), times.1.saturating_add(span));
    }
}

impl Clock for SetClock {
    fn now(&self) -> Moment {
        Moment(self.0.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn suspended(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_tell_spans_and_never_less_than_none() {
        let clock = SetClock::default();
        let before = clock.now();
        clock.advance(Duration::from_secs(2));

        assert_eq!(clock.now().since(before), Duration::from_secs(2));
        assert_eq!(before.since(clock.now()), Duration::ZERO);
        assert_eq!(before.after(Duration::from_secs(2)), clock.now());
    }

    #[test]
    fn the_machines_clock_runs_forwards_and_knows_suspend_apart() {
        let before = MachineClock.now();

        assert!(MachineClock.now() >= before);
        assert_eq!(SetClock::default().suspended(), Duration::ZERO);
        assert!(MachineClock.suspended() <= sys::time_since_boot());
    }

    #[test]
    fn a_moment_has_a_time_of_day() {
        let now = SystemTime::now();

        let later = MachineClock.time_of(MachineClock.now().after(Duration::from_secs(3600)));

        let span = later.duration_since(now).unwrap();
        assert!((3599..=3601).contains(&span.as_secs()), "{span:?}");
    }
}
