//! `reload`: has a running daemon read settings and certificates again.

use super::{CommandError, block_on, daemon_of, say};
use crate::{
    control::{ControlError, News, Outcome},
    diagnostics::printable,
    settings::Inputs,
};
use std::fmt::Write;

/// Waits until the daemon has read them, and prints what is new.
///
/// # Errors
/// It refused them and goes on as before, or does not answer.
pub fn reload(inputs: &Inputs) -> Result<u8, CommandError> {
    let outcome = match daemon_of(inputs) {
        Ok(daemon) => block_on(async { Ok(daemon.reload(false).await?) }),
        Err(error) => Err(error),
    };
    say(&told(outcome.map_err(with_advice)?)?)?;
    Ok(0)
}

fn with_advice(error: CommandError) -> CommandError {
    match error {
        CommandError::Control(error) if matches!(error, ControlError::Off) || error.is_nobody_there() => {
            CommandError::Said(error.exit_code(), format!("{error}; {ADVICE}"))
        }
        error => error,
    }
}

/// What came of it, or would, one thing a line.
pub(super) fn told(outcome: Outcome) -> Result<String, CommandError> {
    let (News { changes, needs_restart, warnings }, begin, change, restart) = match outcome {
        Outcome::Reloaded(news) => (news, "reloaded", "changed", "needs a restart"),
        Outcome::DryRun(news) => (news, "", "would change", "would need a restart"),
        Outcome::Refused { faults } => return Err(CommandError::Said(2, refused(&faults))),
    };
    let mut text = match (begin, changes.is_empty()) {
        ("", true) => "nothing would change\n".to_owned(),
        ("", false) => String::new(),
        (begin, true) => format!("{begin}; nothing has changed\n"),
        (begin, false) => format!("{begin}\n"),
    };
    for (title, lines) in [(change, changes), (restart, needs_restart), ("warning", warnings)] {
        for line in lines {
            let _ = writeln!(text, "{title}: {}", printable(&line));
        }
    }
    Ok(text)
}

fn refused(faults: &[String]) -> String {
    format!("the daemon refuses its settings and goes on with those that it has:\n{}", faults.join("\n"))
}

const ADVICE: &str = "a daemon without an admin address reads its settings again on SIGHUP";

#[cfg(test)]
mod tests {
    use super::*;

    fn news(changes: &[&str]) -> News {
        News { changes: changes.iter().map(|&change| change.to_owned()).collect(), ..News::default() }
    }

    #[test]
    fn it_is_told_apart_whether_something_has_changed_or_would() {
        let told = |outcome| told(outcome).unwrap();

        assert_eq!(told(Outcome::Reloaded(news(&[]))), "reloaded; nothing has changed\n");
        assert_eq!(told(Outcome::Reloaded(news(&["a", "b"]))), "reloaded\nchanged: a\nchanged: b\n");
        assert_eq!(told(Outcome::DryRun(news(&[]))), "nothing would change\n");
        assert_eq!(told(Outcome::DryRun(news(&["a"]))), "would change: a\n");
    }

    #[test]
    fn nothing_that_the_daemon_says_reaches_the_terminal_as_it_is() {
        let text = told(Outcome::Reloaded(news(&["x\u{1b}[2J"]))).unwrap();

        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
