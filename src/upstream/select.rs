//! Which endpoints may serve a session, in order. Pure: settings, health and a moment in, an order out.

use super::{
    by_hand::Order,
    health::{Health, Standing},
};
use crate::{
    clock::Moment,
    settings::{Endpoint, Policy, Prefer, Regions},
};
use std::time::Duration;

/// An endpoint that a policy allows, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) health: &'a Health,
    /// What the operator ordered.
    pub(super) order: Option<Order>,
}

/// What the choice depends on besides the candidates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) policy: &'a Policy,
    /// The nearest region, once it is known.
    pub(super) home: Option<&'a str>,
    /// How long an endpoint must be well again before it is preferred.
    pub(super) failback_after: Duration,
    pub(super) now: Moment,
}

/// Places of `candidates` in the order in which they are to be tried. Those ordered out of use are left
/// out; all others stay in, so that a cluster which is down everywhere is still tried.
pub(super) fn order(candidates: &[Candidate<'_>], terms: Terms<'_>) -> Vec<usize> {
    let standing = |candidate: &Candidate<'_>| candidate.health.standing(terms.failback_after, terms.now);
    sorted(candidates, |candidate| {
        let standing = standing(candidate);
        let is_preferred = candidate.order == Some(Order::Preferred) && standing <= Standing::Returning;
        (!is_preferred, standing, rank(candidate, candidates, terms))
    })
}

/// The same without regard to health: where sessions belong.
pub(super) fn home_order(candidates: &[Candidate<'_>], terms: Terms<'_>) -> Vec<usize> {
    sorted(candidates, |candidate| (candidate.order != Some(Order::Preferred), rank(candidate, candidates, terms)))
}

/// The region of an endpoint; one without a region stands for itself.
pub(super) fn region_of(endpoint: &Endpoint) -> &str {
    endpoint.region.as_deref().unwrap_or(endpoint.name.as_str())
}

/// The distances of the regions that have been measured: each that of its nearest endpoint.
pub(super) fn distances(candidates: &[Candidate<'_>]) -> Vec<(String, Duration)> {
    let mut distances: Vec<(String, Duration)> = Vec::new();
    for candidate in candidates {
        let Some(latency) = candidate.health.latency() else { continue };
        let region = region_of(candidate.endpoint);
        match distances.iter_mut().find(|(known, _)| known == region) {
            Some((_, nearest)) => *nearest = latency.min(*nearest),
            None => distances.push((region.to_owned(), latency)),
        }
    }
    distances
}

/// Ascending, and stable: within equals the settings' order holds.
fn sorted<K: Ord>(candidates: &[Candidate<'_>], key: impl Fn(&Candidate<'_>) -> K) -> Vec<usize> {
    let usable = candidates.iter().enumerate().filter(|(_, candidate)| candidate.order != Some(Order::Disabled));
    let mut keyed: Vec<_> = usable.map(|(place, candidate)| (key(candidate), place)).collect();
    keyed.sort();
    keyed.into_iter().map(|(_, place)| place).collect()
}

fn rank(candidate: &Candidate<'_>, all: &[Candidate<'_>], terms: Terms<'_>) -> (u64, u64) {
    let policy = terms.policy;
    let path = place_in(&policy.path, |kind| *kind == candidate.endpoint.kind);
    let region = region_rank(candidate, all, terms);
    match policy.prefer {
        Prefer::Path => (path, region),
        Prefer::Region => (region, path),
    }
}

fn region_rank(candidate: &Candidate<'_>, all: &[Candidate<'_>], terms: Terms<'_>) -> u64 {
    let own = region_of(candidate.endpoint);
    match &terms.policy.regions {
        Regions::Listed(regions) => place_in(regions, |region| region == own),
        Regions::Nearest(_) if terms.home == Some(own) => 0,
        Regions::Nearest(_) => {
            let nearest = all.iter().filter(|other| region_of(other.endpoint) == own);
            let nearest = nearest.filter_map(|other| other.health.latency()).min();
            nearest.map_or(u64::MAX, |span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1))
        }
    }
}

/// The place in a list; in an empty one all are alike.
fn place_in<T>(list: &[T], is_it: impl Fn(&T) -> bool) -> u64 {
    if list.is_empty() {
        return 0;
    }
    list.iter().position(is_it).and_then(|place| u64::try_from(place).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
