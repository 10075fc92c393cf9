//! `wait`: until a daemon is there, started and ready.

use super::{CommandError, block_on, daemon_of, health::probe, say, whisper};
use crate::{
    control::{Client, ControlError},
    settings::{Inputs, duration_from_text},
};
use std::{ops::RangeInclusive, time::Duration};
use tokio::time::{Instant, sleep};

/// Exit code 0 once the daemon says that it has started and is ready. One that is not there yet is waited for.
///
/// # Errors
/// `limit`, a number and a unit, has passed; the last reason why not.
pub fn wait(inputs: &Inputs, limit: Option<&str>) -> Result<u8, CommandError> {
    let said = limit.unwrap_or(USUAL);
    let limit = duration_from_text(said, SPANS);
    let limit = limit.map_err(|rule| CommandError::Said(2, format!("flag --limit: {rule}")))?;
    let daemon = daemon_of(inputs)?;
    block_on(async {
        let end = Instant::now() + limit;
        let mut last = String::new();
        loop {
            let Err(reason) = started_and_ready(&daemon, end).await else { return Ok(()) };
            let reason = reason_of(&reason);
            if reason != last {
                whisper(&format!("waiting: {reason}"));
                last = reason;
            }
            if end.saturating_duration_since(Instant::now()) <= PAUSE {
                return Err(CommandError::Said(1, format!("waited {said} in vain: {last}")));
            }
            sleep(PAUSE).await;
        }
    })?;
    say("ready\n")?;
    Ok(0)
}

async fn started_and_ready(daemon: &Client, end: Instant) -> Result<(), CommandError> {
    for path in ["/startupz", "/readyz"] {
        let left = end.saturating_duration_since(Instant::now());
        probe(daemon, path, left.min(ANSWER_LIMIT)).await?;
    }
    Ok(())
}

/// Without the time that a single answer was given, which is what was left of the limit.
fn reason_of(error: &CommandError) -> String {
    match error {
        CommandError::Control(ControlError::Silent { address, .. }) => format!("{address} did not answer"),
        error => error.to_string(),
    }
}

const USUAL: &str = "30s";
const SPANS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
