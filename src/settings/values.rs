//! The rules for single values: what text, numbers, durations, paths and lists must look like. Pure,
//! but for the folders that paths count from; an error is the rule, in words, never the value.

use super::{
    Name,
    reader::Places,
    shown::{CONNECTION_STRING, is_connection_string, is_plain},
    source::Source,
    tree::{Node, Value},
};
use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

/// Text without a NUL, which no protocol field and no system call can carry.
pub(super) fn text(node: &Node) -> Result<&str, String> {
    match &node.value {
        Value::Text(text) | Value::Plain(text) if text.contains('\0') => Err("must not contain a NUL".to_owned()),
        Value::Text(text) | Value::Plain(text) => Ok(text),
        other => Err(format!("must be text, not {}", kind(other))),
    }
}

/// Text with something in it.
pub(super) fn nonempty(node: &Node, _: &Places<'_>) -> Result<String, String> {
    match text(node)? {
        "" => Err("must not be empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// A name of a cluster, endpoint or listener.
pub(super) fn name(node: &Node, _: &Places<'_>) -> Result<Name, String> {
    Name::new(text(node)?).ok_or_else(|| NAME_RULE.to_owned())
}

/// `true` or `false`; flags and variables say it in text.
pub(super) fn boolean(node: &Node, _: &Places<'_>) -> Result<bool, String> {
    match &node.value {
        Value::Boolean(yes) => Ok(*yes),
        Value::Plain(text) if text == "true" => Ok(true),
        Value::Plain(text) if text == "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A whole number from `least` to `most`.
pub(super) fn whole(node: &Node, least: usize, most: usize) -> Result<usize, String> {
    let number = match &node.value {
        Value::Integer(number) => usize::try_from(*number).ok(),
        Value::Plain(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

/// A port that can be dialled.
pub(super) fn port(node: &Node, _: &Places<'_>) -> Result<u16, String> {
    let port = whole(node, 1, usize::from(u16::MAX))?;
    u16::try_from(port).map_err(|error| error.to_string())
}

/// One of some words.
pub(super) fn choice<T: Copy>(node: &Node, words: &[(&str, T)]) -> Result<T, String> {
    word(text(node)?, words)
}

/// As [`choice`], of text that stood inside a value.
pub(super) fn word<T: Copy>(said: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == said).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        match words.as_slice() {
            [first @ .., last] if !first.is_empty() => {
                format!("must be {} or {last}", first.join(", "))
            }
            words => format!("must be {}", words.concat()),
        }
    })
}

/// Number and unit, within bounds.
pub(super) fn duration(node: &Node, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let said = match &node.value {
        Value::Integer(_) => return Err(format!("needs a unit: {}", examples(&bounds))),
        _ => text(node)?,
    };
    let digits = said.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = said.split_at(digits);
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| scale);
    let (Some(scale), Ok(number)) = (scale, number.parse::<u64>()) else {
        return Err(format!("must be a whole number and a unit: {}", examples(&bounds)));
    };
    let span = number.checked_mul(*scale).map(Duration::from_millis);
    span.filter(|span| bounds.contains(span)).ok_or_else(|| {
        let (least, most) = (duration_text(*bounds.start()), duration_text(*bounds.end()));
        format!("must be from {least} to {most}")
    })
}

/// Durations as they can be written; none that would be refused next for its length.
fn examples(bounds: &RangeInclusive<Duration>) -> String {
    let fitting = DURATION_EXAMPLES.iter().filter(|(_, span)| bounds.contains(span));
    let quoted: Vec<_> = fitting.map(|(text, _)| format!("\"{text}\"")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        fewer => fewer.concat(),
    }
}

/// As [`duration`], of text from elsewhere: a flag of a command, a request.
///
/// # Errors
/// The rule, in words, without the text.
pub fn duration_from_text(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    duration(&Node { value: Value::Plain(text.to_owned()), source: Source::CommandLine }, bounds)
}

/// As [`duration`], or `"off"`.
pub(super) fn duration_or_off(node: &Node) -> Result<Option<Duration>, String> {
    match &node.value {
        Value::Text(text) | Value::Plain(text) if text == "off" => Ok(None),
        _ => duration(node, DURATIONS).map(Some).map_err(|rule| format!("{rule}; or \"off\"")),
    }
}

/// A duration as a file would say it, in the largest unit that needs no fraction.
pub(super) fn duration_text(span: Duration) -> String {
    if span.is_zero() {
        return "0s".to_owned();
    }
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, scale): &&(&str, u64)| ms >= *scale && ms.is_multiple_of(*scale);
    let (unit, scale) = UNITS.iter().rev().find(fits).unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / scale)
}

/// A path; `~/` and `$HOME/` are expanded, a relative one counts from the file's folder, or from the
/// working folder where a flag or variable said it.
pub(super) fn path(node: &Node, places: &Places<'_>) -> Result<PathBuf, String> {
    path_of(text(node)?, &node.source, places)
}

/// As [`path`], of text that stood inside a value.
pub(super) fn path_of(said: &str, source: &Source, places: &Places<'_>) -> Result<PathBuf, String> {
    if said.is_empty() {
        return Err("must not be empty; name a file".to_owned());
    }
    if is_connection_string(said) {
        return Err(CONNECTION_STRING.to_owned());
    }
    let below_home = said.strip_prefix("~/").or_else(|| said.strip_prefix("$HOME/"));
    if let Some(below) = below_home {
        let home = places.home.ok_or("HOME is not set; write the path out in full")?;
        return Ok(home.join(below));
    }
    let base: &Path = match source {
        Source::File { .. } => &places.file_folder,
        _ => places.working_folder,
    };
    Ok(base.join(said))
}

/// A list of text; a flag or variable separates items by commas.
pub(super) fn list(node: &Node) -> Result<Vec<String>, String> {
    match &node.value {
        Value::Plain(text) if text.is_empty() => Ok(Vec::new()),
        Value::Plain(text) => Ok(text.split(',').map(|item| item.trim().to_owned()).collect()),
        Value::List(items) => items.iter().map(|item| text(item).map(str::to_owned)).collect::<Result<_, _>>(),
        Value::Text(text) if is_plain(text) => Err(format!("must be a list of text, like [{text:?}]")),
        other => Err(format!("must be a list of text, not {}", kind(other))),
    }
}

/// A value's type, for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) | Value::Plain(_) | Value::Secret(_) | Value::Pem(_) => "text",
        Value::Integer(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
        Value::Other(kind) => kind,
    }
}

/// The rule for names, in words.
pub(super) const NAME_RULE: &str = "must be 1 to 63 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"";
/// From the least that can be waited for to a year, which no clock overflows.
pub(super) const DURATIONS: RangeInclusive<Duration> = Duration::from_millis(1)..=YEAR;
/// The longest duration that anything takes.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const DURATION_EXAMPLES: [(&str, Duration); 4] = [
    ("500ms", Duration::from_millis(500)),
    ("10s", Duration::from_secs(10)),
    ("5min", Duration::from_secs(300)),
    ("2h", Duration::from_secs(7200)),
];
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: Value) -> Node {
        Node { value, source: Source::Default }
    }

    fn said(text: &str) -> Node {
        node(Value::Text(text.to_owned()))
    }

    fn places(home: Option<&Path>) -> Places<'_> {
        Places { home, working_folder: Path::new("/w"), file_folder: "/f".into() }
    }

    #[test]
    fn durations_have_a_unit() {
        let read = |text| duration(&said(text), DURATIONS);

        assert_eq!(read("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(read("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(read("5min"), Ok(Duration::from_secs(300)));
        assert_eq!(read("2h"), Ok(Duration::from_secs(7200)));
        let bad = ["", "10", "s", "-1s", "1.5s", "5m", "10 s", "0s", "99999999h", "1h30min"];
        for text in bad.into_iter().chain(["18446744073709551615h", "99999999999999999999s"]) {
            assert!(read(text).is_err(), "{text} was taken");
        }
        assert!(duration(&node(Value::Integer(10)), DURATIONS).unwrap_err().contains("unit"));
    }

    #[test]
    fn the_rule_for_durations_has_no_example_that_would_be_refused() {
        let rule = |seconds: RangeInclusive<u64>| {
            let bounds = Duration::from_secs(*seconds.start())..=Duration::from_secs(*seconds.end());
            duration_from_text("5", bounds).unwrap_err()
        };

        assert_eq!(rule(1..=24 * 3600), "must be a whole number and a unit: \"10s\", \"5min\" or \"2h\"");
        assert_eq!(rule(0..=1), "must be a whole number and a unit: \"500ms\"");
    }

    #[test]
    fn a_duration_is_printed_as_it_can_be_read() {
        for text in ["1ms", "1500ms", "10s", "90s", "5min", "2h", "36h"] {
            let read = duration(&said(text), DURATIONS).unwrap();

            assert_eq!(duration_text(read), text);
        }
    }

    #[test]
    fn numbers_and_booleans_of_a_variable_are_text_but_not_those_of_a_file() {
        assert_eq!(whole(&node(Value::Plain("7".into())), 1, 9), Ok(7));
        assert!(whole(&said("7"), 1, 9).is_err());
        assert!(whole(&node(Value::Plain("+7".into())), 1, 9).is_err());
        assert!(whole(&node(Value::Plain(String::new())), 0, 9).is_err());
        assert!(whole(&node(Value::Integer(10)), 1, 9).is_err());
        assert!(whole(&node(Value::Integer(-1)), 0, 9).is_err());
        assert_eq!(boolean(&node(Value::Plain("true".into())), &places(None)), Ok(true));
        assert!(boolean(&node(Value::Plain("yes".into())), &places(None)).is_err());
        assert!(boolean(&said("true"), &places(None)).is_err());
    }

    #[test]
    fn a_path_counts_from_the_file_that_names_it_or_from_the_working_folder() {
        let file = Source::File { path: "x".into(), line: None, column: None };
        let places = places(Some(Path::new("/h")));

        assert_eq!(path_of("ca.crt", &file, &places), Ok("/f/ca.crt".into()));
        assert_eq!(path_of("ca.crt", &Source::Flag("ca-file"), &places), Ok("/w/ca.crt".into()));
        assert_eq!(path_of("~/ca.crt", &file, &places), Ok("/h/ca.crt".into()));
        assert_eq!(path_of("$HOME/L/ca.crt", &file, &places), Ok("/h/L/ca.crt".into()));
        assert_eq!(path_of("/ca.crt", &file, &places), Ok("/ca.crt".into()));
        assert!(path_of("", &file, &places).is_err());
    }

    #[test]
    fn a_path_below_home_needs_a_home() {
        let rule = path_of("~/ca.crt", &Source::Default, &places(None)).unwrap_err();

        assert!(rule.contains("HOME is not set"), "{rule}");
    }

    #[test]
    fn text_with_a_nul_is_refused() {
        assert!(nonempty(&said("a\0b"), &places(None)).is_err());
        assert!(nonempty(&said(""), &places(None)).is_err());
    }
}
