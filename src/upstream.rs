//! From a cluster to a logged-in upstream: choose an endpoint, connect, log in; and what is learned about
//! endpoints on the way.

mod account;
mod by_hand;
mod choice;
mod claim;
mod connect;
mod dial;
mod error;
mod examine;
mod health;
mod login;
mod methods;
mod names;
mod nearest;
mod probe;
mod rejections;
mod resolve;
mod search;
mod select;
mod setup;
mod told;
mod way;
mod ways;

use crate::{
    clock::{Clock, MachineClock, Moment},
    lock::lock,
    metrics::{ClusterMetrics, Held, Metrics},
    settings::{Endpoint, Name},
    wire::{CancelKey, messages},
};
use by_hand::ByHand;
use names::Names;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use ways::Activity;

pub(crate) use account::Account;
pub use account::UserMeans;
pub use by_hand::Order;
pub(crate) use choice::Choice;
pub(crate) use claim::{Claim, NotPrepared};
pub(crate) use connect::Encrypted;
pub(crate) use dial::set_keepalive;
pub(crate) use error::{ClaimError, EndpointError, LoginError};
pub(crate) use examine::{AskError, Secured, dial_once};
pub(crate) use health::Health;
pub(crate) use login::Greeting;
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use setup::Means;
pub(crate) use setup::Setup;
pub(crate) use told::{Audience, Facts, Told};
pub(crate) use way::{Way, is_public};

/// A cluster, ready to be reached.
pub struct Cluster {
    name: Name,
    setup: Mutex<Arc<Setup>>,
    names: Arc<Names>,
    metrics: ClusterMetrics,
    all_metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    by_hand: ByHand,
    /// How the listeners choose; one each.
    choices: Mutex<Vec<Weak<Choice>>>,
    activity: Mutex<Activity>,
    /// Somebody came after a while without clients.
    woken: Notify,
    /// Counts changes of what a choice depends on.
    changes: watch::Sender<u64>,
    /// Counts what makes upstreams of before worthless: other settings, another CA, a suspend.
    era: AtomicU64,
    /// Counts errors that say that some database must be free of connections.
    in_use: watch::Sender<u64>,
    /// Counts logins for which the server had no place.
    full: watch::Sender<u64>,
    /// Endpoints are looked at whether or not there are clients.
    is_watched: AtomicBool,
    /// Somebody outside says that nodes restart one after the other.
    expects_restarts: AtomicBool,
    /// Some upstream has been logged in.
    has_logged_in: AtomicBool,
    started_at: Instant,
}

/// What a cluster takes from outside, so that tests control it.
#[derive(Clone)]
pub struct World {
    /// What names mean.
    pub resolver: Arc<dyn Resolve>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl World {
    /// The machine's own.
    pub fn of_machine() -> Self {
        Self { resolver: Arc::new(SystemResolver::default()), clock: Arc::new(MachineClock) }
    }
}

/// The very address over which a session is reached, which may be one of many.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
    /// The address that was dialled.
    pub(crate) address: SocketAddr,
    /// The SQL user that it was reached for.
    pub(crate) user: Arc<str>,
}

/// A logged-in connection to an endpoint.
pub(crate) struct Upstream {
    /// Verified TLS.
    pub(crate) stream: Box<Encrypted>,
    /// How it came to be.
    pub(crate) login: LoggedIn,
}

/// What is known of an upstream besides its stream.
pub(crate) struct LoggedIn {
    /// The endpoint that it is at.
    pub(crate) way: Arc<Way>,
    /// How it was reached.
    pub(crate) route: Route,
    /// What the server said at login.
    pub(crate) greeting: Greeting,
    /// Counts it among the upstreams of its endpoint.
    pub(crate) held: Held,
    /// What it is good for.
    pub(crate) birth: Birth,
}

/// When and under what an upstream was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    /// When.
    pub(crate) at: Moment,
    /// Under which settings.
    pub(crate) era: u64,
    /// With which secret; 0 when none is configured.
    pub(crate) secret: u64,
}

impl Cluster {
    /// Puts together what reaching the cluster takes. Opens nothing.
    pub fn new(means: Means, world: &World, metrics: &Arc<Metrics>) -> Self {
        let World { resolver, clock } = world.clone();
        let names = Arc::new(Names::new(resolver, Arc::clone(&clock), means.limits.dns_refresh));
        let (name, endpoints) = (means.settings.name.clone(), means.settings.endpoints.clone());
        let cluster = Self {
            metrics: metrics.cluster(&name),
            setup: Mutex::new(Arc::new(Setup::new(means, &names, None))),
            name,
            names,
            all_metrics: Arc::clone(metrics),
            by_hand: ByHand::default(),
            choices: Mutex::default(),
            activity: Mutex::new(Activity::new(clock.suspended())),
            clock,
            woken: Notify::new(),
            changes: watch::Sender::new(0),
            era: AtomicU64::new(0),
            in_use: watch::Sender::new(0),
            full: watch::Sender::new(0),
            is_watched: AtomicBool::new(false),
            expects_restarts: AtomicBool::new(false),
            has_logged_in: AtomicBool::new(false),
            started_at: Instant::now(),
        };
        cluster.note_expiry(&cluster.setup());
        cluster.replace_endpoints(&endpoints);
        cluster
    }

    /// Its name in the settings.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether some upstream has been logged in since the start.
    pub(crate) fn has_logged_in(&self) -> bool {
        self.has_logged_in.load(Relaxed)
    }

    /// Whether endpoints are looked at even while no client comes: somebody outside asks how they are.
    pub(crate) fn watch_without_clients(&self, is_watched: bool) {
        if self.is_watched.swap(is_watched, Relaxed) != is_watched {
            self.woken.notify_one();
        }
    }

    /// Whether nodes restart one after the other, as somebody outside says: what stands ready is not kept for long then.
    pub(crate) fn expect_restarts(&self, expected: bool) -> bool {
        self.expects_restarts.swap(expected, Relaxed)
    }

    /// As it was said last.
    pub(crate) fn expects_restarts(&self) -> bool {
        self.expects_restarts.load(Relaxed)
    }

    /// Notes whether the Cloud API could be asked for its endpoints.
    pub(crate) fn discovered(&self, is_ok: bool) {
        self.metrics.discovery_is_ok(is_ok);
    }

    fn note_expiry(&self, setup: &Setup) {
        self.metrics.ca_expires(setup.account.tls.ca.as_ref().map(|ca| ca.not_after));
        let first = setup.accounts().filter_map(|account| account.tls.certificate_not_after).min();
        self.all_metrics.certificate_expires("client", &self.name, first);
    }

    /// The clock that its ages go by.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Brings what its secret's reading says up to date in the metrics.
    pub fn publish(&self) {
        let setup = self.setup();
        let all: Vec<_> = setup.accounts().filter_map(Account::credentials).collect();
        self.metrics.secret_read(all.iter().map(|credentials| credentials.read_at()).min().flatten());
        self.metrics.secret_is_ok(all.iter().all(|credentials| credentials.fault().is_none()));
    }

    /// Cancels what a session of `own` runs that has this key, at the address that holds it; done once the
    /// server has read it. Takes at most `cancel_limit`.
    pub(crate) async fn cancel(&self, own: &Arc<Setup>, route: &Route, key: &CancelKey) -> Result<(), EndpointError> {
        let setup = self.setup_for_cancel(own, route);
        let work = async {
            let mut connection = setup.account_named(&route.user).connector.connect_again(route).await?;
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
        timeout(setup.limits.cancel_limit, work).await.unwrap_or(Err(EndpointError::NoAnswer))
    }

    /// When the certificate that an endpoint showed last expires.
    pub(crate) fn server_certificate_not_after(way: &Way) -> Option<SystemTime> {
        way.metrics.certificate_not_after()
    }
}
