//! Whether what was read of settings and files is in use.

use super::{Metrics, series::Families, unix_seconds};
use prometheus::{Gauge, IntGauge};
use std::time::SystemTime;

/// The gauges that tell so.
pub(super) struct ConfigGauges {
    last_success: Gauge,
    ok: IntGauge,
}

impl ConfigGauges {
    /// Nothing is wrong until something is.
    pub(super) fn new(families: &Families<'_>) -> Result<Self, prometheus::Error> {
        let last_success = families.times(
            "config_last_success_timestamp_seconds",
            "When settings and files were last read without a fault.",
            &[],
        )?;
        let ok = families.gauges(
            "config_ok",
            "0 while settings or files that were read later are wrong and not in use, else 1.",
            &[],
        )?;
        let ok = ok.with_label_values::<&str>(&[]);
        ok.set(1);
        Ok(Self { last_success: last_success.with_label_values::<&str>(&[]), ok })
    }
}

impl Metrics {
    /// Notes that settings and files were read without a fault.
    pub fn has_loaded(&self, at: SystemTime) {
        self.config.last_success.set(unix_seconds(at));
    }

    /// Shows whether all that was read of settings and files is in use.
    pub fn config_is_ok(&self, is_ok: bool) {
        self.config.ok.set(i64::from(is_ok));
    }
}
