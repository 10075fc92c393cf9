//! Demands on the whole daemon: `POST /drain` and `POST /reload`. Owns how they are asked for and answered;
//! the daemon does what they say.

use super::{Admin, Answer, Peer, guard, json, text};
use crate::{control::Stopping, settings::Limits};
use hyper::{Request, StatusCode};
use serde::Serialize;
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub(crate) use crate::control::{News, Outcome};

/// What the daemon is asked to do.
pub(crate) enum Demand {
    /// Stop gently.
    Drain,
    /// Read settings and files again; with `dry_run` only say what that would change.
    Reload {
        dry_run: bool,
        /// Told how it went; nobody may be listening any more.
        done: oneshot::Sender<Outcome>,
    },
    /// Files have changed; the settings file too, or only others.
    Changed { settings: bool },
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Asked {
    Drain,
    Reload,
}

/// What a path asks for; `None` if it is not of these.
pub(super) fn asked(path: &str) -> Option<Asked> {
    match path {
        "/drain" => Some(Asked::Drain),
        "/reload" => Some(Asked::Reload),
        _ => None,
    }
}

/// Passes a demand on to the daemon if whoever sent it may make one.
pub(super) async fn pass_on<B>(admin: &Admin, asked: Asked, request: &Request<B>, peer: Peer) -> Answer {
    let settings = admin.view().settings.clone();
    if let Err(reason) = guard::check_post(request.headers(), peer, &settings).await {
        return text(StatusCode::FORBIDDEN, format!("{reason}\n"));
    }
    let query = request.uri().query().unwrap_or_default();
    match (asked, query) {
        (Asked::Drain, "") => drain(admin, &settings.limits).await,
        (Asked::Reload, "" | "dry_run=false") => reload(admin, false).await,
        (Asked::Reload, "dry_run=true") => reload(admin, true).await,
        (Asked::Drain, _) => text(StatusCode::BAD_REQUEST, "nothing stands behind the question mark here\n"),
        (Asked::Reload, _) => text(StatusCode::BAD_REQUEST, "behind the question mark stands dry_run=true only\n"),
    }
}

async fn drain(admin: &Admin, limits: &Limits) -> Answer {
    if admin.stop.phase().is_serving() {
        // A full queue holds a demand to drain, or one will fit in once the daemon has looked.
        let _ = admin.demands.send_timeout(Demand::Drain, PATIENCE).await;
    }
    let is_delaying = admin.stop.phase().is_serving() && !limits.drain_delay.is_zero();
    let ends_within = limits.drain_delay + limits.drain_limit;
    let stopping = Stopping {
        state: if is_delaying { "delaying" } else { "draining" }.to_owned(),
        ends_within_ms: u64::try_from(ends_within.as_millis()).ok(),
    };
    accepted(&stopping, StatusCode::ACCEPTED)
}

async fn reload(admin: &Admin, dry_run: bool) -> Answer {
    let (done, outcome) = oneshot::channel();
    let demanded = admin.demands.send_timeout(Demand::Reload { dry_run, done }, PATIENCE).await;
    if let Err(mpsc::error::SendTimeoutError::Timeout(_)) = demanded {
        return text(StatusCode::SERVICE_UNAVAILABLE, "other reloads are under way; try again in a moment\n");
    }
    match timeout(RELOAD_LIMIT, outcome).await {
        Ok(Ok(outcome @ Outcome::Reloaded(_))) => accepted(&outcome, StatusCode::ACCEPTED),
        Ok(Ok(outcome @ Outcome::DryRun(_))) => accepted(&outcome, StatusCode::OK),
        Ok(Ok(outcome @ Outcome::Refused { .. })) => accepted(&outcome, StatusCode::UNPROCESSABLE_ENTITY),
        Ok(Err(_)) => text(StatusCode::CONFLICT, "draining: nothing is read again any more\n"),
        Err(_elapsed) => {
            text(StatusCode::GATEWAY_TIMEOUT, "the files are not read within 30 s; is a file system hung?\n")
        }
    }
}

fn accepted(body: &impl Serialize, status: StatusCode) -> Answer {
    let mut answer = json(body);
    if answer.status() == StatusCode::OK {
        *answer.status_mut() = status;
    }
    answer
}

const PATIENCE: Duration = Duration::from_secs(1);
const RELOAD_LIMIT: Duration = Duration::from_secs(30);
