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
    let daemon = daemon_of(inputs).map_err(with_advice)?;
    let outcome = block_on(async { Ok(daemon.reload(false).await?) }).map_err(with_advice)?;
    let moves = matches!(&outcome, Outcome::Reloaded(news) if news.needs_restart.iter().any(|key| key == "admin"));
    let mut text = told(outcome)?;
    if moves {
        let _ = writeln!(text, "until then commands find this daemon with --admin {}", daemon.address());
    }
    say(&text)?;
    Ok(0)
}

fn with_advice(error: CommandError) -> CommandError {
    match error {
        CommandError::Control(error) if matches!(error, ControlError::Off { .. }) || error.is_nobody_there() => {
            CommandError::Said(error.exit_code(), format!("{error}; {ADVICE}"))
        }
        error => error,
    }
}

/// What came of it, or would, one thing a line.
pub(super) fn told(outcome: Outcome) -> Result<String, CommandError> {
    let (News { changes, needs_restart, warnings }, is_dry) = match outcome {
        Outcome::Reloaded(news) => (news, false),
        Outcome::DryRun(news) => (news, true),
        Outcome::Refused { faults } => return Err(CommandError::Said(2, refused(REFUSES, &faults))),
    };
    // What counts from the next start on has not changed yet.
    let (waiting, changes): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| needs_restart.iter().any(|key| is_of(change, key)));
    let needs_restart = needs_restart.into_iter().map(|key| {
        let change = waiting.iter().find(|change| is_of(change, &key)).cloned();
        change.unwrap_or(key)
    });
    let needs_restart: Vec<_> = needs_restart.collect();
    let begin = match (is_dry, changes.is_empty(), needs_restart.is_empty()) {
        (true, true, true) => "nothing would change\n",
        (true, true, false) => "nothing would change without a restart\n",
        (true, false, _) => "",
        (false, true, _) => "reloaded; nothing has changed\n",
        (false, false, _) => "reloaded\n",
    };
    let (change, restart) =
        if is_dry { ("would change", "would need a restart") } else { ("changed", "needs a restart") };
    let mut text = begin.to_owned();
    for (title, lines) in [(change, changes), (restart, needs_restart), ("warning", warnings)] {
        for line in lines {
            let _ = writeln!(text, "{title}: {}", printable(&line));
        }
    }
    Ok(text)
}

/// Whether the daemon's sentence about a change is about this key.
fn is_of(change: &str, key: &str) -> bool {
    change.strip_prefix(key).is_some_and(|rest| rest.starts_with(": "))
}

/// All faults, below what the daemon does about them.
pub(super) fn refused(what: &str, faults: &[String]) -> String {
    format!("{what}\n{}", faults.join("\n"))
}

const ADVICE: &str = "a daemon without an admin address reads its settings again on SIGHUP";
const REFUSES: &str = "the daemon refuses its settings and goes on with those that it has:";

#[cfg(test)]
mod tests {
    use super::*;

    fn news(changes: &[&str], needs_restart: &[&str]) -> News {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        News { changes: texts(changes), needs_restart: texts(needs_restart), ..News::default() }
    }

    #[test]
    fn it_is_told_apart_whether_something_has_changed_or_would() {
        let told = |outcome| told(outcome).unwrap();

        assert_eq!(told(Outcome::Reloaded(news(&[], &[]))), "reloaded; nothing has changed\n");
        assert_eq!(told(Outcome::Reloaded(news(&["a", "b"], &[]))), "reloaded\nchanged: a\nchanged: b\n");
        assert_eq!(told(Outcome::DryRun(news(&[], &[]))), "nothing would change\n");
        assert_eq!(told(Outcome::DryRun(news(&["a"], &[]))), "would change: a\n");
    }

    #[test]
    fn what_needs_a_restart_is_not_told_as_changed() {
        let change = "threads: 0 becomes 3";
        let (mode, other) = ("listener \"a\": mode", "listener \"a\": mode: \"0600\" becomes \"0660\"");

        let reloaded = told(Outcome::Reloaded(news(&[change, "threads_x: 1 is new", other], &["threads", mode])));
        let dry = told(Outcome::DryRun(news(&[change], &["threads"])));
        let pending = told(Outcome::DryRun(news(&[], &["threads"])));

        let restart = format!("needs a restart: {change}\nneeds a restart: {other}\n");
        assert_eq!(reloaded.unwrap(), format!("reloaded\nchanged: threads_x: 1 is new\n{restart}"));
        let begin = "nothing would change without a restart\nwould need a restart: threads";
        assert_eq!(dry.unwrap(), format!("{begin}: 0 becomes 3\n"));
        assert_eq!(pending.unwrap(), format!("{begin}\n"));
    }

    #[test]
    fn nothing_that_the_daemon_says_reaches_the_terminal_as_it_is() {
        let text = told(Outcome::Reloaded(news(&["x\u{1b}[2J"], &["y\u{1b}[2J"]))).unwrap();

        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
