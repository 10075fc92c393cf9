//! Cancel keys and what a CancelRequest does. Owns the register of sessions that can be cancelled.
//! Never blocks for longer than a map look-up, except in [`Running::sleep`].

use super::error::SqlError;
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Eight bytes, opaque as CockroachDB's. Drivers compare the first half with `pg_backend_pid()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CancelKey {
    /// The first four bytes.
    pub(super) process: i32,
    /// The other four.
    pub(super) secret: i32,
}

/// Every open session of the cluster: as in CockroachDB, a cancel may arrive at any region.
#[derive(Debug, Default)]
pub(super) struct Cancels(Mutex<HashMap<CancelKey, Weak<Running>>>);

impl Cancels {
    /// Makes a cancel key and enters `running` under it until the registration is dropped.
    pub(super) fn register(self: &Arc<Self>, running: &Arc<Running>) -> std::io::Result<Registration> {
        let key = CancelKey { process: random()? & i32::MAX, secret: random()? };
        self.lock().insert(key, Arc::downgrade(running));
        Ok(Registration { cancels: Arc::clone(self), key })
    }

    /// Cancels what the session with this key is running; an unknown key does nothing.
    pub(super) fn cancel(&self, key: CancelKey) {
        let running = self.lock().get(&key).and_then(Weak::upgrade);
        if let Some(running) = running {
            running.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CancelKey, Weak<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's entry in the register.
#[derive(Debug)]
pub(super) struct Registration {
    cancels: Arc<Cancels>,
    /// What the client is told.
    pub(super) key: CancelKey,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancels.lock().remove(&self.key);
    }
}

fn random() -> std::io::Result<i32> {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| std::io::Error::other("no random bytes"))?;
    Ok(i32::from_be_bytes(bytes))
}

/// What one session is running, as far as a cancel is concerned.
#[derive(Debug, Default)]
pub(super) struct Running {
    state: Mutex<State>,
    sleeper: Condvar,
    waiter: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Active,
    Cancelled,
    /// The session is gone; nothing of it may go on.
    Abandoned,
}

impl Running {
    /// Marks the begin of a statement: a cancel that came before it is forgotten.
    pub(super) fn begin(&self) {
        self.change(|state| *state = if *state == State::Abandoned { *state } else { State::Active });
    }

    /// Marks the end of a statement.
    pub(super) fn end(&self) {
        self.change(|state| *state = if *state == State::Abandoned { *state } else { State::Idle });
    }

    /// Cancels the statement that runs, if one does.
    pub(super) fn cancel(&self) {
        self.change(|state| {
            if *state == State::Active {
                *state = State::Cancelled;
            }
        });
        self.wake();
    }

    /// Stops whatever runs, for good: the session is gone.
    pub(super) fn abandon(&self) {
        self.change(|state| *state = State::Abandoned);
        self.wake();
    }

    /// Whether the statement shall stop.
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(*self.lock(), State::Cancelled | State::Abandoned)
    }

    /// Resolves once the statement shall stop. Cancel safety: nothing is lost.
    pub(super) async fn cancelled(&self) {
        loop {
            let woken = self.waiter.notified();
            if self.is_cancelled() {
                return;
            }
            woken.await;
        }
    }

    /// Blocks this thread for `span`.
    ///
    /// # Errors
    /// 57014 as soon as the statement is cancelled.
    pub(super) fn sleep(&self, span: Duration) -> Result<(), SqlError> {
        let end = Instant::now().checked_add(span);
        let mut state = self.lock();
        loop {
            if matches!(*state, State::Cancelled | State::Abandoned) {
                return Err(SqlError::cancelled());
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            let step = left.min(Duration::from_secs(3600));
            state = self.sleeper.wait_timeout(state, step).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wake(&self) {
        self.sleeper.notify_all();
        self.waiter.notify_waiters();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_stops_the_statement_that_runs_and_not_the_next_one() {
        let (cancels, running) = (Arc::new(Cancels::default()), Arc::new(Running::default()));
        let registration = cancels.register(&running).unwrap();

        cancels.cancel(registration.key);
        assert!(!running.is_cancelled(), "nothing ran");

        running.begin();
        cancels.cancel(registration.key);
        assert_eq!(running.sleep(Duration::MAX).unwrap_err().code(), "57014");

        running.begin();
        assert!(!running.is_cancelled());
    }

    #[test]
    fn a_wrong_or_old_key_does_nothing() {
        let (cancels, running) = (Arc::new(Cancels::default()), Arc::new(Running::default()));
        let registration = cancels.register(&running).unwrap();
        let key = registration.key;
        running.begin();

        cancels.cancel(CancelKey { secret: key.secret.wrapping_add(1), ..key });
        drop(registration);
        cancels.cancel(key);

        assert!(!running.is_cancelled());
    }
}
