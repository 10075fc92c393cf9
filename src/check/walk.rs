//! One endpoint, stage by stage, until one fails: what was met on the way, and how long each took. Decides nothing
//! about what it means; `advice` does.

use super::{
    Stage,
    report::{AddressReport, ServerReport, StageReport, TlsReport, ms},
};
use crate::{
    credentials::{Credentials, SecretError},
    settings::EndpointKind,
    tls::{CertificateProblem, Described},
    upstream::{self, Account, AskError, Cluster, EndpointError, LoginError, Secured, Setup, Upstream, Way},
    wire::{SqlState, StartupParameters},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{net::TcpStream, task::JoinSet};

mod queries;
mod shape;

pub(super) use shape::Shape;

/// Where a walk ended.
pub(super) enum Failure {
    Secret(SecretError),
    Dns(EndpointError),
    Tcp(EndpointError),
    Tls(EndpointError),
    Certificate(CertificateProblem),
    Login(LoginError),
    NoDatabase { name: String, existing: Vec<String> },
    Query(AskError),
}

impl Failure {
    /// At which stage.
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Secret(_) => Stage::Secret,
            Self::Dns(_) => Stage::Dns,
            Self::Tcp(_) => Stage::Tcp,
            Self::Tls(_) => Stage::Tls,
            Self::Certificate(_) => Stage::Certificate,
            Self::Login(LoginError::Server(error)) if error.sqlstate == SqlState::NO_DATABASE => Stage::Database,
            Self::Login(_) => Stage::Login,
            Self::NoDatabase { .. } => Stage::Database,
            Self::Query(_) => Stage::Query,
        }
    }
}

/// What was met on the way.
pub(super) struct Seen {
    /// When the walk began.
    pub(super) at: SystemTime,
    /// What can be said of the secret without saying it.
    pub(super) secret_shape: Option<Shape>,
    /// Whose secret and login it was last.
    pub(super) user: String,
    pub(super) addresses: Vec<AddressReport>,
    pub(super) tls: Option<TlsReport>,
    pub(super) chain: Vec<Described>,
    pub(super) server: Option<ServerReport>,
    pub(super) stages: Vec<StageReport>,
    is_private: bool,
}

impl Seen {
    /// An address in public space that the name of a private endpoint leads to.
    pub(super) fn exposed(&self) -> Option<IpAddr> {
        let public = self.addresses.iter().find(|address| self.is_private && address.public)?;
        public.address.parse::<SocketAddr>().ok().map(|address| address.ip())
    }
}

/// Where a walk goes, and as whom.
pub(super) struct Walk<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) setup: &'a Setup,
    pub(super) way: &'a Arc<Way>,
    /// Those that listeners give to clients, the first to log in to; at least one.
    pub(super) databases: &'a [String],
    /// Of each user; the first one that can log in asks, and the others log in once that went well.
    pub(super) parameters: &'a [StartupParameters],
    /// Told when a stage begins.
    pub(super) begins: &'a (dyn Fn(Stage) + Sync),
}

impl Walk<'_> {
    /// Walks until a stage fails.
    pub(super) async fn walk(&self) -> (Seen, Option<Failure>) {
        let mut seen = Seen {
            at: SystemTime::now(),
            secret_shape: None,
            user: self.setup.account.user.name.clone(),
            addresses: Vec::new(),
            tls: None,
            chain: Vec::new(),
            server: None,
            stages: Vec::new(),
            is_private: matches!(self.way.endpoint.kind, EndpointKind::Internal | EndpointKind::Psc),
        };
        let failure = self.steps(&mut seen).await.err();
        (seen, failure)
    }

    async fn steps(&self, seen: &mut Seen) -> Result<(), Failure> {
        let began = self.begin(Stage::Secret);
        let (first, others) = self.logins();
        let account = first.map_or(&self.setup.account, |parameters| self.setup.account_of(parameters));
        seen.user.clone_from(&account.user.name);
        let lease = account.examine_secret().await;
        let said = self.of_secret(account);
        let lease = seen.note(Stage::Secret, began, lease, |_| said, ToString::to_string).map_err(Failure::Secret)?;
        seen.secret_shape = lease.as_ref().map(|lease| Shape::of(&lease.secret));

        let began = self.begin(Stage::Dns);
        let found = self.setup.examine_name(self.way).await;
        let addresses = seen.note(Stage::Dns, began, found, |found| found_addresses(found), ToString::to_string);
        let addresses = addresses.map_err(Failure::Dns)?;

        let sockets = self.dial(seen, &addresses).await?;
        let secured = self.secure(seen, account, sockets).await?;
        let Some(parameters) = first else { return Ok(()) };
        let began = self.begin(Stage::Login);
        let done = self.cluster.examine_login(self.setup, self.way, secured, lease.as_ref(), parameters).await;
        let upstream = seen.note_login(began, done, String::new())?;
        self.ask(seen, upstream, lease.as_ref()).await?;
        for parameters in others {
            self.log_in_as(seen, parameters).await?;
        }
        Ok(())
    }

    /// What the first user that can be logged in logs in with, who asks; and the others. Nobody can be whose clients bring
    /// the password.
    fn logins(&self) -> (Option<&StartupParameters>, impl Iterator<Item = &StartupParameters>) {
        let has_secret = |parameters: &&StartupParameters| !self.setup.account_of(parameters).user.asks_client;
        let mut can = self.parameters.iter().filter(has_secret);
        (can.next(), can)
    }

    /// Where the secret comes from of the one who asks, and whose does not.
    fn of_secret(&self, account: &Account) -> String {
        if account.user.asks_client {
            return BROUGHT.to_owned();
        }
        let source = account.credentials().map(Credentials::describe);
        let source = source.map_or("none: a client certificate alone".to_owned(), |source| format!("from {source}"));
        let brought = self.setup.accounts().filter(|account| account.user.asks_client);
        let brought: Vec<_> = brought.map(|account| account.user.name.as_str()).collect();
        if brought.is_empty() {
            return source;
        }
        let name = &account.user.name;
        format!("of {name}, {source}; the clients of {} bring their own password", brought.join(", "))
    }

    /// Another user, over a connection of its own.
    async fn log_in_as(&self, seen: &mut Seen, parameters: &StartupParameters) -> Result<(), Failure> {
        let account = self.setup.account_of(parameters);
        seen.user.clone_from(&account.user.name);
        let began = self.begin(Stage::Secret);
        let lease = account.examine_secret().await.map_err(|error| {
            seen.stages.push(failed(Stage::Secret, began.elapsed(), format!("of {}: {error}", account.user.name)));
            Failure::Secret(error)
        })?;
        seen.secret_shape = lease.as_ref().map(|lease| Shape::of(&lease.secret));
        let source = account.credentials().map(Credentials::describe);
        let with =
            source.map_or(" with a client certificate".to_owned(), |source| format!(" with the secret from {source}"));
        let began = self.begin(Stage::Login);
        let done = self.cluster.examine_user(self.setup, self.way, lease.as_ref(), parameters).await;
        seen.note_login(began, done, with)?.leave().await;
        Ok(())
    }

    fn begin(&self, stage: Stage) -> Instant {
        (self.begins)(stage);
        Instant::now()
    }

    /// Every address, all at once; those that took the connection, in dialling order.
    async fn dial(&self, seen: &mut Seen, addresses: &[SocketAddr]) -> Result<Vec<(TcpStream, SocketAddr)>, Failure> {
        let began = self.begin(Stage::Tcp);
        let mut dialled: Vec<Option<(TcpStream, SocketAddr)>> = Vec::new();
        let mut failure = EndpointError::TcpTimedOut;
        let mut tries = JoinSet::new();
        let addresses = addresses.get(..ADDRESSES_MAX).unwrap_or(addresses);
        for (place, address) in addresses.iter().copied().enumerate() {
            dialled.push(None);
            seen.addresses.push(AddressReport {
                address: address.to_string(),
                public: upstream::is_public(address.ip()),
                ms: None,
                error: None,
            });
            let limits = Arc::clone(&self.setup.limits);
            tries.spawn(async move { (place, address, upstream::dial_once(address, &limits).await) });
        }
        while let Some(tried) = tries.join_next().await {
            let Ok((place, address, (took, result))) = tried else { continue };
            let Some(report) = seen.addresses.get_mut(place) else { continue };
            match result {
                Ok(socket) => {
                    report.ms = Some(ms(took));
                    if let Some(slot) = dialled.get_mut(place) {
                        *slot = Some((socket, address));
                    }
                }
                Err(error) => {
                    report.error = Some(error.to_string());
                    // One that refuses says more than one that is silent.
                    if !matches!(error, EndpointError::TcpTimedOut) || matches!(failure, EndpointError::TcpTimedOut) {
                        failure = error;
                    }
                }
            }
        }
        let connected: Vec<_> = dialled.into_iter().flatten().collect();
        let result = if connected.is_empty() { Err(failure) } else { Ok(connected) };
        let all = addresses.len();
        let found = |connected: &Vec<_>| match (connected.len(), all) {
            (1, 1) => "connected".to_owned(),
            (some, all) => format!("{some} of {all} addresses connected"),
        };
        seen.note(Stage::Tcp, began, result, found, ToString::to_string).map_err(Failure::Tcp)
    }

    /// TLS at the first address that gives it; a certificate that is refused is the endpoint's, whichever address.
    async fn secure(
        &self,
        seen: &mut Seen,
        account: &Account,
        sockets: Vec<(TcpStream, SocketAddr)>,
    ) -> Result<Secured, Failure> {
        let began = self.begin(Stage::Tls);
        let mut failure = EndpointError::NoAnswer;
        for (socket, address) in sockets {
            let shaken = self.setup.examine_tls(account, self.way, socket, address).await;
            seen.chain = shaken.chain;
            let distance_ms = shaken.answered.map(ms);
            match shaken.result {
                Ok(secured) => {
                    let (version, cipher) = (secured.version.clone(), secured.cipher.clone());
                    let said = version.clone().unwrap_or_else(|| "TLS".to_owned());
                    seen.tls = Some(TlsReport { version, cipher, distance_ms });
                    seen.stages.push(well(Stage::Tls, began.elapsed(), said));
                    (self.begins)(Stage::Certificate);
                    let said = seen.chain.first().map_or("accepted".to_owned(), Self::of_certificate);
                    seen.stages.push(well(Stage::Certificate, Duration::ZERO, said));
                    return Ok(secured);
                }
                Err(EndpointError::Certificate(problem)) => {
                    seen.stages.push(well(Stage::Tls, began.elapsed(), "the server offers TLS".to_owned()));
                    seen.stages.push(failed(Stage::Certificate, Duration::ZERO, problem.to_string()));
                    return Err(Failure::Certificate(problem));
                }
                Err(error) => failure = error,
            }
        }
        seen.stages.push(failed(Stage::Tls, began.elapsed(), failure.to_string()));
        Err(Failure::Tls(failure))
    }

    fn of_certificate(certificate: &Described) -> String {
        let days = certificate.not_after.duration_since(SystemTime::now()).unwrap_or_default().as_secs() / 86_400;
        format!("accepted, ends in {days} days, SHA-256 {}…", certificate.sha256.get(..16).unwrap_or_default())
    }
}

impl Seen {
    /// Notes how a login went; `with` is said of one that went well.
    fn note_login(
        &mut self,
        began: Instant,
        done: Result<Upstream, LoginError>,
        with: String,
    ) -> Result<Upstream, Failure> {
        let (result, user) = (done.map_err(Failure::Login), &self.user);
        let is_in = result.as_ref().err().is_none_or(|failure| failure.stage() == Stage::Database);
        if is_in {
            self.stages.push(well(Stage::Login, began.elapsed(), format!("as {user}{with}")));
        }
        if let Err(failure @ Failure::Login(error)) = &result {
            let who = if with.is_empty() { String::new() } else { format!("as {user}: ") };
            self.stages.push(failed(failure.stage(), began.elapsed(), format!("{who}{}", error.in_short())));
        }
        result
    }

    /// Notes how a stage went, and hands its result on.
    fn note<T, E>(
        &mut self,
        stage: Stage,
        began: Instant,
        result: Result<T, E>,
        of_ok: impl FnOnce(&T) -> String,
        of_err: impl FnOnce(&E) -> String,
    ) -> Result<T, E> {
        let took = began.elapsed();
        self.stages.push(match &result {
            Ok(value) => well(stage, took, of_ok(value)),
            Err(error) => failed(stage, took, of_err(error)),
        });
        result
    }
}

fn found_addresses(found: &[SocketAddr]) -> String {
    let addresses: Vec<_> = found.iter().take(4).map(|address| of_kind(address.ip())).collect();
    let more = found.len().saturating_sub(addresses.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", addresses.join(", "))
}

fn of_kind(address: IpAddr) -> String {
    format!("{address} ({})", if upstream::is_public(address) { "public" } else { "private" })
}

fn well(stage: Stage, took: Duration, found: String) -> StageReport {
    StageReport { stage: stage.name(), ok: true, ms: ms(took), found }
}

fn failed(stage: Stage, took: Duration, found: String) -> StageReport {
    StageReport { stage: stage.name(), ok: false, ms: ms(took), found }
}

const BROUGHT: &str = "none: each client brings its own password, so nobody logs in here";
/// A name with more is nobody's.
const ADDRESSES_MAX: usize = 16;
