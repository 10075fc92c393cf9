//! What the daemon is to do next, whoever wants it: a signal, a request at the admin address, or a file that has
//! changed. Nothing that stops the daemon waits behind anything else.

use super::signals::{Signal, Signals};
use crate::admin::{Admin, Demand};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::info;

/// Where wishes come from.
pub(super) struct Wishes {
    signals: Signals,
    demands: mpsc::Receiver<Demand>,
    admin: Arc<Admin>,
    /// SIGHUP came while something else was done.
    hung_up: bool,
}

/// What is wanted.
pub(super) enum Wish {
    /// To stop: who wants it.
    Stop(&'static str),
    /// To read settings and files again; `None`: by a signal.
    Reload(Option<Demand>),
}

impl Wishes {
    pub(super) fn new(signals: Signals, demands: mpsc::Receiver<Demand>, admin: Arc<Admin>) -> Self {
        Self { signals, demands, admin, hung_up: false }
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Wish {
        if std::mem::take(&mut self.hung_up) {
            return Wish::Reload(None);
        }
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Stop(name) => Wish::Stop(name),
                Signal::Reload => Wish::Reload(None),
            },
            () = self.admin.drain_asked.notified() => Wish::Stop(DEMANDED),
            Some(demand) = self.demands.recv() => Wish::Reload(Some(demand)),
        }
    }

    /// The next one to stop; those of signals to reload are kept for [`Self::next`]. Cancel safe.
    pub(super) async fn next_stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next() => match signal {
                    Signal::Stop(name) => return name,
                    Signal::Reload => self.hung_up = true,
                },
                () = self.admin.drain_asked.notified() => return DEMANDED,
            }
        }
    }

    /// The next signal that stops at once, once the daemon drains: demands made from then on change nothing, since
    /// those to drain are met and nothing is read again. Cancel safe.
    pub(super) async fn next_stop_at_once(&mut self) -> &'static str {
        self.signals.hangup_stops = false;
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next() => match signal {
                    Signal::Stop(name) => return name,
                    // A terminal that goes away says so more than once.
                    Signal::Reload => info!("SIGHUP changes nothing while draining"),
                },
                Some(demand) = self.demands.recv() => drop(demand),
            }
        }
    }
}

/// Stands where the name of a signal would.
pub(super) const DEMANDED: &str = "POST /drain";
