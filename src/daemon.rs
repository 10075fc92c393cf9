//! Builds every part from settings, binds, serves, reads settings again, and stops gently.

mod build;
mod discovery;
mod drain;
mod facts;
mod files;
mod first_login;
mod looked_at;
mod memory;
mod outlook;
mod post;
mod reload;
mod serving;
mod signals;
mod telling;
mod uid_rules;
mod watch;
mod wishes;

use crate::{
    admin::{self, Admin, Demand},
    listener::{self, BindError, Socket},
    metrics::labels::DaemonState,
    service_manager::ServiceManager,
    settings::{ConnectionParameters, Endpoint, Inputs, ListenAddress, LocalTls, Name},
    shutdown::Stopper,
};
use reload::Reloads;
use serving::Serving;
use std::{fmt, num::NonZero, sync::Arc};
use telling::Telling;
use tokio::task::JoinSet;
use tracing::{info, warn};
use wishes::{Wish, Wishes};

pub(crate) use self::uid_rules::users_fault;
pub use self::{
    files::{Built, FileFault},
    signals::Ender,
};

/// A daemon with its sockets bound.
pub struct Daemon {
    admin: Arc<Admin>,
    admin_sockets: Vec<Socket>,
    serving: Serving,
    stopper: Stopper,
    /// Signals are heard from before the first socket is bound: whoever sees that one can stop the daemon.
    wishes: Wishes,
    reloads: Reloads,
    telling: Telling,
}

/// Changes a daemon while it serves.
#[derive(Clone)]
pub struct Control(Arc<Admin>);

impl Control {
    /// Goes on with these endpoints for a cluster. An endpoint that is gone gets no new session, what stands
    /// ready there is closed, and sessions that are open on it live on. Whether there is such a cluster.
    pub fn replace_endpoints(&self, cluster: &Name, endpoints: &[Arc<Endpoint>]) -> bool {
        let view = self.0.view();
        let known = view.clusters.iter().find(|known| known.name() == cluster);
        known.inspect(|known| known.replace_endpoints(endpoints)).is_some()
    }

    /// Whether nodes of a cluster restart one after the other: what stands ready there is not kept for long then. Whether
    /// there is such a cluster.
    pub fn expect_restarts(&self, cluster: &Name, expected: bool) -> bool {
        let view = self.0.view();
        let known = view.clusters.iter().find(|known| known.name() == cluster);
        known.is_some_and(|known| {
            known.expect_restarts(expected);
            true
        })
    }

    /// How a listener is reached: that of this name, or the first. `None` if there is none.
    pub fn connection_parameters(&self, listener: Option<&str>) -> Option<ConnectionParameters> {
        let view = self.0.view();
        let is_meant = |name: &Name| listener.is_none_or(|meant| meant == name.as_str());
        let found = view.listeners.iter().find(|view| is_meant(&view.parts.listener.name))?;
        let listener = &found.parts.listener;
        let address = ListenAddress::of_sockets(&found.addresses)?;
        let needs_tls = matches!(listener.tls, LocalTls::Require(_));
        ConnectionParameters::new(&address, needs_tls, (&listener.user.name, &listener.database), None)
    }

    /// Why the daemon has not started yet or is not ready, as `/startupz` and `/readyz` have it.
    pub fn unready_because(&self) -> Option<String> {
        self.0.not_started_because().or_else(|| self.0.not_ready_because())
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

    /// Sessions that were cut off at `drain_limit`.
    fn cut(self) -> u64 {
        if let Self::Cut(cut) = self { u64::try_from(cut).unwrap_or(u64::MAX) } else { 0 }
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
        self.admin.view().listeners.first().map(|view| view.addresses.clone()).unwrap_or_default()
    }

    /// What can be changed while it serves.
    pub fn control(&self) -> Control {
        Control(Arc::clone(&self.admin))
    }

    /// Reads settings from these whenever it is told to; without them there are none to be read again.
    #[must_use]
    pub fn with_inputs(mut self, inputs: Inputs) -> Self {
        self.reloads.inputs = Some(Arc::new(inputs));
        self
    }

    /// Tells it how things are.
    #[must_use]
    pub fn with_service_manager(self, manager: ServiceManager) -> Self {
        Self { telling: Telling::to(manager), ..self }
    }

    /// Serves until a signal or a demand stops it. Dropping the future cuts every session off.
    pub async fn serve(mut self) -> Ended {
        let mut tasks = JoinSet::new();
        for socket in std::mem::take(&mut self.admin_sockets) {
            listener::announce(listener::ADMIN, &socket, None);
            tasks.spawn(admin::serve(socket, Arc::clone(&self.admin)));
        }
        tasks.spawn(watch::files(Arc::clone(&self.admin)));
        tasks.spawn(discovery::watch(Arc::clone(&self.admin)));
        tasks.spawn(first_login::wait(Arc::clone(&self.admin)));
        tasks.spawn(memory::give_back(Arc::clone(&self.admin.sessions)));
        self.admin.metrics.set_state(DaemonState::Running);
        self.telling.ready(&self.admin);
        let by = self.until_stopped().await;
        let admin = Arc::clone(&self.admin);
        let ended = self.drain(by).await;
        admin.tell_end(ended.exit_code(), ended.cut()).await;
        // Probes are answered until the very end.
        tasks.shutdown().await;
        match ended {
            Ended::AtOnce => warn!("stopped at once by a second signal"),
            Ended::Clean => info!(sessions.cut = 0, "stopped"),
            Ended::Cut(cut) => info!(sessions.cut = cut, "stopped"),
        }
        ended
    }

    /// Serves, and does what it is told, until that is to stop: by whom.
    async fn until_stopped(&mut self) -> &'static str {
        loop {
            self.serving.tidy();
            let wish = tokio::select! {
                biased;
                wish = self.wishes.next() => wish,
                () = self.telling.beat() => {
                    self.telling.alive(&self.admin);
                    continue;
                }
            };
            let demand = match wish {
                Wish::Stop(by) => return by,
                Wish::Reload(demand) => demand,
            };
            let is_told = demand.as_ref().is_none_or(Demand::is_reload);
            if is_told {
                self.telling.reloading();
            }
            // Files may take long, and who wants to stop does not wait for them.
            tokio::select! {
                biased;
                by = self.wishes.next_stop() => return by,
                () = self.reloads.carry_out(&self.admin, &mut self.serving, demand) => {}
                () = self.telling.keep_alive() => {}
            }
            if is_told {
                self.telling.ready(&self.admin);
            }
        }
    }
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
