//! What the server says in its own words, made fit to be shown.

use super::lenient::Object;
use crate::{diagnostics::printable, secret::Secret};
use serde_json::Value;

/// The message of an error's body, in one line and cut; the key, should it be repeated there, is masked.
pub(super) fn message(body: &[u8], key: Option<&Secret>) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let message = Object::of(&body)?.text("message")?;
    let key = key.and_then(|key| std::str::from_utf8(key.expose()).ok());
    let message = key.map_or(message.clone(), |key| message.replace(key, "***"));
    Some(shown(message.trim()))
}

/// One line of bounded length, whoever wrote it.
pub(super) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    printable(&cut)
}

/// More than any sentence of the API's.
const CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_cut_and_does_not_repeat_the_key() {
        let key = Secret::new(b"CCDB1_secret".to_vec());
        let said = |message: &str| {
            let body = serde_json::json!({"code": 7, "message": message, "details": []}).to_string();
            message_of(&body, &key)
        };

        assert_eq!(said("no").as_deref(), Some("no"));
        assert_eq!(said("bad key CCDB1_secret, sorry").as_deref(), Some("bad key ***, sorry"));
        assert_eq!(said("a\n\u{1b}[2Jb").as_deref(), Some("a\\n\\u{1b}[2Jb"));
        assert_eq!(said(&"ü".repeat(5000)).unwrap().chars().count(), CHARS_MAX + 1);
        for body in ["", "[]", "{}", "{\"message\":\"\"}", "{\"message\":{}}", "<html>"] {
            assert_eq!(message_of(body, &key), None, "{body}");
        }
    }

    fn message_of(body: &str, key: &Secret) -> Option<String> {
        message(body.as_bytes(), Some(key))
    }
}
