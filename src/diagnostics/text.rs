//! Log lines for people: time, level, message, `name=value` for each field. Whatever a peer put into a
//! value, it stays inside its line and does not reach the terminal as a control character.

use super::line::Line;
use std::{fmt::Write, io::IsTerminal};
use tracing::Level;

/// Whether standard error is a terminal whose user did not decline colours.
pub(super) fn takes_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// One line, with its line feed.
pub(super) fn write(line: &Line, with_colours: bool) -> String {
    let (dim, level, plain) = if with_colours { ("\u{1b}[2m", colour(line.level), "\u{1b}[0m") } else { ("", "", "") };
    let mut text = format!("{dim}{}{plain} {level}{:>5}{plain} ", line.timestamp, line.level.as_str());
    text += &printable(&line.message);
    for (name, value) in &line.fields {
        let value = value.as_str().map_or_else(|| value.to_string(), quoted_if_needed);
        let _ = write!(text, " {dim}{name}={plain}{value}");
    }
    text.push('\n');
    text
}

/// A line's text with control characters, and others that do not print, as escapes.
pub(crate) fn printable(text: &str) -> String {
    let escaped = |letter: char| match letter {
        '"' | '\'' | '\\' => letter.to_string(),
        _ => letter.escape_debug().to_string(),
    };
    text.chars().map(escaped).collect()
}

/// The value as it is where its end can be seen, else quoted and escaped.
fn quoted_if_needed(value: &str) -> String {
    let is_plain = |letter: char| !letter.is_whitespace() && letter != '=' && letter.escape_debug().len() == 1;
    if !value.is_empty() && value.chars().all(is_plain) { value.to_owned() } else { format!("{value:?}") }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::line::logged, *};

    #[test]
    fn a_value_is_bare_where_its_end_can_be_seen_whatever_its_type() {
        let line = logged(|| {
            let name = crate::settings::Name::new("prod").unwrap();
            tracing::info!(listener.name = "main", cluster.name = %name, count = 7, ok = true, "a message with blanks");
        });

        let text = write(&line, false);

        assert!(text.starts_with(&format!("{}  INFO a message with blanks ", line.timestamp)), "{text}");
        assert!(text.ends_with("blanks listener.name=main cluster.name=prod count=7 ok=true\n"), "{text}");
        let with_millis = "2026-01-31T09:00:00.000Z";
        assert_eq!(line.timestamp.len(), with_millis.len());
    }

    #[test]
    fn any_other_value_is_quoted_and_nothing_hostile_reaches_the_terminal() {
        let values = ["", "a b", "a\"b", "it's", "a=b", "a\\b", "x\u{1b}[2J", "a\nERROR b", "\u{202e}x", "\u{9b}31m"];
        for value in values {
            let line = logged(|| tracing::info!(as_text = value, as_display = %value, "{value}"));

            let text = write(&line, false);

            assert!(text.ends_with(&format!(" as_text={value:?} as_display={value:?}\n")), "{text}");
            let unprintable = |letter: char| letter.is_control() || letter == '\u{202e}';
            assert!(!text.trim_end_matches('\n').contains(unprintable), "{text:?}");
        }
        assert_eq!(quoted_if_needed("[::1]:5/größe"), "[::1]:5/größe");
    }

    #[test]
    fn colours_are_no_part_of_values() {
        let line = logged(|| tracing::warn!(a = "b", "text"));

        assert!(write(&line, true).ends_with("\u{1b}[33m WARN\u{1b}[0m text \u{1b}[2ma=\u{1b}[0mb\n"));
        assert!(!write(&line, false).contains('\u{1b}'));
    }
}
