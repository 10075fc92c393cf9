//! `config check`, `config show` and `config diff`.

use super::{CommandError, block_on, daemon_of, reload, say};
use crate::{
    control::{ControlError, Outcome},
    daemon::{self, Built},
    diagnostics,
    settings::{self, Inputs},
};

/// Reads settings and all files that they name, as a start would.
///
/// # Errors
/// Whatever would keep the daemon from starting.
pub fn check(inputs: &Inputs) -> Result<u8, CommandError> {
    let loaded = settings::load(inputs)?;
    diagnostics::start(loaded.settings.log_format, tracing::Level::WARN);
    let built = daemon::runtime(loaded.settings.threads)?.block_on(Built::read(loaded))?;
    for warning in &built.warnings {
        say(&format!("warning: {warning}\n"))?;
    }
    say("the settings are sound\n")?;
    Ok(0)
}

/// Prints the effective settings.
///
/// # Errors
/// They break a rule.
pub fn show(inputs: &Inputs, json: bool) -> Result<u8, CommandError> {
    let loaded = settings::load(inputs)?;
    say(&if json { settings::show_json(&loaded) } else { settings::show(&loaded) })?;
    Ok(0)
}

/// Prints what a reload of the running daemon would change. It reads its own files, with its own variables.
///
/// # Errors
/// It would refuse them, or does not answer.
pub fn diff(inputs: &Inputs) -> Result<u8, CommandError> {
    let daemon = daemon_of(inputs)?;
    let outcome = block_on(async { Ok(daemon.reload(true).await) })?;
    match outcome {
        Ok(Outcome::Refused { faults }) => Err(CommandError::Said(2, reload::refused(WOULD_REFUSE, &faults))),
        // Nothing was ordered.
        Err(ControlError::Refused(reason)) => Err(ControlError::Untold(reason).into()),
        Err(error) => Err(error.into()),
        Ok(outcome) => {
            say(&reload::told(outcome)?)?;
            Ok(0)
        }
    }
}

const WOULD_REFUSE: &str = "the daemon would refuse its settings and go on with those that it has:";
