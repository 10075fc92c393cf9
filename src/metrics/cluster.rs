//! The series of clusters: what they are trusted by, logged in with, and discovered through.

use super::{
    kept::Kept,
    labels::CacheResult,
    series::{Families, Per},
    unix_seconds,
};
use crate::settings::Name;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::{sync::Arc, time::SystemTime};

/// Those of every cluster.
pub(super) struct ClusterFamilies {
    scram_cache: IntCounterVec,
    ca_not_after: GaugeVec,
    secret_read: GaugeVec,
    secret_ok: IntGaugeVec,
    discovery_ok: IntGaugeVec,
}

/// The series of one cluster.
pub struct ClusterMetrics {
    /// Whether derived SCRAM keys were at hand.
    pub scram_cache: Per<CacheResult, IntCounter>,
    ca_not_after: Gauge,
    secret_read: Gauge,
    secret_ok: IntGauge,
    discovery_ok: IntGauge,
    _series: Arc<Kept>,
}

impl ClusterFamilies {
    pub(super) fn new(r: &Families<'_>) -> Result<Self, prometheus::Error> {
        const CLUSTER: &[&str] = &["cluster"];
        Ok(Self {
            scram_cache: r.counters("scram_cache_total", "Look-ups of derived SCRAM keys.", &["cluster", "result"])?,
            ca_not_after: r.times("ca_not_after_timestamp_seconds", "When the cluster's CA expires.", CLUSTER)?,
            secret_read: r.times("secret_read_timestamp_seconds", "When the cluster's secret was read.", CLUSTER)?,
            secret_ok: r.gauges("secret_ok", "0 while the cluster's secret cannot be read, else 1.", CLUSTER)?,
            discovery_ok: r.gauges(
                "discovery_ok",
                "0 while the Cloud API cannot be asked for the cluster's regions, else 1.",
                CLUSTER,
            )?,
        })
    }

    /// Those of one, all at zero from now on; but nothing is wrong with its secret or its discovery.
    pub(super) fn of(&self, name: &Name, series: Arc<Kept>) -> ClusterMetrics {
        let name = name.as_str();
        let metrics = ClusterMetrics {
            scram_cache: Per::new(|result| self.scram_cache.with_label_values(&[name, result])),
            ca_not_after: self.ca_not_after.with_label_values(&[name]),
            secret_read: self.secret_read.with_label_values(&[name]),
            secret_ok: self.secret_ok.with_label_values(&[name]),
            discovery_ok: self.discovery_ok.with_label_values(&[name]),
            _series: series,
        };
        metrics.secret_is_ok(true);
        metrics.discovery_is_ok(true);
        metrics
    }
}

impl ClusterMetrics {
    /// Notes when the earliest certificate of the CA bundle expires, if there is a bundle.
    pub fn ca_expires(&self, at: Option<SystemTime>) {
        self.ca_not_after.set(at.map_or(0.0, unix_seconds));
    }

    /// Notes when the secret was last read, if it was.
    pub fn secret_read(&self, at: Option<SystemTime>) {
        self.secret_read.set(at.map_or(0.0, unix_seconds));
    }

    /// Shows whether the secret could be read the last time.
    pub fn secret_is_ok(&self, is_ok: bool) {
        self.secret_ok.set(i64::from(is_ok));
    }

    /// Shows whether the Cloud API could be asked the last time.
    pub fn discovery_is_ok(&self, is_ok: bool) {
        self.discovery_ok.set(i64::from(is_ok));
    }
}
