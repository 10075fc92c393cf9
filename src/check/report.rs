//! What a check has found, as it is printed and as `--json` writes it (`docs/check.schema.json`).

use super::Advice;
use crate::{diagnostics::rfc3339, tls::Described};
use serde::Serialize;
use std::time::Duration;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Grows when a field changes its meaning.
    pub schema: u32,
    /// Of this program.
    pub version: &'static str,
    /// When it began (UTC).
    pub at: String,
    /// Whether nothing failed.
    pub ok: bool,
    /// What the program exits with.
    pub exit: u8,
    /// The settings file, if one was read.
    pub file: Option<String>,
    /// What the operator should look at although it works.
    pub warnings: Vec<String>,
    /// In the settings' order.
    pub clusters: Vec<ClusterReport>,
    /// In the settings' order.
    pub listeners: Vec<ListenerReport>,
}

/// A cluster.
#[derive(Debug, Serialize)]
pub struct ClusterReport {
    /// Its name in the settings.
    pub name: String,
    /// The SQL user.
    pub user: String,
    /// Where its secret comes from; null without one.
    pub secret: Option<String>,
    /// Every SQL user, that one first.
    pub users: Vec<String>,
    /// SHA-256 of the CA certificates that are trusted; none when the machine's roots are.
    pub ca_sha256: Vec<String>,
    /// What the Cloud API says of it; null when it was not asked.
    pub cloud: Option<CloudReport>,
    /// In the settings' order.
    pub endpoints: Vec<EndpointReport>,
    /// What is not as it should be, and is not one endpoint's.
    pub notes: Vec<Advice>,
}

/// What the Cloud API says of a cluster.
#[derive(Debug, Default, Serialize)]
pub struct CloudReport {
    /// The API's address.
    pub server: String,
    /// The cluster's ID there.
    pub cluster_id: Option<String>,
    /// Why it could not be asked, or not all of it.
    pub error: Option<String>,
    /// `ADVANCED`, …
    pub plan: Option<String>,
    /// `CREATED`, …
    pub state: Option<String>,
    /// `UNSPECIFIED` at rest.
    pub operation_status: Option<String>,
    /// The server's version.
    pub cockroach_version: Option<String>,
    /// What the key's role may not read.
    pub unknown: Vec<&'static str>,
}

/// One endpoint.
#[derive(Debug, Serialize)]
pub struct EndpointReport {
    /// Its name in the settings.
    pub name: String,
    /// Its region, if the settings say.
    pub region: Option<String>,
    /// `public`, `internal`, `psc` or `custom`.
    pub kind: &'static str,
    /// What is dialled.
    pub host: String,
    /// The port that is dialled.
    pub port: u16,
    /// The name that its certificate must carry.
    pub tls_server_name: String,
    /// The listeners that may use it.
    pub listeners: Vec<String>,
    /// Whether a session could be had.
    pub ok: bool,
    /// The stage that failed.
    pub failed_at: Option<&'static str>,
    /// What each stage found, in order, the failed one last.
    pub stages: Vec<StageReport>,
    /// Each address of the name.
    pub addresses: Vec<AddressReport>,
    /// TLS version and cipher, once agreed.
    pub tls: Option<TlsReport>,
    /// The certificates that the server showed, its own first.
    pub certificates: Vec<CertificateReport>,
    /// What the server says of itself, once logged in.
    pub server: Option<ServerReport>,
    /// What to do about the failure.
    pub advice: Option<Advice>,
    /// What works and should be looked at still.
    pub notes: Vec<Advice>,
}

/// A stage that was walked.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// Its name.
    pub stage: &'static str,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// What was found, in words.
    pub found: String,
}

/// An address of an endpoint's name.
#[derive(Clone, Debug, Serialize)]
pub struct AddressReport {
    /// With the port.
    pub address: String,
    /// Whether it can be reached from everywhere.
    pub public: bool,
    /// How long TCP took, in milliseconds; null when it did not connect.
    pub ms: Option<f64>,
    /// Why it did not connect.
    pub error: Option<String>,
}

/// What a handshake agreed on.
#[derive(Debug, Serialize)]
pub struct TlsReport {
    /// `TLSv1.3`.
    pub version: Option<String>,
    /// As the library names it.
    pub cipher: Option<String>,
    /// From SSLRequest to the server's answer, in milliseconds: the distance that `nearest` goes by.
    pub distance_ms: Option<f64>,
}

/// A certificate.
#[derive(Debug, Serialize)]
pub struct CertificateReport {
    /// Whose.
    pub subject: String,
    /// By whom.
    pub issuer: String,
    /// For which host names and addresses.
    pub names: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Of the DER, in lower-case hex.
    pub sha256: String,
}

/// What a server says of itself.
#[derive(Debug, Default, Serialize)]
pub struct ServerReport {
    /// `version()`.
    pub version: Option<String>,
    /// `gateway_region()`, where there is one.
    pub region: Option<String>,
    /// This machine's address as the server sees it.
    pub client_address: Option<String>,
    /// Of `SELECT 1`, the best of three, in milliseconds.
    pub latency_ms: Option<f64>,
}

/// One listener.
#[derive(Debug, Serialize)]
pub struct ListenerReport {
    /// Its name in the settings.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Of its cluster.
    pub cluster: String,
    /// Of clients that name none.
    pub database: String,
    /// The endpoints that its policy can pick, the first to be tried first.
    pub endpoints: Vec<String>,
    /// Those of them, beyond the first that is well, that could take over.
    pub failover: Vec<String>,
    /// What is not as it should be.
    pub notes: Vec<Advice>,
}

impl From<Described> for CertificateReport {
    fn from(certificate: Described) -> Self {
        let Described { subject, issuer, names, not_before, not_after, sha256, .. } = certificate;
        let (not_before, not_after) = (rfc3339(not_before), rfc3339(not_after));
        Self { subject, issuer, names, not_before, not_after, sha256 }
    }
}

/// Milliseconds, to the microsecond.
pub(super) fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

/// Grows when a field changes its meaning.
pub(super) const SCHEMA: u32 = 1;
