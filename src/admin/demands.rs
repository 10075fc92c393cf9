//! Demands on the whole daemon: `POST /drain` and `POST /reload`. Owns how they are asked for and answered;
//! the daemon does what they say.

use super::{Admin, Answer, Peer, guard, json, text};
use crate::{
    control::{Stopped, Stopping},
    settings::Limits,
    shutdown::Phase,
};
use hyper::{Request, StatusCode};
use serde::Serialize;
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::info;

pub(crate) use crate::control::{News, Outcome};

/// What the daemon is asked to do.
pub(crate) enum Demand {
    /// Read settings and files again; with `dry_run` only say what that would change.
    Reload {
        dry_run: bool,
        /// Who asks, as far as that is known.
        uid: Option<u32>,
        /// Told how it went; nobody may be listening any more.
        done: oneshot::Sender<Outcome>,
    },
    /// Files have changed; the settings file too, or only others.
    Changed { settings: bool },
}

impl Demand {
    /// Whether somebody wants settings and files in use that may be new.
    pub(crate) fn is_reload(&self) -> bool {
        matches!(self, Self::Reload { dry_run: false, .. })
    }
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

/// Whether somebody wants to hear how the daemon ended.
pub(super) fn is_for_the_end<B>(request: &Request<B>) -> bool {
    asked(request.uri().path()) == Some(Asked::Drain) && request.uri().query() == Some(OF_THE_END)
}

/// Passes a demand on to the daemon if whoever sent it may make one.
pub(super) async fn pass_on<B>(admin: &Admin, asked: Asked, request: &Request<B>, peer: &Peer) -> Answer {
    let settings = admin.view().settings.clone();
    let uid = match guard::check_post(request, peer, (&settings, &admin.peer_uids)).await {
        Ok(uid) => uid,
        Err(reason) => return text(StatusCode::FORBIDDEN, format!("{reason}\n")),
    };
    let query = request.uri().query().unwrap_or_default();
    match (asked, query) {
        (Asked::Drain, "") => drain(admin, &settings.limits, uid),
        (Asked::Drain, OF_THE_END) => end(admin).await,
        (Asked::Reload, "" | "dry_run=false") => reload(admin, false, uid).await,
        (Asked::Reload, "dry_run=true") => reload(admin, true, uid).await,
        (Asked::Drain, _) => text(StatusCode::BAD_REQUEST, "behind the question mark stands end=true only\n"),
        (Asked::Reload, _) => text(StatusCode::BAD_REQUEST, "behind the question mark stands dry_run=true only\n"),
    }
}

fn drain(admin: &Admin, limits: &Limits, uid: Option<u32>) -> Answer {
    if admin.stop.phase() == Phase::Running {
        info!(peer.uid = uid, "asked to stop");
    }
    admin.drain_asked.notify_one();
    let is_delaying = admin.stop.phase().is_serving() && !limits.drain_delay.is_zero();
    let ends_within = limits.drain_delay.saturating_add(limits.drain_limit);
    let stopping = Stopping {
        state: if is_delaying { "delaying" } else { "draining" }.to_owned(),
        ends_within_ms: u64::try_from(ends_within.as_millis()).ok(),
    };
    accepted(&stopping, StatusCode::ACCEPTED)
}

/// Orders nothing: says how the daemon ended, once it has.
async fn end(admin: &Admin) -> Answer {
    let mut stop = admin.stop.clone();
    // An order to stop may be heard in a moment.
    if stop.phase() == Phase::Running && timeout(PATIENCE, stop.phase_changed()).await.is_err() {
        return text(StatusCode::CONFLICT, "not told to stop: there is no end to wait for\n");
    }
    let mut ended = admin.ended.subscribe();
    // The sender lives as long as `admin`.
    let stopped = ended.wait_for(Option::is_some).await.ok().and_then(|stopped| stopped.clone());
    json(&stopped)
}

impl Admin {
    /// Tells those who wait for it how the daemon ends, which is then for the caller to do: the answers are given a
    /// moment to leave.
    pub(crate) async fn tell_end(&self, exit_code: u8, sessions_cut: u64) {
        let stopped = Stopped { state: "stopped".to_owned(), exit_code, sessions_cut };
        self.ended.send_replace(Some(stopped));
        let _ = timeout(TELL_LIMIT, self.ended.closed()).await;
    }
}

async fn reload(admin: &Admin, dry_run: bool, uid: Option<u32>) -> Answer {
    let (done, outcome) = oneshot::channel();
    let demanded = admin.demands.send_timeout(Demand::Reload { dry_run, uid, done }, PATIENCE).await;
    if let Err(mpsc::error::SendTimeoutError::Timeout(_)) = demanded {
        return text(StatusCode::SERVICE_UNAVAILABLE, "other reloads are under way; try again in a moment\n");
    }
    match timeout(RELOAD_LIMIT, outcome).await {
        Ok(Ok(outcome @ Outcome::Reloaded(_))) => accepted(&outcome, StatusCode::ACCEPTED),
        Ok(Ok(outcome @ Outcome::DryRun(_))) => accepted(&outcome, StatusCode::OK),
        Ok(Ok(outcome @ Outcome::Refused { .. })) => accepted(&outcome, StatusCode::UNPROCESSABLE_ENTITY),
        Ok(Err(_)) => text(StatusCode::CONFLICT, "draining: nothing is read again any more\n"),
        Err(_elapsed) => text(
            StatusCode::GATEWAY_TIMEOUT,
            "nothing was read in time; does a file system hang? /status or the log tells more\n",
        ),
    }
}

fn accepted(body: &impl Serialize, status: StatusCode) -> Answer {
    let mut answer = json(body);
    if answer.status() == StatusCode::OK {
        *answer.status_mut() = status;
    }
    answer
}

const OF_THE_END: &str = "end=true";
/// Who does not take the answer in this time holds up no end.
const TELL_LIMIT: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(1);
/// More than reading may take, so that its own fault is told.
const RELOAD_LIMIT: Duration = Duration::from_secs(40);
