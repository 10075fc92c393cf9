//! The first login, where `startup_requires_upstream` waits for one: tried until it succeeds, by a session's or
//! by one of our own.

use crate::{
    admin::{Admin, ListenerView, View},
    credentials::Credentials,
    jitter,
    session::Parts,
    settings::AuthKind,
    upstream::{Claim, Facts},
    wire::{StartupParameters, parameters::Injected},
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tracing::{info, warn};

/// What is said until the first try has failed.
pub(super) const NOT_YET: &str = "no upstream has been logged in yet";

/// Returns once some upstream has been logged in, or nobody waits for that any more: from then on the daemon has
/// started, whatever later settings say.
pub(super) async fn wait(admin: Arc<Admin>) {
    let mut pause = PAUSE_MIN;
    loop {
        let view = admin.view();
        if is_over(&view) || try_each(&admin, &view).await {
            return admin.note_first_login(None);
        }
        sleep(jitter::around(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn is_over(view: &View) -> bool {
    !view.settings.startup_requires_upstream || view.clusters.iter().any(|cluster| cluster.has_logged_in())
}

/// Whether one of the listeners could log an upstream in.
async fn try_each(admin: &Admin, view: &View) -> bool {
    for ListenerView { parts, .. } in &view.listeners {
        let name = parts.cluster.name();
        match try_one(parts).await {
            Ok(()) => {
                info!(cluster.name = %name, "the first upstream has been logged in");
                return true;
            }
            Err(cause) => {
                warn!(cluster.name = %name, cause, "not started yet: no upstream could be logged in");
                admin.note_first_login(Some(format!("cluster \"{name}\": {cause}")));
            }
        }
    }
    false
}

/// Logs in as a client that asks for nothing would, and leaves again.
async fn try_one(parts: &Parts) -> Result<(), String> {
    let setup = &parts.setup;
    let account = setup.account_named(&parts.listener.user.name);
    if account.user.asks_client {
        return Err(format!(
            "\"{}\" logs in with its clients' own passwords, so one of them must come first",
            account.user.name
        ));
    }
    let parameters = StartupParameters::default().for_upstream(&Injected {
        user: &account.user.name,
        database: &parts.listener.database,
        is_database_locked: false,
        session_parameters: &parts.listener.session_parameters,
        jwt: account.user.auth == AuthKind::Jwt,
    });
    let claim = Claim { setup, parameters: &parameters, choice: &parts.choice, of_client: None };
    match parts.cluster.claim(&claim).await {
        Ok(upstream) => {
            upstream.leave().await;
            Ok(())
        }
        Err(error) => {
            let source = account.credentials().map(Credentials::describe);
            let facts = Facts {
                cluster: parts.cluster.name(),
                user: &account.user.name,
                secret_source: source.as_deref(),
                has_own_table: account.user.has_own_table,
            };
            Err(error.cause(&facts))
        }
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
