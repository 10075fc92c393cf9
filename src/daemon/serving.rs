//! What is served now: clusters, listeners and their sockets, and how all of it is exchanged for what new
//! settings say while sessions are open. First everything that can fail is done and changes nothing; the rest
//! cannot fail.

use super::{
    StartError,
    build::{Shared, limits_that_fit, unfit},
    files::{Built, ClusterFiles, ListenerFiles},
};
use crate::{
    admin::{ListenerView, View},
    listener::{self, Inherited, Order, Place, Reach, Socket},
    session::Parts,
    settings::{Limits, ListenAddress, Listener, Loaded, Name, Settings},
    shutdown::{Drain, Phase, Stopper, stop},
    tls::Identity,
    upstream::{Audience, Cluster, Means},
};
use std::{
    collections::HashMap,
    sync::Arc,
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
    limits: Option<Arc<Limits>>,
    clusters: Vec<(Arc<Cluster>, AbortHandle)>,
    posts: Vec<Post>,
    /// Of listeners and pools that were there before, and may have sessions still.
    leaving: Vec<Arc<Stopper>>,
    tasks: JoinSet<()>,
    /// Values at the start of those keys that only a restart changes.
    at_start: Option<[String; 3]>,
}

/// A listener at its address.
struct Post {
    address: ListenAddress,
    mode: u32,
    /// Where its sockets really are.
    bound: Vec<Place>,
    /// Its sockets came from the service manager, whatever its address says.
    is_inherited: bool,
    orders: watch::Sender<Order>,
    stopper: Arc<Stopper>,
    parts: Arc<Parts>,
    pool: Arc<Stopper>,
    tls: Option<Identity>,
    strict_secrets: bool,
}

/// New settings and files that were found good, and sockets for listeners that had none.
pub(super) struct Prepared {
    built: Built,
    limits: Limits,
    sockets: HashMap<Name, Vec<Socket>>,
}

impl Serving {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared,
            loaded: None,
            limits: None,
            clusters: Vec::new(),
            posts: Vec::new(),
            leaving: Vec::new(),
            tasks: JoinSet::new(),
            at_start: None,
        }
    }

    /// What it was loaded from.
    pub(super) fn loaded(&self) -> Option<&Arc<Loaded>> {
        self.loaded.as_ref()
    }

    /// Does all that can fail: binds the addresses that are new, unless sockets were `inherited` for them. Nothing
    /// is served differently yet, and an error or a drop leaves everything as it was.
    pub(super) fn prepare(&self, built: Built, inherited: &mut Inherited) -> Result<Prepared, StartError> {
        let settings = &built.settings;
        let mut sockets = HashMap::new();
        for listener in &settings.listeners {
            if !settings.clusters.iter().any(|cluster| cluster.name == listener.cluster) {
                return Err(StartError::Internal(format!("listener \"{}\" has no cluster", listener.name)));
            }
            if let Some(post) = self.posts.iter().find(|post| post.is_for(listener)) {
                post.bound
                    .iter()
                    .filter(|_| post.is_inherited)
                    .try_for_each(|place| listener::check(listener, place))
                    .map_err(unfit)?;
                continue;
            }
            let mut opened = inherited.take_for(listener, settings.listeners.len() == 1).map_err(unfit)?;
            if opened.is_empty() {
                let bound = listener::bind(listener.name.as_str(), &listener.address, listener.mode);
                opened = bound.map_err(StartError::Bind)?;
            }
            sockets.insert(listener.name.clone(), opened);
        }
        let limits = limits_that_fit(settings);
        Ok(Prepared { built, limits, sockets })
    }

    /// Goes over to what was prepared. Open sessions live on, but those of listeners that are gone end as in a
    /// drain. Needs a runtime.
    pub(super) fn commit(&mut self, prepared: Prepared) -> View {
        let Prepared { built, limits, mut sockets } = prepared;
        let Built { loaded, settings, clusters, mut listeners, .. } = built;
        let limits = match &self.limits {
            Some(known) if **known == limits => Arc::clone(known),
            _ => Arc::new(limits),
        };
        self.shared.go_by(&settings, &limits);
        self.limits = Some(Arc::clone(&limits));
        self.take_clusters(clusters, &limits, settings.ready_requires_upstream);

        let mut before = std::mem::take(&mut self.posts);
        for listener in &settings.listeners {
            let files = listeners.remove(&listener.name).unwrap_or_default();
            let place = before.iter().position(|post| post.is_for(listener));
            let found = place.map(|place| before.swap_remove(place));
            let Some((cluster, _)) = self.clusters.iter().find(|(cluster, _)| *cluster.name() == listener.cluster)
            else {
                continue;
            };
            let cluster = Arc::clone(cluster);
            let post = match found {
                Some(post) => self.man(post, listener, &cluster, &limits, files, settings.strict_secrets),
                None => {
                    let sockets = sockets.remove(&listener.name).unwrap_or_default();
                    self.open(sockets, listener, &cluster, &limits, files, settings.strict_secrets)
                }
            };
            self.posts.push(post);
        }
        for post in before {
            self.close(post, &settings.listeners, &limits);
        }
        self.at_start.get_or_insert_with(|| restart_values(&settings));
        let needs_restart = self.needs_restart(&settings);
        self.loaded = Some(loaded);
        View {
            settings,
            loaded_at: SystemTime::now(),
            clusters: self.clusters.iter().map(|(cluster, _)| Arc::clone(cluster)).collect(),
            listeners: self.posts.iter().map(Post::view).collect(),
            needs_restart,
        }
    }

    /// The keys whose values in `settings` count from the next start on only.
    pub(super) fn needs_restart(&self, settings: &Settings) -> Vec<String> {
        let values = restart_values(settings);
        let at_start = self.at_start.as_ref().unwrap_or(&values);
        let differs = RESTART_KEYS.iter().zip(&values).zip(at_start.iter()).filter(|((_, now), then)| now != then);
        let mut keys: Vec<_> = differs.map(|((key, _), _)| (*key).to_owned()).collect();
        let has_other_mode = |listener: &&Arc<Listener>| {
            self.posts.iter().any(|post| !post.is_inherited && post.is_for(listener) && post.mode != listener.mode)
        };
        let modes = settings.listeners.iter().filter(has_other_mode);
        keys.extend(modes.map(|listener| format!("listener \"{}\": mode", listener.name)));
        keys
    }

    /// What the files of `built` say that those of now do not, one sentence each.
    pub(super) fn news(&self, built: &Built) -> Vec<String> {
        let clusters = built.clusters.iter().filter(|files| {
            let known = self.clusters.iter().find(|(known, _)| *known.name() == files.settings.name);
            known.is_some_and(|(known, _)| known.setup().tls.identity != files.tls.identity)
        });
        let clusters = clusters.map(|files| format!("cluster \"{}\": other certificates", files.settings.name));
        let listeners = self.posts.iter().filter(|post| {
            let files = built.listeners.get(&post.parts.listener.name);
            let identity = files.and_then(|files| files.tls.as_ref()).map(|tls| &tls.identity);
            identity.is_some() && post.tls.is_some() && identity != post.tls.as_ref()
        });
        let listeners = listeners.map(|post| format!("listener \"{}\": another certificate", post.parts.listener.name));
        clusters.chain(listeners).collect()
    }

    /// Tells everybody how far stopping has come.
    pub(super) fn enter(&self, phase: Phase) {
        for stopper in self.posts.iter().flat_map(|post| [&post.stopper, &post.pool]).chain(&self.leaving) {
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
        self.leaving.retain(|stopper| stopper.is_heard());
    }

    fn take_clusters(&mut self, files: Vec<ClusterFiles>, limits: &Arc<Limits>, is_watched: bool) {
        let mut before = std::mem::take(&mut self.clusters);
        for ClusterFiles { settings, tls, credentials } in files {
            let means = Means { settings, tls, credentials, limits: Arc::clone(limits) };
            let known = before.iter().position(|(cluster, _)| *cluster.name() == means.settings.name);
            let (cluster, watching) = match known.map(|place| before.swap_remove(place)) {
                Some((cluster, watching)) => {
                    cluster.replace(means);
                    (cluster, watching)
                }
                None => {
                    let cluster = Arc::new(self.shared.cluster(means));
                    let watching = self.shared.watching().spawn(Arc::clone(&cluster).watch_endpoints());
                    (cluster, watching)
                }
            };
            cluster.watch_without_clients(is_watched);
            self.clusters.push((cluster, watching));
        }
        for (gone, watching) in before {
            watching.abort();
            // Its series say that it has none.
            gone.replace_endpoints(&[]);
        }
    }

    /// Serves a listener from sockets that are new.
    fn open(
        &mut self,
        sockets: Vec<Socket>,
        listener: &Arc<Listener>,
        cluster: &Arc<Cluster>,
        limits: &Arc<Limits>,
        files: ListenerFiles,
        strict_secrets: bool,
    ) -> Post {
        let tls = files.tls.as_ref().map(|tls| tls.identity.clone());
        let bound: Vec<_> = sockets.iter().map(Socket::place).collect();
        let is_inherited = sockets.iter().any(Socket::is_inherited);
        let (parts, pool) = self.parts(listener, cluster, limits, files, audience(&bound));
        let orders = watch::Sender::new(Order::Serve(Arc::clone(&parts)));
        let (stopper, told) = stop();
        for socket in sockets {
            listener::announce(listener.name.as_str(), &socket);
            self.tasks.spawn(listener::serve(socket, orders.subscribe(), told.clone()));
        }
        Post {
            address: listener.address.clone(),
            mode: listener.mode,
            bound,
            is_inherited,
            orders,
            stopper: Arc::new(stopper),
            parts,
            pool,
            tls,
            strict_secrets,
        }
    }

    /// Serves a listener from sockets that are there.
    fn man(
        &mut self,
        mut post: Post,
        listener: &Arc<Listener>,
        cluster: &Arc<Cluster>,
        limits: &Arc<Limits>,
        files: ListenerFiles,
        strict_secrets: bool,
    ) -> Post {
        let tls = files.tls.as_ref().map(|tls| tls.identity.clone());
        let is_same = post.parts.listener == *listener
            && Arc::ptr_eq(&post.parts.setup, &cluster.setup())
            && Arc::ptr_eq(&post.parts.limits, limits)
            && post.tls == tls
            && post.strict_secrets == strict_secrets;
        if is_same {
            return post;
        }
        post.pool.enter(Phase::Cutting);
        (post.parts, post.pool) = self.parts(listener, cluster, limits, files, audience(&post.bound));
        (post.tls, post.strict_secrets) = (tls, strict_secrets);
        // Nobody hears it where every socket has failed.
        post.orders.send_replace(Order::Serve(Arc::clone(&post.parts)));
        post
    }

    fn parts(
        &mut self,
        listener: &Arc<Listener>,
        cluster: &Arc<Cluster>,
        limits: &Arc<Limits>,
        files: ListenerFiles,
        audience: Audience,
    ) -> (Arc<Parts>, Arc<Stopper>) {
        let parts = Arc::new(self.shared.parts(listener, cluster, limits, files, audience));
        let (stopper, stop) = stop();
        self.tasks.spawn(Arc::clone(&parts.pool).keep(stop));
        (parts, Arc::new(stopper))
    }

    /// Takes no more clients at an address. Sessions of a listener that only moved live on; those of one that
    /// is gone end as in a drain.
    fn close(&mut self, post: Post, listeners: &[Arc<Listener>], limits: &Arc<Limits>) {
        let Post { orders, stopper, pool, parts, .. } = post;
        orders.send_replace(Order::Leave);
        pool.enter(Phase::Cutting);
        self.leaving.push(Arc::clone(&stopper));
        if listeners.iter().all(|listener| listener.name != parts.listener.name) {
            self.tasks.spawn(drain_alone(stopper, limits.idle_close, limits.drain_limit));
        }
    }
}

impl Post {
    /// Whether its sockets are those of a listener: one that inherited them keeps them, wherever settings would
    /// have it listen; any other goes where its address is.
    fn is_for(&self, listener: &Listener) -> bool {
        if self.is_inherited { self.parts.listener.name == listener.name } else { self.address == listener.address }
    }

    fn view(&self) -> ListenerView {
        let addresses = self.bound.iter().map(|place| place.address.clone()).collect();
        ListenerView { parts: Arc::clone(&self.parts), addresses }
    }
}

/// Who may read what clients are told; the settings' address does not count where sockets were passed.
fn audience(bound: &[Place]) -> Audience {
    if bound.iter().any(|place| place.reach == Reach::Remote) { Audience::Remote } else { Audience::Local }
}

async fn drain_alone(stopper: Arc<Stopper>, idle_close: Duration, drain_limit: Duration) {
    let now = Instant::now();
    stopper.enter(Phase::Draining(Drain { idle_close, hurry_from: now + drain_limit / 2 }));
    tokio::select! {
        () = stopper.unheard() => {}
        () = sleep_until(now + drain_limit) => stopper.enter(Phase::Cutting),
    }
}

/// The values of [`RESTART_KEYS`].
fn restart_values(settings: &Settings) -> [String; 3] {
    let Settings { admin, log_format, threads, .. } = settings;
    [format!("{admin:?}"), format!("{log_format:?}"), threads.to_string()]
}

/// What only a restart changes.
const RESTART_KEYS: [&str; 3] = ["admin", "log_format", "threads"];
