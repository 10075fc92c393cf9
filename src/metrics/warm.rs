//! The families of upstreams that stand ready.

use super::series::Families;
use prometheus::{IntCounterVec, IntGaugeVec};

/// Those of every listener.
pub(super) struct WarmFamilies {
    pub(super) claims: IntCounterVec,
    pub(super) ready: IntGaugeVec,
    pub(super) recycled: IntCounterVec,
    pub(super) resets: IntCounterVec,
}

impl WarmFamilies {
    pub(super) fn new(r: &Families<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            claims: r.counters(
                "warm_claims_total",
                "Whether an upstream stood ready for a session.",
                &["listener", "result"],
            )?,
            ready: r.gauges("warm_ready", "Upstreams that stand ready.", &["listener"])?,
            recycled: r.counters(
                "warm_recycled_total",
                "Upstreams that stood ready and were closed, by cause.",
                &["listener", "cause"],
            )?,
            resets: r.counters("resets_total", "Upstreams reset for another session.", &["listener", "result"])?,
        })
    }
}
