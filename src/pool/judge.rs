//! Which upstreams are still of use, and how often they are asked.

use super::{
    PING_MIN, Pool,
    shelves::Shelf,
    stock::{Pace, Stocked},
};
use crate::{
    clock::Moment,
    metrics::labels::RecycleCause,
    upstream::{Health, Upstream, Way},
};
use std::{sync::Arc, time::Duration};

/// What upstreams are judged by.
pub(super) struct Judge {
    pub(super) now: Moment,
    era: u64,
    /// The endpoint that the next session would go to.
    preferred: Option<Arc<Way>>,
}

impl Pool {
    pub(super) fn judge(&self) -> Judge {
        Judge {
            now: self.cluster.clock().now(),
            era: self.cluster.current_era(),
            preferred: self.cluster.order_of(&self.setup, &self.choice).into_iter().next(),
        }
    }

    /// What makes an upstream useless although its connection may be sound.
    pub(super) fn objection(
        &self,
        judge: &Judge,
        upstream: &Upstream,
        expires_at: Option<Moment>,
    ) -> Option<RecycleCause> {
        let is_at_home = judge.preferred.as_ref().is_some_and(|way| way.endpoint == upstream.login.route.endpoint);
        let has_address = || {
            let known = self.cluster.addresses(&upstream.login.route.endpoint);
            known.is_none_or(|known| known.contains(&upstream.login.route.address.ip()))
        };
        if upstream.login.birth.era != judge.era {
            Some(RecycleCause::Settings)
        } else if upstream.login.birth.secret != self.setup.account_named(&upstream.login.route.user).generation() {
            Some(RecycleCause::Secret)
        } else if !is_at_home || !has_address() {
            Some(RecycleCause::Endpoint)
        } else if expires_at.is_some_and(|at| judge.now >= at) || self.is_too_old_for_restarts(judge, upstream) {
            Some(RecycleCause::Age)
        } else {
            None
        }
    }

    /// While nodes restart one after the other, what was logged in a while ago most likely is at one that goes next.
    fn is_too_old_for_restarts(&self, judge: &Judge, upstream: &Upstream) -> bool {
        self.cluster.expects_restarts() && judge.now >= upstream.login.birth.at.after(AGE_AMID_RESTARTS)
    }

    /// Often while clients come often; never so often that the answers are in their way.
    pub(super) fn pace(&self, shelf: &Shelf<Stocked>, now: Moment) -> Pace {
        let health = shelf.ready.front().map(|stocked| stocked.upstream.login.way.health());
        let latency = health.as_ref().and_then(Health::latency).unwrap_or_default();
        let every = (shelf.unused_for(now) / 10).clamp(PING_MIN, PING_MAX).max(latency * 20);
        Pace { now, every, patience: health.as_ref().map_or(PING_MIN, Health::patience) }
    }
}

const AGE_AMID_RESTARTS: Duration = Duration::from_secs(60);
const PING_MAX: Duration = Duration::from_secs(2);
