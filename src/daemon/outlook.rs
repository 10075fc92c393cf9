//! What new settings would mean for what is served now: whether they can be, what only a restart brings, and what
//! the operator should know besides. Changes nothing.

use super::{
    StartError,
    build::unfit,
    files::Built,
    post::{self, Post},
    serving::Serving,
};
use crate::{
    listener::{self, BindError, Holder, Place},
    settings::{Listener, Settings},
};
use std::sync::Arc;

impl Serving {
    /// Whether new settings could be served, sockets and all. Opens nothing that a client could reach.
    pub(super) fn rehearse(&self, built: &Built) -> Result<(), StartError> {
        self.check(built)?;
        let listeners = &built.settings.listeners;
        for (listener, place) in listeners.iter().zip(post::assign(&self.posts, listeners)) {
            if place.is_none() {
                listener::rehearse(listener.name.as_str(), &listener.address).map_err(|error| self.unbound(error))?;
            }
        }
        Ok(())
    }

    /// What new settings want of their files and of sockets that were passed is there.
    pub(super) fn check(&self, built: &Built) -> Result<(), StartError> {
        let settings = &built.settings;
        for (listener, place) in settings.listeners.iter().zip(post::assign(&self.posts, &settings.listeners)) {
            if !settings.clusters.iter().any(|cluster| cluster.name == listener.cluster) {
                return Err(StartError::Internal(format!("listener \"{}\" has no cluster", listener.name)));
            }
            let post = place.and_then(|place| self.posts.get(place)).filter(|post| post.is_inherited);
            for place in post.iter().flat_map(|post| &post.bound) {
                listener::check(listener, place).map_err(unfit)?;
            }
        }
        Ok(())
    }

    /// The keys whose values in `settings` count from the next start on only.
    pub(super) fn needs_restart(&self, settings: &Settings) -> Vec<String> {
        let values = restart_values(settings);
        let at_start = self.at_start.as_ref().unwrap_or(&values);
        let differs = RESTART_KEYS.iter().zip(&values).zip(at_start.iter()).filter(|((_, now), then)| now != then);
        let mut keys: Vec<_> = differs.map(|((key, _), _)| (*key).to_owned()).collect();
        for (listener, place) in settings.listeners.iter().zip(post::assign(&self.posts, &settings.listeners)) {
            let post = place.and_then(|place| self.posts.get(place));
            let Some(post) = post.filter(|post| !post.is_inherited) else { continue };
            let (then, now) = (&post.rights, &listener.rights);
            let differs = [
                ("mode", then.mode != now.mode),
                ("owner", then.owner != now.owner),
                ("group", then.group != now.group),
            ];
            let differing = differs.iter().filter(|(_, differs)| *differs);
            keys.extend(differing.map(|(key, _)| format!("listener \"{}\": {key}", listener.name)));
        }
        keys
    }

    /// Names who is in the way, if that is this daemon or its service manager: nobody finds them elsewhere.
    pub(super) fn unbound(&self, error: BindError) -> StartError {
        let is_in_the_way = |places: &[Place]| places.iter().any(|place| place.overlaps(&error.address));
        let ours = self.posts.iter().find(|post| is_in_the_way(&post.bound));
        let managers = self.given_up.iter().find(|(_, places)| is_in_the_way(places));
        let holder = match (ours, managers) {
            (Some(post), _) => Some(Holder::Ours(post.name().to_string())),
            (None, Some((name, _))) => Some(Holder::Manager(name.to_string())),
            (None, None) => None,
        };
        StartError::Bind(BindError { holder, ..error })
    }

    /// What the operator should know who wants these settings: what becomes of sessions, and of sockets that were
    /// passed to the daemon.
    pub(super) fn notes(&self, settings: &Settings) -> Vec<String> {
        let places = post::assign(&self.posts, &settings.listeners);
        let of_posts = self.posts.iter().enumerate().filter_map(|(place, post)| {
            let index = places.iter().position(|of| *of == Some(place));
            self.note(post, index.and_then(|index| settings.listeners.get(index)), settings)
        });
        let lost = |listener: &&Arc<Listener>| self.given_up.iter().any(|(name, _)| *name == listener.name);
        let has_come_back = settings.listeners.iter().filter(lost).map(|listener| {
            format!(
                "listener \"{}\": the sockets that the service manager had passed for it were closed when it was taken out; clients that connect there wait, and are served once crdb-proxy is restarted",
                listener.name
            )
        });
        of_posts.chain(has_come_back).collect()
    }

    fn note(&self, post: &Post, after: Option<&Arc<Listener>>, settings: &Settings) -> Option<String> {
        let (name, open) = (post.name(), self.sessions_of(post.name()));
        let goes_on = || settings.listeners.iter().any(|listener| listener.name == *name);
        match after {
            None if post.is_inherited => Some(format!(
                "listener \"{name}\" is taken out, and its sockets were passed by the service manager, which keeps them open: clients that connect there wait and are not served. Take them out of the socket unit too"
            )),
            None if open > 0 && !goes_on() => {
                Some(format!("listener \"{name}\" is taken out: sessions that end as in a drain: {open}"))
            }
            Some(after) if after.name != *name && open > 0 => Some(format!(
                "listener \"{name}\" becomes \"{}\" at the same address: sessions that live on: {open}",
                after.name
            )),
            Some(after) if post.is_inherited && after.address != post.parts.listener.address => Some(format!(
                "listener \"{name}\": its sockets were passed by the service manager, so that its \"address\" has no effect; change ListenStream= of the socket unit"
            )),
            _ => None,
        }
    }

    /// What the files of `built` say that those of now do not, one sentence each.
    pub(super) fn news(&self, built: &Built) -> Vec<String> {
        let clusters = built.clusters.iter().filter(|files| {
            let known = self.clusters.iter().find(|(known, _)| *known.name() == files.settings.name);
            known.is_some_and(|(known, _)| known.setup().shows_others_than(&files.users))
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
}

/// The values of [`RESTART_KEYS`].
pub(super) fn restart_values(settings: &Settings) -> [String; 3] {
    let Settings { admin, log_format, threads, .. } = settings;
    [format!("{admin:?}"), format!("{log_format:?}"), threads.to_string()]
}

/// What only a restart changes.
pub(super) const RESTART_KEYS: [&str; 3] = ["admin", "log_format", "threads"];
