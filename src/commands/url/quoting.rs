//! Text as a literal of what will read it: a POSIX shell, libpq, Python. Pure. What comes out shows no control
//! character, and nothing in it is anything but text to its reader.

use std::fmt::Write;

/// Whether each letter of it shows as itself, so that it may stand somewhere without any escape.
pub(crate) fn shows(text: &str) -> bool {
    text.chars().all(|letter| ['"', '\'', '\\'].contains(&letter) || letter.escape_debug().len() == 1)
}

/// One word of a POSIX shell, for text that [`shows`].
pub(crate) fn shell_word(text: &str) -> String {
    if is_bare(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Commands of a POSIX shell that set and export a variable. The value must be without NUL, which no variable
/// can hold.
pub(crate) fn shell_export(name: &str, value: &str) -> String {
    if shows(value) {
        return format!("export {name}={}", shell_word(value));
    }
    // A shell drops line ends from the end of what a command prints; the letter behind them is taken off again.
    format!("{name}=\"$(printf '{}.')\"; export {name}=\"${{{name}%.}}\"", printf_format(value))
}

/// What `printf` makes the text of.
fn printf_format(text: &str) -> String {
    let mut format = String::new();
    for letter in text.chars() {
        match letter {
            '%' => format.push_str("%%"),
            // A first dash would begin an option.
            '\'' | '\\' | '-' => octal(&mut format, letter),
            _ if shows(letter.encode_utf8(&mut [0; 4])) => format.push(letter),
            _ => octal(&mut format, letter),
        }
    }
    format
}

fn octal(format: &mut String, letter: char) {
    for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
        // Writing to a string does not fail.
        let _ = write!(format, "\\{byte:03o}");
    }
}

/// A value of libpq's `keyword=value` form, which has no escape for what does not show.
pub(crate) fn libpq_value(text: &str) -> String {
    if is_bare(text) { text.to_owned() } else { format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")) }
}

/// A string of Python.
pub(crate) fn python_string(text: &str) -> String {
    let mut literal = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => literal.extend(['\\', letter]),
            _ if shows(letter.encode_utf8(&mut [0; 4])) => literal.push(letter),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(literal, "\\U{:08x}", u32::from(letter));
            }
        }
    }
    literal.push('"');
    literal
}

/// Whether no reader takes anything in it for more than a letter.
fn is_bare(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["localhost", "26257", "/run/x", "::1", "a_b-c.d"] {
            assert_eq!((shell_word(text).as_str(), libpq_value(text).as_str()), (text, text));
        }
        assert_eq!(shell_export("PGUSER", "app"), "export PGUSER=app");
    }

    #[test]
    fn what_would_mean_something_is_quoted() {
        assert_eq!(shell_word("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(libpq_value("it's \\ a"), "'it\\'s \\\\ a'");
        assert_eq!(python_string("a\"\\\n\u{202e}ü"), "\"a\\\"\\\\\\U0000000a\\U0000202eü\"");
        assert_eq!((shell_word(""), libpq_value(""), python_string("")), ("''".into(), "''".into(), "\"\"".into()));
    }

    #[test]
    fn a_control_character_is_printed_for_the_shell_by_its_number() {
        let commands = shell_export("PGUSER", "-a'%\u{1b}\n");

        assert_eq!(commands, "PGUSER=\"$(printf '\\055a\\047%%\\033\\012.')\"; export PGUSER=\"${PGUSER%.}\"");
        assert!(shows(&commands));
    }
}
