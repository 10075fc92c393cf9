//! Looks at endpoints that a policy could pick and that nobody has tried for a while: DNS, TCP, SSLRequest
//! and TLS, no login. One task for each cluster. Not while there are no clients.

use super::{Cluster, Way, choice::Wanted, connect::Progress, error::LoginError};
use crate::{clock::Moment, jitter, metrics::labels::EndpointState, settings::Name};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

impl Cluster {
    /// Probes endpoints, and notices what time alone changes, until the future is dropped; that ends every
    /// probe.
    pub(crate) async fn watch_endpoints(self: Arc<Self>) {
        let mut probes = JoinSet::new();
        let mut plan = Plan::default();
        let mut changes = self.changes();
        loop {
            self.look_for_suspend();
            let now = self.clock.now();
            self.end_orders(now);
            self.note_steady(&mut plan, now);
            let due = plan.due(&self.wishes(now), now);
            for way in due {
                plan.under_way.push(way.name().clone());
                let cluster = Arc::clone(&self);
                probes.spawn(async move {
                    cluster.probe(&way).await;
                    way.name().clone()
                });
            }
            let wait = self.next_look(&plan, now).map_or(LOOK_MAX, |at| at.since(now).min(LOOK_MAX));
            tokio::select! {
                Some(done) = probes.join_next() => {
                    match done {
                        Ok(done) => plan.under_way.retain(|name| *name != done),
                        // One that panicked does not say which it was.
                        Err(_) if probes.is_empty() => plan.under_way.clear(),
                        Err(_) => {}
                    }
                }
                () = self.woken.notified() => {}
                _ = changes.changed() => {}
                () = sleep(wait.max(LOOK_MIN)) => {}
            }
        }
    }

    /// One look at an endpoint; what comes of it is remembered.
    async fn probe(&self, way: &Way) {
        let progress = Progress::default();
        let setup = self.setup();
        let by = Instant::now() + setup.limits.endpoint_limit;
        let result = setup.account.connector.connect(way, &progress, by).await.map_err(LoginError::Endpoint);
        debug!(cluster.name = %self.name(), endpoint.name = %way.name(), is_reached = result.is_ok(), "endpoint probed");
        self.note_attempt(&setup, way, progress.answered(), result.as_ref().map(drop));
        if let Ok(mut connection) = result {
            // A goodbye that does not arrive changes nothing.
            let _ = timeout(GOODBYE_LIMIT, connection.stream.shutdown()).await;
        }
    }

    /// The endpoints that somebody wants to know about, and when each is to be looked at.
    fn wishes(&self, now: Moment) -> Vec<(Arc<Way>, Moment)> {
        let limits = &self.setup().limits;
        let is_active = self.is_active(now);
        let mut wishes = Vec::new();
        for way in self
            .ways()
            .iter()
            .filter(|way| self.order_at(way.name(), now).is_none_or(|order| order != super::Order::Disabled))
        {
            let health = way.health();
            let at = match self.wanted(&way.endpoint) {
                // Distances are needed before the first client comes.
                Some(Wanted::ForItsDistance) if !health.is_tried() => now,
                Some(_) if self.is_watched.load(Relaxed) && !health.is_tried() => now,
                Some(_) if is_active && health.is_tried() => health.probe_at(limits, now),
                Some(_) if is_active => health.since().after(limits.probe_interval),
                _ => continue,
            };
            wishes.push((Arc::clone(way), at));
        }
        wishes
    }

    /// Orders by hand that have run out.
    fn end_orders(&self, now: Moment) {
        for (endpoint, order) in self.by_hand.expire(now) {
            info!(cluster.name = %self.name(), endpoint.name = %endpoint, order = order.text(), "endpoint order ended");
            self.has_changed();
        }
    }

    /// The next moment at which there is something to do.
    fn next_look(&self, plan: &Plan, now: Moment) -> Option<Moment> {
        let failback_after = self.setup().limits.failback_after;
        let steady = self.ways().iter().filter_map(|way| way.health().steady_at(failback_after, now)).min();
        [plan.next(), self.by_hand.next_end(), steady].into_iter().flatten().min()
    }

    /// Endpoints that have been well for long enough since they returned: by time alone, so that nobody else
    /// says so.
    fn note_steady(&self, plan: &mut Plan, now: Moment) {
        let failback_after = self.setup().limits.failback_after;
        for way in self.ways().iter() {
            let health = way.health();
            let was_returning = plan.returning.contains(way.name());
            let is_returning = health.steady_at(failback_after, now).is_some();
            if is_returning && !was_returning {
                plan.returning.push(way.name().clone());
            } else if was_returning && !is_returning {
                plan.returning.retain(|name| name != way.name());
                if health.state() == EndpointState::Well {
                    info!(cluster.name = %self.name(), endpoint.name = %way.name(), "endpoint has been well for failback_after");
                    self.has_changed();
                }
            }
        }
    }
}

/// When each endpoint is looked at: the time that is due, a little sooner or later, so that daemons which
/// started together do not come together.
#[derive(Default)]
struct Plan {
    /// What was due, and what was drawn for it.
    drawn: HashMap<Name, (Moment, Moment)>,
    under_way: Vec<Name>,
    /// Well again, but not for long enough.
    returning: Vec<Name>,
}

impl Plan {
    /// Those that are due now.
    fn due(&mut self, wishes: &[(Arc<Way>, Moment)], now: Moment) -> Vec<Arc<Way>> {
        self.drawn.retain(|name, _| wishes.iter().any(|(way, _)| way.name() == name));
        let mut due = Vec::new();
        for (way, at) in wishes.iter().filter(|(way, _)| !self.under_way.contains(way.name())) {
            let known = self.drawn.get(way.name()).filter(|(of, _)| of == at);
            let drawn = known.map_or_else(|| around(*at, now), |(_, drawn)| *drawn);
            self.drawn.insert(way.name().clone(), (*at, drawn));
            if drawn <= now {
                due.push(Arc::clone(way));
            }
        }
        due
    }

    /// When the next is due that is not under way.
    fn next(&self) -> Option<Moment> {
        let waiting = self.drawn.iter().filter(|(name, _)| !self.under_way.contains(name));
        waiting.map(|(_, (_, drawn))| *drawn).min()
    }
}

/// `at`, ± 10 % of the time until then.
fn around(at: Moment, now: Moment) -> Moment {
    now.after(jitter::around(at.since(now)))
}

const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// Clocks may differ a little in when a moment has come.
const LOOK_MIN: Duration = Duration::from_millis(1);
/// So often at least, for a suspend that nobody else notices.
const LOOK_MAX: Duration = Duration::from_secs(60);
