//! Every metric in one place. Names, units and label values are a promise to dashboards; label sets are
//! closed: no user, query or client address ever becomes one. A scrape takes no lock of the data path.

mod config;
mod endpoint;
mod kept;
pub mod labels;
mod process;
mod recent;
mod series;
mod warm;

use crate::settings::Name;
use config::ConfigGauges;
use kept::{Keeper, Kept};
use labels::{
    CacheResult, CancelResult, ClaimSource, CloseReason, DaemonState, Direction, ErrorClass, Label, OrderByHand,
    RecycleCause, RefuseReason, ReloadResult, ResetResult, WarmResult,
};
use process::ProcessSeries;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};
use recent::AllRecentClaims;
use series::Families;
use std::{sync::Arc, time::SystemTime};
use warm::WarmFamilies;

pub use endpoint::EndpointMetrics;
pub use recent::{Percentiles, RecentClaims};
pub use series::{Held, Per};

/// The registry and the families in it.
pub struct Metrics {
    registry: Registry,
    process: Option<ProcessSeries>,
    keeper: Arc<Keeper>,
    accepted: IntCounterVec,
    active: IntGaugeVec,
    closed: IntCounterVec,
    refused: IntCounterVec,
    session_seconds: HistogramVec,
    sessions_max: IntGaugeVec,
    bytes: IntCounterVec,
    statements: IntCounterVec,
    errors: IntCounterVec,
    claim_seconds: HistogramVec,
    recent_claims: AllRecentClaims,
    connect_attempts: IntCounterVec,
    connect_seconds: HistogramVec,
    scram_cache: IntCounterVec,
    tls_handshakes: IntCounterVec,
    upstreams: IntGaugeVec,
    endpoint_state: IntGaugeVec,
    endpoint_changes: IntCounterVec,
    endpoint_latency: GaugeVec,
    failovers: IntCounterVec,
    sessions_off_preferred: IntGaugeVec,
    failover_ready: IntGaugeVec,
    warm: WarmFamilies,
    by_hand: IntGaugeVec,
    ca_not_after: GaugeVec,
    secret_read: GaugeVec,
    secret_ok: IntGaugeVec,
    certificate_not_after: GaugeVec,
    config: ConfigGauges,
    /// Settings and files read again.
    pub reloads: Per<ReloadResult, IntCounter>,
    /// What became of cancel requests.
    pub cancels: Per<CancelResult, IntCounter>,
    state: Per<DaemonState, IntGauge>,
}

/// The series of one listener.
pub struct ListenerMetrics {
    /// Connections accepted.
    pub accepted: IntCounter,
    /// Connections open, in startup or in session.
    pub active: IntGauge,
    /// Sessions ended.
    pub closed: Per<CloseReason, IntCounter>,
    /// Clients that got no session.
    pub refused: Per<RefuseReason, IntCounter>,
    /// How long sessions lasted.
    pub session_seconds: Histogram,
    /// Protocol bytes after login.
    pub bytes: Per<Direction, IntCounter>,
    /// Statements completed.
    pub statements: IntCounter,
    /// The server's errors after login.
    pub errors: Per<ErrorClass, IntCounter>,
    /// Startup read to upstream ready.
    pub claim_seconds: Per<ClaimSource, Histogram>,
    /// The same of late, for `/status`.
    pub recent_claims: Arc<RecentClaims>,
    /// Moves of new sessions to another endpoint than the one where they belong.
    pub failovers: IntCounter,
    /// Open sessions that are on another endpoint than the one where they belong.
    pub off_preferred: IntGauge,
    /// Endpoints known to be well that could take over from the first.
    pub failover_ready: IntGauge,
    /// Whether upstreams stood ready for sessions.
    pub warm_claims: Per<WarmResult, IntCounter>,
    /// Upstreams that stand ready.
    pub warm_ready: IntGauge,
    /// Upstreams that stood ready and were closed.
    pub warm_recycled: Per<RecycleCause, IntCounter>,
    /// Upstreams reset for another session.
    pub resets: Per<ResetResult, IntCounter>,
    _series: Arc<Kept>,
}

/// The series of one cluster.
pub struct ClusterMetrics {
    /// Whether derived SCRAM keys were at hand.
    pub scram_cache: Per<CacheResult, IntCounter>,
    ca_not_after: prometheus::Gauge,
    secret_read: prometheus::Gauge,
    secret_ok: IntGauge,
    _series: Arc<Kept>,
}

impl Metrics {
    /// Registers every family. Fails only when two of them share a name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = Families::of(&registry);
        show_build(&r)?;
        let cancels = r.counters("cancels_total", "Cancel requests of clients, by result.", &["result"])?;
        let reloads = r.counters("config_reloads_total", "Settings and files read again, by result.", &["result"])?;
        let state = r.gauges("state", "1 for what the daemon is doing.", &["state"])?;
        let process = ProcessSeries::register(&registry)?;
        Ok(Self {
            accepted: r.counters("client_connections_accepted_total", "Client connections accepted.", LISTENER)?,
            active: r.gauges("client_connections_active", "Client connections open.", LISTENER)?,
            closed: r.counters("client_connections_closed_total", "Sessions ended, by reason.", LISTENER_REASON)?,
            refused: r.counters("client_connections_refused_total", "Clients refused, by reason.", LISTENER_REASON)?,
            session_seconds: r.histograms("session_seconds", "How long sessions lasted.", LISTENER, SESSION_BUCKETS)?,
            sessions_max: r.gauges("sessions_max", "Most sessions at once.", LISTENER)?,
            bytes: r.counters("bytes_total", "Protocol bytes after login.", &["listener", "direction"])?,
            statements: r.counters("statements_total", "Statements completed by the server.", LISTENER)?,
            errors: r.counters(
                "errors_total",
                "Errors of the server after login, by SQLSTATE class.",
                &["listener", "class"],
            )?,
            claim_seconds: r.histograms(
                "claim_seconds",
                "From a client's startup message to its upstream.",
                &["listener", "source"],
                CONNECT_BUCKETS,
            )?,
            recent_claims: AllRecentClaims::default(),
            connect_attempts: r.counters(
                "connect_attempts_total",
                "Attempts to get an upstream, by result.",
                &["cluster", "endpoint", "result"],
            )?,
            connect_seconds: r.histograms(
                "connect_seconds",
                "How long each stage on the way to an upstream took.",
                &["cluster", "endpoint", "stage"],
                CONNECT_BUCKETS,
            )?,
            scram_cache: r.counters("scram_cache_total", "Look-ups of derived SCRAM keys.", &["cluster", "result"])?,
            tls_handshakes: r.counters(
                "tls_handshakes_total",
                "TLS handshakes upstream.",
                &["cluster", "endpoint", "kind"],
            )?,
            upstreams: r.gauges("upstreams", "Upstream connections, by use.", ENDPOINT_STATE)?,
            endpoint_state: r.gauges("endpoint_state", "1 for what is known of the endpoint.", ENDPOINT_STATE)?,
            endpoint_changes: r.counters(
                "endpoint_changes_total",
                "Changes of an endpoint's state, by the new one.",
                ENDPOINT_STATE,
            )?,
            endpoint_latency: r.times(
                "endpoint_latency_seconds",
                "From SSLRequest to the endpoint's answer, smoothed; 0 until measured.",
                &["cluster", "endpoint"],
            )?,
            failovers: r.counters(
                "failovers_total",
                "Times that new sessions moved to another endpoint than the one where they belong.",
                LISTENER,
            )?,
            sessions_off_preferred: r.gauges(
                "sessions_off_preferred",
                "Open sessions on another endpoint than the one where they belong.",
                LISTENER,
            )?,
            failover_ready: r.gauges(
                "failover_ready",
                "Endpoints known to be well that could take over from the first.",
                LISTENER,
            )?,
            warm: WarmFamilies::new(&r)?,
            by_hand: r.gauges(
                "endpoint_by_hand",
                "1 for the order that stands for an endpoint.",
                &["cluster", "endpoint", "order"],
            )?,
            ca_not_after: r.times("ca_not_after_timestamp_seconds", "When the cluster's CA expires.", &["cluster"])?,
            secret_read: r.times(
                "secret_read_timestamp_seconds",
                "When the cluster's secret was read.",
                &["cluster"],
            )?,
            secret_ok: r.gauges("secret_ok", "0 while the cluster's secret cannot be read, else 1.", &["cluster"])?,
            certificate_not_after: r.times(
                "certificate_not_after_timestamp_seconds",
                "When a certificate expires.",
                &["kind", "name"],
            )?,
            config: ConfigGauges::new(&r)?,
            reloads: Per::new(|label| reloads.with_label_values(&[label])),
            cancels: Per::new(|label| cancels.with_label_values(&[label])),
            state: Per::new(|label| state.with_label_values(&[label])),
            keeper: Keeper::of(r.into_all()),
            registry,
            process,
        })
    }

    /// The series of a listener, all at zero from now on.
    pub fn listener(&self, name: &Name, sessions_max: usize) -> ListenerMetrics {
        let recent_claims = self.recent_claims.of(name);
        let series = self.keeper.keep(vec![vec![("listener", name.to_string())], certificate("local", name)]);
        let name = name.as_str();
        self.sessions_max.with_label_values(&[name]).set(i64::try_from(sessions_max).unwrap_or(i64::MAX));
        ListenerMetrics {
            accepted: self.accepted.with_label_values(&[name]),
            active: self.active.with_label_values(&[name]),
            closed: Per::new(|reason| self.closed.with_label_values(&[name, reason])),
            refused: Per::new(|reason| self.refused.with_label_values(&[name, reason])),
            session_seconds: self.session_seconds.with_label_values(&[name]),
            bytes: Per::new(|direction| self.bytes.with_label_values(&[name, direction])),
            statements: self.statements.with_label_values(&[name]),
            errors: Per::new(|class| self.errors.with_label_values(&[name, class])),
            claim_seconds: Per::new(|source| self.claim_seconds.with_label_values(&[name, source])),
            recent_claims,
            failovers: self.failovers.with_label_values(&[name]),
            off_preferred: self.sessions_off_preferred.with_label_values(&[name]),
            failover_ready: self.failover_ready.with_label_values(&[name]),
            warm_claims: Per::new(|result| self.warm.claims.with_label_values(&[name, result])),
            warm_ready: self.warm.ready.with_label_values(&[name]),
            warm_recycled: Per::new(|cause| self.warm.recycled.with_label_values(&[name, cause])),
            resets: Per::new(|result| self.warm.resets.with_label_values(&[name, result])),
            _series: series,
        }
    }

    /// The series of a cluster, all at zero from now on; but nothing is wrong with its secret.
    pub fn cluster(&self, name: &Name) -> ClusterMetrics {
        let series = self.keeper.keep(vec![vec![("cluster", name.to_string())], certificate("client", name)]);
        let name = name.as_str();
        let metrics = ClusterMetrics {
            scram_cache: Per::new(|result| self.scram_cache.with_label_values(&[name, result])),
            ca_not_after: self.ca_not_after.with_label_values(&[name]),
            secret_read: self.secret_read.with_label_values(&[name]),
            secret_ok: self.secret_ok.with_label_values(&[name]),
            _series: series,
        };
        metrics.secret_is_ok(true);
        metrics
    }

    /// Notes when a certificate of ours expires, if there is one; `kind` is `client` or `local`.
    pub fn certificate_expires(&self, kind: &'static str, name: &Name, at: Option<SystemTime>) {
        let labels = [kind, name.as_str()];
        match at {
            Some(at) => self.certificate_not_after.with_label_values(&labels).set(unix_seconds(at)),
            // Most have none, and never had.
            None => drop(self.certificate_not_after.remove_label_values(&labels)),
        }
    }

    /// Shows the order that stands for an endpoint, or that none does.
    pub fn set_by_hand(&self, cluster: &Name, endpoint: &Name, order: Option<OrderByHand>) {
        for &known in OrderByHand::ALL {
            let gauge = self.by_hand.with_label_values(&[cluster.as_str(), endpoint.as_str(), known.text()]);
            gauge.set(i64::from(order == Some(known)));
        }
    }

    /// Shows what the daemon is doing.
    pub fn set_state(&self, now: DaemonState) {
        for &state in DaemonState::ALL {
            self.state.at(state).set(i64::from(state == now));
        }
    }

    /// Everything, in Prometheus' text form.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(process) = &self.process {
            process.look();
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
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
}

fn show_build(families: &Families<'_>) -> Result<(), prometheus::Error> {
    let labels = &["version", "revision", "rustc"];
    let build_info = families.gauges("build_info", "What this program was built from.", labels)?;
    let revision = option_env!("CRDB_PROXY_REVISION").unwrap_or("unknown");
    let rustc = option_env!("CRDB_PROXY_RUSTC").unwrap_or("unknown");
    build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, rustc]).set(1);
    Ok(())
}

/// The series of a certificate's end.
fn certificate(kind: &str, name: &Name) -> kept::Labels {
    vec![("kind", kind.to_owned()), ("name", name.to_string())]
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

const LISTENER: &[&str] = &["listener"];
const LISTENER_REASON: &[&str] = &["listener", "reason"];
const ENDPOINT_STATE: &[&str] = &["cluster", "endpoint", "state"];
const CONNECT_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const SESSION_BUCKETS: &[f64] = &[0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_at_zero_from_the_start() {
        let metrics = Metrics::new().unwrap();
        let name = Name::new("main").unwrap();
        let _listener = metrics.listener(&name, 7);

        let text = String::from_utf8(metrics.render().unwrap()).unwrap();

        for reason in RefuseReason::ALL {
            let series =
                format!("crdb_proxy_client_connections_refused_total{{listener=\"main\",reason=\"{reason}\"}} 0");
            assert!(text.contains(&series), "{series}");
        }
        assert!(text.contains("crdb_proxy_sessions_max{listener=\"main\"} 7"));
    }
}
