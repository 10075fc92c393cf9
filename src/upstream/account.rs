//! One SQL user of a cluster: what it logs in with, and what was learned by logging in with that.

use super::{connect::Connector, methods::Methods};
use crate::{
    credentials::{Credentials, Lease, SecretError},
    scram::KeyCache,
    settings::SqlUser,
    tls::ClusterTls,
};
use std::sync::Arc;

/// What settings and files say of a user.
#[derive(Clone)]
pub struct UserMeans {
    /// Built from the cluster's CA and the user's certificate.
    pub tls: ClusterTls,
    /// Its secret, if it has one. Clones share what was read.
    pub credentials: Option<Credentials>,
}

/// A user, ready to log in.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) user: SqlUser,
    pub(crate) tls: ClusterTls,
    pub(super) access: Arc<Access>,
    pub(super) connector: Connector,
    /// What its server may ask for.
    pub(super) methods: Methods,
}

/// A secret, and what was learned by logging in with it: worth nothing under another one.
pub(super) struct Access {
    pub(super) credentials: Option<Credentials>,
    pub(super) keys: KeyCache,
}

impl Access {
    pub(super) fn new(credentials: Option<Credentials>) -> Arc<Self> {
        Arc::new(Self { credentials, keys: KeyCache::default() })
    }
}

impl Account {
    /// Its secret, if it has one.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.access.credentials.as_ref()
    }

    /// Which secret it would log in with; 0 when none is configured.
    pub(crate) fn generation(&self) -> u64 {
        self.credentials().map_or(0, Credentials::generation)
    }

    /// Reads the secret, if there is one.
    pub(crate) async fn examine_secret(&self) -> Result<Option<Lease>, SecretError> {
        match self.credentials() {
            Some(credentials) => credentials.current().await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads the secret again; whether it is another one now.
    pub(super) async fn reread(&self, lease: &mut Option<Lease>) -> bool {
        let (Some(credentials), Some(old)) = (self.credentials(), lease.as_ref()) else { return false };
        let Ok(new) = credentials.reread(old.generation).await else { return false };
        let has_changed = new.generation != old.generation;
        *lease = Some(new);
        has_changed
    }

    /// Whether what was learned with its secret holds for the same user of new settings.
    pub(super) fn has_same_secret(&self, user: &SqlUser, means: &UserMeans) -> bool {
        self.user.password == user.password
            && self.credentials().map(Credentials::is_strict) == means.credentials.as_ref().map(Credentials::is_strict)
            // The new ones have just been read, so that they need not wait for a reading that does not end.
            && !self.credentials().is_some_and(Credentials::hangs)
    }
}
