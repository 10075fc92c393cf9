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
    listener::{self, BindError},
    settings::Settings,
};

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
            if post.is_some_and(|post| !post.is_inherited && post.mode != listener.mode) {
                keys.push(format!("listener \"{}\": mode", listener.name));
            }
        }
        keys
    }

    /// Names the listener of ours that is in the way, if one is: nobody finds it elsewhere.
    pub(super) fn unbound(&self, error: BindError) -> StartError {
        let is_in_the_way = |post: &&Post| post.bound.iter().any(|place| place.overlaps(&error.address));
        let holder = self.posts.iter().find(is_in_the_way).map(|post| post.name().to_string());
        StartError::Bind(BindError { holder, ..error })
    }

    /// What the operator should know who wants these settings: where the sockets that were passed to the daemon go.
    pub(super) fn notes(&self, settings: &Settings) -> Vec<String> {
        let places = post::assign(&self.posts, &settings.listeners);
        let passed = self.posts.iter().enumerate().filter(|(_, post)| post.is_inherited);
        let note = |(place, post): (usize, &Post)| {
            let name = post.name();
            let after = places.iter().position(|of| *of == Some(place)).and_then(|index| settings.listeners.get(index));
            match after {
                None => Some(format!(
                    "listener \"{name}\" is taken out, and its sockets were passed by the service manager, which keeps them open: clients that connect there wait and are not served. Take them out of the socket unit too"
                )),
                Some(after) if after.address != post.parts.listener.address => Some(format!(
                    "listener \"{name}\": its sockets were passed by the service manager, so that its \"address\" has no effect; change ListenStream= of the socket unit"
                )),
                Some(_) => None,
            }
        };
        passed.filter_map(note).collect()
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
}

/// The values of [`RESTART_KEYS`].
pub(super) fn restart_values(settings: &Settings) -> [String; 3] {
    let Settings { admin, log_format, threads, .. } = settings;
    [format!("{admin:?}"), format!("{log_format:?}"), threads.to_string()]
}

/// What only a restart changes.
const RESTART_KEYS: [&str; 3] = ["admin", "log_format", "threads"];
