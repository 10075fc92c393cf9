//! Upstreams that stand ready before they are needed, for startup parameters that clients repeat, and, where
//! a listener wants it, upstreams that are used again.
//!
//! One pool for each listener. A session takes from it without waiting; all else is done by one task, the
//! pool's upkeep. An upstream is handed out only for exactly the parameters that it was logged in with, and
//! only after a last look at it.

mod burst;
mod reset;
mod shelves;
mod stock;
mod upkeep;

use crate::{
    clock::Moment,
    metrics::{
        Held, ListenerMetrics,
        labels::{RecycleCause, ResetResult, UpstreamState, WarmResult},
    },
    settings,
    upstream::{Birth, Choice, Cluster, Health, Setup, Upstream},
    wire::StartupParameters,
};
pub(crate) use reset::Used;
use shelves::{Coming, Rules, Setback, Shelf, Shelves};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use stock::{Pace, Stocked};
use tokio::sync::{Notify, Semaphore, mpsc};

/// The pool of one listener.
pub(crate) struct Pool {
    cluster: Arc<Cluster>,
    setup: Arc<Setup>,
    choice: Arc<Choice>,
    metrics: Arc<ListenerMetrics>,
    warm_max: usize,
    warm_age: Duration,
    stock: Mutex<Stock>,
    /// Places for upstreams of all pools of the daemon.
    places: Arc<Semaphore>,
    /// Something is to be done.
    work: Notify,
    returns: mpsc::Sender<Returned>,
    /// Taken by the upkeep.
    returned: Mutex<Option<mpsc::Receiver<Returned>>>,
}

/// An upstream that stood ready.
pub(crate) struct Ready {
    /// It.
    pub(crate) upstream: Upstream,
    /// Whether another session has used it before.
    pub(crate) is_reused: bool,
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

struct Stock {
    shelves: Shelves<Stocked>,
    /// To be closed with a goodbye, by the upkeep.
    discarded: Vec<Upstream>,
    /// The daemon stops.
    is_closed: bool,
}

struct Returned {
    parameters: StartupParameters,
    used: Used,
    coming: Coming,
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
        let (returns, returned) = mpsc::channel(RETURNS_MAX);
        let rules = Rules { warm_max: listener.warm_max, warm_idle: setup.limits.warm_idle, reuse: listener.reuse };
        Self {
            cluster: Arc::clone(cluster),
            setup: Arc::clone(setup),
            choice: Arc::clone(choice),
            metrics: Arc::clone(metrics),
            warm_max: listener.warm_max,
            warm_age: setup.limits.warm_age,
            stock: Mutex::new(Stock { shelves: Shelves::new(rules), discarded: Vec::new(), is_closed: false }),
            places: Arc::clone(places),
            work: Notify::new(),
            returns,
            returned: Mutex::new(Some(returned)),
        }
    }

    /// An upstream that was logged in with exactly these parameters, if a sound one stands ready.
    pub(crate) fn take(&self, parameters: &StartupParameters) -> Option<Ready> {
        self.cluster.note_client();
        if !self.keeps(parameters) {
            self.metrics.warm_claims.at(WarmResult::MissOff).inc();
            return None;
        }
        let judge = self.judge();
        let mut stock = self.lock();
        let Stock { shelves, discarded, .. } = &mut *stock;
        let (result, found) = match shelves.used(parameters, judge.now) {
            None => (WarmResult::MissFirst, None),
            Some(shelf) => {
                let pace = self.pace(shelf, judge.now);
                let mut result = WarmResult::MissEmpty;
                let mut found = None;
                // Each once: one whose ping is under way goes back.
                for _ in 0..shelf.ready.len() {
                    let Some(mut stocked) = shelf.ready.pop_front() else { break };
                    let objection = self.objection(&judge, &stocked.upstream, Some(stocked.expires_at));
                    match objection.or_else(|| stocked.spoilt_now(pace)) {
                        None if !stocked.is_on_this_network() => {
                            result = WarmResult::MissDead;
                            self.recycle(stocked, RecycleCause::Settings, discarded);
                        }
                        None if stocked.awaits_answer() => shelf.ready.push_back(stocked),
                        None => {
                            shelf.succeeded();
                            result = WarmResult::Hit;
                            found = Some(stocked);
                            break;
                        }
                        Some(cause) => {
                            result = WarmResult::MissDead;
                            self.recycle(stocked, cause, discarded);
                        }
                    }
                }
                (result, found)
            }
        };
        drop(stock);
        self.metrics.warm_claims.at(result).inc();
        if result != WarmResult::MissFirst {
            self.work.notify_one();
        }
        found.map(|Stocked { mut upstream, is_reused, .. }| {
            upstream.login.held = Held::new(upstream.login.way.metrics.upstreams.at(UpstreamState::Session));
            Ready { upstream, is_reused }
        })
    }

    /// A session had to be given an upstream of its own: what repeats is worth keeping ready.
    pub(crate) fn learn(&self, parameters: &StartupParameters) {
        if self.keeps(parameters) && parameters.bytes() <= PARAMETERS_BYTES_MAX {
            let now = self.cluster.clock().now();
            self.lock().shelves.learn(parameters, now);
            self.work.notify_one();
        }
    }

    /// Takes back what a session has used and left at an idle point, to be reset and used again; what
    /// cannot be is closed. Never waits.
    pub(crate) fn give_back(&self, parameters: StartupParameters, used: Used) {
        let judge = self.judge();
        let coming = {
            let mut stock = self.lock();
            let is_of_use = self.objection(&judge, &used.upstream, None).is_none();
            match stock.shelves.expect_back(&parameters).filter(|_| is_of_use) {
                Some(coming) => coming,
                // It would only be reset to be closed.
                None => {
                    stock.discarded.push(used.upstream);
                    return self.work.notify_one();
                }
            }
        };
        let returned = Returned { parameters, used, coming };
        if let Err(refused) = self.returns.try_send(returned) {
            self.metrics.resets.at(ResetResult::Refused).inc();
            // Without an upkeep nobody would say goodbye to it; dropping it closes it.
            if let mpsc::error::TrySendError::Full(returned) = refused {
                self.lock().discarded.push(returned.used.upstream);
                self.work.notify_one();
            }
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

    /// Replication connections have a state of their own on the server.
    fn keeps(&self, parameters: &StartupParameters) -> bool {
        let is_replication = parameters.get("replication").is_some_and(|value| {
            !["false", "off", "no", "0"].iter().any(|off| value.eq_ignore_ascii_case(off.as_bytes()))
        });
        self.warm_max > 0 && !is_replication
    }

    fn judge(&self) -> Judge {
        Judge {
            now: self.cluster.clock().now(),
            birth: self.cluster.current_birth(&self.setup),
            preferred: self.cluster.order_of(&self.setup, &self.choice).into_iter().next(),
        }
    }

    /// What makes an upstream useless although its connection may be sound.
    fn objection(&self, judge: &Judge, upstream: &Upstream, expires_at: Option<Moment>) -> Option<RecycleCause> {
        let is_at_home = judge.preferred.as_ref().is_some_and(|way| way.endpoint == upstream.login.route.endpoint);
        let has_address = || {
            let known = self.cluster.addresses(&upstream.login.route.endpoint);
            known.is_none_or(|known| known.contains(&upstream.login.route.address.ip()))
        };
        if upstream.login.birth.era != judge.birth.era {
            Some(RecycleCause::Settings)
        } else if upstream.login.birth.secret != judge.birth.secret {
            Some(RecycleCause::Secret)
        } else if !is_at_home || !has_address() {
            Some(RecycleCause::Endpoint)
        } else if expires_at.is_some_and(|at| judge.now >= at) {
            Some(RecycleCause::Age)
        } else {
            None
        }
    }

    /// Often while clients come often; never so often that the answers are in their way.
    fn pace(&self, shelf: &Shelf<Stocked>, now: Moment) -> Pace {
        let health = shelf.ready.front().map(|stocked| stocked.upstream.login.way.health());
        let latency = health.as_ref().and_then(Health::latency).unwrap_or_default();
        let every = (shelf.unused_for(now) / 10).clamp(PING_MIN, PING_MAX).max(latency * 20);
        Pace { now, every, patience: health.as_ref().map_or(PING_MIN, Health::patience) }
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

/// What upstreams are judged by.
struct Judge {
    now: Moment,
    birth: Birth,
    /// The endpoint that the next session would go to.
    preferred: Option<Arc<crate::upstream::Way>>,
}

/// Longer sets are not worth the memory.
const PARAMETERS_BYTES_MAX: usize = 16 * 1024;
const RETURNS_MAX: usize = 64;
const PING_MIN: Duration = Duration::from_secs(1);
const PING_MAX: Duration = Duration::from_secs(2);
/// What ends sooner was of no use from the start.
const LASTING: Duration = Duration::from_secs(60);
