//! From settings and files to a daemon with its sockets bound.

use super::{
    Daemon, StartError,
    files::{Built, ClusterFiles, ListenerFiles},
};
use crate::{
    admin::{Admin, ListenerView},
    listener::{self, BindError, Socket},
    metrics::{
        ListenerMetrics, Metrics,
        labels::{DaemonState, ErrorClass},
    },
    pool::Pool,
    refusals::Refusals,
    session::{Admission, CancelKeys, Limit, LocalPassword, OnError, Parts},
    sessions::Sessions,
    settings::{self, AdminAddress, ListenAddress, Settings},
    shutdown::stop,
    sys,
    upstream::{Audience, Cluster, World},
    wire::SqlState,
};
use std::{num::NonZero, sync::Arc, time::SystemTime};
use tokio::sync::Semaphore;
use tracing::warn;

impl Built {
    /// Binds every address and puts the parts together. Needs a runtime. All or nothing: on an error
    /// every socket is closed again.
    pub fn bind(mut self, world: &World) -> Result<Daemon, StartError> {
        let settings = Arc::clone(&self.settings);
        let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Internal(error.to_string()))?);
        metrics.set_state(DaemonState::Starting);
        let (stopper, stop) = stop();
        let limits = Arc::new(limits_that_fit(&settings));
        let shared = Shared {
            warm_places: Arc::new(Semaphore::new(limits.warm_total_max.min(Semaphore::MAX_PERMITS))),
            limits,
            cancel_keys: Arc::new(CancelKeys::new(settings.limits.cancels_max)),
            sessions: Arc::new(Sessions::default()),
            refusals: Arc::new(Refusals::new(settings.log_repeat)),
            metrics,
        };
        let clusters: Vec<_> = self.clusters.into_iter().map(|files| Arc::new(shared.cluster(files, world))).collect();
        let daemon_limit = Limit::new(shared.limits.sessions_max);
        let mut listeners = Vec::new();
        for listener in &settings.listeners {
            let Some(cluster) = clusters.iter().find(|cluster| *cluster.name() == listener.cluster) else {
                return Err(StartError::Internal(format!("listener \"{}\" has no cluster", listener.name)));
            };
            let files = self.listeners.remove(&listener.name).unwrap_or_default();
            let parts = shared.parts(listener, cluster, files, &daemon_limit);
            let sockets =
                listener::bind(listener.name.as_str(), &listener.address, listener.mode).map_err(StartError::Bind)?;
            listeners.push((Arc::new(parts), sockets));
        }
        let admin_sockets = bind_admin(&settings.admin).map_err(StartError::Bind)?;
        let view = |(parts, sockets): &(Arc<Parts>, Vec<Socket>)| ListenerView {
            parts: Arc::clone(parts),
            addresses: sockets.iter().map(Socket::address).collect(),
        };
        let admin = Admin {
            loaded_at: SystemTime::now(),
            metrics: Arc::clone(&shared.metrics),
            sessions: Arc::clone(&shared.sessions),
            refusals: Arc::clone(&shared.refusals),
            clusters,
            listeners: listeners.iter().map(view).collect(),
            stop: stop.clone(),
            settings,
        };
        let startups = Arc::new(Semaphore::new(shared.limits.startups_max.get().min(Semaphore::MAX_PERMITS)));
        Ok(Daemon { admin: Arc::new(admin), admin_sockets, listeners, startups, stopper, stop })
    }
}

/// What all listeners and clusters share.
struct Shared {
    limits: Arc<settings::Limits>,
    cancel_keys: Arc<CancelKeys>,
    sessions: Arc<Sessions>,
    refusals: Arc<Refusals>,
    metrics: Arc<Metrics>,
    /// Places for upstreams that stand ready.
    warm_places: Arc<Semaphore>,
}

impl Shared {
    fn cluster(&self, files: ClusterFiles, world: &World) -> Cluster {
        let ClusterFiles { settings, tls, credentials } = files;
        Cluster::new(settings, tls, credentials, &self.limits, world, &self.metrics)
    }

    fn parts(
        &self,
        listener: &Arc<settings::Listener>,
        cluster: &Arc<Cluster>,
        files: ListenerFiles,
        daemon_limit: &Limit,
    ) -> Parts {
        let ListenerFiles { tls, local_password } = files;
        let sessions_max = listener.sessions_max.min(self.limits.sessions_max);
        if let Some(at) = tls.as_ref().and_then(|tls| tls.not_after) {
            self.metrics.certificate_expires("local", &listener.name, at);
        }
        let choice = cluster.choice(&listener.policy);
        let metrics = Arc::new(self.metrics.listener(&listener.name, sessions_max.get()));
        let pool = Pool::new(listener, &self.limits, cluster, &choice, &metrics, &self.warm_places);
        Parts {
            on_error: on_error(&metrics, cluster),
            pool: Arc::new(pool),
            choice,
            listener: Arc::clone(listener),
            limits: Arc::clone(&self.limits),
            cluster: Arc::clone(cluster),
            tls: tls.map(|tls| tls.config.into()),
            local_password: local_password.map(LocalPassword::new),
            admission: Admission::new(daemon_limit.clone(), Limit::new(sessions_max)),
            cancel_keys: Arc::clone(&self.cancel_keys),
            sessions: Arc::clone(&self.sessions),
            metrics,
            daemon_metrics: Arc::clone(&self.metrics),
            refusals: Arc::clone(&self.refusals),
            audience: audience(&listener.address),
        }
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

fn audience(address: &ListenAddress) -> Audience {
    match address {
        ListenAddress::Tcp(address) if !address.ip().to_canonical().is_loopback() => Audience::Remote,
        _ => Audience::Local,
    }
}

fn bind_admin(address: &AdminAddress) -> Result<Vec<Socket>, BindError> {
    let address = match address {
        AdminAddress::Off => return Ok(Vec::new()),
        AdminAddress::Localhost(port) => ListenAddress::Localhost(*port),
        AdminAddress::Tcp(address) => ListenAddress::Tcp(*address),
        AdminAddress::Unix(path) => ListenAddress::Unix(path.clone()),
    };
    listener::bind(listener::ADMIN, &address, ADMIN_MODE)
}

/// The settings' limits, with `sessions_max` lowered to what the descriptors allow: two for a session,
/// and some for the daemon itself.
fn limits_that_fit(settings: &Settings) -> settings::Limits {
    let mut limits = settings.limits.clone();
    let Some(descriptors) = sys::raise_descriptor_limit() else { return limits };
    let descriptors_max = usize::try_from(descriptors).unwrap_or(usize::MAX);
    // Sockets in startup must leave room for sessions and probes.
    let startups = NonZero::new(descriptors_max / STARTUP_SHARE).unwrap_or(NonZero::<usize>::MIN);
    limits.startups_max = limits.startups_max.min(startups);
    limits.warm_total_max = limits.warm_total_max.min(descriptors_max / WARM_SHARE);
    let most = descriptors_max.saturating_sub(DESCRIPTORS_OF_OURS).saturating_sub(limits.warm_total_max) / 2;
    let most = NonZero::new(most).unwrap_or(NonZero::<usize>::MIN);
    if most < limits.sessions_max {
        warn!(
            descriptors,
            sessions_max = limits.sessions_max.get(),
            lowered_to = most.get(),
            "the limit of open descriptors allows fewer sessions than sessions_max; raise it (ulimit -n, LimitNOFILE=)"
        );
        limits.sessions_max = most;
    }
    limits
}

/// The admin socket is for the daemon's own user and root.
const ADMIN_MODE: u32 = 0o600;
const DESCRIPTORS_OF_OURS: usize = 64;
/// One in so many may be an upstream that stands ready.
const WARM_SHARE: usize = 16;
/// One in so many descriptors may be a socket in startup.
const STARTUP_SHARE: usize = 8;
