//! `completions SHELL`: what a shell needs to complete this program's command line.

use super::{CommandError, say_bytes};
use crate::cli;
use clap_complete::{Shell, generate};

/// Prints it. It stays true for this version of the program only.
///
/// # Errors
/// Nobody takes it.
pub fn completions(shell: Shell) -> Result<u8, CommandError> {
    let mut script = Vec::new();
    generate(shell, &mut cli::command(), cli::NAME, &mut script);
    say_bytes(&script)?;
    Ok(0)
}
