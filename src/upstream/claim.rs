//! An upstream of its own for one session: a login slot, a secret, and a search through the endpoints.

use super::{
    Choice, Cluster, LoggedIn, Setup, Upstream, Way,
    connect::{Connection, Progress},
    error::{ClaimError, EndpointError, LoginError, Loss},
    login::Login,
    search::Search,
    setup::half,
};
use crate::{
    credentials::Lease,
    metrics::{
        Held,
        labels::{AttemptResult, Stage, UpstreamState},
    },
    settings::Limits,
    wire::StartupParameters,
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, sleep, timeout_at},
};

/// What a session asks for.
pub(crate) struct Claim<'a> {
    /// What the cluster is reached with.
    pub(crate) setup: &'a Setup,
    /// Sent as they are.
    pub(crate) parameters: &'a StartupParameters,
    /// Which endpoints may serve, and in which order.
    pub(crate) choice: &'a Choice,
    /// The secret that a client brings; nothing of it is kept.
    pub(crate) of_client: Option<&'a Lease>,
}

/// Why no upstream could be made ready.
#[derive(Debug)]
pub(crate) struct NotPrepared {
    /// Why.
    pub(crate) cause: ClaimError,
    /// The generation of the secret that was tried.
    pub(crate) secret: u64,
}

impl Cluster {
    /// An upstream for one session: waits for a login slot, then tries endpoints until one serves. Dropping
    /// the future closes whatever was opened.
    pub(crate) async fn claim(&self, claim: &Claim<'_>) -> Result<Upstream, ClaimError> {
        self.note_client();
        self.wait_for_distances(claim.choice).await;
        let setup = claim.setup;
        let _slot = setup.login_slot(claim.of_client.is_some()).await?;
        let lease = match claim.of_client {
            Some(lease) => Some(lease.clone()),
            None => setup.lease(claim.parameters).await?,
        };
        let rejections = &setup.rejections;
        let kind = rejections.kind(claim.parameters);
        // One client's wrong password says nothing of another's.
        let counts = claim.of_client.is_none();
        let standing = rejections.standing(kind, generation(lease.as_ref()), Instant::now());
        if let Some((endpoint, error)) = standing.filter(|_| counts) {
            return Err(ClaimError::Login { endpoint, error });
        }
        let upstream = Search::new(self, claim, lease, kind).run().await?;
        rejections.clear(kind, upstream.login.birth.secret);
        Ok(upstream)
    }

    /// One upstream at the endpoint where the next session would go, for whoever comes: no other endpoint is
    /// tried, and half of the login slots are left to clients. `None` when no slot is free.
    pub(crate) async fn prepare(&self, claim: &Claim<'_>) -> Option<Result<Upstream, NotPrepared>> {
        let setup = claim.setup;
        if setup.logins.available_permits() <= setup.limits.logins_max.get() / 2 {
            return None;
        }
        let _slot = setup.logins.try_acquire().ok()?;
        let lease = match setup.lease(claim.parameters).await {
            Ok(lease) => lease,
            Err(cause) => return Some(Err(NotPrepared { cause, secret: 0 })),
        };
        let way = self.order_of(setup, claim.choice).into_iter().next()?;
        // As if another endpoint were left: nobody waits for this one to the last.
        let deadlines = Deadlines { has_another: true, deadline: Instant::now() + setup.limits.connect_limit };
        let attempt = Attempt { setup, way: &way, parameters: claim.parameters, lease: lease.as_ref(), deadlines };
        let made = self.attempt(&attempt, &Progress::default()).await;
        let cause = |error| ClaimError::Login { endpoint: Arc::clone(&way.endpoint), error };
        Some(made.map_err(|error| NotPrepared { cause: cause(error), secret: generation(lease.as_ref()) }))
    }

    /// Where the nearest region is to serve, the very first sessions wait a moment for it to be known.
    async fn wait_for_distances(&self, choice: &Choice) {
        let mut changes = self.changes();
        let settled = async {
            // A change is marked after what it says can be seen, so none is missed.
            while choice.is_unsettled() && changes.changed().await.is_ok() {}
        };
        let _ = timeout_at(self.started_at + DISTANCES_LIMIT, settled).await;
    }
}

/// A login's place among those in flight.
struct LoginSlot<'a> {
    _of_clients: Option<SemaphorePermit<'a>>,
    _of_all: SemaphorePermit<'a>,
}

impl Setup {
    /// A slot among all, for logins with a client's password after one among those: however many of them there are and
    /// however long they take, half is left to the others.
    async fn login_slot(&self, is_clients: bool) -> Result<LoginSlot<'_>, ClaimError> {
        let (limit, most) = (self.limits.login_queue_limit, self.limits.logins_max.get());
        let until = Instant::now() + limit;
        let none_left = |logins_max, is_clients| ClaimError::NoLoginSlot { logins_max, limit, is_clients };
        let of_clients = match is_clients.then(|| timeout_at(until, self.logins_of_clients.acquire())) {
            Some(waiting) => match waiting.await {
                Ok(Ok(slot)) => Some(slot),
                _ => return Err(none_left(half(most), true)),
            },
            None => None,
        };
        match timeout_at(until, self.logins.acquire()).await {
            Ok(Ok(of_all)) => Ok(LoginSlot { _of_clients: of_clients, _of_all: of_all }),
            _ => Err(none_left(most, false)),
        }
    }

    async fn lease(&self, parameters: &StartupParameters) -> Result<Option<Lease>, ClaimError> {
        self.account_of(parameters).examine_secret().await.map_err(ClaimError::Secret)
    }
}

impl Cluster {
    /// An upstream at one endpoint. A node that turns it away is not the endpoint's loss: it is tried again
    /// there, at another address where there is one.
    pub(super) async fn persist(&self, attempt: &Attempt<'_>, progress: &Progress) -> Result<Upstream, LoginError> {
        let mut tries_left = NODE_TRIES;
        // Tries that are slow to fail must not use up what another endpoint needs.
        let retry_until = attempt.deadlines.of_connecting(&attempt.setup.limits);
        loop {
            let error = match self.attempt(attempt, progress).await {
                Ok(upstream) => return Ok(upstream),
                Err(error) => error,
            };
            tries_left = tries_left.saturating_sub(1);
            let is_over = Instant::now() + NODE_PAUSE_MAX >= retry_until;
            if tries_left == 0 || is_over || !matches!(error.loss(), Loss::Node | Loss::Full) {
                return Err(error);
            }
            tracing::debug!(
                cluster.name = %self.name(), endpoint.name = %attempt.way.name(), cause = error.in_short(),
                "turned away by a node, tried again at the same endpoint"
            );
            sleep(node_pause()).await;
        }
    }

    /// One try at one endpoint; whatever comes of it is counted and remembered.
    async fn attempt(&self, attempt: &Attempt<'_>, progress: &Progress) -> Result<Upstream, LoginError> {
        let before = progress.answered();
        let result = self.connect_and_log_in(attempt, progress).await;
        let outcome = result.as_ref().err().map_or(AttemptResult::Ok, LoginError::result);
        attempt.way.metrics.attempts.at(outcome).inc();
        let answered = progress.answered().filter(|_| before.is_none());
        self.note_attempt(attempt.setup, attempt.way, answered, result.as_ref().map(drop));
        result
    }

    async fn connect_and_log_in(&self, attempt: &Attempt<'_>, progress: &Progress) -> Result<Upstream, LoginError> {
        let Attempt { setup, way, parameters, lease, deadlines } = *attempt;
        let held = Held::new(way.metrics.upstreams.at(UpstreamState::Login));
        // What it is born under is what it begins with: a change on the way makes it old.
        let birth = self.birth(generation(lease));
        let connect_by = deadlines.of_connecting(&setup.limits);
        let account = setup.account_of(parameters);
        let connected = account.connector.connect(way, progress, connect_by).await;
        let mut connection = connected.map_err(LoginError::Endpoint)?;
        let login = Login { account, lease, metrics: &self.metrics };
        let began = Instant::now();
        let login_by = deadlines.of_logging_in();
        let logged_in = timeout_at(login_by, login.run(&mut connection, parameters)).await;
        let greeting = logged_in.unwrap_or(Err(LoginError::Endpoint(EndpointError::LoginTimedOut)))?;
        way.metrics.seconds.at(Stage::Login).observe(began.elapsed().as_secs_f64());
        drop(held);
        if self.is_current(setup) {
            self.has_logged_in.store(true, Relaxed);
        }
        let Connection { stream, route } = connection;
        let held = Held::new(way.metrics.upstreams.at(UpstreamState::Session));
        Ok(Upstream { stream, login: LoggedIn { way: Arc::clone(way), route, greeting, held, birth } })
    }
}

/// What an attempt at an endpoint needs.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) setup: &'a Setup,
    pub(super) way: &'a Arc<Way>,
    pub(super) parameters: &'a StartupParameters,
    pub(super) lease: Option<&'a Lease>,
    pub(super) deadlines: Deadlines,
}

/// By when an attempt must have come how far.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    /// Whether another endpoint is left: then this one must not use up all the time.
    pub(super) has_another: bool,
    /// Login and all.
    pub(super) deadline: Instant,
}

impl Deadlines {
    fn of_connecting(self, limits: &Limits) -> Instant {
        if self.has_another { self.deadline.min(Instant::now() + limits.endpoint_limit) } else { self.deadline }
    }

    /// Half of what is left stays for the others.
    fn of_logging_in(self) -> Instant {
        let now = Instant::now();
        let half = now + self.deadline.saturating_duration_since(now) / 2;
        if self.has_another { half } else { self.deadline }
    }
}

pub(super) fn generation(lease: Option<&Lease>) -> u64 {
    lease.map_or(0, |lease| lease.generation)
}

/// Not all at once: they were all turned away at once.
fn node_pause() -> Duration {
    Duration::from_millis(fastrand::u64(NODE_PAUSE_MIN_MS..=NODE_PAUSE_MAX_MS))
}

/// The first try and three more.
const NODE_TRIES: u32 = 4;
const NODE_PAUSE_MIN_MS: u64 = 50;
const NODE_PAUSE_MAX_MS: u64 = 200;
const NODE_PAUSE_MAX: Duration = Duration::from_millis(NODE_PAUSE_MAX_MS);
/// After the daemon's start.
const DISTANCES_LIMIT: Duration = Duration::from_millis(500);
