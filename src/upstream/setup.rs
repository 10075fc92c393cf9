//! What a cluster is reached with, endpoints and all, replaced whole while the daemon runs: a login begins and
//! ends with the same one, so that a secret goes to no endpoint but those that its settings name.

use super::{
    Cluster, Route, UserMeans, Way,
    account::{Access, Account},
    connect::Connector,
    lock,
    methods::Methods,
    names::Names,
    rejections::Rejections,
};
use crate::{
    settings::{self, Endpoint, Limits, SqlUser},
    wire::StartupParameters,
};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// What settings and files say of a cluster.
pub struct Means {
    /// The settings.
    pub settings: Arc<settings::Cluster>,
    /// What its only or first user is reached with.
    pub user: UserMeans,
    /// The same of the other users, in the settings' order.
    pub other_users: Vec<UserMeans>,
    /// The daemon's limits.
    pub limits: Arc<Limits>,
}

impl Means {
    /// `users` in the settings' order; `None` where there is none, which read settings never say.
    pub fn of(settings: Arc<settings::Cluster>, users: Vec<UserMeans>, limits: Arc<Limits>) -> Option<Self> {
        let mut users = users.into_iter();
        Some(Self { settings, user: users.next()?, other_users: users.collect(), limits })
    }
}

/// [`Means`], ready for use.
pub(crate) struct Setup {
    pub(crate) settings: Arc<settings::Cluster>,
    /// The only user, or the first.
    pub(crate) account: Account,
    other_accounts: Vec<Account>,
    pub(crate) limits: Arc<Limits>,
    /// By servers that these settings lead to; others may let in whom they refused.
    pub(super) rejections: Arc<Rejections>,
    pub(super) logins: Arc<Semaphore>,
    /// For those with a password that a client brings, which may be wrong as often as it likes: half of the others.
    pub(super) logins_of_clients: Arc<Semaphore>,
    /// The endpoints, in the settings' order, unless they were listed anew.
    pub(super) ways: Mutex<Arc<[Arc<Way>]>>,
}

impl Setup {
    /// Without endpoints. What is the same as in `old` keeps what was learned with it.
    pub(super) fn new(means: Means, names: &Arc<Names>, old: Option<&Self>) -> Self {
        let Means { settings, user, other_users, limits } = means;
        let account = |user: &SqlUser, means: UserMeans| {
            let known = old.and_then(|old| old.accounts().find(|known| known.user.is_called(&user.name)));
            let same_secret = known.filter(|known| known.has_same_secret(user, &means));
            // Resumable TLS sessions live in the configuration: the same one while nothing is new.
            let has_same_tls =
                |known: &&Account| known.user.auth == user.auth && known.tls.identity == means.tls.identity;
            let is_same_ca = old.is_some_and(|old| old.settings.ca == settings.ca);
            let same_login = same_secret.filter(has_same_tls).filter(|_| is_same_ca);
            let access = same_secret.map(|known| Arc::clone(&known.access));
            let tls = same_login.map_or(means.tls, |known| known.tls.clone());
            let connector = Connector {
                cluster: settings.name.clone(),
                user: user.name.as_str().into(),
                names: Arc::clone(names),
                tls: Arc::clone(&tls.config).into(),
                limits: Arc::clone(&limits),
                trusts_system: settings.ca == settings::CaSource::System,
            };
            let access = access.unwrap_or_else(|| Access::new(means.credentials));
            Account {
                user: user.clone(),
                tls,
                access,
                connector,
                methods: Methods::of(user, known.map(|known| &known.methods)),
            }
        };
        let slots = limits.logins_max.get().min(Semaphore::MAX_PERMITS);
        let known = old.filter(|old| old.limits.logins_max == limits.logins_max);
        let (logins, of_clients) =
            known.map(|old| (Arc::clone(&old.logins), Arc::clone(&old.logins_of_clients))).unzip();
        let others = settings.other_users.iter().zip(other_users);
        Self {
            account: account(&settings.user, user),
            other_accounts: others.map(|(user, means)| account(user, means)).collect(),
            limits: Arc::clone(&limits),
            rejections: Arc::default(),
            logins: logins.unwrap_or_else(|| Arc::new(Semaphore::new(slots))),
            logins_of_clients: of_clients.unwrap_or_else(|| Arc::new(Semaphore::new(half(slots)))),
            ways: Mutex::new(Arc::new([])),
            settings,
        }
    }

    /// Every user, the first one first.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        std::iter::once(&self.account).chain(&self.other_accounts)
    }

    /// The user of this name, however it is spelled now; the first one where there is none any more.
    pub(crate) fn account_named(&self, name: &str) -> &Account {
        self.accounts().find(|account| account.user.is_called(name)).unwrap_or(&self.account)
    }

    /// The user that these parameters, as they go upstream, log in.
    pub(crate) fn account_of(&self, parameters: &StartupParameters) -> &Account {
        let name = parameters.get("user");
        self.accounts().find(|account| Some(account.user.name.as_bytes()) == name).unwrap_or(&self.account)
    }

    /// The endpoints.
    pub(crate) fn ways(&self) -> Arc<[Arc<Way>]> {
        Arc::clone(&lock(&self.ways))
    }

    /// Whether a user of the same place would show or trust other certificates with `means`.
    pub(crate) fn shows_others_than(&self, means: &[UserMeans]) -> bool {
        self.accounts().zip(means).any(|(account, means)| account.tls.identity != means.tls.identity)
    }

    /// Whether every user logs in with the same as in `old`.
    fn logs_in_as(&self, old: &Self) -> bool {
        let is_same = |(own, old): (&Account, &Account)| {
            own.user == old.user
                && Arc::ptr_eq(&own.access, &old.access)
                && Arc::ptr_eq(&own.tls.config, &old.tls.config)
        };
        self.accounts().count() == old.accounts().count() && self.accounts().zip(old.accounts()).all(is_same)
    }

    /// The same without endpoints: nobody finds any in it.
    fn stripped(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            account: self.account.clone(),
            other_accounts: self.other_accounts.clone(),
            limits: Arc::clone(&self.limits),
            rejections: Arc::clone(&self.rejections),
            logins: Arc::clone(&self.logins),
            logins_of_clients: Arc::clone(&self.logins_of_clients),
            ways: Mutex::new(Arc::new([])),
        }
    }
}

/// At least one.
pub(super) fn half(slots: usize) -> usize {
    (slots / 2).max(1)
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
        let endpoints = means.settings.endpoints.clone();
        let mut next = Setup::new(means, &self.names, Some(&old));
        let is_same_login = next.logs_in_as(&old);
        if is_same_login && old.settings == next.settings && old.limits == next.limits {
            return false;
        }
        if is_same_login && old.settings.endpoints == endpoints {
            next.rejections = Arc::clone(&old.rejections);
        }
        self.names.refresh_after(next.limits.dns_refresh);
        self.note_expiry(&next);
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
