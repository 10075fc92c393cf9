//! How many sessions there may be: of the daemon and of each listener.

use crate::{
    metrics::labels::RefuseReason,
    wire::{ClientError, SqlState},
};
use std::{num::NonZero, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits that one listener's clients meet.
#[derive(Clone)]
pub(crate) struct Admission {
    daemon: Limit,
    listener: Limit,
}

/// A place among the sessions; free again when dropped.
pub(crate) struct Permit {
    _daemon: OwnedSemaphorePermit,
    _listener: OwnedSemaphorePermit,
}

/// So many sessions at once.
#[derive(Clone)]
pub(crate) struct Limit {
    most: NonZero<usize>,
    places: Arc<Semaphore>,
}

/// Why a client is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The daemon has as many sessions as it may.
    DaemonFull(NonZero<usize>),
    /// The listener has.
    ListenerFull(NonZero<usize>),
}

impl Limit {
    pub(crate) fn new(most: NonZero<usize>) -> Self {
        Self { most, places: Arc::new(Semaphore::new(most.get().min(Semaphore::MAX_PERMITS))) }
    }
}

impl Admission {
    pub(crate) fn new(daemon: Limit, listener: Limit) -> Self {
        Self { daemon, listener }
    }

    /// Takes a place, if both limits leave one. Never waits.
    pub(crate) fn admit(&self) -> Result<Permit, NotAdmitted> {
        let take = |limit: &Limit| Arc::clone(&limit.places).try_acquire_owned();
        Ok(Permit {
            _daemon: take(&self.daemon).map_err(|_full| NotAdmitted::DaemonFull(self.daemon.most))?,
            _listener: take(&self.listener).map_err(|_full| NotAdmitted::ListenerFull(self.listener.most))?,
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

        assert_eq!(admission.admit().err(), NonZero::new(1).map(NotAdmitted::ListenerFull));
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
    fn the_refusal_names_the_limit_and_its_setting() {
        let error = NotAdmitted::ListenerFull(NonZero::new(3).unwrap()).to_client();

        assert_eq!(error.sqlstate, SqlState::TOO_MANY_CONNECTIONS);
        assert!(error.message.contains("3 sessions"));
        assert!(error.hint.unwrap().contains("the listener's \"sessions_max\""));
    }
}
