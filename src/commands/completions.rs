//! `completions SHELL`: what a shell needs to complete this program's command line.

use super::{CommandError, say};
use crate::cli;
use clap_complete::{Shell, generate};

/// Prints it. It stays true for this version of the program only.
///
/// # Errors
/// Nobody takes it.
pub fn completions(shell: Shell) -> Result<u8, CommandError> {
    let mut script = Vec::new();
    generate(shell, &mut cli::command(), cli::NAME, &mut script);
    let script = String::from_utf8_lossy(&script);
    say(&if shell == Shell::Bash { with_one_spelling(&script) } else { script.into_owned() })?;
    Ok(0)
}

/// The generator spells a program's name with a hyphen in two ways, so that nothing behind a command is
/// completed. See <https://github.com/clap-rs/clap/issues/6421>; once that is mended this changes nothing.
fn with_one_spelling(script: &str) -> String {
    script.replace("crdb__subcmd__proxy", "crdb__proxy")
}
