//! What the service manager is told of the daemon, and when. Told by the loop that serves, so that silence means
//! that it does not get round to it.

use crate::{
    admin::Admin,
    metrics::labels::EndpointState,
    service_manager::{self, ServiceManager},
};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Tells the service manager.
pub(super) struct Telling {
    manager: ServiceManager,
    interval: Interval,
    /// A beat that was waited for in vain is owed at once.
    is_due: bool,
}

impl Telling {
    /// Needs a runtime.
    pub(super) fn to(manager: ServiceManager) -> Self {
        // Without a watchdog: when to look whether the status has changed.
        let span = manager.watchdog_interval().map_or(STATUS_INTERVAL, |span| span.min(STATUS_INTERVAL));
        let mut interval = interval(span);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { manager, interval, is_due: false }
    }

    /// Waits until it is time to say something, and for a thread that serves to get round to it. Cancel safe.
    pub(super) async fn beat(&mut self) {
        if !self.is_due {
            self.interval.tick().await;
            self.is_due = true;
        }
        // This loop has a thread of its own; sessions are served by others.
        let _ = tokio::spawn(async {}).await;
        self.is_due = false;
    }

    /// Says that it is alive at every beat, for as long as it is polled.
    pub(super) async fn keep_alive(&mut self) {
        loop {
            self.beat().await;
            self.manager.keep_alive();
        }
    }

    /// It serves, from its start on or after a reload.
    pub(super) fn ready(&self, admin: &Admin) {
        self.manager.ready(&serving(admin));
    }

    /// It is alive and serves. To be called at each beat.
    pub(super) fn alive(&self, admin: &Admin) {
        self.manager.keep_alive();
        self.manager.status(&serving(admin));
    }

    /// It reads its settings again; [`Self::ready`] must follow.
    pub(super) fn reloading(&self) {
        self.manager.reloading();
    }

    /// It has begun to stop.
    pub(super) fn stopping(&self, admin: &Admin) {
        let limits = &admin.view().settings.limits;
        let longest = limits.drain_delay.saturating_add(limits.drain_limit).saturating_add(CLOSING_LIMIT);
        self.manager.stopping(&draining(admin), longest);
    }

    /// It is alive and stops, for as long as it is polled.
    pub(super) async fn keep_alive_in_a_drain(&mut self, admin: &Admin) {
        loop {
            self.beat().await;
            self.manager.keep_alive();
            self.manager.status(&draining(admin));
        }
    }
}

fn serving(admin: &Admin) -> String {
    let view = admin.view();
    let ways: Vec<_> = view.clusters.iter().flat_map(|cluster| cluster.ways().to_vec()).collect();
    let well = ways.iter().filter(|way| way.health().state() == EndpointState::Well).count();
    let status = service_manager::serving(admin.sessions.admitted(), well, ways.len());
    match admin.faults().text() {
        Some(fault) => format!("{status}; the last reload failed: {fault}"),
        None => status,
    }
}

fn draining(admin: &Admin) -> String {
    match admin.sessions.admitted() {
        1 => "stopping: 1 session is open".to_owned(),
        sessions => format!("stopping: {sessions} sessions are open"),
    }
}

const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// For closing what was cut off.
const CLOSING_LIMIT: Duration = Duration::from_secs(10);
