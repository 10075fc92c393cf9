//! The Cloud API of CockroachDB Cloud: what it says about a cluster, its networks and its users.
//!
//! Owns the key, the only place that sends it, and the time and size of every answer. It must never print the
//! key, send it in clear or to another host, or ask for a change twice; what the API says is decoded leniently,
//! since the API grows. Nothing here is on the way of a session.

mod advice;
#[cfg(any(test, feature = "fuzzing"))]
mod any_shape;
mod decode;
mod error;
mod key;
mod known;
mod lenient;
mod own_address;
mod pages;
mod places;
mod said;
mod server;
mod shapes;
#[cfg(test)]
pub(crate) mod testing;
mod transport;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::any_shape::{AnyShape, any_shape, error_message};
pub use self::{
    advice::{
        allowlist_limit, allowlist_warnings, connection_advice, entry_warnings, refused_range, remarks, service_advice,
        service_term, wrong_endpoint_id,
    },
    error::{CloudError, Stage},
    known::{Known, known},
    own_address::own_address,
    server::Server,
    shapes::{
        AllowedNetwork, Allowlist, Cidr, Cluster, ClusterState, ConnectionParameters, ConnectionWish, Database, Node,
        Plan, PrivateConnection, PrivateConnectionStatus, PrivateService, PrivateServiceStatus, Provider, Region, User,
    },
};

use self::{
    lenient::Object,
    pages::entries,
    transport::{Call, Transport},
};
use crate::{secret::Secret, settings::SecretSource};
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, SystemTime};

/// One server of the API with one key; made once, asked often.
pub struct Cloud(Transport);

/// How long an answer may take; the defaults are the documented ones, tests have less patience.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// TCP and TLS.
    pub connect: Duration,
    /// A request with its whole answer.
    pub request: Duration,
    /// A question as a whole: all pages, all tries and the pauses between them.
    pub question: Duration,
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
            question: Duration::from_secs(30),
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
        Transport::new(server, key, limits).map(Self)
    }

    /// The server and the key that the variables `COCKROACH_SERVER` and `COCKROACH_API_KEY` name, each optional.
    ///
    /// # Errors
    /// One of them cannot be.
    pub fn from_env() -> Result<Self, CloudError> {
        Self::new(Server::from_env()?, key::of_env())
    }

    /// The same, but with the key of a cluster's own `api_key` where it has one.
    ///
    /// # Errors
    /// One of them cannot be, or the source cannot be read.
    pub async fn with_source(api_key: Option<&SecretSource>, strict: bool) -> Result<Self, CloudError> {
        match api_key {
            None => Self::from_env(),
            Some(source) => Self::new(Server::from_env()?, Some(key::of_source(source, strict).await?)),
        }
    }

    /// Whether there is a key to ask with.
    pub fn has_key(&self) -> bool {
        self.0.has_key()
    }

    /// The server that is asked.
    pub fn server(&self) -> &Server {
        self.0.server()
    }

    /// The clocks at the last answer that had a date, also one that refused.
    pub fn clocks(&self) -> Option<Clocks> {
        self.0.clocks()
    }

    /// All clusters that the key may see.
    ///
    /// # Errors
    /// As the API or the way to it has it; so with every question below.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, CloudError> {
        let call = Call::get(&["clusters"], "list clusters", MONITOR, "list of clusters".to_owned());
        self.list(call, "clusters", decode::cluster).await
    }

    /// The cluster of this ID.
    pub async fn cluster(&self, id: &str) -> Result<Cluster, CloudError> {
        let path = ["clusters", id];
        let call = Call::get(&path, "read the cluster", MONITOR, cluster_of(id));
        let cluster = self.one(call.clone(), decode::cluster).await?;
        // What is changed next is changed where the answer says.
        if cluster.id == id || is_id(id) && cluster.id.eq_ignore_ascii_case(id) {
            return Ok(cluster);
        }
        let fault = format!("{} where {} was asked for", cluster_of(&cluster.id), said::shown(id));
        Err(self.0.malformed(&call, &fault))
    }

    /// The cluster of this ID, or of this name among all.
    pub async fn find(&self, name_or_id: &str) -> Result<Cluster, CloudError> {
        if is_id(name_or_id) {
            return self.cluster(name_or_id).await;
        }
        let clusters = self.clusters().await?;
        let ids = clusters.iter().filter(|cluster| cluster.name == name_or_id).map(|cluster| said::shown(&cluster.id));
        let ids: Vec<_> = ids.collect();
        if ids.len() > 1 {
            return Err(CloudError::Ambiguous { wanted: said::shown(name_or_id), ids });
        }
        let names = clusters.iter().map(|cluster| said::shown(&cluster.name)).collect();
        let found = clusters.into_iter().find(|cluster| cluster.name == name_or_id);
        found.ok_or_else(|| CloudError::NoCluster { wanted: said::shown(name_or_id), names })
    }

    /// What to connect with, over the public path.
    pub async fn connection_parameters(
        &self,
        id: &str,
        wish: &ConnectionWish,
    ) -> Result<ConnectionParameters, CloudError> {
        let path = ["clusters", id, "connection-string"];
        let mut call = Call::get(&path, "read the connection string", MONITOR, cluster_of(id));
        let wishes = [("database", &wish.database), ("sql_user", &wish.sql_user)];
        call.query.extend(wishes.into_iter().filter_map(|(key, said)| Some((key, said.clone()?))));
        self.one(call, |object| Some(decode::connection_parameters(object))).await
    }

    /// The nodes, of all regions.
    pub async fn nodes(&self, id: &str) -> Result<Vec<Node>, CloudError> {
        let path = ["clusters", id, "nodes"];
        self.list(Call::get(&path, "list nodes", MONITOR, cluster_of(id)), "nodes", decode::node).await
    }

    /// The SQL users.
    pub async fn users(&self, id: &str) -> Result<Vec<User>, CloudError> {
        let path = ["clusters", id, "sql-users"];
        self.list(Call::get(&path, "list SQL users", DEVELOPER, cluster_of(id)), "users", decode::user).await
    }

    /// The databases.
    pub async fn databases(&self, id: &str) -> Result<Vec<Database>, CloudError> {
        let path = ["clusters", id, "databases"];
        self.list(Call::get(&path, "list databases", DEVELOPER, cluster_of(id)), "databases", decode::database).await
    }

    /// Who may come in over the public path.
    pub async fn allowlist(&self, id: &str) -> Result<Allowlist, CloudError> {
        let path = ["clusters", id, "networking", "allowlist"];
        let call = Call::get(&path, "read the allowlist", DEVELOPER, cluster_of(id));
        let mut propagating = false;
        let look = |page: Object<'_>| propagating |= page.flag("propagating") == Some(true);
        let entries = entries(&self.0, call, "allowlist", decode::allowed, look).await?;
        Ok(Allowlist { entries, propagating })
    }

    /// Adds an entry. Asked once, never again.
    pub async fn allow(&self, id: &str, network: &AllowedNetwork) -> Result<AllowedNetwork, CloudError> {
        let path = ["clusters", id, "networking", "allowlist"];
        let AllowedNetwork { cidr_ip, cidr_mask, name, sql, ui } = network;
        let body = match name {
            Some(name) => json!({"cidr_ip": cidr_ip, "cidr_mask": cidr_mask, "name": name, "sql": sql, "ui": ui}),
            None => json!({"cidr_ip": cidr_ip, "cidr_mask": cidr_mask, "sql": sql, "ui": ui}),
        };
        let call = Call::get(&path, "change the allowlist", OPERATOR, cluster_of(id));
        self.one(call.change(Method::POST, Some(body)), decode::allowed).await
    }

    /// Removes an entry. Asked once, never again.
    pub async fn disallow(&self, id: &str, cidr: Cidr) -> Result<(), CloudError> {
        let (address, mask) = (cidr.address.to_string(), cidr.mask.to_string());
        let path = ["clusters", id, "networking", "allowlist", &address, &mask];
        let what = format!("entry {cidr} in the allowlist of {}", cluster_of(id));
        let call = Call::get(&path, "change the allowlist", OPERATOR, what);
        self.0.json(&call.change(Method::DELETE, None)).await.map(drop)
    }

    /// What a private endpoint is made for, per region.
    pub async fn private_services(&self, id: &str) -> Result<Vec<PrivateService>, CloudError> {
        let path = ["clusters", id, "networking", "private-endpoint-services"];
        let call = Call::get(&path, "read private endpoint services", OPERATOR, cluster_of(id));
        self.list(call, "services", decode::private_service).await
    }

    /// The private endpoints that the cluster knows.
    pub async fn private_connections(&self, id: &str) -> Result<Vec<PrivateConnection>, CloudError> {
        let path = ["clusters", id, "networking", "private-endpoint-connections"];
        let call = Call::get(&path, "read private endpoint connections", OPERATOR, cluster_of(id));
        self.list(call, "connections", decode::private_connection).await
    }

    /// Has the cluster accept a private endpoint. Asked once, never again.
    pub async fn connect_privately(&self, id: &str, endpoint_id: &str) -> Result<PrivateConnection, CloudError> {
        let path = ["clusters", id, "networking", "private-endpoint-connections"];
        let call = Call::get(&path, "add a private endpoint", OPERATOR, cluster_of(id));
        let call = call.change(Method::POST, Some(json!({"endpoint_id": endpoint_id})));
        self.one(call, decode::private_connection).await
    }

    /// The cluster's CA certificates, PEM as the server gives it; asked without the key. That it is PEM is
    /// checked, whose it is cannot be: show its fingerprint.
    pub async fn ca(&self, id: &str) -> Result<String, CloudError> {
        let path = ["clusters", id, "cert"];
        let call = Call { with_key: false, ..Call::get(&path, "read the CA certificate", MONITOR, cluster_of(id)) };
        let pem = String::from_utf8(self.0.bytes(&call).await?).ok();
        let pem = pem.filter(|text| text.contains("-----BEGIN CERTIFICATE-----"));
        pem.ok_or_else(|| self.0.malformed(&call, "no certificate (PEM) where the cluster's CA was due"))
    }

    async fn one<T>(&self, call: Call<'_>, read: impl Fn(Object<'_>) -> Option<T>) -> Result<T, CloudError> {
        let answer = self.0.json(&call).await?;
        let read = Object::of(&answer).and_then(read);
        read.ok_or_else(|| self.0.malformed(&call, "no object with what names the thing that was asked for"))
    }

    async fn list<T>(
        &self,
        call: Call<'_>,
        key: &str,
        read: impl Fn(Object<'_>) -> Option<T>,
    ) -> Result<Vec<T>, CloudError> {
        entries(&self.0, call, key, read, |_page| ()).await
    }
}

fn cluster_of(id: &str) -> String {
    format!("cluster {}", said::shown(id))
}

/// 8-4-4-4-12 hexadecimal digits: no cluster's name is so long.
fn is_id(text: &str) -> bool {
    let parts = text.split('-').map(str::len);
    parts.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// The least role that may, in the words of the Cloud Console.
const MONITOR: &str = "Cluster Monitor";
const DEVELOPER: &str = "Cluster Developer";
const OPERATOR: &str = "Cluster Operator";
