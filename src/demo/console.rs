//! What can be typed while the demo runs. Owns the words and the answers; never ends the demo.

use super::region::{Region, State};
use std::{
    convert::Infallible,
    fmt::Write,
    io::{BufRead, Read},
    thread,
};
use tokio::sync::mpsc;

/// Lines that were typed.
pub type Lines = mpsc::Receiver<String>;

/// Reads standard input on a thread of its own, which is never waited for: a read from a terminal
/// cannot be cancelled, and must not keep the process from ending.
///
/// # Errors
/// When no thread can be started.
pub fn lines_of_stdin() -> std::io::Result<Lines> {
    let (sender, receiver) = mpsc::channel(1);
    let read = move || {
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        while let Ok(1..) = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            line.clear();
            if sender.blocking_send(text).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("demo-console".to_owned()).spawn(read)?;
    Ok(receiver)
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Nothing,
    Help,
    Status,
    /// The region, by its place.
    Turn(usize, State),
    /// A sentence about what was not understood.
    Unclear(String),
}

/// Does what is typed, for ever.
pub(super) async fn attend(regions: &[Region], mut lines: Lines, mut answer: impl FnMut(&str)) -> Infallible {
    let names: Vec<_> = regions.iter().map(|region| region.shared.name.as_str()).collect();
    while let Some(line) = lines.recv().await {
        let text = match parse(&line, &names) {
            Command::Nothing => continue,
            Command::Help => help(&names),
            Command::Status => status(regions),
            Command::Unclear(text) => text,
            Command::Turn(index, state) => match regions.get(index) {
                Some(region) => turn(region, state).await,
                None => continue,
            },
        };
        answer(&text);
    }
    std::future::pending().await
}

async fn turn(region: &Region, state: State) -> String {
    let name = &region.shared.name;
    match (region.turn(state).await, state) {
        (Ok(()), State::Up) => format!("{name} is up again."),
        (Ok(()), State::Down) => {
            format!("{name} is down: it refuses connections, and its sessions were reset.")
        }
        (Ok(()), State::Draining) => {
            format!("{name} drains: new sessions are turned away, idle ones are told to go. `up {name}` ends that.")
        }
        (Err(error), _) => {
            format!("{name} stays as it was: {error}. Try again, or restart the demo.")
        }
    }
}

fn parse(line: &str, regions: &[&str]) -> Command {
    let words: Vec<_> = line.split_whitespace().map(str::to_ascii_lowercase).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let state = match words.as_slice() {
        [] => return Command::Nothing,
        ["help" | "?"] => return Command::Help,
        ["status"] => return Command::Status,
        ["down", ..] => State::Down,
        ["up", ..] => State::Up,
        ["drain", ..] => State::Draining,
        ["quit" | "exit" | "stop"] => {
            return Command::Unclear("Ctrl-C ends the demo.".to_owned());
        }
        [first, ..] => {
            let shown: String = first.chars().filter(|char| !char.is_control()).take(40).collect();
            return Command::Unclear(format!("`{shown}` is no command here; `help` lists them."));
        }
    };
    let [verb, part] = words.as_slice() else {
        return Command::Unclear(format!("Which region? One of {}.", regions.join(", ")));
    };
    let matching: Vec<_> = (0..).zip(regions).filter(|(_, name)| name.contains(part)).collect();
    match matching.as_slice() {
        [(index, _)] => Command::Turn(*index, state),
        [] => Command::Unclear(format!("No region has that name; there are {}.", regions.join(", "))),
        several => {
            let names: Vec<_> = several.iter().map(|(_, name)| **name).collect();
            Command::Unclear(format!("Which one to {verb}: {}?", names.join(" or ")))
        }
    }
}

fn help(regions: &[&str]) -> String {
    format!(
        "down REGION   refuse connections and reset open sessions, as if the region were lost\n\
         up REGION     serve again\n\
         drain REGION  turn new sessions away and close idle ones, as before a node's restart\n\
         status        what each region does\n\
         Regions: {}. A part of the name will do. Ctrl-C ends the demo.",
        regions.join(", ")
    )
}

fn status(regions: &[Region]) -> String {
    let mut text = String::new();
    for region in regions {
        let state = match region.state() {
            State::Up => "up",
            State::Draining => "draining",
            State::Down => "down",
        };
        let shared = &region.shared;
        let (name, away) = (&shared.name, shared.round_trip.as_millis());
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{name:<18} {state:<9} {away:>3} ms away"); // A String takes all.
    }
    text
}

const LINE_BYTES_MAX: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const REGIONS: [&str; 3] = ["gcp-us-east1", "gcp-us-west2", "gcp-europe-west1"];

    #[test]
    fn a_part_of_a_name_will_do_when_only_one_region_has_it() {
        assert_eq!(parse("down east", &REGIONS), Command::Turn(0, State::Down));
        assert_eq!(parse("  UP West2 ", &REGIONS), Command::Turn(1, State::Up));
        assert_eq!(parse("drain europe", &REGIONS), Command::Turn(2, State::Draining));
    }

    #[test]
    fn whatever_is_not_clear_gets_a_sentence() {
        let cases = [
            ("down", "Which region? One of gcp-us-east1, gcp-us-west2, gcp-europe-west1."),
            ("down west", "Which one to down: gcp-us-west2 or gcp-europe-west1?"),
            ("up mars", "No region has that name; there are gcp-us-east1, gcp-us-west2, gcp-europe-west1."),
            ("down us east", "Which region? One of gcp-us-east1, gcp-us-west2, gcp-europe-west1."),
            ("select 1;", "`select` is no command here; `help` lists them."),
            ("\u{1b}[A", "`[a` is no command here; `help` lists them."),
        ];

        for (line, expected) in cases {
            assert_eq!(parse(line, &REGIONS), Command::Unclear(expected.to_owned()), "{line}");
        }
        assert_eq!(parse("", &REGIONS), Command::Nothing);
    }
}
