//! Logins that the server refused because of user or secret: one login a second while the secret is unchanged, so that
//! an application's retries do not hammer the server. That the secret is wrong (`28P01`) is so whatever else the client
//! sends, and one that sends something new each time could have the account locked; any other refusal (`28000`, which a
//! rule about databases may be behind) stands for the same startup parameters.

use super::error::LoginError;
use crate::{
    lock::lock,
    settings::Endpoint,
    wire::{ServerError, SqlState, StartupParameters},
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// The refusals of one cluster that still stand.
#[derive(Default)]
pub(super) struct Rejections {
    standing: Mutex<Standing>,
    hasher: RandomState,
}

/// What is a login of the same kind: hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Of the user's name, as the settings spell it.
    user: u64,
    /// Of all of its startup parameters.
    parameters: u64,
}

/// Apart, so that refusals of many parameters leave room for those of users, who are few.
#[derive(Default)]
struct Standing {
    of_users: HashMap<u64, Rejection>,
    of_parameters: HashMap<u64, Rejection>,
}

struct Rejection {
    generation: u64,
    retry_at: Instant,
    endpoint: Arc<Endpoint>,
    error: ServerError,
}

impl Rejections {
    pub(super) fn kind(&self, parameters: &StartupParameters) -> Kind {
        let hash = |text: &[u8]| self.hasher.hash_one(text);
        let user = hash(parameters.get("user").unwrap_or_default());
        Kind { user, parameters: self.hasher.hash_one(parameters) }
    }

    /// The refusal that still stands for such a login, or `None`: then this caller may try, and for the next second others may not.
    pub(super) fn standing(&self, kind: Kind, generation: u64, now: Instant) -> Option<(Arc<Endpoint>, LoginError)> {
        let mut standing = lock(&self.standing);
        let mut of_kind: Vec<_> =
            standing.of_kind(kind).into_iter().flatten().filter(|one| one.generation == generation).collect();
        if let Some(rejection) = of_kind.iter().find(|rejection| now < rejection.retry_at) {
            return Some((Arc::clone(&rejection.endpoint), LoginError::Server(rejection.error.clone())));
        }
        of_kind.iter_mut().for_each(|rejection| rejection.retry_at = now + RETRY_AFTER);
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
        let mut standing = lock(&self.standing);
        let (kinds, hash) = match error.sqlstate {
            SqlState::INVALID_PASSWORD => (&mut standing.of_users, kind.user),
            _ => (&mut standing.of_parameters, kind.parameters),
        };
        if kinds.len() >= KINDS_MAX {
            kinds.retain(|_, rejection| now < rejection.retry_at);
        }
        if kinds.len() < KINDS_MAX {
            let rejection = Rejection {
                generation,
                retry_at: now + RETRY_AFTER,
                endpoint: Arc::clone(endpoint),
                error: error.clone(),
            };
            kinds.insert(hash, rejection);
        }
    }

    /// Forgets refusals: such a login has succeeded with the secret of this generation, so that it is not wrong and these
    /// parameters are let in. It says nothing of other parameters, nor of another secret.
    pub(super) fn clear(&self, kind: Kind, generation: u64) {
        let mut standing = lock(&self.standing);
        let Standing { of_users, of_parameters } = &mut *standing;
        for (kinds, hash) in [(of_users, kind.user), (of_parameters, kind.parameters)] {
            if kinds.get(&hash).is_some_and(|rejection| rejection.generation == generation) {
                kinds.remove(&hash);
            }
        }
    }
}

impl Standing {
    fn of_kind(&mut self, kind: Kind) -> [Option<&mut Rejection>; 2] {
        [self.of_users.get_mut(&kind.user), self.of_parameters.get_mut(&kind.parameters)]
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

    fn kind(rejections: &Rejections, user: &str, application: &str) -> Kind {
        let body = format!("user\0{user}\0application_name\0{application}\0\0");
        rejections.kind(&StartupParameters::parse(body.as_bytes()).unwrap())
    }

    fn noted(kind: impl Fn(&Rejections) -> Kind, sqlstate: &str) -> (Rejections, ServerError, Instant) {
        let (rejections, now) = (Rejections::default(), Instant::now());
        let error = ServerError::parse(format!("C{sqlstate}\0Mno\0\0").as_bytes());
        rejections.note(kind(&rejections), 1, &endpoint(), &error, now);
        (rejections, error, now)
    }

    #[tokio::test(start_paused = true)]
    async fn one_login_a_second_is_let_through_while_the_secret_is_unchanged() {
        for sqlstate in ["28P01", "28000"] {
            let app = |rejections: &Rejections| kind(rejections, "app", "a");
            let (rejections, error, now) = noted(app, sqlstate);
            let kind = app(&rejections);

            assert!(matches!(rejections.standing(kind, 1, now), Some((_, LoginError::Server(told))) if told == error));
            assert!(rejections.standing(kind, 1, now + RETRY_AFTER).is_none());
            assert!(rejections.standing(kind, 1, now + RETRY_AFTER).is_some(), "one at a time");
            assert!(rejections.standing(kind, 2, now).is_none(), "another secret is tried at once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_secret_stands_for_its_user_and_another_refusal_for_its_parameters() {
        for (sqlstate, stands_for_others) in [("28P01", true), ("28000", false)] {
            let (rejections, _, now) = noted(|rejections| kind(rejections, "app", "a"), sqlstate);

            let stands =
                |user, application| rejections.standing(kind(&rejections, user, application), 1, now).is_some();

            assert!(stands("app", "a"));
            assert_eq!(stands("app", "b"), stands_for_others, "{sqlstate}");
            assert!(!stands("other", "a"), "{sqlstate}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_clears_what_it_disproves() {
        for (sqlstate, user, application, generation, is_cleared) in [
            ("28P01", "app", "b", 1, true),
            ("28P01", "app", "b", 0, false),
            ("28P01", "other", "a", 1, false),
            ("28000", "app", "a", 1, true),
            ("28000", "app", "b", 1, false),
        ] {
            let (rejections, _, now) = noted(|rejections| kind(rejections, "app", "a"), sqlstate);

            rejections.clear(kind(&rejections, user, application), generation);

            let stands = rejections.standing(kind(&rejections, "app", "a"), 1, now).is_some();
            assert_eq!(stands, !is_cleared, "{sqlstate} {user} {application} {generation}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_kinds_are_remembered_than_allowed() {
        let rejections = Rejections::default();
        for (sqlstate, others) in [("28000", 0), ("28P01", KINDS_MAX)] {
            let error = ServerError::parse(format!("C{sqlstate}\0\0").as_bytes());
            for place in 0..2000 {
                let kind = Kind { user: place, parameters: place };
                rejections.note(kind, 1, &endpoint(), &error, Instant::now());
            }

            let standing = lock(&rejections.standing);
            assert_eq!((standing.of_users.len(), standing.of_parameters.len()), (others, KINDS_MAX));
        }
    }
}
