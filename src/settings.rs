//! Checked settings: what the daemon may rely on once start or reload has read them.
//!
//! Owns the rules for values and how file, variables, flags and a connection string are laid over
//! each other. Says where a secret is, never what it is. Opens no socket.

mod access;
mod address;
mod auth_methods;
mod changes;
mod client_choices;
mod clusters;
mod endpoints;
mod inputs;
mod keys;
mod layers;
mod listeners;
mod load;
mod overlay;
mod paste;
mod policy;
mod reader;
mod secrets;
mod show;
mod shown;
mod source;
mod sql_users;
mod tree;
pub mod url;
mod values;
mod withheld;

pub use self::{
    access::{AccessWord, Account, LocalAccess, SocketRights},
    auth_methods::AuthMethod,
    changes::{Change, changes},
    client_choices::{AsksFor, ClientChoices, ListenerUser, UserMode},
    inputs::{Flag, Flags, Inputs},
    load::{FoundAdmin, Loaded, load, load_admin, load_text},
    paste::{ClientHost, ConnectionParameters, escaped},
    policy::{Policy, Prefer, Regions},
    show::{show, show_json},
    source::{Fault, Faults, Provenance, Source},
    sql_users::SqlUser,
    values::duration_from_text,
    withheld::secret_variables,
};
pub(crate) use self::{
    address::{DEFAULT_PORT, listen_text},
    endpoints::{check_endpoint_name, kind_text, same_region},
    keys::is_daemon_key,
    source::nearest,
};

use crate::secret::Secret;
use std::{fmt, net::SocketAddr, num::NonZero, path::PathBuf, sync::Arc, time::Duration};

/// Everything the daemon was told, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// Where metrics, probes and `/status` are served.
    pub admin: AdminAddress,
    /// Names accepted in `Host` by `/` and `/status`, besides loopback names and IP literals.
    pub admin_hosts: Vec<String>,
    /// Lets other hosts read `/` and `/status`.
    pub admin_unsafe_allow_remote: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The least severe line that is written.
    pub log_level: tracing::Level,
    /// Equal failures are logged once per this span, with a count.
    pub log_repeat: Duration,
    /// Threads that move bytes; at least one.
    pub threads: NonZero<usize>,
    /// What was asked for: 0 is the cores but one, at least 1 and at most 4.
    pub threads_configured: usize,
    /// A secret file that others can read is refused instead of warned about.
    pub strict_secrets: bool,
    /// `/readyz` says yes only while an endpoint is reachable that some listener's policy can pick.
    pub ready_requires_upstream: bool,
    /// `/startupz` says yes only once an upstream has been logged in.
    pub startup_requires_upstream: bool,
    /// The settings file is read again whenever it changes.
    pub watch_settings: bool,
    /// State-changing requests of the admin address are taken from every user of this machine.
    pub admin_post: bool,
    /// Which users may come in to listeners that do not say; [`AccessWord::SameUser`] leaves it to each one's kind.
    pub local_access: AccessWord,
    /// Limits of the whole daemon, and defaults of what a listener may set for itself.
    pub limits: Limits,
    /// At least one, names unique.
    pub clusters: Vec<Arc<Cluster>>,
    /// At least one, names and addresses unique.
    pub listeners: Vec<Arc<Listener>>,
}

/// Numbers and deadlines; `names.md` of the documentation gives each default.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Sessions of the whole daemon; beyond it a client reads SQLSTATE 53300.
    pub sessions_max: NonZero<usize>,
    /// Sockets still in startup; at this number accepting pauses.
    pub startups_max: NonZero<usize>,
    /// From accept to the end of startup and local password.
    pub startup_limit: Duration,
    /// Longest startup message, in bytes.
    pub startup_bytes_max: NonZero<usize>,
    /// A session's wait for an upstream, all endpoints and login, once it has a login slot.
    pub connect_limit: Duration,
    /// DNS, TCP and TLS of one endpoint while another one is left to try.
    pub endpoint_limit: Duration,
    /// Logins in flight, per cluster.
    pub logins_max: NonZero<usize>,
    /// Wait for a login slot; then SQLSTATE 53300.
    pub login_queue_limit: Duration,
    /// After one side's EOF with answers owed: the longest silence before both sides close.
    pub close_limit: Duration,
    /// A listener's own default: 57P05 after so long at an idle point.
    pub session_idle_limit: Option<Duration>,
    /// A listener's own default: 57P01 at the first idle point after this age.
    pub session_age_limit: Option<Duration>,
    /// Idle time before keepalive probes, both legs.
    pub keepalive_idle: Duration,
    /// Between keepalive probes.
    pub keepalive_interval: Duration,
    /// Unanswered keepalive probes before the socket counts as dead.
    pub keepalive_count: NonZero<u32>,
    /// Longest time that sent bytes may stay unacknowledged on the upstream leg (Linux).
    pub tcp_user_timeout: Duration,
    /// Relay buffer per direction, in bytes.
    pub relay_buffer_bytes: NonZero<usize>,
    /// One cancel request, upstream leg.
    pub cancel_limit: Duration,
    /// Cancels in flight; more are dropped and counted.
    pub cancels_max: NonZero<usize>,
    /// How long new clients are still served once the daemon is told to stop, while it says that it is not ready.
    pub drain_delay: Duration,
    /// How long open sessions may take to end once that has passed.
    pub drain_limit: Duration,
    /// In a drain: silence at an idle point before 57P01.
    pub idle_close: Duration,
    /// A listener's own default: most warm upstreams for one set of startup parameters; 0: none.
    pub warm_max: usize,
    /// A set of startup parameters that is unused for so long is forgotten.
    pub warm_idle: Duration,
    /// The age at which a warm upstream is replaced, ± 10 %, in a clock that counts suspend.
    pub warm_age: Duration,
    /// Most warm upstreams of the whole daemon; 0: none.
    pub warm_total_max: usize,
    /// Between probes of an endpoint that is well and that no client has tried for so long.
    pub probe_interval: Duration,
    /// Between probes of an endpoint that is down.
    pub probe_down_interval: Duration,
    /// An answer of the resolver is used so long without asking again.
    pub dns_refresh: Duration,
    /// How long a preferred endpoint must have been well before new sessions return to it.
    pub failback_after: Duration,
}

/// Where the admin server listens.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminAddress {
    /// Not at all.
    Off,
    /// On both loopback families at this port.
    Localhost(u16),
    /// On exactly this address.
    Tcp(SocketAddr),
    /// On a Unix socket at this path.
    Unix(PathBuf),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The name of a cluster, endpoint or listener: `[A-Za-z0-9._-]{1,63}`, case kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks the rule for names.
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=63).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named CockroachDB cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Unique among clusters.
    pub name: Name,
    /// What the server's certificate is verified against, and nothing else.
    pub ca: CaSource,
    /// The only SQL user, or the first of several.
    pub user: SqlUser,
    /// The others, in the order in which they stand; no two names differ in case alone.
    pub other_users: Vec<SqlUser>,
    /// Its ID in the Cloud API.
    pub cluster_id: Option<String>,
    /// Where the key of the Cloud API is; the daemon itself reads it for [`Cluster::discover`] alone.
    pub api_key: Option<SecretSource>,
    /// The Cloud API is asked for the cluster's regions.
    pub discover: bool,
    /// How often.
    pub discover_interval: Duration,
    /// In order of preference; at least one, names unique.
    pub endpoints: Vec<Arc<Endpoint>>,
}

impl Cluster {
    /// Every user, the first one first.
    pub fn users(&self) -> impl Iterator<Item = &SqlUser> {
        std::iter::once(&self.user).chain(&self.other_users)
    }
}

/// Where a cluster's CA comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CaSource {
    /// The machine's own roots, asked for in so many words.
    System,
    /// A PEM file with one or several certificates.
    File(PathBuf),
    /// PEM text that a connection string carried (`sslinline=true`).
    Inline(String),
}

/// What the secret is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthKind {
    /// A password.
    Password,
    /// A JWT; `--crdb:jwt_auth_enabled=true` is appended to `options`.
    Jwt,
}

/// PEM files of a certificate chain and its unencrypted key.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// Leaf first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// The text of a file.
    File(PathBuf),
    /// An environment variable of the daemon.
    Env(String),
    /// A file of this name in `$CREDENTIALS_DIRECTORY` (systemd).
    Credential(String),
    /// The standard output of a command, run without a shell.
    Command {
        /// Program and arguments; at least the program.
        argv: Vec<String>,
        /// Longest run.
        limit: Duration,
        /// How long an output is used before the command runs again.
        lifetime: Duration,
        /// Variables that it is not given: they hold other secrets.
        withheld: Arc<[String]>,
    },
    /// It was handed over as it is, and lies nowhere else.
    Given {
        /// The secret.
        secret: Secret,
        /// Who handed it over: `the connection string`.
        by: &'static str,
    },
}

/// How an endpoint is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointKind {
    /// Over the internet, guarded by the cluster's allowlist.
    Public,
    /// AWS PrivateLink, Azure Private Link, GCP VPC peering.
    Internal,
    /// GCP Private Service Connect.
    Psc,
    /// An IP address, a `vpce-…` name, a bastion.
    Custom,
}

/// One way into a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Unique in its cluster.
    pub name: Name,
    /// As SQL shows it: `gcp-us-east1`.
    pub region: Option<String>,
    /// How it is reached.
    pub kind: EndpointKind,
    /// Name or IP address that is dialled; for [`EndpointKind::Psc`] with the endpoint's own name in front.
    pub host: String,
    /// The name that a Private Service Connect endpoint was given in its network.
    pub endpoint_name: Option<String>,
    /// Port that is dialled.
    pub port: u16,
    /// Name that the certificate must carry, and SNI; the dialled host unless set apart.
    pub tls_server_name: rustls::pki_types::ServerName<'static>,
}

/// A local socket bound to one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique among listeners.
    pub name: Name,
    /// Where clients connect.
    pub address: ListenAddress,
    /// The cluster that its sessions reach; one of [`Settings::clusters`].
    pub cluster: Name,
    /// For a client that sends none or an empty one.
    pub database: String,
    /// Which endpoints may serve its sessions, and in which order.
    pub policy: Policy,
    /// Whether an upstream is reset and used again once its session has ended.
    pub reuse: bool,
    /// Most warm upstreams for one set of startup parameters; 0: none.
    pub warm_max: usize,
    /// Appended to the startup; a key that the client sends itself keeps the client's value.
    pub session_parameters: Vec<(String, String)>,
    /// What its clients may choose for themselves.
    pub client_choices: ClientChoices,
    /// Whom its sessions log in as.
    pub user: ListenerUser,
    /// Whether and when clients may or must use TLS.
    pub tls: LocalTls,
    /// What clients must prove to know (SCRAM-SHA-256).
    pub local_password: Option<SecretSource>,
    /// A non-loopback address without TLS and local password was asked for in so many words.
    pub unsafe_allow_remote: bool,
    /// Which users of this machine may come in.
    pub access: LocalAccess,
    /// Who may open the file of a Unix socket.
    pub rights: SocketRights,
    /// Sessions of this listener.
    pub sessions_max: NonZero<usize>,
    /// 57P05 after so long at an idle point.
    pub session_idle_limit: Option<Duration>,
    /// 57P01 at the first idle point after this age.
    pub session_age_limit: Option<Duration>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq)]
pub enum ListenAddress {
    /// Both loopback families on one port; one where the other is missing. Port 0: any free.
    Localhost(u16),
    /// Exactly this address. Port 0: any free.
    Tcp(SocketAddr),
    /// A Unix socket at exactly this path, named `.s.PGSQL.PORT`.
    Unix(PathBuf),
}

/// TLS between client and daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalTls {
    /// `SSLRequest` is answered `N`.
    Off,
    /// Clients may use TLS.
    Allow(CertificateFiles),
    /// A client in clear reads SQLSTATE 28000.
    Require(CertificateFiles),
}

/// The limits of a settings file that sets none.
#[cfg(test)]
pub(crate) fn default_limits() -> Limits {
    keys::defaults(1).limits
}
