//! `shutdown`: has a running daemon stop gently, and waits for its end if that is wanted.

use super::{CommandError, block_on, daemon_of, note, say, whisper};
use crate::{
    control::{Client, Stopped},
    settings::Inputs,
};
use std::{pin::pin, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Tells the daemon to stop, as SIGTERM does; with `until_gone` returns when it is, with the daemon's own exit code as
/// far as that is known.
///
/// # Errors
/// It did not take the order, or is still there some seconds after its own limits.
pub fn shutdown(inputs: &Inputs, until_gone: bool) -> Result<u8, CommandError> {
    let daemon = daemon_of(inputs)?;
    block_on(async {
        // A service manager may start the next one at the same address at once.
        let started_at = if until_gone { daemon.status().await.ok() } else { None };
        let started_at = started_at.map(|status| status.started_at);
        let stopping = daemon.drain().await?;
        match stopping.state.as_str() {
            "delaying" => say("stopping soon: for a moment the daemon still takes new sessions\n")?,
            _ => say("draining: the daemon takes no new sessions, and ends each open one when it is idle\n")?,
        }
        if !until_gone {
            return Ok(0);
        }
        let ended = ended(&daemon, started_at.as_deref(), stopping.ends_within() + GRACE).await?;
        say("the daemon is gone\n")?;
        Ok(code_of(ended.as_ref()))
    })
}

/// Waits until it is gone; how it has ended, if it said so.
async fn ended(daemon: &Client, started_at: Option<&str>, limit: Duration) -> Result<Option<Stopped>, CommandError> {
    let mut gone = pin!(gone(daemon, started_at, limit));
    let mut told = pin!(told_end(daemon));
    tokio::select! {
        stopped = &mut told => {
            gone.await?;
            Ok(Some(stopped))
        }
        is_gone = &mut gone => {
            is_gone?;
            // Its last word may lie here unread.
            Ok(timeout(PAUSE, told).await.ok())
        }
    }
}

/// Waits until it says how it has ended. The answer may take longer than one connection is held open.
async fn told_end(daemon: &Client) -> Stopped {
    loop {
        if let Ok(stopped) = daemon.end().await {
            return stopped;
        }
        sleep(PAUSE).await;
    }
}

/// The daemon's own exit code, and what there is to say about it.
fn code_of(ended: Option<&Stopped>) -> u8 {
    match ended {
        Some(Stopped { exit_code: 0, .. }) => 0,
        Some(Stopped { exit_code: 4, sessions_cut, .. }) => {
            note(&format!("{} cut off at drain_limit", counted(*sessions_cut, "session was", "sessions were")));
            4
        }
        Some(Stopped { exit_code: 5, .. }) => {
            note("a second signal has ended it at once; sessions that were open then are cut off");
            5
        }
        _ => {
            note("it did not say how it ended: whether sessions were cut off, its log and its exit code tell");
            0
        }
    }
}

/// Waits until nobody is there, or another daemon.
async fn gone(daemon: &Client, started_at: Option<&str>, limit: Duration) -> Result<(), CommandError> {
    let end = Instant::now() + limit;
    let mut open = None;
    loop {
        match daemon.status().await {
            Ok(status) if started_at.is_some_and(|known| known != status.started_at) => return Ok(()),
            Ok(status) if open != Some(status.open_sessions()) => {
                open = Some(status.open_sessions());
                whisper(&told(status.open_sessions()));
            }
            Err(error) if error.is_nobody_there() => return Ok(()),
            // It is still there, or about to go.
            Ok(_) | Err(_) => {}
        }
        if Instant::now() >= end {
            let open = open.map_or(String::new(), |open| format!(", with {}", told(open)));
            let text = format!(
                "the daemon at {} is still there after {} s{open}; a second signal ends it at once",
                daemon.address(),
                limit.as_secs()
            );
            return Err(CommandError::Said(1, text));
        }
        sleep(PAUSE).await;
    }
}

fn told(open: u64) -> String {
    match open {
        0 => "no open session".to_owned(),
        open => counted(open, "open session", "open sessions"),
    }
}

fn counted(count: u64, one: &str, several: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {several}"),
    }
}

const GRACE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);
