//! From a cluster to a logged-in upstream: choose an endpoint, connect, log in.

mod by_hand;
mod connect;
mod dial;
mod error;
mod login;
mod rejections;
mod resolve;
mod select;
mod told;

use crate::{
    clock::{Clock, MachineClock},
    credentials::{Credentials, Lease},
    metrics::{
        ClusterMetrics, EndpointMetrics, Held, Metrics,
        labels::{Stage, UpstreamState},
    },
    scram::KeyCache,
    settings::{self, Endpoint, Limits, Name, Policy},
    tls::ClusterTls,
    wire::{CancelKey, StartupParameters, messages},
};
use by_hand::ByHand;
use connect::{Connection, Connector};
use login::Login;
use rejections::Rejections;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::client::TlsStream;

pub use by_hand::Order;
pub(crate) use dial::set_keepalive;
pub(crate) use error::{ClaimError, EndpointError, LoginError};
pub(crate) use login::Greeting;
pub use resolve::{Resolve, Resolving, SystemResolver};
pub(crate) use told::{Audience, Facts, Told};

/// A cluster, ready to be reached.
pub struct Cluster {
    settings: Arc<settings::Cluster>,
    tls: ClusterTls,
    credentials: Option<Credentials>,
    connector: Connector,
    keys: KeyCache,
    logins: Semaphore,
    rejections: Rejections,
    limits: Arc<Limits>,
    metrics: ClusterMetrics,
    endpoint_metrics: HashMap<Name, EndpointMetrics>,
    by_hand: ByHand,
    clock: Arc<dyn Clock>,
}

/// The very address over which a session is reached, which may be one of many.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
    /// The address that was dialled.
    pub(crate) address: SocketAddr,
}

/// A logged-in connection to an endpoint.
pub(crate) struct Upstream {
    /// Verified TLS.
    pub(crate) stream: TlsStream<TcpStream>,
    /// How it was reached.
    pub(crate) route: Route,
    /// What the server said at login.
    pub(crate) greeting: Greeting,
    /// Counts it among the upstreams of its endpoint.
    pub(crate) held: Held,
}

/// What a session asks for.
pub(crate) struct Claim<'a> {
    /// Sent as they are.
    pub(crate) parameters: &'a StartupParameters,
    /// Which endpoints may serve, and in which order.
    pub(crate) policy: &'a Policy,
}

impl Cluster {
    /// Puts together what reaching the cluster takes. Opens nothing.
    pub fn new(
        settings: Arc<settings::Cluster>,
        tls: ClusterTls,
        credentials: Option<Credentials>,
        limits: &Arc<Limits>,
        resolver: Arc<dyn Resolve>,
        metrics: &Metrics,
    ) -> Self {
        let cluster_metrics = metrics.cluster(&settings.name);
        if let Some(ca) = &tls.ca {
            cluster_metrics.ca_expires(ca.not_after);
        }
        if let Some(at) = tls.certificate_not_after {
            metrics.certificate_expires("client", &settings.name, at);
        }
        let of_endpoint =
            |endpoint: &Arc<Endpoint>| (endpoint.name.clone(), metrics.endpoint(&settings.name, &endpoint.name));
        Self {
            credentials,
            connector: Connector {
                resolver,
                tls: Arc::clone(&tls.config).into(),
                limits: Arc::clone(limits),
                trusts_system: settings.ca == settings::CaSource::System,
            },
            keys: KeyCache::default(),
            logins: Semaphore::new(limits.logins_max.get().min(Semaphore::MAX_PERMITS)),
            rejections: Rejections::default(),
            limits: Arc::clone(limits),
            metrics: cluster_metrics,
            endpoint_metrics: settings.endpoints.iter().map(of_endpoint).collect(),
            by_hand: ByHand::default(),
            clock: Arc::new(MachineClock),
            tls,
            settings,
        }
    }

    /// Its name in the settings.
    pub fn name(&self) -> &Name {
        &self.settings.name
    }

    /// What it was built from.
    pub fn settings(&self) -> &settings::Cluster {
        &self.settings
    }

    /// What is known of its CA and certificates.
    pub fn tls(&self) -> &ClusterTls {
        &self.tls
    }

    /// Its secret, if it has one.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The endpoint that a session under this policy is tried at first.
    pub(crate) fn preferred_endpoint(&self, policy: &Policy) -> Option<Arc<Endpoint>> {
        select::candidates(&self.settings.endpoints, policy).into_iter().next()
    }

    /// When the certificate that an endpoint showed last expires.
    pub fn server_certificate_not_after(&self, endpoint: &Name) -> Option<SystemTime> {
        self.endpoint_metrics.get(endpoint)?.certificate_not_after()
    }

    /// Orders that new sessions leave an endpoint out, or go there first, for `span`; `None` takes an earlier
    /// order back. When the order ends; `None` when there is no such endpoint.
    pub fn order(&self, endpoint: &Name, order: Option<Order>, span: Duration) -> Option<SystemTime> {
        self.settings.endpoints.iter().find(|known| known.name == *endpoint)?;
        let until = self.clock.now().after(span);
        self.by_hand.set(endpoint, order, until);
        Some(self.clock.time_of(until))
    }

    /// The order that stands for an endpoint, and when it ends.
    pub fn ordered(&self, endpoint: &Name) -> Option<(Order, SystemTime)> {
        let (order, until) = self.by_hand.of(endpoint, self.clock.now())?;
        Some((order, self.clock.time_of(until)))
    }

    /// Brings what its secret's reading says up to date in the metrics.
    pub fn publish(&self) {
        if let Some(at) = self.credentials.as_ref().and_then(Credentials::read_at) {
            self.metrics.secret_read(at);
        }
    }

    /// An upstream of its own for one session: waits for a login slot, then tries endpoints in order
    /// until one serves. Dropping the future closes whatever was opened.
    pub(crate) async fn claim(&self, claim: &Claim<'_>) -> Result<Upstream, ClaimError> {
        let _slot = self.login_slot().await?;
        let mut lease = self.lease().await?;
        let mut deadline = Instant::now() + self.limits.connect_limit;
        let kind = self.rejections.kind(claim.parameters);
        if let Some((endpoint, error)) = self.rejections.standing(kind, generation(lease.as_ref()), Instant::now()) {
            return Err(ClaimError::Login { endpoint, error });
        }

        let candidates = select::candidates(&self.settings.endpoints, claim.policy);
        let mut failures = Vec::new();
        let mut is_secret_fresh = false;
        let mut next = candidates.iter().peekable();
        while let Some(endpoint) = next.peek().copied() {
            let has_another = candidates.len() > failures.len().saturating_add(1);
            if Instant::now() >= deadline {
                failures.push((Arc::clone(endpoint), EndpointError::NotTried));
                next.next();
                continue;
            }
            let error = match self
                .attempt(endpoint, claim.parameters, lease.as_ref(), Deadlines { has_another, deadline })
                .await
            {
                Ok(upstream) => {
                    self.rejections.clear(kind);
                    return Ok(upstream);
                }
                Err(LoginError::Endpoint(error)) => {
                    tracing::debug!(cluster.name = %self.name(), endpoint.name = %endpoint.name, %error, "endpoint failed");
                    failures.push((Arc::clone(endpoint), error));
                    next.next();
                    continue;
                }
                Err(error) => error,
            };
            // The secret may have been rotated a moment ago: looked at once more, then the server's word stands.
            let asked_at = Instant::now();
            if error.rejects_the_secret() && !is_secret_fresh && self.reread(&mut lease).await {
                is_secret_fresh = true;
                // Reading a secret is not connecting.
                deadline += asked_at.elapsed();
                continue;
            }
            if let LoginError::Server(server) = &error
                && error.rejects_the_secret()
            {
                self.rejections.note(kind, generation(lease.as_ref()), endpoint, server, Instant::now());
            }
            return Err(ClaimError::Login { endpoint: Arc::clone(endpoint), error });
        }
        Err(ClaimError::NoEndpoint(failures))
    }

    /// Cancels what the session with this key runs, at the address that holds it; done once the server
    /// has read it. Takes at most `cancel_limit`.
    pub(crate) async fn cancel(&self, route: &Route, key: &CancelKey) -> Result<(), EndpointError> {
        let work = async {
            let mut connection = self.connector.connect_again(route).await?;
            let stream = &mut connection.stream;
            let deliver = async {
                stream.write_all(&messages::cancel_request(key)).await?;
                stream.flush().await
            };
            deliver.await.map_err(EndpointError::LoginLost)?;
            // The server closes without a word; however it does, the request was read by then.
            let _ = stream.read(&mut [0]).await;
            Ok(())
        };
        timeout(self.limits.cancel_limit, work).await.unwrap_or(Err(EndpointError::NoAnswer))
    }

    async fn login_slot(&self) -> Result<SemaphorePermit<'_>, ClaimError> {
        let limit = self.limits.login_queue_limit;
        match timeout(limit, self.logins.acquire()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(ClaimError::NoLoginSlot { logins_max: self.limits.logins_max.get(), limit }),
        }
    }

    async fn lease(&self) -> Result<Option<Lease>, ClaimError> {
        match &self.credentials {
            Some(credentials) => credentials.current().await.map(Some).map_err(ClaimError::Secret),
            None => Ok(None),
        }
    }

    /// Reads the secret again; whether it is another one now.
    async fn reread(&self, lease: &mut Option<Lease>) -> bool {
        let (Some(credentials), Some(old)) = (&self.credentials, lease.as_ref()) else { return false };
        let Ok(new) = credentials.reread(old.generation).await else { return false };
        let has_changed = new.generation != old.generation;
        *lease = Some(new);
        has_changed
    }

    async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        parameters: &StartupParameters,
        lease: Option<&Lease>,
        deadlines: Deadlines,
    ) -> Result<Upstream, LoginError> {
        let unknown = || LoginError::Endpoint(EndpointError::NotResolved(io::ErrorKind::NotFound.into()));
        let metrics = self.endpoint_metrics.get(&endpoint.name).ok_or_else(unknown)?;
        let result = self.attempt_measured(endpoint, parameters, lease, deadlines, metrics).await;
        let outcome = result.as_ref().err().map_or(crate::metrics::labels::AttemptResult::Ok, LoginError::result);
        metrics.attempts.at(outcome).inc();
        result
    }

    async fn attempt_measured(
        &self,
        endpoint: &Arc<Endpoint>,
        parameters: &StartupParameters,
        lease: Option<&Lease>,
        deadlines: Deadlines,
        metrics: &EndpointMetrics,
    ) -> Result<Upstream, LoginError> {
        let held = Held::new(metrics.upstreams.at(UpstreamState::Login));
        let connect_by = deadlines.of_connecting(&self.limits);
        let mut connection =
            self.connector.connect(endpoint, metrics, connect_by).await.map_err(LoginError::Endpoint)?;
        let login = Login { user: &self.settings.user, lease, keys: &self.keys, metrics: &self.metrics };
        let began = Instant::now();
        let logged_in = timeout_at(deadlines.deadline, login.run(&mut connection, parameters)).await;
        let greeting = logged_in.unwrap_or(Err(LoginError::Endpoint(EndpointError::LoginTimedOut)))?;
        metrics.seconds.at(Stage::Login).observe(began.elapsed().as_secs_f64());
        drop(held);
        let Connection { stream, route } = connection;
        Ok(Upstream { stream, route, greeting, held: Held::new(metrics.upstreams.at(UpstreamState::Session)) })
    }
}

/// By when an attempt must have come how far.
#[derive(Clone, Copy)]
struct Deadlines {
    /// Whether another endpoint is left: then this one must not use up all the time.
    has_another: bool,
    /// Login and all.
    deadline: Instant,
}

impl Deadlines {
    fn of_connecting(self, limits: &Limits) -> Instant {
        if self.has_another { self.deadline.min(Instant::now() + limits.endpoint_limit) } else { self.deadline }
    }
}

fn generation(lease: Option<&Lease>) -> u64 {
    lease.map_or(0, |lease| lease.generation)
}
