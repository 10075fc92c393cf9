//! What is counted and shown of one endpoint.

use super::{
    Metrics, Per, certificate,
    kept::Kept,
    labels::{AttemptResult, EndpointState, HandshakeKind, Label, Stage, UpstreamState},
    unix_seconds,
};
use crate::settings::Name;
use prometheus::{Histogram, IntCounter, IntGauge};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

/// The series of one endpoint.
pub struct EndpointMetrics {
    /// Attempts to get an upstream.
    pub attempts: Per<AttemptResult, IntCounter>,
    /// How long each stage took when it succeeded.
    pub seconds: Per<Stage, Histogram>,
    /// TLS handshakes done.
    pub handshakes: Per<HandshakeKind, IntCounter>,
    /// Upstreams, by what they are busy with.
    pub upstreams: Per<UpstreamState, IntGauge>,
    /// Changes of state, by the new one.
    pub changes: Per<EndpointState, IntCounter>,
    state: Per<EndpointState, IntGauge>,
    latency: prometheus::Gauge,
    certificate_not_after: prometheus::Gauge,
    certificate_not_after_seconds: AtomicU64,
    _series: Arc<Kept>,
}

impl Metrics {
    /// The series of an endpoint, all at zero from now on.
    pub fn endpoint(&self, cluster: &Name, endpoint: &Name) -> EndpointMetrics {
        let own = vec![("cluster", cluster.to_string()), ("endpoint", endpoint.to_string())];
        let series = self.keeper.keep(vec![own, certificate("server", endpoint)]);
        let (cluster, endpoint) = (cluster.as_str(), endpoint.as_str());
        let metrics = EndpointMetrics {
            attempts: Per::new(|result| self.connect_attempts.with_label_values(&[cluster, endpoint, result])),
            seconds: Per::new(|stage| self.connect_seconds.with_label_values(&[cluster, endpoint, stage])),
            handshakes: Per::new(|kind| self.tls_handshakes.with_label_values(&[cluster, endpoint, kind])),
            upstreams: Per::new(|state| self.upstreams.with_label_values(&[cluster, endpoint, state])),
            changes: Per::new(|state| self.endpoint_changes.with_label_values(&[cluster, endpoint, state])),
            state: Per::new(|state| self.endpoint_state.with_label_values(&[cluster, endpoint, state])),
            latency: self.endpoint_latency.with_label_values(&[cluster, endpoint]),
            certificate_not_after: self.certificate_not_after.with_label_values(&["server", endpoint]),
            certificate_not_after_seconds: AtomicU64::new(0),
            _series: series,
        };
        metrics.set_state(Some(EndpointState::Unknown));
        metrics
    }
}

impl EndpointMetrics {
    /// Shows what is known of it; `None` when it is no endpoint of the cluster any more.
    pub fn set_state(&self, now: Option<EndpointState>) {
        for &state in EndpointState::ALL {
            self.state.at(state).set(i64::from(Some(state) == now));
        }
    }

    /// Shows its distance.
    pub fn set_latency(&self, latency: Duration) {
        self.latency.set(latency.as_secs_f64());
    }

    /// Notes when the server's certificate expires.
    pub fn certificate_expires(&self, at: SystemTime) {
        self.certificate_not_after.set(unix_seconds(at));
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.certificate_not_after_seconds.store(since.as_secs(), Relaxed);
    }

    /// When it does, if one was seen.
    pub fn certificate_not_after(&self) -> Option<SystemTime> {
        let seconds = self.certificate_not_after_seconds.load(Relaxed);
        (seconds > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}
