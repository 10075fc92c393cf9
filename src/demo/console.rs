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

/// A region as it can be typed.
#[derive(Clone, Copy, Debug)]
struct Named<'a> {
    /// As SQL shows it.
    name: &'a str,
    /// One word.
    short: &'a str,
}

/// Does what is typed, for ever.
pub(super) async fn attend(regions: &[Region], mut lines: Lines, mut answer: impl FnMut(&str)) -> Infallible {
    let names: Vec<_> = regions.iter().map(named).collect();
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
    answer(END);
    std::future::pending().await
}

fn named(region: &Region) -> Named<'_> {
    Named { name: &region.shared.name, short: region.shared.short }
}

async fn turn(region: &Region, state: State) -> String {
    let Named { name, short } = named(region);
    match (region.turn(state).await, state) {
        (Ok(()), State::Up) => {
            format!("{name} is up and takes new sessions; those that belong there return within a few seconds.")
        }
        (Ok(()), State::Down) => format!(
            "{name} is down: its sessions were cut off, and new ones try the next region. `up {short}` brings it back."
        ),
        (Ok(()), State::Draining) => format!(
            "{name} is draining, like a node about to restart: sessions may finish their transaction, then\n\
             they are closed. New ones are turned away here with SQLSTATE 57P01, which their clients do not see:\n\
             crdb-proxy tries here again, for about half a second, and then goes on to the next region.\n\
             `up {short}` ends that."
        ),
        (Err(error), _) => format!("{name} could not be changed: {error}. Try again, or restart the demo."),
    }
}

fn parse(line: &str, regions: &[Named<'_>]) -> Command {
    let line: String = line.to_ascii_lowercase().chars().filter(|char| !char.is_control()).collect();
    let words: Vec<_> = line.split_whitespace().collect();
    let state = match words.as_slice() {
        [] => return Command::Nothing,
        ["help" | "?", ..] => return Command::Help,
        ["status", ..] => return Command::Status,
        ["down", ..] => State::Down,
        ["up", ..] => State::Up,
        ["drain", ..] => State::Draining,
        ["quit" | "exit" | "stop" | "q" | "\\q", ..] => {
            return Command::Unclear("Press Ctrl-C to end the demo.".to_owned());
        }
        [first, ..] => {
            let first = shown(first);
            let text = format!("`{first}` is not a command here; `help` lists them. SQL goes into psql.");
            return Command::Unclear(text);
        }
    };
    match words.as_slice() {
        [verb, wanted] => match find(wanted, regions).as_slice() {
            [index] => Command::Turn(*index, state),
            [] => Command::Unclear(format!("There is no region `{}`. Try {}.", shown(wanted), listed(regions))),
            several => {
                let say = |region: &Named<'_>| format!("`{verb} {}` ({})", region.short, region.name);
                let choices = several.iter().filter_map(|index| regions.get(*index)).map(say);
                Command::Unclear(format!("More than one region fits `{}`. Type {}.", shown(wanted), either(choices)))
            }
        },
        [verb, wanted, more @ ..] => Command::Unclear(format!(
            "Nothing was done: `{verb}` takes one region ({}), and `{}` comes after `{}`.",
            either(regions.iter().map(|region| region.short.to_owned())),
            shown(&more.join(" ")),
            shown(wanted),
        )),
        _ => {
            let say = |region: &Named<'_>| format!("`{} {}`", words.concat(), region.short);
            Command::Unclear(format!("Which region? Type {}.", either(regions.iter().map(say))))
        }
    }
}

/// The regions that may be meant: the one of exactly that name, else all that have it in theirs.
fn find(wanted: &str, regions: &[Named<'_>]) -> Vec<usize> {
    let places = |fits: &dyn Fn(&Named<'_>) -> bool| -> Vec<usize> {
        (0..).zip(regions).filter(|(_, region)| fits(region)).map(|(index, _)| index).collect()
    };
    let exact = places(&|region| region.short == wanted || region.name == wanted);
    if exact.is_empty() { places(&|region| region.name.contains(wanted)) } else { exact }
}

fn listed(regions: &[Named<'_>]) -> String {
    let both = |region: &Named<'_>| format!("{} ({})", region.short, region.name);
    either(regions.iter().map(both))
}

/// `a`, `a or b`, `a, b or c`.
fn either(choices: impl Iterator<Item = String>) -> String {
    let mut choices: Vec<_> = choices.collect();
    let last = choices.pop().unwrap_or_default();
    if choices.is_empty() { last } else { format!("{} or {last}", choices.join(", ")) }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn help(regions: &[Named<'_>]) -> String {
    format!(
        "down REGION   lose the region: its sessions are cut off, and new ones go to the next region\n\
         up REGION     bring it back: new sessions return once it has been well for a few seconds\n\
         drain REGION  as a node does before its restart: sessions are closed between transactions, and\n\
         {:14}new ones go to the next region after a few tries, until `up REGION`\n\
         status        what each region does, and how far away it is\n\
         REGION is {}; any part of a name\n\
         that no other region has will do, too. Ctrl-C ends the demo.",
        "",
        listed(regions)
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
        let (Named { name, short }, away) = (named(region), region.shared.round_trip.as_millis());
        let separator = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{separator}{short:<8} {name:<18} {state:<9} {away:>3} ms away"); // A String takes all.
    }
    text
}

const LINE_BYTES_MAX: u64 = 1000;
/// Once nothing more can be typed.
const END: &str = "The console is closed; the demo goes on, and Ctrl-C ends it.";

#[cfg(test)]
mod tests {
    use super::*;

    const REGIONS: [Named<'_>; 3] = [
        Named { name: "gcp-us-east1", short: "east" },
        Named { name: "gcp-us-west2", short: "west" },
        Named { name: "gcp-europe-west1", short: "europe" },
    ];

    #[test]
    fn every_region_has_one_word_even_where_it_is_part_of_another_name() {
        assert_eq!(parse("down east", &REGIONS), Command::Turn(0, State::Down));
        assert_eq!(parse("down west", &REGIONS), Command::Turn(1, State::Down));
        assert_eq!(parse("drain europe", &REGIONS), Command::Turn(2, State::Draining));
    }

    #[test]
    fn a_part_of_a_name_will_do_when_only_one_region_has_it() {
        assert_eq!(parse("  UP West2 ", &REGIONS), Command::Turn(1, State::Up));
        assert_eq!(parse("up west1", &REGIONS), Command::Turn(2, State::Up));
        assert_eq!(parse("down gcp-us-east1", &REGIONS), Command::Turn(0, State::Down));
    }

    #[test]
    fn whatever_is_not_clear_gets_a_sentence() {
        let cases = [
            ("down", "Which region? Type `down east`, `down west` or `down europe`."),
            (
                "down us",
                "More than one region fits `us`. Type `down east` (gcp-us-east1) or `down west` (gcp-us-west2).",
            ),
            (
                "up mars",
                "There is no region `mars`. \
                 Try east (gcp-us-east1), west (gcp-us-west2) or europe (gcp-europe-west1).",
            ),
            (
                "down  east extra",
                "Nothing was done: `down` takes one region (east, west or europe), and `extra` comes after `east`.",
            ),
            ("select 1;", "`select` is not a command here; `help` lists them. SQL goes into psql."),
            ("\u{1b}[A", "`[a` is not a command here; `help` lists them. SQL goes into psql."),
            ("quit", "Press Ctrl-C to end the demo."),
        ];

        for (line, expected) in cases {
            assert_eq!(parse(line, &REGIONS), Command::Unclear(expected.to_owned()), "{line}");
        }
        assert_eq!(parse("", &REGIONS), Command::Nothing);
        assert_eq!(parse("status please", &REGIONS), Command::Status);
    }

    #[test]
    fn help_tells_the_one_word_names_and_what_a_drain_does() {
        let text = help(&REGIONS);

        assert!(text.contains("west (gcp-us-west2)"), "{text}");
        assert!(text.contains("after a few tries, until `up REGION`"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
