//! Builds every part from settings, binds, serves, and stops gently.

use crate::{
    admin::{self, Admin, ListenerView},
    credentials::Credentials,
    diagnostics::Chain,
    listener::{self, BindError, Socket},
    metrics::{Metrics, labels::DaemonState},
    refusals::Refusals,
    session::{Admission, CancelKeys, Limit, LocalPassword, Parts},
    sessions::Sessions,
    settings::{self, AdminAddress, ListenAddress, LocalTls, SecretSource, Settings},
    shutdown::{Drain, Phase, Stop, Stopper, stop},
    sys,
    tls::{self, ClusterTls, ServerTls},
    upstream::{Audience, Cluster, Resolve},
};
use std::{collections::HashMap, fmt, num::NonZero, sync::Arc, time::SystemTime};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

mod signals;

/// Everything that files tell, read and checked; no socket is open yet.
pub struct Built {
    settings: Arc<Settings>,
    clusters: Vec<ClusterFiles>,
    listeners: HashMap<settings::Name, ListenerFiles>,
    /// What the operator should look at although it works.
    pub warnings: Vec<String>,
}

/// A daemon with its sockets bound.
pub struct Daemon {
    admin: Arc<Admin>,
    admin_sockets: Vec<Socket>,
    listeners: Vec<(Arc<Parts>, Vec<Socket>)>,
    startups: Arc<Semaphore>,
    stopper: Stopper,
    stop: Stop,
}

/// Why the daemon cannot start.
#[derive(Debug)]
pub enum StartError {
    /// What was asked for makes no sense.
    Settings(String),
    /// A file that the settings name.
    Files(Vec<FileFault>),
    /// An address.
    Bind(BindError),
    /// Something that the system did not give.
    Internal(String),
}

/// A file or another source that does not do what the settings want of it.
#[derive(Debug)]
pub struct FileFault {
    /// What it is for.
    pub place: String,
    /// What is wrong with it.
    pub fault: String,
}

struct ClusterFiles {
    settings: Arc<settings::Cluster>,
    tls: ClusterTls,
    credentials: Option<Credentials>,
}

#[derive(Default)]
struct ListenerFiles {
    tls: Option<ServerTls>,
    local_password: Option<Credentials>,
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every session had ended.
    Clean,
    /// So many sessions were cut off at `drain_limit`.
    Cut(usize),
    /// A second signal came.
    AtOnce,
}

impl Ended {
    /// The exit code that says so.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Cut(_) => 4,
            Self::AtOnce => 5,
        }
    }
}

impl StartError {
    /// The exit code that says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Files(_) => 2,
            Self::Bind(_) => 3,
            Self::Internal(_) => 1,
        }
    }
}

impl Built {
    /// Reads CAs, certificates, keys and secrets. All faults at once. Blocks on files, which at a start
    /// holds up nobody.
    pub async fn read(settings: Settings) -> Result<Self, StartError> {
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        let mut clusters = Vec::new();
        for cluster in &settings.clusters {
            let mut note = |fault| faults.push(FileFault { place: format!("cluster \"{}\"", cluster.name), fault });
            let credentials = try_out(cluster.password.as_ref(), settings.strict_secrets, &mut note).await;
            match tls::cluster_tls(cluster, SystemTime::now()) {
                Ok(tls) => {
                    warnings.extend(tls.warnings.iter().map(|text| format!("cluster \"{}\": {text}", cluster.name)));
                    clusters.push(ClusterFiles { settings: Arc::clone(cluster), tls, credentials });
                }
                Err(error) => note(Chain(&error).to_string()),
            }
        }
        let mut listeners = HashMap::new();
        for listener in &settings.listeners {
            let mut note = |fault| faults.push(FileFault { place: format!("listener \"{}\"", listener.name), fault });
            let local_password = try_out(listener.local_password.as_ref(), settings.strict_secrets, &mut note).await;
            let tls = match &listener.tls {
                LocalTls::Off => None,
                LocalTls::Allow(files) | LocalTls::Require(files) => {
                    tls::server_tls(files).map_err(|error| note(Chain(&error).to_string())).ok()
                }
            };
            listeners.insert(listener.name.clone(), ListenerFiles { tls, local_password });
        }
        if !faults.is_empty() {
            return Err(StartError::Files(faults));
        }
        Ok(Self { settings: Arc::new(settings), clusters, listeners, warnings })
    }

    /// Binds every address and puts the parts together. Needs a runtime. All or nothing: on an error
    /// every socket is closed again.
    pub fn bind(mut self, resolver: &Arc<dyn Resolve>) -> Result<Daemon, StartError> {
        let settings = Arc::clone(&self.settings);
        let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Internal(error.to_string()))?);
        metrics.set_state(DaemonState::Starting);
        let (stopper, stop) = stop();
        let shared = Shared {
            limits: Arc::new(limits_that_fit(&settings)),
            cancel_keys: Arc::new(CancelKeys::new(settings.limits.cancels_max)),
            sessions: Arc::new(Sessions::default()),
            refusals: Arc::new(Refusals::new(settings.log_repeat)),
            metrics,
        };
        let clusters: Vec<_> =
            self.clusters.into_iter().map(|files| Arc::new(shared.cluster(files, resolver))).collect();
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

impl Daemon {
    /// Where clients can connect: the addresses of the first listener.
    pub fn addresses(&self) -> Vec<String> {
        self.admin.listeners.first().map(|view| view.addresses.clone()).unwrap_or_default()
    }

    /// Serves until a signal stops it. Dropping the future cuts every session off.
    pub async fn serve(self) -> std::io::Result<Ended> {
        let mut signals = signals::Signals::new()?;
        let mut admin_tasks = JoinSet::new();
        for socket in self.admin_sockets {
            listener::announce(listener::ADMIN, &socket);
            admin_tasks.spawn(admin::serve(socket, Arc::clone(&self.admin)));
        }
        let mut serving = JoinSet::new();
        for (parts, sockets) in self.listeners {
            for socket in sockets {
                listener::announce(parts.listener.name.as_str(), &socket);
                serving.spawn(listener::serve(
                    socket,
                    Arc::clone(&parts),
                    Arc::clone(&self.startups),
                    self.stop.clone(),
                ));
            }
        }
        self.admin.metrics.set_state(DaemonState::Running);
        let signal = signals.next().await;
        self.admin.metrics.set_state(DaemonState::Draining);

        let end = async {
            let ended = drain(&self.admin, &self.stopper, signal).await;
            while serving.join_next().await.is_some() {}
            admin_tasks.shutdown().await;
            ended
        };
        let ended = tokio::select! {
            biased;
            signal = signals.next_in_a_drain() => {
                warn!(signal, "stopped at once by a second signal");
                return Ok(Ended::AtOnce);
            }
            ended = end => ended,
        };
        let cut = if let Ended::Cut(cut) = ended { cut } else { 0 };
        info!(sessions.cut = cut, "stopped");
        Ok(ended)
    }
}

/// Lets sessions end, and cuts off those that have not by `drain_limit`.
async fn drain(admin: &Admin, stopper: &Stopper, signal: &'static str) -> Ended {
    let limits = &admin.settings.limits;
    let now = Instant::now();
    let deadline = now + limits.drain_limit;
    stopper.enter(Phase::Draining(Drain { idle_close: limits.idle_close, hurry_from: now + limits.drain_limit / 2 }));
    info!(signal, sessions.open = admin.sessions.admitted(), drain_limit = ?limits.drain_limit, "draining");
    let is_clean = timeout_at(deadline, admin.sessions.all_ended()).await.is_ok();
    let cut = if is_clean { 0 } else { admin.sessions.admitted() };
    stopper.enter(Phase::Cutting);
    if cut == 0 {
        return Ended::Clean;
    }
    warn!(sessions.cut = cut, "drain_limit has passed; sessions are cut off");
    Ended::Cut(cut)
}

/// The credentials of a source, if there is one; `note` is told when it gives nothing.
async fn try_out(source: Option<&SecretSource>, strict: bool, note: &mut impl FnMut(String)) -> Option<Credentials> {
    let credentials = Credentials::new(source?.clone(), strict);
    if let Err(error) = credentials.try_out().await {
        note(Chain(&error).to_string());
    }
    Some(credentials)
}

/// A runtime with so many threads that move bytes. Files and names are read on others, of which there are a bounded number.
pub fn runtime(threads: NonZero<usize>) -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads.get()).max_blocking_threads(BLOCKING_THREADS_MAX).enable_all();
    builder.build().map_err(|error| StartError::Internal(format!("threads cannot be started: {error}")))
}

/// What all listeners and clusters share.
struct Shared {
    limits: Arc<settings::Limits>,
    cancel_keys: Arc<CancelKeys>,
    sessions: Arc<Sessions>,
    refusals: Arc<Refusals>,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn cluster(&self, files: ClusterFiles, resolver: &Arc<dyn Resolve>) -> Cluster {
        let ClusterFiles { settings, tls, credentials } = files;
        Cluster::new(settings, tls, credentials, &self.limits, Arc::clone(resolver), &self.metrics)
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
        Parts {
            listener: Arc::clone(listener),
            limits: Arc::clone(&self.limits),
            cluster: Arc::clone(cluster),
            tls: tls.map(|tls| tls.config.into()),
            local_password: local_password.map(LocalPassword::new),
            admission: Admission::new(daemon_limit.clone(), Limit::new(sessions_max)),
            cancel_keys: Arc::clone(&self.cancel_keys),
            sessions: Arc::clone(&self.sessions),
            metrics: Arc::new(self.metrics.listener(&listener.name, sessions_max.get())),
            daemon_metrics: Arc::clone(&self.metrics),
            refusals: Arc::clone(&self.refusals),
            audience: audience(&listener.address),
        }
    }
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
    let most = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_OF_OURS) / 2;
    if let Some(most) = NonZero::new(most)
        && most < limits.sessions_max
    {
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

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(faults) => {
                let lines: Vec<_> =
                    faults.iter().map(|FileFault { place, fault }| format!("{place}: {fault}")).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Bind(error) => error.fmt(f),
            Self::Settings(text) | Self::Internal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

/// The admin socket is for the daemon's own user and root.
const ADMIN_MODE: u32 = 0o600;
const DESCRIPTORS_OF_OURS: usize = 64;
const BLOCKING_THREADS_MAX: usize = 64;
