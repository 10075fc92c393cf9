//! From settings and files to a daemon with its sockets bound, and the parts that a listener's sessions need.

use super::{
    Daemon, StartError,
    files::{Built, ListenerFiles},
    first_login,
    post::Plan,
    reload::Reloads,
    serving::Serving,
    signals::{Ender, Signals},
    telling::Telling,
    wishes::Wishes,
};
use crate::{
    admin::{Admin, DEMANDS_MAX},
    listener::{self, InheritError, Inherited, Socket},
    metrics::{
        ListenerMetrics, Metrics,
        labels::{DaemonState, ErrorClass},
    },
    pool::Pool,
    refusals::Refusals,
    service_manager::ServiceManager,
    session::{Admission, CancelKeys, ClientRules, Limit, LocalPassword, OnError, Parts, Startups},
    sessions::Sessions,
    settings::{AdminAddress, Limits, ListenAddress, Name, Settings, SocketRights},
    shutdown::stop,
    sys::{self, Passed, PeerUids},
    upstream::{Audience, Cluster, Means, World},
    wire::SqlState,
};
use std::{
    collections::HashMap,
    io,
    num::NonZero,
    sync::{Arc, Mutex},
    time::SystemTime,
};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tracing::warn;

impl Built {
    /// Binds every address, but where a socket was passed instead, and begins to accept. Needs a runtime. All or nothing: on an error every socket is
    /// closed again.
    pub fn bind(self, world: &World, passed: Passed) -> Result<Daemon, StartError> {
        let signals = Signals::new().map_err(deaf)?;
        self.bind_with(world, passed, signals)
    }

    /// As [`Self::bind`], for who takes the signals of the process: the daemon hears none, but its ender.
    pub fn bind_without_signals(self, world: &World) -> Result<(Daemon, Ender), StartError> {
        let (signals, ender) = Signals::of_ender().map_err(deaf)?;
        Ok((self.bind_with(world, Passed::default(), signals)?, ender))
    }

    fn bind_with(self, world: &World, passed: Passed, signals: Signals) -> Result<Daemon, StartError> {
        let mut inherited = Inherited::new(passed);
        let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Internal(error.to_string()))?);
        metrics.set_state(DaemonState::Starting);
        let settings = Arc::clone(&self.settings);
        let shared = Shared::new(&settings, world, metrics);
        let (metrics, sessions) = (Arc::clone(&shared.metrics), Arc::clone(&shared.sessions));
        let (refusals, peer_uids) = (Arc::clone(&shared.refusals), Arc::clone(&shared.peer_uids));
        let mut serving = Serving::new(shared);
        let prepared = serving.prepare_with(self, &mut inherited)?;
        let admin_sockets = open_admin(&settings.admin, &mut inherited)?;
        inherited.close_rest();
        let view = serving.commit(prepared);
        metrics.has_loaded(view.loaded_at);
        let (stopper, stop) = stop();
        let (demands, demanded) = mpsc::channel(DEMANDS_MAX);
        let admin = Arc::new(Admin {
            started_at: SystemTime::now(),
            metrics,
            sessions,
            refusals,
            view: Mutex::new(Arc::new(view)),
            faults: Mutex::default(),
            demands,
            drain_asked: Notify::new(),
            ended: watch::Sender::new(None),
            peer_uids,
            first_login: Mutex::new(settings.startup_requires_upstream.then(|| first_login::NOT_YET.to_owned())),
            stop,
        });
        let wishes = Wishes::new(signals, demanded, Arc::clone(&admin));
        Ok(Daemon {
            admin,
            admin_sockets,
            serving,
            stopper,
            wishes,
            reloads: Reloads::new(),
            telling: Telling::to(ServiceManager::none()),
        })
    }
}

fn deaf(error: io::Error) -> StartError {
    StartError::Internal(format!("signals cannot be heard: {error}"))
}

/// What all listeners and clusters share, whatever settings say.
pub(super) struct Shared {
    world: World,
    cancel_keys: Arc<CancelKeys>,
    pub(super) sessions: Arc<Sessions>,
    refusals: Arc<Refusals>,
    peer_uids: Arc<PeerUids>,
    metrics: Arc<Metrics>,
    /// Sessions of the daemon, and of each listener by its name.
    sessions_max: Limit,
    listeners_max: HashMap<Name, Limit>,
    places: Places,
}

/// Places that are taken for a short time.
struct Places {
    startups_max: usize,
    startups: Arc<Startups>,
    warm_total_max: usize,
    /// For upstreams that stand ready.
    warm: Arc<Semaphore>,
}

impl Places {
    fn new(limits: &Limits) -> Self {
        let places = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let (startups_max, warm_total_max) = (limits.startups_max.get(), limits.warm_total_max);
        Self {
            startups_max,
            startups: Arc::new(Startups::new(startups_max)),
            warm_total_max,
            warm: places(warm_total_max),
        }
    }
}

impl Shared {
    fn new(settings: &Settings, world: &World, metrics: Arc<Metrics>) -> Self {
        let limits = &settings.limits;
        Self {
            world: world.clone(),
            cancel_keys: Arc::new(CancelKeys::new(limits.cancels_max)),
            sessions: Arc::new(Sessions::default()),
            refusals: Arc::new(Refusals::new(settings.log_repeat)),
            peer_uids: Arc::new(PeerUids::new()),
            metrics,
            sessions_max: Limit::new(limits.sessions_max),
            listeners_max: HashMap::new(),
            places: Places::new(limits),
        }
    }

    /// Goes by new limits. What is taken already stays.
    pub(super) fn go_by(&mut self, settings: &Settings, limits: &Limits) {
        self.sessions_max.set(limits.sessions_max);
        self.cancel_keys.set_most(limits.cancels_max);
        self.refusals.set_repeat(settings.log_repeat);
        let Places { startups_max, warm_total_max, .. } = self.places;
        if (startups_max, warm_total_max) != (limits.startups_max.get(), limits.warm_total_max) {
            self.places = Places::new(limits);
        }
        let is_there = |name: &Name| settings.listeners.iter().any(|listener| listener.name == *name);
        self.listeners_max.retain(|name, _| is_there(name));
    }

    pub(super) fn cluster(&self, means: Means) -> Cluster {
        Cluster::new(means, &self.world, &self.metrics)
    }

    /// What a listener's sessions need. What is known of endpoints by its parts of `before` is not lost.
    pub(super) fn parts(&mut self, plan: Plan<'_>, audience: Audience, before: Option<&Parts>) -> Parts {
        let Plan { listener, cluster, limits, files: ListenerFiles { tls, local_password }, .. } = plan;
        let sessions_max = listener.sessions_max.min(limits.sessions_max);
        let own = self.listeners_max.entry(listener.name.clone()).or_insert_with(|| Limit::new(sessions_max));
        own.set(sessions_max);
        let not_after = tls.as_ref().and_then(|tls| tls.not_after);
        self.metrics.certificate_expires("local", &listener.name, not_after);
        let is_same =
            |before: &&Parts| Arc::ptr_eq(&before.cluster, &cluster) && before.listener.policy == listener.policy;
        let choice = before.filter(is_same).map(|before| Arc::clone(&before.choice));
        let choice = choice.unwrap_or_else(|| cluster.choice(&listener.policy));
        let metrics = Arc::new(self.metrics.listener(&listener.name, sessions_max.get()));
        let setup = cluster.setup();
        let pool = Pool::new(listener, &cluster, &setup, &choice, &metrics, &self.places.warm);
        let mut parts = Parts {
            on_error: on_error(&metrics, &cluster),
            pool: Arc::new(pool),
            choice,
            setup,
            listener: Arc::clone(listener),
            limits: Arc::clone(limits),
            cluster,
            tls: tls.map(|tls| tls.config.into()),
            local_password: local_password.map(LocalPassword::new),
            admission: Admission::new(self.sessions_max.clone(), own.clone()),
            startups: Arc::clone(&self.places.startups),
            cancel_keys: Arc::clone(&self.cancel_keys),
            sessions: Arc::clone(&self.sessions),
            metrics,
            daemon_metrics: Arc::clone(&self.metrics),
            refusals: Arc::clone(&self.refusals),
            peer_uids: Arc::clone(&self.peer_uids),
            audience,
            client_rules: ClientRules::default(),
        };
        before.into_iter().for_each(|before| parts.succeed(before));
        parts
    }
}

/// What is done with each error that a server gives a session: counted; and one that says that something is in
/// use may speak of what stands ready.
fn on_error(metrics: &Arc<ListenerMetrics>, cluster: &Arc<Cluster>) -> OnError {
    let (metrics, cluster) = (Arc::clone(metrics), Arc::clone(cluster));
    Arc::new(move |sqlstate| {
        metrics.errors.at(ErrorClass::of(sqlstate)).inc();
        if sqlstate == SqlState::OBJECT_IN_USE {
            cluster.note_in_use();
        }
    })
}

fn open_admin(address: &AdminAddress, inherited: &mut Inherited) -> Result<Vec<Socket>, StartError> {
    let address = match address {
        // A socket that was passed for it stays among those that nobody wants.
        AdminAddress::Off => return Ok(Vec::new()),
        AdminAddress::Localhost(port) => ListenAddress::Localhost(*port),
        AdminAddress::Tcp(address) => ListenAddress::Tcp(*address),
        AdminAddress::Unix(path) => ListenAddress::Unix(path.clone()),
    };
    let sockets = inherited.take_for_admin().map_err(unfit)?;
    if !sockets.is_empty() {
        return Ok(sockets);
    }
    listener::bind(listener::ADMIN, &address, &SocketRights::of_mode(ADMIN_MODE)).map_err(StartError::Bind)
}

/// What was passed is as much an order as what settings say.
pub(super) fn unfit(error: InheritError) -> StartError {
    StartError::Settings(error.to_string())
}

/// What `sessions_max` had to be lowered to.
pub(super) struct Trim {
    descriptors: u64,
    wanted: NonZero<usize>,
    lowered_to: NonZero<usize>,
}

impl Trim {
    pub(super) fn warn(&self) {
        warn!(
            descriptors = self.descriptors,
            sessions_max = self.wanted.get(),
            lowered_to = self.lowered_to.get(),
            "the limit of open descriptors allows fewer sessions than sessions_max; raise it (ulimit -n, LimitNOFILE=)"
        );
    }
}

/// The settings' limits, with `sessions_max` lowered to what the descriptors allow: two for a session,
/// and some for the daemon itself.
pub(super) fn limits_that_fit(settings: &Settings) -> (Limits, Option<Trim>) {
    let mut limits = settings.limits.clone();
    let Some(descriptors) = sys::raise_descriptor_limit() else { return (limits, None) };
    let descriptors_max = usize::try_from(descriptors).unwrap_or(usize::MAX);
    // Sockets in startup must leave room for sessions and probes.
    let startups = NonZero::new(descriptors_max / STARTUP_SHARE).unwrap_or(NonZero::<usize>::MIN);
    limits.startups_max = limits.startups_max.min(startups);
    limits.warm_total_max = limits.warm_total_max.min(descriptors_max / WARM_SHARE);
    let most = descriptors_max.saturating_sub(DESCRIPTORS_OF_OURS).saturating_sub(limits.warm_total_max) / 2;
    let lowered_to = NonZero::new(most).unwrap_or(NonZero::<usize>::MIN);
    let wanted = limits.sessions_max;
    limits.sessions_max = wanted.min(lowered_to);
    (limits, (lowered_to < wanted).then_some(Trim { descriptors, wanted, lowered_to }))
}

/// The admin socket is for the daemon's own user and root.
const ADMIN_MODE: u32 = 0o600;
const DESCRIPTORS_OF_OURS: usize = 64;
/// One in so many may be an upstream that stands ready.
const WARM_SHARE: usize = 16;
/// One in so many descriptors may be a socket in startup.
const STARTUP_SHARE: usize = 8;
