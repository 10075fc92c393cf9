//! What a cluster is reached with, endpoints and all, replaced whole while the daemon runs: a login begins and
//! ends with the same one, so that a secret goes to no endpoint but those that its settings name.

use super::{Cluster, Route, Way, connect::Connector, lock, names::Names, rejections::Rejections};
use crate::{
    credentials::Credentials,
    scram::KeyCache,
    settings::{self, Endpoint, Limits},
    tls::ClusterTls,
};
use std::sync::{Arc, Mutex};
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
    /// By servers that these settings lead to; others may let in whom they refused.
    pub(super) rejections: Arc<Rejections>,
    pub(super) connector: Connector,
    pub(super) logins: Arc<Semaphore>,
    /// The endpoints, in the settings' order, unless they were listed anew.
    pub(super) ways: Mutex<Arc<[Arc<Way>]>>,
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

impl Setup {
    pub(super) fn new(means: Means, names: &Arc<Names>) -> Self {
        let access = Access::new(means.credentials.clone());
        Self::with(means, names, access, None)
    }

    /// Without endpoints.
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
        Self {
            settings,
            tls,
            limits,
            access,
            rejections: Arc::default(),
            connector,
            logins,
            ways: Mutex::new(Arc::new([])),
        }
    }

    /// Its secret, if it has one.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.access.credentials.as_ref()
    }

    /// The endpoints.
    pub(crate) fn ways(&self) -> Arc<[Arc<Way>]> {
        Arc::clone(&lock(&self.ways))
    }

    /// The same without endpoints: nobody finds any in it.
    fn stripped(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            tls: self.tls.clone(),
            limits: Arc::clone(&self.limits),
            access: Arc::clone(&self.access),
            rejections: Arc::clone(&self.rejections),
            connector: self.connector.clone(),
            logins: Arc::clone(&self.logins),
            ways: Mutex::new(Arc::new([])),
        }
    }
}

impl Cluster {
    /// What it is reached with now.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        Arc::clone(&lock(&self.setup))
    }

    /// From now on goes by these; whether they are new. What is the same as before keeps what was learned with
    /// it. Listeners go on with the setup that they were given until they get this one.
    pub(crate) fn replace(&self, means: Means) -> bool {
        let old = self.setup();
        let is_same_secret = old.settings.password == means.settings.password
            && old.credentials().map(Credentials::is_strict) == means.credentials.as_ref().map(Credentials::is_strict)
            && old.settings.user == means.settings.user
            // The new ones have just been read, so that they need not wait for a reading that does not end.
            && !old.credentials().is_some_and(Credentials::hangs);
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
        let is_same_place = is_same_login && old.settings.endpoints == endpoints;
        let mut next = Setup::with(Means { tls, ..means }, &self.names, access, logins);
        if is_same_place {
            next.rejections = Arc::clone(&old.rejections);
        }
        self.names.refresh_after(next.limits.dns_refresh);
        self.note_expiry(&next.tls);
        self.exchange(next, &endpoints);
        true
    }

    /// It is no cluster of the daemon any more: its series say that it has no endpoint. Clients that were on
    /// their way in when that came go on with the setup that they have.
    pub(crate) fn retire(&self) {
        self.exchange(self.setup().stripped(), &[]);
        // They stay while such clients do, and nobody logs in with its secret any more.
        self.metrics.secret_is_ok(true);
    }

    /// Whether `setup` is what it is reached with now: what is learned with another one is of no use.
    pub(super) fn is_current(&self, setup: &Setup) -> bool {
        std::ptr::eq(&raw const **lock(&self.setup), setup)
    }

    /// What a cancel goes with that belongs to a session of `own` at `route`: while its endpoint is one of the
    /// cluster's still, what that is reached with now, as certificates may have been renewed since.
    pub(crate) fn setup_for_cancel(&self, own: &Arc<Setup>, route: &Route) -> Arc<Setup> {
        let now = self.setup();
        if now.ways().iter().any(|way| way.endpoint == route.endpoint) { now } else { Arc::clone(own) }
    }

    fn exchange(&self, next: Setup, endpoints: &[Arc<Endpoint>]) {
        let before = self.ways();
        *lock(&next.ways) = self.ways_to(endpoints, &before);
        *lock(&self.setup) = Arc::new(next);
        self.ways_have_changed(&before);
    }
}
