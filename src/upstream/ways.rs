//! The endpoints of a cluster as they are now: replaced while the daemon runs, ordered about by hand, and
//! judged by what happens to those who try them.

use super::{
    Birth, Cluster, Order, Setup, Way,
    error::{EndpointError, LoginError, Loss},
    health::Change,
    lock,
};
use crate::{
    clock::Moment,
    metrics::labels::UpstreamState,
    settings::{self, Endpoint, Name},
};
use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use tracing::{info, warn};

/// When clients came, and when the machine slept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    last_client: Option<Moment>,
    suspended: Duration,
}

impl Activity {
    pub(super) fn new(suspended: Duration) -> Self {
        Self { last_client: None, suspended }
    }
}

impl Cluster {
    /// Goes on with these endpoints, all else as it is. One that stays as it was keeps what is known of it; one
    /// that is gone gets no new session, and sessions that are open on it live on.
    pub fn replace_endpoints(&self, endpoints: &[Arc<Endpoint>]) {
        let setup = self.setup();
        let before = setup.ways();
        *lock(&setup.ways) = self.ways_to(endpoints, &before);
        self.ways_have_changed(&before);
    }

    /// The same, unless other settings count by now than these, for which the endpoints were found; whether they count
    /// still.
    pub(crate) fn replace_endpoints_of(&self, settings: &Arc<settings::Cluster>, endpoints: &[Arc<Endpoint>]) -> bool {
        let before = {
            // Whoever exchanges the settings waits, or has done so before.
            let setup = lock(&self.setup);
            if !Arc::ptr_eq(&setup.settings, settings) {
                return false;
            }
            let before = setup.ways();
            *lock(&setup.ways) = self.ways_to(endpoints, &before);
            before
        };
        self.ways_have_changed(&before);
        true
    }

    /// Ways to `endpoints`, those of `before` where they are the same.
    pub(super) fn ways_to(&self, endpoints: &[Arc<Endpoint>], before: &[Arc<Way>]) -> Arc<[Arc<Way>]> {
        let now = self.clock.now();
        let way_to = |endpoint: &Arc<Endpoint>| {
            let known = before.iter().find(|way| way.endpoint == *endpoint);
            known.cloned().unwrap_or_else(|| {
                let metrics = self.all_metrics.endpoint(self.name(), &endpoint.name);
                Arc::new(Way::new(Arc::clone(endpoint), metrics, now))
            })
        };
        endpoints.iter().map(way_to).collect()
    }

    /// Says so to all who go by the ways of now, which were `before`.
    pub(super) fn ways_have_changed(&self, before: &[Arc<Way>]) {
        let now = self.ways();
        for gone in before.iter().filter(|way| !now.iter().any(|kept| Arc::ptr_eq(kept, way))) {
            gone.leave();
            if now.iter().all(|kept| kept.name() != gone.name()) {
                gone.metrics.set_state(None);
            }
        }
        self.names.keep_only(now.iter().map(|way| way.endpoint.host.as_str()));
        self.has_changed();
        self.woken.notify_one();
    }

    /// The endpoints of now, in the settings' order.
    pub(crate) fn ways(&self) -> Arc<[Arc<Way>]> {
        self.setup().ways()
    }

    /// The addresses that an endpoint's name had last.
    pub(crate) fn addresses(&self, endpoint: &Endpoint) -> Option<Arc<[IpAddr]>> {
        self.names.last(&endpoint.host)
    }

    /// Asks for the addresses of an endpoint's name again, if the last answer is old.
    pub(crate) async fn refresh_addresses(&self, way: &Way) {
        if let Ok(addresses) = self.names.look_up(&way.endpoint.host).await {
            way.note_addresses(self.name(), &addresses);
        }
    }

    /// Orders that new sessions leave an endpoint out, or go there first, for `span`; `None` takes an earlier
    /// order back. When the order ends; `None` when there is no such endpoint.
    pub fn order(&self, endpoint: &Name, order: Option<Order>, span: Duration) -> Option<SystemTime> {
        self.ways().iter().find(|way| way.name() == endpoint)?;
        let until = self.clock.now().after(span);
        self.by_hand.set(endpoint, order, until);
        self.has_changed();
        self.woken.notify_one();
        Some(self.clock.time_of(until))
    }

    /// The order that stands for an endpoint, and when it ends.
    pub fn ordered(&self, endpoint: &Name) -> Option<(Order, SystemTime)> {
        let (order, until) = self.by_hand.of(endpoint, self.clock.now())?;
        Some((order, self.clock.time_of(until)))
    }

    pub(super) fn order_at(&self, endpoint: &Name, now: Moment) -> Option<Order> {
        self.by_hand.of(endpoint, now).map(|(order, _)| order)
    }

    /// Told of each change of what a choice depends on: health, orders, endpoints, time that has passed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Told when the server needs some database to be free of connections.
    pub(crate) fn in_use(&self) -> watch::Receiver<u64> {
        self.in_use.subscribe()
    }

    /// Told when the server has no place for a login (SQLSTATE 53300).
    pub(crate) fn full(&self) -> watch::Receiver<u64> {
        self.full.subscribe()
    }

    /// A session was told that something is in use (SQLSTATE 55006): it may be what stands ready.
    pub(crate) fn note_in_use(&self) {
        self.in_use.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn has_changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// What an upstream that is logged in now is born under.
    pub(super) fn birth(&self, secret: u64) -> Birth {
        Birth { at: self.clock.now(), era: self.era.load(Relaxed), secret }
    }

    /// The era that an upstream must have been born in to be of use still.
    pub(crate) fn current_era(&self) -> u64 {
        self.era.load(Relaxed)
    }

    /// Somebody wants a session.
    pub(crate) fn note_client(&self) {
        let was_quiet = {
            let now = self.clock.now();
            let mut activity = lock(&self.activity);
            let was_quiet = activity.last_client.is_none_or(|at| now.since(at) >= QUIET);
            activity.last_client = Some(now);
            was_quiet
        };
        if was_quiet {
            self.woken.notify_one();
        }
        self.look_for_suspend();
    }

    /// Whether there are clients, or were lately.
    pub(super) fn is_active(&self, now: Moment) -> bool {
        let in_session = |way: &Arc<Way>| way.metrics.upstreams.at(UpstreamState::Session).get() > 0;
        self.is_watched.load(Relaxed)
            || lock(&self.activity).last_client.is_some_and(|at| now.since(at) < QUIET)
            || self.ways().iter().any(in_session)
    }

    /// After a suspend nothing holds that was known of the network, and no connection is to be trusted.
    pub(super) fn look_for_suspend(&self) {
        let suspended = self.clock.suspended();
        let slept = {
            let mut activity = lock(&self.activity);
            let slept = suspended.saturating_sub(activity.suspended);
            activity.suspended = suspended;
            slept
        };
        if slept < SUSPEND_MIN {
            return;
        }
        info!(cluster.name = %self.name(), slept = ?slept, "the machine was suspended; endpoints are looked at anew");
        self.names.forget();
        let now = self.clock.now();
        for way in self.ways().iter() {
            let change = way.note(|health| health.forget(now));
            self.tell(way, change);
        }
        self.era.fetch_add(1, Relaxed);
        self.has_changed();
    }

    /// Takes in how an attempt at an endpoint ended, and how long it took to answer if it did. One that was made
    /// with what has been replaced meanwhile says nothing of how the endpoint is now.
    pub(super) fn note_attempt(
        &self,
        setup: &Setup,
        way: &Way,
        answered: Option<Duration>,
        outcome: Result<(), &LoginError>,
    ) {
        if !self.is_current(setup) {
            return;
        }
        let now = self.clock.now();
        if let Some(sample) = answered {
            way.note(|health| health.answered(sample));
            way.metrics.set_latency(way.health().latency().unwrap_or(sample));
        }
        let change = way.note(|health| match outcome.map_err(|error| (error.loss(), error)) {
            // A server that refuses a login is well, and so is a full one.
            Ok(()) | Err((Loss::Nothing | Loss::Full, _)) => health.succeeded(now),
            Err((Loss::Ours, _)) => None,
            // It may be what the client asked for that ended it.
            Err((Loss::Node, LoginError::Endpoint(EndpointError::LoginLost(_)))) => None,
            Err((Loss::Node, error)) => health.turned_away(error.in_short(), now),
            Err((Loss::Endpoint, error)) => health.failed(error.in_short(), now),
        });
        if outcome.is_err_and(|error| error.loss() == Loss::Full) {
            self.full.send_modify(|count| *count = count.wrapping_add(1));
        }
        self.note_tried(setup, way, answered.is_some());
        self.tell(way, change);
    }

    fn tell(&self, way: &Way, change: Option<Change>) {
        let Some(Change { was, is, reason }) = change else { return };
        way.metrics.set_state(Some(is));
        way.metrics.changes.at(is).inc();
        let (cluster, endpoint) = (self.name(), way.name());
        if reason.is_some() {
            warn!(cluster.name = %cluster, endpoint.name = %endpoint, endpoint.state = %is, was = %was, cause = reason, "endpoint changed");
        } else {
            info!(cluster.name = %cluster, endpoint.name = %endpoint, endpoint.state = %is, was = %was, "endpoint changed");
        }
        self.has_changed();
    }
}

/// So long without clients, and endpoints are left alone.
const QUIET: Duration = Duration::from_secs(15 * 60);
/// Clocks that are read one after the other differ a little.
const SUSPEND_MIN: Duration = Duration::from_secs(5);
