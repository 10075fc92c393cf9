//! A listener at its address, and what it serves with.

use super::files::ListenerFiles;
use crate::{
    admin::ListenerView,
    credentials::Credentials,
    listener::{Order, Place, Reach},
    session::Parts,
    settings::{Limits, ListenAddress, Listener, Name, SocketRights},
    shutdown::Stopper,
    tls::Identity,
    upstream::{Audience, Cluster},
};
use std::sync::Arc;
use tokio::sync::watch;

/// A listener at its address.
pub(super) struct Post {
    pub(super) address: ListenAddress,
    pub(super) rights: SocketRights,
    /// Where its sockets really are.
    pub(super) bound: Vec<Place>,
    /// Its sockets came from the service manager, whatever its address says.
    pub(super) is_inherited: bool,
    pub(super) orders: watch::Sender<Order>,
    pub(super) stopper: Arc<Stopper>,
    pub(super) parts: Arc<Parts>,
    pub(super) pool: Arc<Stopper>,
    pub(super) tls: Option<Identity>,
    pub(super) local_password: Option<Credentials>,
    pub(super) strict_secrets: bool,
}

/// What a listener is to serve with.
pub(super) struct Plan<'a> {
    pub(super) listener: &'a Arc<Listener>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) limits: &'a Arc<Limits>,
    pub(super) files: ListenerFiles,
    pub(super) strict_secrets: bool,
}

impl Plan<'_> {
    /// The certificate that it shows.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.files.tls.as_ref().map(|tls| tls.identity.clone())
    }

    /// The password that it asks for.
    pub(super) fn local_password(&self) -> Option<Credentials> {
        self.files.local_password.clone()
    }
}

impl Post {
    /// Its listener's name.
    pub(super) fn name(&self) -> &Name {
        &self.parts.listener.name
    }

    /// Whether it serves with all this already.
    pub(super) fn goes_by(&self, plan: &Plan<'_>) -> bool {
        self.parts.listener == *plan.listener
            && Arc::ptr_eq(&self.parts.setup, &plan.cluster.setup())
            && Arc::ptr_eq(&self.parts.limits, plan.limits)
            && self.tls == plan.identity()
            && self.strict_secrets == plan.strict_secrets
    }

    pub(super) fn view(&self) -> ListenerView {
        let addresses = self.bound.iter().map(|place| place.address.clone()).collect();
        ListenerView { parts: Arc::clone(&self.parts), addresses }
    }
}

/// For each listener the post that goes on for it, by its place: the one that has its name and address (one that
/// inherited its sockets keeps them, wherever settings would have it listen), or else one at its address that no
/// other listener has by name.
pub(super) fn assign(posts: &[Post], listeners: &[Arc<Listener>]) -> Vec<Option<usize>> {
    let is_own = |post: &Post, listener: &Listener| {
        *post.name() == listener.name && (post.is_inherited || post.address == listener.address)
    };
    let own = listeners.iter().map(|listener| posts.iter().position(|post| is_own(post, listener)));
    let mut places: Vec<_> = own.collect();
    for (index, listener) in listeners.iter().enumerate() {
        if places.get(index).is_some_and(Option::is_some) {
            continue;
        }
        let is_free = |place| !places.contains(&Some(place));
        let mut there = posts.iter().enumerate().filter(|(place, _)| is_free(*place));
        let found = there.find(|(_, post)| !post.is_inherited && post.address == listener.address);
        let found = found.map(|(place, _)| place);
        if let Some(place) = places.get_mut(index) {
            *place = found;
        }
    }
    places
}

/// Who may read what clients are told; the settings' address does not count where sockets were passed.
pub(super) fn audience(bound: &[Place]) -> Audience {
    if bound.iter().any(|place| place.reach == Reach::Remote) { Audience::Remote } else { Audience::Local }
}
