//! What is served now: clusters, listeners and their sockets, and how all of it is exchanged for what new
//! settings say while sessions are open. First everything that can fail is done and changes nothing; the rest
//! cannot fail.

use super::{
    StartError,
    build::{Shared, Trim, limits_that_fit, unfit},
    files::{Built, ClusterFiles, FileFault},
    looked_at::LookedAt,
    outlook::restart_values,
    post::{self, Plan, Post},
};
use crate::{
    admin::View,
    listener::{self, Inherited, Order, Place, Socket},
    session::Parts,
    settings::{Limits, Listener, Loaded, Name},
    shutdown::{Drain, Phase, Stopper, stop},
    upstream::{Audience, Cluster, Means},
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// Everything that is served. Dropping it cuts every session off.
pub(super) struct Serving {
    shared: Shared,
    loaded: Option<Arc<Loaded>>,
    looked_at: LookedAt,
    limits: Option<Arc<Limits>>,
    pub(super) clusters: Vec<(Arc<Cluster>, AbortHandle)>,
    pub(super) posts: Vec<Post>,
    /// Posts that were left, and may have sessions still.
    leaving: Vec<Leaving>,
    /// Sockets that were passed and are closed here: the service manager still has them.
    pub(super) given_up: Vec<(Name, Vec<Place>)>,
    /// What a drain waits for: sessions, pools and sockets.
    tasks: JoinSet<()>,
    /// What it does not wait for: looking at endpoints, reading secrets again.
    chores: JoinSet<()>,
    /// Values at the start of those keys that only a restart changes.
    pub(super) at_start: Option<[String; 3]>,
}

/// A post that takes no more clients.
struct Leaving {
    /// Its listener's, which may go on elsewhere.
    name: Name,
    stopper: Arc<Stopper>,
    is_drained: bool,
    /// What clients go by that are still on their way in.
    parts: Weak<Parts>,
}

/// New settings and files that were found good, and sockets for listeners that had none.
pub(super) struct Prepared {
    built: Built,
    limits: Limits,
    trim: Option<Trim>,
    sockets: HashMap<Name, Vec<Socket>>,
}

impl Serving {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared,
            loaded: None,
            looked_at: LookedAt::default(),
            limits: None,
            clusters: Vec::new(),
            posts: Vec::new(),
            leaving: Vec::new(),
            given_up: Vec::new(),
            tasks: JoinSet::new(),
            chores: JoinSet::new(),
            at_start: None,
        }
    }

    /// What it was loaded from.
    pub(super) fn loaded(&self) -> Option<&Arc<Loaded>> {
        self.loaded.as_ref()
    }

    /// What of it has come to belong to another user since what is served now was read.
    pub(super) fn taken_since(&self, built: &Built) -> Vec<FileFault> {
        built.looked_at.taken_since(&self.looked_at)
    }

    /// Does all that can fail: binds the addresses that are new. Nothing is served differently yet, and an error or
    /// a drop leaves everything as it was.
    pub(super) fn prepare(&self, built: Built) -> Result<Prepared, StartError> {
        self.prepare_with(built, &mut Inherited::default())
    }

    /// As [`Self::prepare`], but for listeners that `inherited` has sockets for.
    pub(super) fn prepare_with(&self, built: Built, inherited: &mut Inherited) -> Result<Prepared, StartError> {
        self.check(&built)?;
        let settings = &built.settings;
        let mut sockets = HashMap::new();
        for (listener, place) in settings.listeners.iter().zip(post::assign(&self.posts, &settings.listeners)) {
            if place.is_some() {
                continue;
            }
            let mut opened = inherited.take_for(listener, settings.listeners.len() == 1).map_err(unfit)?;
            if opened.is_empty() {
                let bound = listener::bind(listener.name.as_str(), &listener.address, &listener.rights);
                opened = bound.map_err(|error| self.unbound(error))?;
            }
            sockets.insert(listener.name.clone(), opened);
        }
        let (limits, trim) = limits_that_fit(settings);
        Ok(Prepared { built, limits, trim, sockets })
    }

    /// Goes over to what was prepared. Open sessions live on, but those of listeners that are gone end as in a
    /// drain. Needs a runtime.
    pub(super) fn commit(&mut self, prepared: Prepared) -> View {
        let Prepared { built, limits, trim, mut sockets } = prepared;
        let Built { loaded, settings, clusters, mut listeners, looked_at, .. } = built;
        let limits = match &self.limits {
            Some(known) if **known == limits => Arc::clone(known),
            _ => {
                trim.iter().for_each(Trim::warn);
                Arc::new(limits)
            }
        };
        self.shared.go_by(&settings, &limits);
        self.limits = Some(Arc::clone(&limits));
        self.take_clusters(clusters, &limits, settings.ready_requires_upstream);

        let places = post::assign(&self.posts, &settings.listeners);
        let mut before: Vec<_> = std::mem::take(&mut self.posts).into_iter().map(Some).collect();
        for (listener, place) in settings.listeners.iter().zip(places) {
            let Some(cluster) = self.cluster(&listener.cluster) else { continue };
            let plan = Plan {
                listener,
                cluster,
                limits: &limits,
                files: listeners.remove(&listener.name).unwrap_or_default(),
                strict_secrets: settings.strict_secrets,
            };
            let post = match place.and_then(|place| before.get_mut(place)?.take()) {
                Some(post) => self.man(post, plan),
                None => self.open(sockets.remove(&listener.name).unwrap_or_default(), plan),
            };
            self.posts.push(post);
        }
        before.into_iter().flatten().for_each(|post| self.close(post));
        self.drain_what_is_gone(&settings.listeners, &limits);
        self.overrule_what_left();
        self.at_start.get_or_insert_with(|| restart_values(&settings));
        let needs_restart = self.needs_restart(&settings);
        (self.loaded, self.looked_at) = (Some(loaded), looked_at);
        View {
            settings,
            loaded_at: SystemTime::now(),
            clusters: self.clusters.iter().map(|(cluster, _)| Arc::clone(cluster)).collect(),
            listeners: self.posts.iter().map(Post::view).collect(),
            needs_restart,
        }
    }

    /// Tells everybody how far stopping has come.
    pub(super) fn enter(&self, phase: Phase) {
        let leaving = self.leaving.iter().map(|leaving| &leaving.stopper);
        for stopper in self.posts.iter().flat_map(|post| [&post.stopper, &post.pool]).chain(leaving) {
            stopper.enter(phase);
        }
    }

    /// Waits until every session, pool and socket has ended. Cancel safe.
    pub(super) async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Forgets tasks that have ended.
    pub(super) fn tidy(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.chores.try_join_next().is_some() {}
        self.leaving.retain(|leaving| leaving.stopper.is_heard());
    }

    fn take_clusters(&mut self, files: Vec<ClusterFiles>, limits: &Arc<Limits>, is_watched: bool) {
        let mut before = std::mem::take(&mut self.clusters);
        for ClusterFiles { settings, users } in files {
            let Some(means) = Means::of(settings, users, Arc::clone(limits)) else { continue };
            let known = before.iter().position(|(cluster, _)| *cluster.name() == means.settings.name);
            let (cluster, watching) = match known.map(|place| before.swap_remove(place)) {
                Some((cluster, watching)) => {
                    cluster.replace(means);
                    (cluster, watching)
                }
                None => {
                    let cluster = Arc::new(self.shared.cluster(means));
                    let watching = self.chores.spawn(Arc::clone(&cluster).watch_endpoints());
                    (cluster, watching)
                }
            };
            cluster.watch_without_clients(is_watched);
            self.clusters.push((cluster, watching));
        }
        for (gone, watching) in before {
            watching.abort();
            gone.retire();
        }
    }

    fn cluster(&self, name: &Name) -> Option<Arc<Cluster>> {
        let found = self.clusters.iter().find(|(cluster, _)| cluster.name() == name);
        found.map(|(cluster, _)| Arc::clone(cluster))
    }

    /// Has every secret read again now, commands run again too. Logins meanwhile go by what is known.
    pub(super) fn read_secrets_again(&mut self) {
        let setups: Vec<_> = self.clusters.iter().map(|(cluster, _)| cluster.setup()).collect();
        let accounts = setups.iter().flat_map(|setup| setup.accounts());
        let secrets = accounts.filter_map(|account| account.credentials().cloned());
        let local = self.posts.iter().filter_map(|post| post.local_password.clone());
        for credentials in secrets.chain(local) {
            self.chores.spawn(async move {
                // What goes wrong is logged by those who own the secret, and the last good one stays.
                let _ = credentials.reread(credentials.generation()).await;
            });
        }
    }

    /// Serves a listener from sockets that are new.
    fn open(&mut self, sockets: Vec<Socket>, plan: Plan<'_>) -> Post {
        let Listener { address, rights, name, .. } = (**plan.listener).clone();
        let (tls, local_password, strict_secrets) = (plan.identity(), plan.local_password(), plan.strict_secrets);
        let bound: Vec<_> = sockets.iter().map(Socket::place).collect();
        let is_inherited = sockets.iter().any(Socket::is_inherited);
        let (parts, pool) = self.parts(plan, post::audience(&bound), None);
        let orders = watch::Sender::new(Order::Serve(Arc::clone(&parts)));
        let (stopper, told) = stop();
        let access = parts.listener.access.shown(parts.local_password.is_some());
        for socket in sockets {
            listener::announce(name.as_str(), &socket, Some(&access));
            self.tasks.spawn(listener::serve(socket, orders.subscribe(), told.clone()));
        }
        let stopper = Arc::new(stopper);
        Post { address, rights, bound, is_inherited, orders, stopper, parts, pool, tls, local_password, strict_secrets }
    }

    /// Serves a listener from sockets that are there.
    fn man(&mut self, mut post: Post, plan: Plan<'_>) -> Post {
        if post.goes_by(&plan) {
            return post;
        }
        post.pool.enter(Phase::Cutting);
        (post.tls, post.local_password, post.strict_secrets) =
            (plan.identity(), plan.local_password(), plan.strict_secrets);
        (post.parts, post.pool) = self.parts(plan, post::audience(&post.bound), Some(&post.parts));
        // Nobody hears it where every socket has failed.
        post.orders.send_replace(Order::Serve(Arc::clone(&post.parts)));
        post
    }

    fn parts(&mut self, plan: Plan<'_>, audience: Audience, before: Option<&Parts>) -> (Arc<Parts>, Arc<Stopper>) {
        let parts = Arc::new(self.shared.parts(plan, audience, before));
        let (stopper, stop) = stop();
        self.tasks.spawn(Arc::clone(&parts.pool).keep(stop));
        (parts, Arc::new(stopper))
    }

    /// Takes no more clients at an address.
    fn close(&mut self, post: Post) {
        let Post { orders, stopper, pool, parts, bound, is_inherited, .. } = post;
        orders.send_replace(Order::Leave);
        pool.enter(Phase::Cutting);
        let name = parts.listener.name.clone();
        if is_inherited {
            self.given_up.push((name.clone(), bound));
        }
        let parts = Arc::downgrade(&parts);
        self.leaving.push(Leaving { name, stopper, is_drained: false, parts });
    }

    /// Sessions of a listener that only moved live on; those of one that is gone end as in a drain.
    fn drain_what_is_gone(&mut self, listeners: &[Arc<Listener>], limits: &Limits) {
        let is_gone = |leaving: &&mut Leaving| listeners.iter().all(|listener| listener.name != leaving.name);
        for leaving in self.leaving.iter_mut().filter(|leaving| !leaving.is_drained).filter(is_gone) {
            leaving.is_drained = true;
            self.tasks.spawn(drain_alone(Arc::clone(&leaving.stopper), limits.idle_close, limits.drain_limit));
        }
    }

    /// Clients on their way in by an address that their listener has left go by its rules as well.
    fn overrule_what_left(&self) {
        for Leaving { name, parts, .. } in &self.leaving {
            let post = self.posts.iter().find(|post| post.name() == name);
            if let (Some(post), Some(parts)) = (post, parts.upgrade()) {
                post.parts.overrule(&parts);
            }
        }
    }

    /// How many sessions have come in by a listener's name and are open.
    pub(super) fn sessions_of(&self, listener: &Name) -> usize {
        let (open, _) = self.shared.sessions.list(usize::MAX);
        open.iter().filter(|live| live.listener == *listener).count()
    }
}

async fn drain_alone(stopper: Arc<Stopper>, idle_close: Duration, drain_limit: Duration) {
    let now = Instant::now();
    stopper.enter_without_listener(Drain { idle_close, hurry_from: now + drain_limit / 2 });
    tokio::select! {
        () = stopper.unheard() => {}
        () = sleep_until(now + drain_limit) => stopper.enter(Phase::Cutting),
    }
}
