//! Everything that files tell: CAs, certificates, keys, secrets; read and checked before a socket opens.

use super::{StartError, looked_at::LookedAt, uid_rules};
use crate::{
    credentials::Credentials,
    diagnostics::{Chain, rfc3339},
    listener,
    settings::{self, ListenAddress, Loaded, LocalTls, SecretSource, Settings},
    tls::{self, Doubts, ServerTls},
    upstream::UserMeans,
};
use std::{collections::HashMap, sync::Arc, time::SystemTime};

/// Everything that files tell, read and checked; no socket is open yet.
pub struct Built {
    pub(super) loaded: Arc<Loaded>,
    pub(super) settings: Arc<Settings>,
    pub(super) clusters: Vec<ClusterFiles>,
    pub(super) listeners: HashMap<settings::Name, ListenerFiles>,
    /// What their owners were.
    pub(super) looked_at: LookedAt,
    /// What the operator should look at although it works.
    pub warnings: Vec<String>,
}

/// A file or another source that does not do what the settings want of it.
#[derive(Debug)]
pub struct FileFault {
    /// What it is for.
    pub place: String,
    /// What is wrong with it.
    pub fault: String,
}

pub(super) struct ClusterFiles {
    pub(super) settings: Arc<settings::Cluster>,
    /// Of each user, in the settings' order.
    pub(super) users: Vec<UserMeans>,
}

#[derive(Default)]
pub(super) struct ListenerFiles {
    pub(super) tls: Option<ServerTls>,
    pub(super) local_password: Option<Credentials>,
}

impl Built {
    /// Reads CAs, certificates, keys and secrets. All faults at once. Blocks on files, which at a start
    /// holds up nobody.
    pub async fn read(loaded: impl Into<Arc<Loaded>>) -> Result<Self, StartError> {
        let loaded = loaded.into();
        let settings = Arc::new(loaded.settings.clone());
        let mut faults = uid_rules::check(&settings);
        let mut warnings = loaded.warnings.clone();
        let mut clusters = Vec::new();
        let mut looked_at = LookedAt::of(&loaded);
        for cluster in &settings.clusters {
            let mut note = |fault| faults.push(FileFault { place: format!("cluster \"{}\"", cluster.name), fault });
            let mut users = Vec::new();
            for user in cluster.users() {
                let credentials = try_out(user.password.as_ref(), settings.strict_secrets, &mut note).await;
                looked_at.note_secret(user.password.as_ref(), credentials.as_ref());
                match tls::cluster_tls(&cluster.ca, user.client_certificate.as_ref(), SystemTime::now()) {
                    Ok(tls) => {
                        refuse(&tls.doubts, settings.strict_secrets, &mut note);
                        looked_at.note_ca(&cluster.ca, &tls.doubts);
                        user.client_certificate.iter().for_each(|files| looked_at.note_certificate(files, &tls.doubts));
                        let texts = tls.warnings.iter().map(|text| format!("cluster \"{}\": {text}", cluster.name));
                        // What is said of the CA is said once.
                        let texts: Vec<_> = texts.filter(|text| !warnings.contains(text)).collect();
                        warnings.extend(texts);
                        users.push(UserMeans { tls, credentials });
                    }
                    Err(error) => note(Chain(&error).to_string()),
                }
            }
            clusters.push(ClusterFiles { settings: Arc::clone(cluster), users });
        }
        let mut listeners = HashMap::new();
        for listener in &settings.listeners {
            let mut note = |fault| faults.push(FileFault { place: format!("listener \"{}\"", listener.name), fault });
            if let Err(error) = listener::accounts(&listener.rights) {
                note(error.to_string());
            }
            let local_password = try_out(listener.local_password.as_ref(), settings.strict_secrets, &mut note).await;
            looked_at.note_secret(listener.local_password.as_ref(), local_password.as_ref());
            let tls = match &listener.tls {
                LocalTls::Off => None,
                LocalTls::Allow(files) | LocalTls::Require(files) => {
                    let tls = tls::server_tls(files).map_err(|error| note(Chain(&error).to_string())).ok();
                    tls.iter().for_each(|tls| looked_at.note_certificate(files, &tls.doubts));
                    tls
                }
            };
            let end = tls.as_ref().and_then(|tls| tls.not_after).filter(|end| *end < SystemTime::now());
            if let Some(doubts) = tls.as_ref().map(|tls| &tls.doubts) {
                refuse(doubts, settings.strict_secrets, &mut note);
                warnings.extend(doubts.told().map(|doubt| format!("listener \"{}\": {doubt}", listener.name)));
            }
            warnings.extend(end.map(|end| {
                let end = rfc3339(end);
                format!(
                    "listener \"{}\": its certificate expired on {end}; clients that verify it go away",
                    listener.name
                )
            }));
            if let ListenAddress::Unix(path) = &listener.address {
                let fault = listener::folder_fault(path);
                warnings.extend(fault.map(|fault| format!("listener \"{}\": {fault}", listener.name)));
            }
            listeners.insert(listener.name.clone(), ListenerFiles { tls, local_password });
        }
        faults.dedup_by(|one, other| one.place == other.place && one.fault == other.fault);
        if !faults.is_empty() {
            return Err(StartError::Files(faults));
        }
        Ok(Self { loaded, settings, clusters, listeners, looked_at, warnings })
    }
}

/// Files that another user could change, where the operator wants none.
fn refuse(doubts: &Doubts, strict: bool, note: &mut impl FnMut(String)) {
    if let Some(error) = doubts.refused().filter(|_| strict) {
        note(error.to_string());
    }
}

/// The credentials of a source, if there is one; `note` is told when it gives nothing.
async fn try_out(source: Option<&SecretSource>, strict: bool, note: &mut impl FnMut(String)) -> Option<Credentials> {
    let credentials = Credentials::new(source?.clone(), strict);
    if let Err(error) = credentials.try_out().await {
        note(Chain(&error).to_string());
    }
    Some(credentials)
}
