//! How many sessions there may be: of the daemon and of each listener.

use crate::{
    metrics::labels::RefuseReason,
    wire::{ClientError, SqlState},
};
use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The limits that one listener's clients meet.
#[derive(Clone)]
pub(crate) struct Admission {
    daemon: Limit,
    listener: Limit,
}

/// A place among the sessions; free again when dropped.
pub(crate) struct Permit {
    _daemon: Place,
    _listener: Place,
}

/// So many sessions at once. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Limit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: AtomicUsize,
    taken: AtomicUsize,
}

/// Counts as taken until dropped.
struct Place(Arc<Inner>);

/// Why a client is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The daemon has as many sessions as it may.
    DaemonFull(usize),
    /// The listener has.
    ListenerFull(usize),
}

impl Limit {
    pub(crate) fn new(most: NonZero<usize>) -> Self {
        Self(Arc::new(Inner { most: AtomicUsize::new(most.get()), taken: AtomicUsize::new(0) }))
    }

    /// From now on so many. Where more are open than that, they live on and no new one comes in.
    pub(crate) fn set(&self, most: NonZero<usize>) {
        self.0.most.store(most.get(), Relaxed);
    }

    /// `Err` is the limit that leaves no place.
    fn take(&self) -> Result<Place, usize> {
        let most = self.0.most.load(Relaxed);
        let room = |taken: usize| (taken < most).then(|| taken.saturating_add(1));
        self.0.taken.fetch_update(Relaxed, Relaxed, room).map_err(|_taken| most)?;
        Ok(Place(Arc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

impl Admission {
    pub(crate) fn new(daemon: Limit, listener: Limit) -> Self {
        Self { daemon, listener }
    }

    /// Takes a place, if both limits leave one. Never waits.
    pub(crate) fn admit(&self) -> Result<Permit, NotAdmitted> {
        Ok(Permit {
            _daemon: self.daemon.take().map_err(NotAdmitted::DaemonFull)?,
            _listener: self.listener.take().map_err(NotAdmitted::ListenerFull)?,
        })
    }
}

impl NotAdmitted {
    /// The metric's label.
    pub(crate) fn reason(self) -> RefuseReason {
        match self {
            Self::DaemonFull(_) => RefuseReason::LimitDaemon,
            Self::ListenerFull(_) => RefuseReason::LimitListener,
        }
    }

    /// Says which limit, and where it is set.
    pub(crate) fn to_client(self) -> ClientError {
        let (who, most, setting) = match self {
            Self::DaemonFull(most) => ("crdb-proxy", most, "\"sessions_max\""),
            Self::ListenerFull(most) => ("this listener of crdb-proxy", most, "the listener's \"sessions_max\""),
        };
        ClientError::new(SqlState::TOO_MANY_CONNECTIONS, format!("{who} has {most} sessions open and takes no more"))
            .hint(format!("Close sessions (a smaller pool in the application?), or raise {setting}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(most: usize) -> Limit {
        Limit::new(NonZero::new(most).unwrap())
    }

    #[test]
    fn a_place_is_free_again_once_its_session_ends() {
        let admission = Admission::new(limit(2), limit(1));
        let permit = admission.admit().ok().unwrap();

        assert_eq!(admission.admit().err(), Some(NotAdmitted::ListenerFull(1)));
        drop(permit);

        assert!(admission.admit().is_ok());
    }

    #[test]
    fn a_refusal_takes_no_place_of_the_other_limit() {
        let daemon = limit(2);
        let full = Admission::new(daemon.clone(), limit(1));
        let other = Admission::new(daemon, limit(5));
        let _permit = full.admit().ok().unwrap();
        let _ = full.admit();

        assert!(other.admit().is_ok());
    }

    #[test]
    fn a_limit_can_change_while_sessions_are_open() {
        let listener = limit(2);
        let admission = Admission::new(limit(9), listener.clone());
        let (first, second) = (admission.admit().ok(), admission.admit().ok());

        listener.set(NonZero::<usize>::MIN);
        drop(first);
        assert_eq!(admission.admit().err(), Some(NotAdmitted::ListenerFull(1)));
        drop(second);

        assert!(admission.admit().is_ok());
    }

    #[test]
    fn the_refusal_names_the_limit_and_its_setting() {
        let error = NotAdmitted::ListenerFull(3).to_client();

        assert_eq!(error.sqlstate, SqlState::TOO_MANY_CONNECTIONS);
        assert!(error.message.contains("3 sessions"));
        assert!(error.hint.unwrap().contains("the listener's \"sessions_max\""));
    }
}
