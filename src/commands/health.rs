//! `health`: whether a daemon is ready, asked once, for health checks of containers.

use super::{CommandError, block_on, daemon_of, say};
use crate::{
    control::{Client, Question},
    settings::Inputs,
};
use hyper::StatusCode;
use std::time::Duration;

/// Exit code 0 if the daemon says that it is ready.
///
/// # Errors
/// It is not, or does not say so in three seconds.
pub fn health(inputs: &Inputs) -> Result<u8, CommandError> {
    let daemon = daemon_of(inputs)?;
    block_on(probe(&daemon, "/readyz", LIMIT))?;
    say("ready\n")?;
    Ok(0)
}

/// Asks one probe; an error says why the answer is no.
pub(super) async fn probe(daemon: &Client, path: &str, limit: Duration) -> Result<(), CommandError> {
    let answer = daemon.ask(&Question::get(path).within(limit)).await?;
    let what = if path == "/startupz" { "started" } else { "ready" };
    match answer.reason().filter(|_| answer.status == StatusCode::SERVICE_UNAVAILABLE) {
        Some(reason) => Err(CommandError::Said(1, format!("not {what}: {reason}"))),
        None if answer.status == StatusCode::OK && answer.body == YES.as_bytes() => Ok(()),
        None => Err(daemon.refusal(&answer).into()),
    }
}

/// All that a daemon of ours says then; another program's health check may well begin so.
const YES: &str = "ok\n";
/// Shorter than a health check's own limit usually is, so that the reason is told.
const LIMIT: Duration = Duration::from_secs(3);
