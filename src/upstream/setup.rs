//! What a cluster is reached with, replaced whole while the daemon runs: a login begins and ends with the
//! same one.

use super::{Cluster, connect::Connector, names::Names, rejections::Rejections};
use crate::{
    credentials::Credentials,
    scram::KeyCache,
    settings::{self, Limits},
    tls::ClusterTls,
};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What settings and files say of a cluster.
pub struct Means {
    /// The settings.
    pub settings: Arc<settings::Cluster>,
    /// Built from its CA and client certificate.
    pub tls: ClusterTls,
    /// Its secret, if it has one. Clones share what was read.
    pub credentials: Option<Credentials>,
    /// The daemon's limits.
    pub limits: Arc<Limits>,
}

/// [`Means`], ready for use.
pub(crate) struct Setup {
    pub(crate) settings: Arc<settings::Cluster>,
    pub(crate) tls: ClusterTls,
    pub(crate) limits: Arc<Limits>,
    pub(super) access: Arc<Access>,
    pub(super) connector: Connector,
    pub(super) logins: Arc<Semaphore>,
}

/// A secret, and what was learned by logging in with it: worth nothing under another one.
pub(super) struct Access {
    pub(super) credentials: Option<Credentials>,
    pub(super) keys: KeyCache,
    pub(super) rejections: Rejections,
}

impl Access {
    pub(super) fn new(credentials: Option<Credentials>) -> Arc<Self> {
        Arc::new(Self { credentials, keys: KeyCache::default(), rejections: Rejections::default() })
    }
}

impl Setup {
    pub(super) fn new(means: Means, names: &Arc<Names>) -> Self {
        let access = Access::new(means.credentials.clone());
        Self::with(means, names, access, None)
    }

    fn with(means: Means, names: &Arc<Names>, access: Arc<Access>, logins: Option<Arc<Semaphore>>) -> Self {
        let Means { settings, tls, limits, .. } = means;
        let connector = Connector {
            cluster: settings.name.clone(),
            names: Arc::clone(names),
            tls: Arc::clone(&tls.config).into(),
            limits: Arc::clone(&limits),
            trusts_system: settings.ca == settings::CaSource::System,
        };
        let slots = limits.logins_max.get().min(Semaphore::MAX_PERMITS);
        let logins = logins.unwrap_or_else(|| Arc::new(Semaphore::new(slots)));
        Self { settings, tls, limits, access, connector, logins }
    }

    /// Its secret, if it has one.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.access.credentials.as_ref()
    }
}

impl Cluster {
    /// What it is reached with now.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        Arc::clone(&super::lock(&self.setup))
    }

    /// From now on goes by these; whether they are new. What is the same as before keeps what was learned with
    /// it. Listeners go on with the setup that they were given until they get this one.
    pub(crate) fn replace(&self, means: Means) -> bool {
        let old = self.setup();
        let is_same_secret = old.settings.password == means.settings.password
            && old.credentials().map(Credentials::is_strict) == means.credentials.as_ref().map(Credentials::is_strict)
            && old.settings.user == means.settings.user;
        let is_same_login = is_same_secret
            && old.settings.auth == means.settings.auth
            && old.settings.ca == means.settings.ca
            && old.tls.identity == means.tls.identity;
        if is_same_login && old.settings == means.settings && old.limits == means.limits {
            return false;
        }
        let access = if is_same_secret { Arc::clone(&old.access) } else { Access::new(means.credentials.clone()) };
        let logins = (old.limits.logins_max == means.limits.logins_max).then(|| Arc::clone(&old.logins));
        // Resumable TLS sessions live in the configuration: the same one while nothing is new.
        let tls = if is_same_login { old.tls.clone() } else { means.tls };
        let endpoints = means.settings.endpoints.clone();
        let next = Setup::with(Means { tls, ..means }, &self.names, access, logins);
        self.names.refresh_after(next.limits.dns_refresh);
        self.note_expiry(&next.tls);
        *super::lock(&self.setup) = Arc::new(next);
        self.replace_endpoints(&endpoints);
        true
    }
}
