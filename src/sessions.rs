//! The sessions that are open now, for `/status` and for live counters.
//!
//! A session writes its own counters with plain stores; whoever looks (a scrape, `/status`, its own end)
//! carries what is new over to the metrics. The map is touched at a session's start and end only.

use crate::{
    metrics::{
        ListenerMetrics,
        labels::{Direction, Label},
    },
    settings::{Endpoint, Name},
    sys,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// All open sessions of the daemon.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<BTreeMap<u64, Arc<Live>>>,
    opened: AtomicU64,
    /// The most that were open since the last ebb.
    most: AtomicUsize,
    admitted: watch::Sender<usize>,
    /// Of those admitted: that only wait for the client to hear of their end.
    ended: AtomicUsize,
}

/// Counts a session as one that a drain waits for, until dropped.
pub struct Admitted {
    sessions: Arc<Sessions>,
    has_ended: bool,
}

/// One open session, as others may see it.
pub struct Live {
    /// Counts up from 1.
    pub id: u64,
    /// The listener that accepted it.
    pub listener: Name,
    /// The client's address.
    pub client: String,
    /// Its user on this machine, where the kernel was asked.
    pub peer_uid: OnceLock<u32>,
    /// When it was accepted.
    pub opened_at: SystemTime,
    /// Known once its startup message was read.
    pub asked: OnceLock<Asked>,
    /// Known once it has an upstream.
    pub upstream: OnceLock<Joined>,
    counters: Counters,
    counted: Counters,
    state: AtomicU8,
    state_since_ms: AtomicU64,
    metrics: Arc<ListenerMetrics>,
}

/// What a client asked for, fit to be shown.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The database it will be in.
    pub database: String,
    /// What it calls itself.
    pub application_name: String,
}

/// The upstream of a session.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The cluster.
    pub cluster: Name,
    /// The endpoint that serves it, as it was when the session began.
    pub endpoint: Arc<Endpoint>,
    /// The address that was dialled.
    pub address: String,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of `/status`")]
pub enum SessionState {
    Startup,
    Login,
    Idle,
    Active,
    Transaction,
    Failed,
    Copy,
    Closing,
}

#[derive(Default)]
struct Counters {
    to_upstream: AtomicU64,
    to_client: AtomicU64,
    statements: AtomicU64,
}

/// A session's totals so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Protocol bytes from the client after login.
    pub to_upstream: u64,
    /// Protocol bytes from the server after login.
    pub to_client: u64,
    /// Statements completed.
    pub statements: u64,
}

/// Takes a session out of the map when dropped.
pub struct Registered {
    sessions: Arc<Sessions>,
    live: Arc<Live>,
}

impl Sessions {
    /// Enters a session in state `startup`.
    pub fn register(self: &Arc<Self>, listener: &Name, client: String, metrics: &Arc<ListenerMetrics>) -> Registered {
        let live = Arc::new(Live {
            id: self.opened.fetch_add(1, Relaxed).saturating_add(1),
            listener: listener.clone(),
            client,
            peer_uid: OnceLock::new(),
            opened_at: SystemTime::now(),
            asked: OnceLock::new(),
            upstream: OnceLock::new(),
            counters: Counters::default(),
            counted: Counters::default(),
            state: AtomicU8::new(SessionState::Startup as u8),
            state_since_ms: AtomicU64::new(now_ms()),
            metrics: Arc::clone(metrics),
        });
        let mut open = self.lock();
        open.insert(live.id, Arc::clone(&live));
        self.most.fetch_max(open.len(), Relaxed);
        drop(open);
        Registered { sessions: Arc::clone(self), live }
    }

    /// Carries what sessions have counted since the last time over to the metrics.
    pub fn count(&self) {
        for live in self.lock().values() {
            live.count();
        }
    }

    /// Up to `most` open sessions, oldest first, and how many there are in all.
    pub fn list(&self, most: usize) -> (Vec<Arc<Live>>, usize) {
        let open = self.lock();
        (open.values().take(most).cloned().collect(), open.len())
    }

    /// How many are open, if that is `many` fewer than once were. Once it was so, it is asked anew.
    pub fn after_ebb(&self, many: usize) -> Option<usize> {
        let open = self.lock().len();
        let has_ebbed = self.most.load(Relaxed).saturating_sub(open) >= many;
        if has_ebbed {
            self.most.store(open, Relaxed);
        }
        has_ebbed.then_some(open)
    }

    /// Counts a client that is no longer in startup and has not been refused.
    pub fn admit(self: &Arc<Self>) -> Admitted {
        self.admitted.send_modify(|admitted| *admitted = admitted.saturating_add(1));
        Admitted { sessions: Arc::clone(self), has_ended: false }
    }

    /// How many are admitted.
    pub fn admitted(&self) -> usize {
        *self.admitted.borrow()
    }

    /// How many of those admitted would be cut off if all ended now.
    pub fn unended(&self) -> usize {
        self.admitted().saturating_sub(self.ended.load(Relaxed))
    }

    /// Waits until none is admitted. Cancel safe.
    pub async fn all_ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.admitted.subscribe().wait_for(|admitted| *admitted == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Live>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for Registered {
    type Target = Arc<Live>;
    fn deref(&self) -> &Arc<Live> {
        &self.live
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.sessions.lock();
        self.live.count();
        open.remove(&self.live.id);
    }
}

impl Admitted {
    /// The session is over but for its close, which is waited for and cuts nothing.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.sessions.ended.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.has_ended {
            self.sessions.ended.fetch_sub(1, Relaxed);
        }
        self.sessions.admitted.send_modify(|admitted| *admitted = admitted.saturating_sub(1));
    }
}

impl Live {
    /// Publishes totals; only the session itself calls this.
    pub fn publish(&self, totals: Totals) {
        self.counters.to_upstream.store(totals.to_upstream, Relaxed);
        self.counters.to_client.store(totals.to_client, Relaxed);
        self.counters.statements.store(totals.statements, Release);
    }

    /// The last published totals.
    pub fn totals(&self) -> Totals {
        Totals {
            to_upstream: self.counters.to_upstream.load(Relaxed),
            to_client: self.counters.to_client.load(Relaxed),
            statements: self.counters.statements.load(Acquire),
        }
    }

    /// Notes what the session is doing; the clock is asked only when that changes.
    pub fn enter(&self, state: SessionState) {
        if self.state.load(Relaxed) != state as u8 {
            self.state.store(state as u8, Relaxed);
            self.state_since_ms.store(now_ms(), Relaxed);
        }
    }

    /// What the session is doing.
    pub fn state(&self) -> SessionState {
        let state = self.state.load(Relaxed);
        SessionState::ALL.into_iter().find(|known| *known as u8 == state).unwrap_or(SessionState::Closing)
    }

    /// For how long it has been in this state.
    pub fn state_age(&self) -> Duration {
        Duration::from_millis(now_ms().saturating_sub(self.state_since_ms.load(Relaxed)))
    }

    /// Callers hold the map's lock, so that nothing is counted twice.
    fn count(&self) {
        let now = self.totals();
        let news = |counted: &AtomicU64, now: u64| now.saturating_sub(counted.swap(now, Relaxed));
        for &direction in Direction::ALL {
            let new = match direction {
                Direction::ToUpstream => news(&self.counted.to_upstream, now.to_upstream),
                Direction::ToClient => news(&self.counted.to_client, now.to_client),
            };
            self.metrics.bytes.at(direction).inc_by(new);
        }
        self.metrics.statements.inc_by(news(&self.counted.statements, now.statements));
    }
}

impl SessionState {
    const ALL: [Self; 8] = [
        Self::Startup,
        Self::Login,
        Self::Idle,
        Self::Active,
        Self::Transaction,
        Self::Failed,
        Self::Copy,
        Self::Closing,
    ];

    /// As `/status` shows it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Transaction => "transaction",
            Self::Failed => "failed",
            Self::Copy => "copy",
            Self::Closing => "closing",
        }
    }
}

fn now_ms() -> u64 {
    u64::try_from(sys::coarse_clock().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn counters_reach_the_metrics_once_while_open_and_at_the_end() {
        let name = Name::new("main").unwrap();
        let metrics = Arc::new(Metrics::new().unwrap().listener(&name, 1));
        let sessions = Arc::new(Sessions::default());
        let session = sessions.register(&name, "a client".into(), &metrics);
        let bytes = || metrics.bytes.at(Direction::ToClient).get();

        session.publish(Totals { to_client: 10, ..Totals::default() });
        sessions.count();
        sessions.count();
        assert_eq!(bytes(), 10);
        session.publish(Totals { to_client: 15, ..Totals::default() });
        drop(session);

        assert_eq!(bytes(), 15);
        assert_eq!(sessions.list(10).1, 0);
    }

    #[tokio::test]
    async fn a_drain_waits_for_those_admitted_and_for_no_others() {
        let name = Name::new("main").unwrap();
        let metrics = Arc::new(Metrics::new().unwrap().listener(&name, 1));
        let sessions = Arc::new(Sessions::default());
        let _in_startup = sessions.register(&name, String::new(), &metrics);
        sessions.all_ended().await;

        let mut admitted = sessions.admit();
        assert_eq!((sessions.admitted(), sessions.unended()), (1, 1));
        admitted.end();
        assert_eq!((sessions.admitted(), sessions.unended()), (1, 0));
        let (all_ended, ()) = tokio::join!(sessions.all_ended(), async move { drop(admitted) });

        assert_eq!((all_ended, sessions.admitted(), sessions.unended()), ((), 0, 0));
    }

    #[test]
    fn a_listing_is_bounded_and_says_how_many_there_are() {
        let name = Name::new("main").unwrap();
        let metrics = Arc::new(Metrics::new().unwrap().listener(&name, 1));
        let sessions = Arc::new(Sessions::default());
        let open: Vec<_> = (0..5).map(|_| sessions.register(&name, String::new(), &metrics)).collect();

        let (listed, all) = sessions.list(2);

        assert_eq!((listed.len(), all), (2, 5));
        assert_eq!(listed[0].id, open[0].id);
    }
}
