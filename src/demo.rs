//! The embedded cluster of `crdb-proxy demo`: three regions in this process, over one in-memory
//! SQLite database, for trying the daemon out without an account.
//!
//! Owns the cluster, its console and its texts. Knows nothing of the daemon: it is reached like any
//! cluster, through the settings that [`EmbeddedCluster::cluster`] and [`EmbeddedCluster::listener`]
//! give. Not a database to keep anything in.
//!
//! A connection's way: `region` accepts → `distance` delays → `handshake` (TLS or a cancel) →
//! `session` (message loop) → `login` → `protocol` (queries on the wire) → `dialect` (PostgreSQL's
//! SQL into SQLite's) → `sql` (transactions) → `store` (the database and the turns on it).

mod cancel;
mod certificates;
mod console;
mod dialect;
mod distance;
mod error;
mod facts;
mod functions;
mod gate;
mod handshake;
mod login;
mod protocol;
mod region;
mod serve;
mod session;
mod sql;
mod store;
mod time;
mod types;

pub use console::{Lines, lines_of_stdin};
pub use facts::Facts;
pub use serve::run;

use crate::secret::Secret;
use crate::settings::{
    AuthKind, CaSource, ClientChoices, Cluster, Endpoint, EndpointKind, ListenAddress, Listener, ListenerUser,
    LocalAccess, LocalTls, Name, Policy, SecretSource, SocketRights, SqlUser, UserMode,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cancel::Cancels;
use certificates::Authority;
use login::Users;
use region::{Region, Shared};
use rustls::pki_types::ServerName;
use std::{io, num::NonZero, sync::Arc, time::Duration};
use store::Store;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// The running cluster. Dropping it ends the regions with all their sessions and removes the files.
#[derive(Debug)]
pub struct EmbeddedCluster {
    name: Name,
    regions: Vec<Region>,
    endpoints: Vec<Arc<Endpoint>>,
    /// PEM.
    ca: String,
    password: Secret,
}

impl EmbeddedCluster {
    /// Starts three regions on free ports of 127.0.0.1, with a new CA and a new password. The CA's
    /// certificate and the password are kept in memory only.
    ///
    /// # Errors
    /// When a socket or a key cannot be made. Cancel safety: what was started ends.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(TURN_LIMIT).await
    }

    async fn start_with(turn_limit: Duration) -> io::Result<Self> {
        let authority = Authority::new()?;
        let password = random_password()?;
        let users = Users::only(USER, &password)?;
        let ca = authority.pem.clone();
        let password = Secret::new(password.as_bytes().to_vec());
        let store = Arc::new(Store::open(turn_limit).map_err(io::Error::other)?);
        let cancels = Arc::new(Cancels::default());

        let mut regions = Vec::with_capacity(REGIONS.len());
        let mut endpoints = Vec::with_capacity(REGIONS.len());
        for (name, short, round_trip) in REGIONS {
            let host = format!("demo.{name}.example");
            let tls = authority.server(&host)?;
            let region = Region::start(|state| Shared {
                name: name.to_owned(),
                short,
                store: Arc::clone(&store),
                cancels: Arc::clone(&cancels),
                users: users.clone(),
                tls,
                round_trip,
                places: Arc::new(Semaphore::new(SESSIONS_MAX)),
                state,
            })
            .await?;
            endpoints.push(Arc::new(endpoint(name, host, &region)?));
            regions.push(region);
        }
        Ok(Self { name: checked_name("demo")?, regions, endpoints, ca, password })
    }

    /// The cluster as the daemon's settings describe it: three public endpoints, nearest first.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            name: self.name.clone(),
            ca: CaSource::Inline(self.ca.clone()),
            user: SqlUser {
                name: USER.to_owned(),
                auth: AuthKind::Password,
                password: Some(SecretSource::Given { secret: self.password.clone(), by: "the demo" }),
                client_certificate: None,
                asks_client: false,
                require_auth: None,
                has_own_table: false,
            },
            other_users: Vec::new(),
            cluster_id: None,
            api_key: None,
            discover: false,
            discover_interval: Duration::from_secs(300),
            endpoints: self.endpoints.clone(),
        }
    }

    /// A listener in front of the cluster, for up to `sessions_max` sessions.
    pub fn listener(&self, address: ListenAddress, sessions_max: NonZero<usize>) -> Listener {
        Listener {
            name: self.name.clone(),
            address,
            cluster: self.name.clone(),
            database: DATABASE.to_owned(),
            policy: Policy::default(),
            reuse: false,
            warm_max: 0,
            session_parameters: Vec::new(),
            client_choices: ClientChoices::default(),
            user: ListenerUser { name: USER.to_owned(), mode: UserMode::Replace },
            tls: LocalTls::Off,
            local_password: None,
            unsafe_allow_remote: false,
            access: LocalAccess::SameUser,
            rights: SocketRights::of_mode(0o600),
            sessions_max,
            session_idle_limit: None,
            session_age_limit: None,
        }
    }

    /// What to print once the daemon listens at `listening` (as the user would write it, with a port,
    /// such as `localhost:26257`) and has chosen `region`.
    pub fn facts(&self, listening: &str, region: &str) -> Facts {
        let distance = |region: &Region| (region.shared.name.clone(), region.shared.round_trip);
        Facts {
            listening: listening.to_owned(),
            region: region.to_owned(),
            regions: self.regions.iter().map(distance).collect(),
        }
    }

    /// Does what is typed, and answers with `answer`. Never returns, not even at the end of the
    /// input: stopping is a matter of signals. Cancel safety: the line at hand may be half done.
    pub async fn attend(&self, lines: Lines, answer: impl FnMut(&str)) -> std::convert::Infallible {
        console::attend(&self.regions, lines, answer).await
    }
}

fn endpoint(region: &str, host: String, running: &Region) -> io::Result<Endpoint> {
    Ok(Endpoint {
        name: checked_name(&format!("{region}-public"))?,
        region: Some(region.to_owned()),
        kind: EndpointKind::Public,
        host: running.address.ip().to_string(),
        endpoint_name: None,
        port: running.address.port(),
        tls_server_name: ServerName::try_from(host).map_err(io::Error::other)?,
    })
}

fn checked_name(text: &str) -> io::Result<Name> {
    Name::new(text).ok_or_else(|| io::Error::other(format!("{text} cannot be a name")))
}

fn random_password() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 24]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_unspecified| io::Error::other("no random bytes"))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// Nearest first: name, short name, distance there and back.
const REGIONS: [(&str, &str, Duration); 3] = [
    ("gcp-us-east1", "east", Duration::from_millis(2)),
    ("gcp-us-west2", "west", Duration::from_millis(30)),
    ("gcp-europe-west1", "europe", Duration::from_millis(80)),
];
const USER: &str = "demo";
const DATABASE: &str = "demo";
/// In each region. Every statement takes a thread that may block, of which tokio has 512.
const SESSIONS_MAX: usize = 100;
/// How long a statement waits for another session's transaction.
const TURN_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
