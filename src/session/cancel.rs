//! Cancel requests: from the key that a client was given to the upstream that holds its session.
//!
//! A client's key shows the upstream's process ID and hides the upstream's secret behind one of ours, so
//! that a key means nothing to the server, and nothing at all once its session is over.

use crate::{
    metrics::labels::CancelResult,
    upstream::{Cluster, Route, Setup},
    wire::CancelKey,
};
use aws_lc_rs::rand;
use std::time::Duration;
use std::{
    collections::HashMap,
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{sync::Semaphore, time::sleep};

/// The keys of all open sessions, and the bound on cancels in flight.
pub(crate) struct CancelKeys {
    targets: Mutex<HashMap<CancelKey, Arc<Target>>>,
    in_flight: Mutex<Arc<Semaphore>>,
}

/// What a cancel needs to find the session again.
pub(crate) struct Target {
    /// The cluster, whose verified TLS it goes over.
    pub(crate) cluster: Arc<Cluster>,
    /// What the cluster was reached with when the session began.
    pub(crate) setup: Arc<Setup>,
    /// The very address that holds the session.
    pub(crate) route: Route,
    /// The server's key.
    pub(crate) key: CancelKey,
    /// A cancel was sent, or is about to be.
    pub(crate) is_cancelled: AtomicBool,
}

/// A key that is valid for as long as this lives.
pub(crate) struct Issued {
    keys: Arc<CancelKeys>,
    /// What the client is given.
    pub(crate) key: CancelKey,
    target: Arc<Target>,
}

impl CancelKeys {
    pub(crate) fn new(cancels_max: NonZero<usize>) -> Self {
        Self { targets: Mutex::default(), in_flight: Mutex::new(Arc::new(Semaphore::new(cancels_max.get()))) }
    }

    /// From now on so many in flight, besides those that are.
    pub(crate) fn set_most(&self, cancels_max: NonZero<usize>) {
        *self.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Semaphore::new(cancels_max.get()));
    }

    /// Makes a key for a session: the secret has 32 bytes from protocol 3.2 on, before that 4. `None`
    /// when the system has no random bytes to give.
    pub(crate) fn issue(self: &Arc<Self>, target: Target, minor: u16) -> Option<Issued> {
        let target = Arc::new(target);
        let mut secret = [0; 32];
        let secret = secret.get_mut(..if minor >= 2 { 32 } else { 4 })?;
        loop {
            rand::fill(secret).ok()?;
            let key = target.key.with_secret(secret)?;
            let mut targets = self.lock();
            // Two sessions with one process ID (of two servers) may draw the same four bytes.
            if let std::collections::hash_map::Entry::Vacant(place) = targets.entry(key.clone()) {
                place.insert(Arc::clone(&target));
                drop(targets);
                return Some(Issued { keys: Arc::clone(self), key, target });
            }
        }
    }

    /// Cancels what the session with this key runs. There is nobody to tell the outcome to but the metrics.
    pub(crate) async fn cancel(&self, key: &CancelKey) -> CancelResult {
        let target = self.lock().get(key).cloned().inspect(|target| target.is_cancelled.store(true, Relaxed));
        let Some(target) = target else {
            // Whoever guesses keys waits for each guess, and holds a startup's place meanwhile.
            sleep(PENALTY).await;
            return CancelResult::UnknownKey;
        };
        let in_flight = Arc::clone(&self.in_flight.lock().unwrap_or_else(PoisonError::into_inner));
        let Ok(_place) = in_flight.try_acquire() else { return CancelResult::Limited };
        target.send().await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CancelKey, Arc<Target>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    async fn send(&self) -> CancelResult {
        match self.cluster.cancel(&self.setup, &self.route, &self.key).await {
            Ok(()) => CancelResult::Sent,
            Err(error) => {
                tracing::warn!(
                    cluster.name = %self.cluster.name(), endpoint.addr = %self.route.address, %error,
                    "cancel not delivered"
                );
                CancelResult::Failed
            }
        }
    }
}

impl Issued {
    /// Takes the key out of use; whether it had never been used. If it had, a cancel may still arrive at the
    /// server, and would hit whoever has the upstream then.
    pub(crate) fn retire(self) -> bool {
        let target = Arc::clone(&self.target);
        // A cancel marks the target before it lets go of the keys, so from here on none can begin.
        drop(self);
        !target.is_cancelled.load(Relaxed)
    }

    /// Cancels this session's own query, which nobody waits for any more.
    pub(crate) async fn cancel(&self) -> CancelResult {
        self.keys.cancel(&self.key).await
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}

/// As long as CockroachDB's own.
const PENALTY: Duration = Duration::from_secs(1);
