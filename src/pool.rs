//! Upstreams that stand ready before they are needed, for startup parameters that clients repeat, and, where
//! a listener wants it, upstreams that are used again.
//!
//! One pool for each listener. A session takes from it without waiting, but where others give back; what it
//! gives back it resets itself; all else is done by one task, the pool's upkeep. An upstream is handed out only for exactly the parameters that it was logged in with, and
//! only after a last look at it.

mod burst;
mod judge;
mod reset;
mod returns;
mod shelves;
mod stock;
mod upkeep;

use crate::{
    metrics::{
        Held, ListenerMetrics,
        labels::{RecycleCause, ResetResult, UpstreamState, WarmResult},
    },
    settings,
    upstream::{Choice, Cluster, Setup, Upstream},
    wire::StartupParameters,
};
pub(crate) use reset::Used;
use shelves::{Rules, Setback, Shelf, Shelves};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stock::Stocked;
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::timeout,
};

/// The pool of one listener.
pub(crate) struct Pool {
    cluster: Arc<Cluster>,
    setup: Arc<Setup>,
    choice: Arc<Choice>,
    metrics: Arc<ListenerMetrics>,
    warm_max: usize,
    warm_age: Duration,
    reuse: bool,
    stock: Mutex<Stock>,
    /// Places for upstreams of all pools of the daemon.
    places: Arc<Semaphore>,
    /// Something is to be done.
    work: Notify,
}

/// An upstream that stood ready.
pub(crate) struct Ready {
    /// It.
    pub(crate) upstream: Upstream,
    /// Whether another session has used it before.
    pub(crate) is_reused: bool,
    /// Whether the server has spoken a moment ago: it leads somewhere.
    pub(crate) is_proven: bool,
}

/// What stands ready for one set of parameters, for `/status`.
pub(crate) struct Shown {
    /// The parameters.
    pub(crate) parameters: Arc<StartupParameters>,
    /// How many stand ready.
    pub(crate) ready: usize,
    /// How many are to.
    pub(crate) wanted: usize,
}

/// What a client has found.
enum Found {
    Ready(Box<Stocked>),
    /// One is being reset.
    Coming(oneshot::Receiver<Stocked>),
    Nothing(WarmResult),
}

struct Stock {
    shelves: Shelves<Stocked>,
    /// To be closed with a goodbye, by the upkeep.
    discarded: Vec<Upstream>,
    /// The daemon stops.
    is_closed: bool,
}

impl Pool {
    /// An empty pool; `places` are shared by all pools of the daemon.
    pub(crate) fn new(
        listener: &settings::Listener,
        cluster: &Arc<Cluster>,
        setup: &Arc<Setup>,
        choice: &Arc<Choice>,
        metrics: &Arc<ListenerMetrics>,
        places: &Arc<Semaphore>,
    ) -> Self {
        let rules = Rules { warm_max: listener.warm_max, warm_idle: setup.limits.warm_idle, reuse: listener.reuse };
        Self {
            cluster: Arc::clone(cluster),
            setup: Arc::clone(setup),
            choice: Arc::clone(choice),
            metrics: Arc::clone(metrics),
            warm_max: listener.warm_max,
            warm_age: setup.limits.warm_age,
            reuse: listener.reuse,
            stock: Mutex::new(Stock { shelves: Shelves::new(rules), discarded: Vec::new(), is_closed: false }),
            places: Arc::clone(places),
            work: Notify::new(),
        }
    }

    /// An upstream that was logged in with exactly these parameters, if a sound one stands ready or is about
    /// to. Waits for about a second at most, and only where another session has just given one back. Cancel
    /// safe: what nobody takes is handed to the next one, but for one that comes in the very moment of the cancel,
    /// which is closed.
    pub(crate) async fn take(&self, parameters: &StartupParameters) -> Option<Ready> {
        self.cluster.note_client();
        if !self.keeps(parameters) {
            self.metrics.warm_claims.at(WarmResult::MissOff).inc();
            return None;
        }
        let (result, found) = match self.look(parameters) {
            Found::Ready(stocked) => (WarmResult::Hit, Some(*stocked)),
            Found::Nothing(result) => (result, None),
            Found::Coming(handed) => match timeout(COMING_LIMIT, handed).await {
                Ok(Ok(stocked)) => (WarmResult::Hit, Some(stocked)),
                Ok(Err(_)) | Err(_) => (WarmResult::MissEmpty, None),
            },
        };
        self.metrics.warm_claims.at(result).inc();
        if result != WarmResult::MissFirst {
            self.work.notify_one();
        }
        found.map(|stocked| self.ready(stocked))
    }

    fn ready(&self, stocked: Stocked) -> Ready {
        let is_proven = stocked.is_fresh(self.cluster.clock().now());
        let Stocked { mut upstream, is_reused, .. } = stocked;
        upstream.login.held = Held::new(upstream.login.way.metrics.upstreams.at(UpstreamState::Session));
        Ready { upstream, is_reused, is_proven }
    }

    /// Takes the first that is sound, and throws away those before it.
    fn look(&self, parameters: &StartupParameters) -> Found {
        let judge = self.judge();
        let mut stock = self.lock();
        let Stock { shelves, discarded, .. } = &mut *stock;
        let Some(shelf) = shelves.used(parameters, judge.now) else { return Found::Nothing(WarmResult::MissFirst) };
        let pace = self.pace(shelf, judge.now);
        let mut result = WarmResult::MissEmpty;
        // Each once: one whose ping is under way goes back.
        for _ in 0..shelf.ready.len() {
            let Some(mut stocked) = shelf.next(self.reuse) else { break };
            let objection = self.objection(&judge, &stocked.upstream, Some(stocked.expires_at));
            match objection.or_else(|| stocked.spoilt_now(pace)) {
                None if !stocked.is_on_this_network(judge.now) => {
                    result = WarmResult::MissDead;
                    self.recycle(stocked, RecycleCause::Settings, discarded);
                }
                None if stocked.awaits_answer() => shelf.postpone(stocked, self.reuse),
                None => {
                    shelf.succeeded();
                    return Found::Ready(Box::new(stocked));
                }
                Some(cause) => {
                    result = WarmResult::MissDead;
                    self.recycle(stocked, cause, discarded);
                }
            }
        }
        shelf.wait().map_or(Found::Nothing(result), Found::Coming)
    }

    /// A session had to be given an upstream of its own: what repeats is worth keeping ready.
    pub(crate) fn learn(&self, parameters: &StartupParameters) {
        if self.keeps(parameters) && parameters.bytes() <= PARAMETERS_BYTES_MAX {
            let now = self.cluster.clock().now();
            self.lock().shelves.learn(parameters, now);
            self.work.notify_one();
        }
    }

    /// A session ended in a way that leaves its upstream of no use to another one.
    pub(crate) fn note_refused(&self) {
        self.metrics.resets.at(ResetResult::Refused).inc();
    }

    /// Every set that is worth keeping ready, and what stands ready for it.
    pub(crate) fn list(&self) -> Vec<Shown> {
        let shown = self.lock().shelves.list().into_iter();
        shown.map(|(parameters, ready, wanted)| Shown { parameters, ready, wanted }).collect()
    }

    /// Replication connections have a state of their own on the server; what a client's own password opened is its own.
    fn keeps(&self, parameters: &StartupParameters) -> bool {
        let is_replication = parameters.get("replication").is_some_and(|value| {
            !["false", "off", "no", "0"].iter().any(|off| value.eq_ignore_ascii_case(off.as_bytes()))
        });
        let is_clients = self.setup.account_of(parameters).user.asks_client;
        self.warm_max > 0 && !is_replication && !is_clients
    }

    /// Takes one out of use that the server has made useless. The next one waits a while if it did not last:
    /// a server that ends what has just been opened is not to be asked forty times a second.
    fn recycle_spoilt(
        &self,
        stocked: Stocked,
        cause: RecycleCause,
        shelf: &mut Shelf<Stocked>,
        discarded: &mut Vec<Upstream>,
    ) {
        let now = self.cluster.clock().now();
        if now.since(stocked.upstream.login.birth.at) < LASTING {
            shelf.failed(Setback::Failed, now);
        }
        self.recycle(stocked, cause, discarded);
    }

    /// Takes one out of use. Those that the server has not closed itself get a goodbye.
    fn recycle(&self, stocked: Stocked, cause: RecycleCause, discarded: &mut Vec<Upstream>) {
        self.metrics.warm_recycled.at(cause).inc();
        if !matches!(cause, RecycleCause::Closed | RecycleCause::Shutdown) {
            discarded.push(stocked.upstream);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer sets are not worth the memory.
const PARAMETERS_BYTES_MAX: usize = 16 * 1024;
/// For a reset, which takes one round trip.
const COMING_LIMIT: Duration = Duration::from_secs(1);
const PING_MIN: Duration = Duration::from_secs(1);
/// What ends sooner was of no use from the start.
const LASTING: Duration = Duration::from_secs(60);
