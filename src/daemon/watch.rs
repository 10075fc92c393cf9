//! Files that are looked at every few seconds: certificates, and the settings file where that is wanted. By
//! what a path leads to, so that renames and swapped symbolic links are seen. Secrets are not here: they are
//! looked at before each login.

use crate::{
    admin::{Admin, Demand, View},
    settings::{CaSource, LocalTls},
    stamp::Stamp,
};
use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::sleep};

type Stamps = HashMap<PathBuf, Option<Stamp>>;

/// Tells the daemon whenever a file is another one. Ends when nobody hears it.
pub(super) async fn files(admin: Arc<Admin>) {
    let mut known = look(&admin.view()).await;
    loop {
        sleep(LOOK_EVERY).await;
        let view = admin.view();
        let now = look(&view).await;
        let is_changed = |path: &PathBuf| known.get(path) != now.get(path);
        let settings_file = view.settings.file.as_ref();
        let settings = settings_file.is_some_and(|file| now.contains_key(file) && is_changed(file));
        let files = now.keys().any(is_changed);
        known = now;
        // What failed is tried until it succeeds: a file may lie where the stamps of those in use do not tell.
        let faults = admin.faults();
        let settings = settings || (view.settings.watch_settings && faults.settings.is_some());
        let files = files || faults.files.is_some();
        if (settings || files) && admin.demands.send(Demand::Changed { settings }).await.is_err() {
            return;
        }
    }
}

async fn look(view: &View) -> Stamps {
    let paths = paths(view);
    let stamps = move || paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
    spawn_blocking(stamps).await.unwrap_or_default()
}

fn stamp(path: &PathBuf) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|metadata| Stamp::now(&metadata))
}

fn paths(view: &View) -> Vec<PathBuf> {
    let settings = &view.settings;
    let mut paths: Vec<_> = settings.file.iter().filter(|_| settings.watch_settings).cloned().collect();
    for cluster in &settings.clusters {
        if let CaSource::File(path) = &cluster.ca {
            paths.push(path.clone());
        }
        let own = cluster.users().filter_map(|user| user.client_certificate.as_ref());
        paths.extend(own.flat_map(|files| [files.cert.clone(), files.key.clone()]));
    }
    for listener in &settings.listeners {
        if let LocalTls::Allow(files) | LocalTls::Require(files) = &listener.tls {
            paths.extend([files.cert.clone(), files.key.clone()]);
        }
    }
    paths
}

const LOOK_EVERY: Duration = Duration::from_secs(5);
