//! What a fault may repeat of what somebody wrote. Owns that decision: people paste connection strings and
//! passwords into the wrong place, so only text that is short and plain is ever shown.

use super::tree::Value;

/// A scalar as it would stand in a file, or that it is not shown; `None` for what is no scalar.
pub(super) fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) | Value::Plain(text) if is_plain(text) => Some(format!("{text:?}")),
        Value::Text(_) | Value::Plain(_) => Some(NOT_SHOWN.to_owned()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::List(_) | Value::Table(_) | Value::Secret(_) | Value::Pem(_) | Value::Other(_) => None,
    }
}

/// A name or key, or that it is not shown. What the rule for names allows cannot hold a connection string.
pub(super) fn shown_name(name: &str) -> &str {
    if super::Name::new(name).is_some() || is_plain(name) { name } else { NOT_SHOWN }
}

/// Whether the text can hold no secret: few words of letters, numbers, and numbers with a unit.
pub(super) fn is_plain(text: &str) -> bool {
    let known = |letter: char| letter.is_ascii_alphanumeric() || " .,:/[]_-".contains(letter);
    let plain_word = |word: &str| {
        let unit = word.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let unit_max = if unit.len() == word.len() { WORD_MAX } else { UNIT_MAX };
        unit.len() <= unit_max && unit.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    text.len() <= PLAIN_MAX && text.chars().all(known) && words.all(plain_word) && !is_connection_string(text)
}

/// Whether this is, or begins as, a connection string: one with a scheme, `USER:PASSWORD@HOST`, or the
/// form with `password=`.
pub(super) fn is_connection_string(text: &str) -> bool {
    let text = text.strip_prefix("unix:").unwrap_or(text);
    if let Some((scheme, rest)) = text.split_once("://") {
        return scheme.contains("postgres") || rest.contains('@');
    }
    // A file's name may contain both signs, and is then written as a path.
    let is_path = text.starts_with(['/', '.', '~', '$']);
    let login = text.split_once('@').and_then(|(login, _)| login.split_once(':'));
    text.contains("password=") || (!is_path && login.is_some_and(|(_, password)| !password.is_empty()))
}

/// The rule that a misplaced connection string breaks, whatever the key.
pub(super) const CONNECTION_STRING: &str =
    "looks like a connection string; give it as the URL argument, or in CRDB_PROXY_URL";
const NOT_SHOWN: &str = "(not shown)";
const PLAIN_MAX: usize = 32;
const WORD_MAX: usize = 16;
/// `10min`; more letters behind digits are no unit.
const UNIT_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_addresses_are_plain_and_nothing_like_a_password_is() {
        for text in ["", "loud", "10s", "70000", "localhost:80000", "[::1]:5", "/tmp", "must-be-off", "10 min"] {
            assert!(is_plain(text), "{text} is hidden");
        }
        for text in ["hunter2", "aB3dE", "10secrets", "p@ss", "a=b", "é", "a\tb", "supercalifragilistic"] {
            assert!(!is_plain(text), "{text} is shown");
        }
    }

    #[test]
    fn connection_strings_are_known_by_their_shape() {
        for text in ["postgresql://h", "jdbc:postgresql://h/d", "x://a:b@h", "app:pw@h/d", "host=h password=x"] {
            assert!(is_connection_string(text), "{text}");
        }
        for text in ["tcp://10.0.0.1:5", "unix:@x", "unix:/run/a@1", "/run/a:b@c", "localhost:5", "vault@host", "a@b:c"]
        {
            assert!(!is_connection_string(text), "{text}");
        }
    }
}
