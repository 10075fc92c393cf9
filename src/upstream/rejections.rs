//! Logins that the server refused because of user or secret: one login a second per cluster and startup
//! parameters while the secret is unchanged, so that an application's retries do not hammer the server.

use super::error::LoginError;
use crate::{
    settings::Endpoint,
    wire::{ServerError, StartupParameters},
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The refusals of one cluster that still stand.
#[derive(Default)]
pub(super) struct Rejections {
    standing: Mutex<HashMap<u64, Rejection>>,
    hasher: RandomState,
}

/// What is a login of the same kind: a hash of its startup parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(u64);

struct Rejection {
    generation: u64,
    retry_at: Instant,
    endpoint: Arc<Endpoint>,
    error: ServerError,
}

impl Rejections {
    pub(super) fn kind(&self, parameters: &StartupParameters) -> Kind {
        Kind(self.hasher.hash_one(parameters))
    }

    /// The refusal that still stands for such a login, or `None`: then this caller may try, and for the next second others may not.
    pub(super) fn standing(&self, kind: Kind, generation: u64, now: Instant) -> Option<(Arc<Endpoint>, LoginError)> {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let rejection = standing.get_mut(&kind.0).filter(|rejection| rejection.generation == generation)?;
        if now < rejection.retry_at {
            return Some((Arc::clone(&rejection.endpoint), LoginError::Server(rejection.error.clone())));
        }
        rejection.retry_at = now + RETRY_AFTER;
        None
    }

    /// Notes a refusal.
    pub(super) fn note(
        &self,
        kind: Kind,
        generation: u64,
        endpoint: &Arc<Endpoint>,
        error: &ServerError,
        now: Instant,
    ) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.len() >= KINDS_MAX {
            standing.retain(|_, rejection| now < rejection.retry_at);
        }
        if standing.len() < KINDS_MAX {
            let rejection = Rejection {
                generation,
                retry_at: now + RETRY_AFTER,
                endpoint: Arc::clone(endpoint),
                error: error.clone(),
            };
            standing.insert(kind.0, rejection);
        }
    }

    /// Forgets a refusal: such a login has succeeded.
    pub(super) fn clear(&self, kind: Kind) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).remove(&kind.0);
    }
}

const RETRY_AFTER: Duration = Duration::from_secs(1);
const KINDS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{EndpointKind, Name};

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint {
            name: Name::new("e").unwrap(),
            region: None,
            kind: EndpointKind::Public,
            host: "db.example".into(),
            endpoint_name: None,
            port: 1,
            tls_server_name: "db.example".try_into().unwrap(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_login_a_second_is_let_through_while_the_secret_is_unchanged() {
        let rejections = Rejections::default();
        let kind = rejections.kind(&StartupParameters::default());
        let error = ServerError::parse(b"C28P01\0Mno\0\0");
        let now = Instant::now();
        assert!(rejections.standing(kind, 1, now).is_none());

        rejections.note(kind, 1, &endpoint(), &error, now);

        assert!(matches!(rejections.standing(kind, 1, now), Some((_, LoginError::Server(told))) if told == error));
        assert!(rejections.standing(kind, 1, now + RETRY_AFTER).is_none());
        assert!(rejections.standing(kind, 1, now + RETRY_AFTER).is_some(), "one at a time");
        assert!(rejections.standing(kind, 2, now).is_none(), "another secret is tried at once");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_kinds_are_remembered_than_allowed() {
        let rejections = Rejections::default();
        let error = ServerError::parse(b"C28P01\0\0");
        for kind in 0..2000 {
            rejections.note(Kind(kind), 1, &endpoint(), &error, Instant::now());
        }

        assert_eq!(rejections.standing.lock().unwrap().len(), KINDS_MAX);
    }
}
