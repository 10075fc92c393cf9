//! How text looks on a terminal, and where there is none.

use rustix::termios::tcgetwinsize;
use std::io::IsTerminal;

/// How it is to look.
pub(super) struct Look {
    /// Of the terminal; without one nothing is cut.
    pub(super) width: Option<u16>,
    pub(super) with_colours: bool,
}

/// On what standard output is.
pub(super) fn of_stdout() -> Look {
    let is_terminal = std::io::stdout().is_terminal();
    let width = is_terminal.then(|| size().map_or(USUAL_WIDTH, |(width, _)| width));
    Look { width, with_colours: is_terminal && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty()) }
}

/// Columns and lines of the terminal that standard output is.
pub(super) fn size() -> Option<(u16, u16)> {
    let stdout = std::io::stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten()?;
    // A terminal that does not know says 0.
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// The text in lines that fit, broken at blanks where there are any; those after the first begin with `hang`.
/// Without a width it is as it was.
pub(super) fn wrapped(text: &str, hang: &str, width: Option<u16>) -> String {
    let Some(width) = width.map(usize::from) else { return text.to_owned() };
    let (mut lines, mut line, mut used) = (String::new(), String::new(), 0);
    let mut begin_anew = |line: &mut String| {
        lines += line.trim_end();
        lines.push('\n');
        hang.clone_into(line);
        hang.len()
    };
    for (place, word) in text.split(' ').enumerate() {
        let is_bare = line.trim().is_empty() || line == hang;
        if used + 1 + word.chars().count() > width && !is_bare {
            used = begin_anew(&mut line);
        } else if place > 0 {
            line.push(' ');
            used += 1;
        }
        // A word that is longer than a line is broken anywhere.
        for letter in word.chars() {
            if used >= width {
                used = begin_anew(&mut line);
            }
            line.push(letter);
            used += 1;
        }
    }
    lines + &line
}

/// JSON with an escape for whatever a terminal might take for more than text.
pub(super) fn ascii(json: &str) -> String {
    let escaped = |letter: char| match letter {
        // One that stands within a text is escaped already.
        ' '..='~' | '\n' => letter.to_string(),
        _ => letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    json.chars().map(escaped).collect()
}

/// Of a terminal that does not tell.
const USUAL_WIDTH: u16 = 80;
