//! The keys that a secret gives under one salt, and the cache that spares a login their cost.

use super::{
    ScramError,
    crypto::{self, Key},
};
use crate::{credentials::Lease, secret::Secret};
use std::{
    fmt,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::OnceCell;

/// What stands for a password in an exchange; prints as `***`, wiped when dropped. They are as good
/// as the password itself towards a server with the same salt and iterations.
pub struct ScramKeys {
    pub(super) client: Key,
    pub(super) stored: Key,
    pub(super) server: Key,
}

impl ScramKeys {
    /// Prepares the password (SASLprep where it applies) and derives its keys.
    ///
    /// Costs 1 ms of a core for each few thousand iterations: keep it off the event loop.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZero<u32>) -> Self {
        let (client, server) = crypto::derive(password, salt, iterations);
        Self { stored: crypto::hash(&client), client, server }
    }

    /// As [`ScramKeys::derive`], on a thread that may block.
    ///
    /// # Errors
    /// Only when the daemon is stopping. Cancel safety: a derivation that has begun goes on unheard.
    pub(super) async fn derive_off_loop(
        secret: Arc<Secret>,
        salt: Vec<u8>,
        iterations: NonZero<u32>,
    ) -> Result<Self, ScramError> {
        let work = move || Self::derive(secret.expose(), &salt, iterations);
        let derived = tokio::task::spawn_blocking(work).await;
        derived.ok().ok_or(ScramError::Unavailable)
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The keys of the last 16 challenges of one cluster's secret.
///
/// A storm of logins costs one derivation, and a rotated secret leaves none of its keys behind.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<Entries>);

impl KeyCache {
    /// The keys of the lease's secret for a challenge, and whether they were there or under way
    /// already. All leases must come from the same [`crate::credentials::Credentials`].
    ///
    /// # Errors
    /// Only when the daemon is stopping.
    ///
    /// Cancel safety: safe; whoever waits for the same keys derives them instead.
    pub async fn get(
        &self,
        user: &str,
        salt: &[u8],
        iterations: NonZero<u32>,
        lease: &Lease,
    ) -> Result<(Arc<ScramKeys>, bool), ScramError> {
        let wanted = Wanted { user: user.to_owned(), salt: salt.to_vec(), iterations };
        let entry = self.entries().entry(wanted, lease.generation);
        let mut hit = true;
        let keys = entry
            .get_or_try_init(|| {
                hit = false;
                let secret = Arc::clone(&lease.secret);
                let keys = ScramKeys::derive_off_loop(secret, salt.to_vec(), iterations);
                async { keys.await.map(Arc::new) }
            })
            .await?;
        Ok((Arc::clone(keys), hit))
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Worst case after a panic: an entry that nobody filled, which the next login fills.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Cell = Arc<OnceCell<Arc<ScramKeys>>>;

#[derive(Debug, Default)]
struct Entries {
    generation: u64,
    /// Last used last.
    known: Vec<(Wanted, Cell)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    user: String,
    salt: Vec<u8>,
    iterations: NonZero<u32>,
}

impl Entries {
    fn entry(&mut self, wanted: Wanted, generation: u64) -> Cell {
        if generation < self.generation {
            // A login that began before the secret was rotated; its keys are nobody else's.
            return Cell::default();
        }
        if generation > self.generation {
            self.generation = generation;
            self.known.clear();
        }
        let place = self.known.iter().position(|(known, _)| *known == wanted);
        let entry = match place {
            Some(place) => self.known.remove(place),
            None => (wanted, Cell::default()),
        };
        if self.known.len() >= ENTRIES_MAX {
            self.known.remove(0);
        }
        let cell = Arc::clone(&entry.1);
        self.known.push(entry);
        cell
    }
}

/// A user has one salt per cluster; more are seen only while passwords rotate.
const ENTRIES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(secret: &str, generation: u64) -> Lease {
        Lease { secret: Arc::new(Secret::new(secret.into())), generation }
    }

    const ROUNDS: NonZero<u32> = NonZero::new(4096).unwrap();

    async fn get(cache: &KeyCache, salt: &[u8], lease: &Lease) -> (Arc<ScramKeys>, bool) {
        cache.get("app", salt, ROUNDS, lease).await.unwrap()
    }

    #[test]
    fn keys_print_as_three_stars() {
        let keys = ScramKeys::derive(b"pencil", b"salt", ROUNDS);

        assert_eq!(format!("{keys:?}"), "***");
    }

    #[tokio::test]
    async fn the_same_challenge_is_a_hit_and_any_other_is_not() {
        let (cache, one) = (KeyCache::default(), lease("one", 1));
        let more = NonZero::new(4097).unwrap();
        assert!(!get(&cache, b"salt", &one).await.1);

        assert!(get(&cache, b"salt", &one).await.1);
        assert!(!get(&cache, b"pepper", &one).await.1);
        assert!(!cache.get("app", b"salt", more, &one).await.unwrap().1);
        assert!(!cache.get("admin", b"salt", ROUNDS, &one).await.unwrap().1);
    }

    #[tokio::test]
    async fn a_thousand_logins_at_once_derive_once() {
        let cache = Arc::new(KeyCache::default());
        let logins: Vec<_> = (0..1000)
            .map(|_| {
                let cache = Arc::clone(&cache);
                tokio::spawn(async move { get(&cache, b"salt", &lease("one", 1)).await.1 })
            })
            .collect();

        let mut derived = 0;
        for login in logins {
            derived += usize::from(!login.await.unwrap());
        }

        assert_eq!(derived, 1);
    }

    #[tokio::test]
    async fn a_new_generation_empties_the_cache_and_wipes_its_keys() {
        let cache = KeyCache::default();
        let old = Arc::downgrade(&get(&cache, b"salt", &lease("one", 1)).await.0);
        assert!(old.upgrade().is_some());

        let (new, hit) = get(&cache, b"salt", &lease("two", 2)).await;

        assert!(!hit);
        assert!(old.upgrade().is_none(), "the old keys live on");
        assert_eq!(*new.client, *ScramKeys::derive(b"two", b"salt", ROUNDS).client);
    }

    #[tokio::test]
    async fn a_login_with_an_old_secret_neither_reads_nor_fills_the_cache() {
        let cache = KeyCache::default();
        get(&cache, b"salt", &lease("two", 2)).await;

        let (late, hit) = get(&cache, b"salt", &lease("one", 1)).await;

        assert!(!hit);
        assert_eq!(*late.client, *ScramKeys::derive(b"one", b"salt", ROUNDS).client);
        assert!(get(&cache, b"salt", &lease("two", 2)).await.1);
    }

    #[tokio::test]
    async fn the_cache_keeps_the_16_that_were_used_last() {
        let (cache, one) = (KeyCache::default(), lease("one", 1));
        for salt in 0..16_u8 {
            get(&cache, &[salt], &one).await;
        }
        assert!(get(&cache, &[0], &one).await.1);

        get(&cache, &[16], &one).await;

        assert_eq!(cache.entries().known.len(), 16);
        assert!(get(&cache, &[0], &one).await.1);
        assert!(!get(&cache, &[1], &one).await.1);
    }

    #[tokio::test]
    async fn a_login_that_is_given_up_leaves_no_gap() {
        let (cache, one) = (KeyCache::default(), lease("one", 1));
        // So many rounds that the first look never finds them done.
        let rounds = NonZero::new(500_000).unwrap();
        {
            let first = cache.get("app", b"salt", rounds, &one);
            tokio::select! {
                biased;
                _ = first => panic!("it cannot be done at once"),
                () = std::future::ready(()) => (),
            }
        }

        let (keys, hit) = cache.get("app", b"salt", rounds, &one).await.unwrap();

        assert!(!hit);
        assert_eq!(*keys.client, *ScramKeys::derive(b"one", b"salt", rounds).client);
    }
}
