//! The first login, where `startup_requires_upstream` waits for one: tried until it succeeds, by a session's or
//! by one of our own.

use crate::{
    admin::{Admin, ListenerView, View},
    jitter,
    upstream::{Claim, Facts},
    wire::{StartupParameters, parameters::Injected},
};
use std::{sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt, time::sleep};
use tracing::{info, warn};

/// Returns once some upstream has been logged in, or at once where nobody waits for that.
pub(super) async fn wait(admin: Arc<Admin>) {
    let mut pause = PAUSE_MIN;
    loop {
        let view = admin.view();
        if !view.settings.startup_requires_upstream || has_logged_in(&view) {
            return;
        }
        for ListenerView { parts, .. } in &view.listeners {
            let setup = &parts.setup;
            let parameters = StartupParameters::default().for_upstream(&Injected {
                user: &setup.settings.user,
                database: &parts.listener.database,
                session_parameters: &parts.listener.session_parameters,
                jwt: setup.settings.auth == crate::settings::AuthKind::Jwt,
            });
            let claim = Claim { setup, parameters: &parameters, choice: &parts.choice };
            match parts.cluster.claim(&claim).await {
                Ok(mut upstream) => {
                    info!(cluster.name = %parts.cluster.name(), "the first upstream has been logged in");
                    // A goodbye that does not arrive changes nothing.
                    let _ = upstream.stream.write_all(crate::wire::messages::TERMINATE).await;
                    let _ = upstream.stream.shutdown().await;
                    return;
                }
                Err(error) => {
                    let source = setup.credentials().map(crate::credentials::Credentials::describe);
                    let facts = Facts {
                        cluster: parts.cluster.name(),
                        user: &setup.settings.user,
                        secret_source: source.as_deref(),
                    };
                    let cause = error.cause(&facts);
                    warn!(cluster.name = %parts.cluster.name(), cause, "not started yet: no upstream could be logged in");
                    admin.note_first_login(format!("cluster \"{}\": {cause}", parts.cluster.name()));
                }
            }
        }
        sleep(jitter::around(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn has_logged_in(view: &View) -> bool {
    view.clusters.iter().any(|cluster| cluster.has_logged_in())
}

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
