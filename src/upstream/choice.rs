//! Which endpoint a listener's sessions go to: its policy, and the nearest region where it wants that.

use super::{
    Cluster, Setup, Way,
    by_hand::Order,
    health::{Health, Standing},
    lock,
    nearest::Nearest,
    select::{self, Candidate, Terms},
};
use crate::{
    metrics::labels::EndpointState,
    settings::{Endpoint, Name, Policy, Regions},
};
use std::sync::{Arc, Mutex, Weak};

/// How one listener chooses among the endpoints of its cluster.
pub(crate) struct Choice {
    pub(super) policy: Policy,
    nearest: Mutex<Nearest>,
    /// Where its last session went.
    last: Mutex<Option<Name>>,
}

/// The endpoints that a policy allows, as they are now.
struct Allowed {
    ways: Vec<Arc<Way>>,
    healths: Vec<Health>,
    orders: Vec<Option<Order>>,
}

impl Choice {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, nearest: Mutex::default(), last: Mutex::default() }
    }

    /// Whether distances decide.
    pub(super) fn wants_nearest(&self) -> bool {
        matches!(self.policy.regions, Regions::Nearest(_))
    }

    /// Whether distances decide and are not known well enough yet.
    pub(super) fn is_unsettled(&self) -> bool {
        self.wants_nearest() && lock(&self.nearest).home().is_none()
    }

    /// A session went to `served`; whether the listener has thereby moved away from where it belongs.
    pub(crate) fn note_served(&self, served: &Name, belongs: Option<&Name>) -> bool {
        let before = lock(&self.last).replace(served.clone());
        belongs.is_some_and(|belongs| belongs != served) && before.as_ref() != Some(served)
    }
}

impl Cluster {
    /// A new listener's way of choosing.
    pub(crate) fn choice(&self, policy: &Policy) -> Arc<Choice> {
        let choice = Arc::new(Choice::new(policy.clone()));
        let mut choices = lock(&self.choices);
        choices.retain(|choice| choice.strong_count() > 0);
        choices.push(Arc::downgrade(&choice));
        drop(choices);
        // It may want to know of endpoints that nobody has asked for.
        self.woken.notify_one();
        choice
    }

    /// The endpoints that may serve a session now, in the order in which they are to be tried.
    pub(crate) fn order_of(&self, setup: &Setup, choice: &Choice) -> Vec<Arc<Way>> {
        let allowed = self.allowed(setup, choice);
        let nearest = lock(&choice.nearest);
        allowed.take(select::order(&allowed.candidates(), self.terms(setup, choice, &nearest)))
    }

    /// Where the listener's sessions belong: the first of its order if all endpoints were well.
    pub(crate) fn belongs(&self, setup: &Setup, choice: &Choice) -> Option<Arc<Way>> {
        let allowed = self.allowed(setup, choice);
        let nearest = lock(&choice.nearest);
        let order = select::home_order(&allowed.candidates(), self.terms(setup, choice, &nearest));
        allowed.take(order).into_iter().next()
    }

    /// Where the settings alone would have the listener's sessions.
    fn by_settings(&self, setup: &Setup, choice: &Choice) -> Option<Arc<Way>> {
        let mut allowed = self.allowed(setup, choice);
        allowed.orders.fill(None);
        let nearest = lock(&choice.nearest);
        let order = select::home_order(&allowed.candidates(), self.terms(setup, choice, &nearest));
        allowed.take(order).into_iter().next()
    }

    /// Where the next session would be tried first, and why there.
    pub(crate) fn explain(&self, setup: &Setup, choice: &Choice) -> Option<(Name, String)> {
        let first = self.order_of(setup, choice).into_iter().next()?;
        let (home, by_settings) = (self.belongs(setup, choice)?, self.by_settings(setup, choice)?);
        let now = self.clock.now();
        let why = if self.order_at(first.name(), now) == Some(Order::Preferred) {
            "preferred by hand".to_owned()
        } else if self.order_at(by_settings.name(), now) == Some(Order::Disabled) {
            format!("\"{}\" is disabled by hand", by_settings.name())
        } else if first.name() != home.name() {
            let name = home.name();
            let health = home.health();
            match (health.state(), health.standing(setup.limits.failback_after, now)) {
                (EndpointState::Suspect | EndpointState::Down, _) => format!("\"{name}\" is {}", health.state()),
                (_, Standing::Returning) => format!("\"{name}\" has not been well for \"failback_after\" yet"),
                _ => format!("\"{name}\" is not as well"),
            }
        } else if choice.wants_nearest() {
            "nearest".to_owned()
        } else {
            "first in order".to_owned()
        };
        Some((first.name().clone(), why))
    }

    /// How many endpoints that the choice may pick are known to be well.
    pub(crate) fn well(&self, setup: &Setup, choice: &Choice) -> usize {
        self.order_of(setup, choice).iter().filter(|way| way.health().state() == EndpointState::Well).count()
    }

    /// Why no endpoint that the choice may pick is known to be reachable; `None` when one is.
    pub(crate) fn unreachable(&self, setup: &Setup, choice: &Choice) -> Option<String> {
        let allowed = self.allowed(setup, choice);
        let is_up = |health: &Health| matches!(health.state(), EndpointState::Well | EndpointState::Suspect);
        if allowed.healths.iter().any(is_up) {
            return None;
        }
        let told = allowed.ways.iter().zip(&allowed.healths).map(|(way, health)| {
            let reason = health.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{} is {}{reason}", way.name(), health.state())
        });
        let told: Vec<_> = told.collect();
        Some(format!("no endpoint of cluster \"{}\" is reachable: {}", self.name(), told.join(", ")))
    }

    /// Whether some listener's policy can pick this endpoint, and whether one needs its distance.
    pub(super) fn wanted(&self, endpoint: &Endpoint) -> Option<Wanted> {
        let all = endpoints(&self.ways());
        let mut wanted = None;
        for choice in self.choices().iter().filter(|choice| choice.policy.allows(endpoint, &all)) {
            if choice.wants_nearest() {
                return Some(Wanted::ForItsDistance);
            }
            wanted = Some(Wanted::ForItsState);
        }
        wanted
    }

    /// `way` has been tried, and its distance was measured again if it answered.
    pub(super) fn note_tried(&self, setup: &Setup, way: &Way, has_answered: bool) {
        for choice in self.choices().iter().filter(|choice| choice.wants_nearest()) {
            let allowed = self.allowed(setup, choice);
            let distances = select::distances(&allowed.candidates());
            let mut nearest = lock(&choice.nearest);
            let before = nearest.home().map(str::to_owned);
            if has_answered {
                nearest.measured(select::region_of(&way.endpoint), &distances);
            }
            // What is ordered out of use is not looked at.
            let known = allowed.healths.iter().zip(&allowed.orders);
            if known.into_iter().all(|(health, order)| health.is_tried() || *order == Some(Order::Disabled)) {
                nearest.settle(&distances);
            }
            if let (Some(before), Some(now)) = (before, nearest.home())
                && before != now
            {
                tracing::info!(cluster.name = %self.name(), region = now, before, "nearest region changed");
            }
        }
    }

    fn choices(&self) -> Vec<Arc<Choice>> {
        lock(&self.choices).iter().filter_map(Weak::upgrade).collect()
    }

    fn allowed(&self, setup: &Setup, choice: &Choice) -> Allowed {
        let (ways, now) = (setup.ways(), self.clock.now());
        let all = endpoints(&ways);
        let ways: Vec<_> =
            ways.iter().filter(|way| choice.policy.allows(&way.endpoint, &all)).map(Arc::clone).collect();
        let healths = ways.iter().map(|way| way.health()).collect();
        let orders = ways.iter().map(|way| self.order_at(way.name(), now)).collect();
        Allowed { ways, healths, orders }
    }

    fn terms<'a>(&self, setup: &Setup, choice: &'a Choice, nearest: &'a Nearest) -> Terms<'a> {
        Terms {
            policy: &choice.policy,
            home: nearest.home(),
            failback_after: setup.limits.failback_after,
            now: self.clock.now(),
        }
    }
}

/// What the settings say of them.
fn endpoints(ways: &[Arc<Way>]) -> Vec<Arc<Endpoint>> {
    ways.iter().map(|way| Arc::clone(&way.endpoint)).collect()
}

/// What a listener wants to know of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whether it is well.
    ForItsState,
    /// How far it is, from the start.
    ForItsDistance,
}

impl Allowed {
    fn candidates(&self) -> Vec<Candidate<'_>> {
        let known = self.ways.iter().zip(&self.healths).zip(&self.orders);
        known.map(|((way, health), order)| Candidate { endpoint: &way.endpoint, health, order: *order }).collect()
    }

    fn take(&self, places: Vec<usize>) -> Vec<Arc<Way>> {
        places.into_iter().filter_map(|place| self.ways.get(place).cloned()).collect()
    }
}
