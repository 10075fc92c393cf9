//! Spans that are not all the same, so that what began together does not come together for ever.

use std::time::Duration;

/// `span`, up to 10 % shorter or longer.
pub fn around(span: Duration) -> Duration {
    span.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_differ_and_by_a_tenth_at_most() {
        let span = Duration::from_secs(1000);
        let drawn: Vec<_> = (0..100).map(|_| around(span).as_secs()).collect();

        assert!(drawn.iter().all(|seconds| (900..=1100).contains(seconds)), "{drawn:?}");
        assert!(drawn.iter().any(|seconds| *seconds < 980) && drawn.iter().any(|seconds| *seconds > 1020), "{drawn:?}");
    }
}
