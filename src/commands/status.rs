//! `status`: what a running daemon is doing, once or again and again.

mod screen;
mod view;
mod watch;

use super::{CommandError, block_on, daemon_of, look, say};
use crate::settings::Inputs;

/// Shows what the daemon is doing; with `watched` every second, until it is interrupted; with `json` as the
/// daemon writes it, one object a line.
///
/// # Errors
/// The daemon does not tell; with `watched` only if there is no address to ask.
pub fn status(inputs: &Inputs, watched: bool, json: bool) -> Result<u8, CommandError> {
    let daemon = daemon_of(inputs)?;
    if watched {
        return block_on(watch::watch(&daemon, json));
    }
    block_on(async {
        if json {
            let text = daemon.status_text().await?;
            say(&format!("{text}\n"))
        } else {
            let status = daemon.status().await?;
            say(&view::told(&status, None, &look::of_stdout()))
        }
    })?;
    Ok(0)
}
