//! Which region is the nearest, without flapping: a home is left only for one that is clearly quicker, and
//! stays so. Pure.

use std::time::Duration;

/// The region that counts as the nearest for one listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nearest {
    home: Option<String>,
    /// The region that has lately been clearly quicker, and in how many samples running.
    challenger: Option<(String, u32)>,
}

impl Nearest {
    /// The nearest region, once one was settled on.
    pub(crate) fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }

    /// A region was measured. `distances` has all regions that were, this one among them.
    pub(crate) fn measured(&mut self, region: &str, distances: &[(String, Duration)]) {
        let distance_of = |name: &str| distances.iter().find(|(known, _)| known == name).map(|(_, span)| *span);
        let (Some(home), Some(sample)) = (self.home.as_deref(), distance_of(region)) else { return };
        if home == region {
            return;
        }
        let is_quicker = distance_of(home).is_none_or(|home| is_clearly_quicker(sample, home));
        match &mut self.challenger {
            Some((challenger, samples)) if challenger == region && is_quicker => *samples = samples.saturating_add(1),
            Some((challenger, _)) if challenger == region => self.challenger = None,
            // Two that are both quicker than home take turns; the nearer of them is the one that counts.
            Some((challenger, _)) if is_quicker && distance_of(challenger).is_none_or(|other| sample < other) => {
                self.challenger = Some((region.to_owned(), 1));
            }
            Some(_) => {}
            None if is_quicker => self.challenger = Some((region.to_owned(), 1)),
            None => {}
        }
        if let Some((challenger, SAMPLES..)) = &self.challenger {
            self.home = Some(challenger.clone());
            self.challenger = None;
        }
    }

    /// Every region has been tried once: the nearest of `distances` is home, unless one was before.
    pub(crate) fn settle(&mut self, distances: &[(String, Duration)]) {
        if self.home.is_none() {
            self.home = distances.iter().min_by_key(|(_, distance)| *distance).map(|(region, _)| region.clone());
        }
    }
}

fn is_clearly_quicker(sample: Duration, home: Duration) -> bool {
    sample.saturating_add(MARGIN) <= home && sample.saturating_mul(5) <= home.saturating_mul(4)
}

/// By so much, and by a fifth, another region must be quicker.
const MARGIN: Duration = Duration::from_millis(2);
const SAMPLES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn distances(of: &[(&str, u64)]) -> Vec<(String, Duration)> {
        of.iter().map(|(region, ms)| ((*region).to_owned(), Duration::from_millis(*ms))).collect()
    }

    fn at_home(of: &[(&str, u64)]) -> Nearest {
        let mut nearest = Nearest::default();
        nearest.settle(&distances(of));
        nearest
    }

    #[test]
    fn the_first_home_is_the_nearest() {
        assert_eq!(Nearest::default().home(), None);
        assert_eq!(at_home(&[("a", 30), ("b", 10), ("c", 20)]).home(), Some("b"));
    }

    #[test]
    fn home_moves_when_another_is_clearly_quicker_three_times_running() {
        let mut nearest = at_home(&[("a", 10), ("b", 30)]);
        let now = distances(&[("a", 50), ("b", 30)]);

        nearest.measured("b", &now);
        nearest.measured("a", &now);
        nearest.measured("b", &now);
        assert_eq!(nearest.home(), Some("a"));
        nearest.measured("b", &now);

        assert_eq!(nearest.home(), Some("b"));
    }

    #[test]
    fn a_sample_that_is_not_quicker_begins_the_count_anew() {
        let mut nearest = at_home(&[("a", 10), ("b", 30)]);
        for quicker in [true, true, false, true, true] {
            nearest.measured("b", &distances(&[("a", if quicker { 50 } else { 31 }), ("b", 30)]));
        }

        assert_eq!(nearest.home(), Some("a"));
    }

    #[test]
    fn a_little_quicker_is_not_enough() {
        for (home, other) in [(100, 81), (3, 2), (2, 1)] {
            let mut nearest = at_home(&[("a", 1), ("b", 500)]);
            for _ in 0..10 {
                nearest.measured("b", &distances(&[("a", home), ("b", other)]));
            }
            assert_eq!(nearest.home(), Some("a"), "{home} ms against {other} ms");
        }
    }

    #[test]
    fn of_two_challengers_the_nearer_one_wins() {
        let mut nearest = at_home(&[("a", 1), ("b", 500), ("c", 500)]);
        let now = distances(&[("a", 100), ("b", 50), ("c", 20)]);
        for _ in 0..3 {
            nearest.measured("b", &now);
            nearest.measured("c", &now);
        }

        assert_eq!(nearest.home(), Some("c"));
    }
}
