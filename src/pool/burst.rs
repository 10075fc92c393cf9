//! How many upstreams clients take at once, as lately seen. Pure.

use crate::clock::Moment;
use std::time::Duration;

/// Counts what was taken since everything stood ready, and remembers the most of it for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Burst {
    taken: usize,
    /// The most in this span, and in the one before.
    most: usize,
    most_before: usize,
    span_began: Option<Moment>,
}

impl Burst {
    /// A client came, whether or not something stood ready for it.
    pub(super) fn taken(&mut self, now: Moment, span: Duration) {
        let began = *self.span_began.get_or_insert(now);
        if now.since(began) >= span {
            (self.most_before, self.most) = (self.most, 0);
            self.span_began = Some(now);
        }
        self.taken = self.taken.saturating_add(1);
        self.most = self.most.max(self.taken);
    }

    /// As many stand ready as are wanted.
    pub(super) fn refilled(&mut self) {
        self.taken = 0;
    }

    /// How many are to stand ready: as many as were lately taken at once, at least one.
    pub(super) fn wanted(&self, warm_max: usize) -> usize {
        self.most.max(self.most_before).max(1).min(warm_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn one_is_wanted_for_clients_that_come_one_after_the_other() {
        let mut burst = Burst::default();
        for seconds in 0..10 {
            burst.taken(at(seconds), SPAN);
            burst.refilled();
        }

        assert_eq!(burst.wanted(4), 1);
    }

    #[test]
    fn as_many_are_wanted_as_came_before_a_refill() {
        let mut burst = Burst::default();
        for _ in 0..3 {
            burst.taken(at(0), SPAN);
        }

        assert_eq!((burst.wanted(4), burst.wanted(2), burst.wanted(0)), (3, 2, 0));
    }

    #[test]
    fn a_burst_is_forgotten_after_two_spans() {
        let mut burst = Burst::default();
        for _ in 0..3 {
            burst.taken(at(0), SPAN);
        }
        burst.refilled();

        burst.taken(at(300), SPAN);
        burst.refilled();
        assert_eq!(burst.wanted(4), 3);
        burst.taken(at(600), SPAN);

        assert_eq!(burst.wanted(4), 1);
    }
}
