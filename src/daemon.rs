//! Builds every part from settings, binds, serves, and stops gently.

mod build;
mod files;
mod signals;

use crate::{
    admin::{self, Admin},
    listener::{self, BindError, Socket},
    metrics::labels::DaemonState,
    session::Parts,
    settings::{Endpoint, Name},
    shutdown::{Drain, Phase, Stop, Stopper},
    upstream::Cluster,
};
use std::{fmt, num::NonZero, sync::Arc};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

pub use files::{Built, FileFault};

/// A daemon with its sockets bound.
pub struct Daemon {
    admin: Arc<Admin>,
    admin_sockets: Vec<Socket>,
    listeners: Vec<(Arc<Parts>, Vec<Socket>)>,
    startups: Arc<Semaphore>,
    stopper: Stopper,
    stop: Stop,
}

/// Changes a daemon while it serves.
#[derive(Clone)]
pub struct Control {
    clusters: Vec<Arc<Cluster>>,
}

impl Control {
    /// Goes on with these endpoints for a cluster. An endpoint that is gone gets no new session, what stands
    /// ready there is closed, and sessions that are open on it live on. Whether there is such a cluster.
    pub fn replace_endpoints(&self, cluster: &Name, endpoints: &[Arc<Endpoint>]) -> bool {
        let known = self.clusters.iter().find(|known| known.name() == cluster);
        known.inspect(|known| known.replace_endpoints(endpoints)).is_some()
    }
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

impl Daemon {
    /// Where clients can connect: the addresses of the first listener.
    pub fn addresses(&self) -> Vec<String> {
        self.admin.listeners.first().map(|view| view.addresses.clone()).unwrap_or_default()
    }

    /// What can be changed while it serves.
    pub fn control(&self) -> Control {
        Control { clusters: self.admin.clusters.clone() }
    }

    /// Serves until a signal stops it. Dropping the future cuts every session off.
    pub async fn serve(self) -> std::io::Result<Ended> {
        let mut signals = signals::Signals::new()?;
        let mut admin_tasks = JoinSet::new();
        for socket in self.admin_sockets {
            listener::announce(listener::ADMIN, &socket);
            admin_tasks.spawn(admin::serve(socket, Arc::clone(&self.admin)));
        }
        let mut watching = JoinSet::new();
        for cluster in &self.admin.clusters {
            watching.spawn(Arc::clone(cluster).watch_endpoints());
        }
        let mut serving = JoinSet::new();
        for (parts, _) in &self.listeners {
            serving.spawn(Arc::clone(&parts.pool).keep(self.stop.clone()));
        }
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
            watching.shutdown().await;
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

/// A runtime with so many threads that move bytes. Files and names are read on others, of which there are a bounded number.
pub fn runtime(threads: NonZero<usize>) -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads.get()).max_blocking_threads(BLOCKING_THREADS_MAX).enable_all();
    builder.build().map_err(|error| StartError::Internal(format!("threads cannot be started: {error}")))
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

const BLOCKING_THREADS_MAX: usize = 64;
