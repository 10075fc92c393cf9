//! `shutdown`: has a running daemon stop gently, and waits for its end if that is wanted.

use super::{CommandError, block_on, daemon_of, say, whisper};
use crate::{control::Client, settings::Inputs};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Tells the daemon to stop, as SIGTERM does; with `until_gone` returns when it is.
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
        if until_gone {
            gone(&daemon, started_at.as_deref(), stopping.ends_within() + GRACE).await?;
            say("the daemon is gone\n")?;
        }
        Ok(0)
    })
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
        1 => "1 open session".to_owned(),
        open => format!("{open} open sessions"),
    }
}

const GRACE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);
