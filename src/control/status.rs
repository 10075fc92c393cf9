//! `/status` as a client reads it. What it does not know it passes over, and what is missing it does without,
//! so that daemon and command may be of different versions.

use super::{Answer, Client, ControlError, Question};
use hyper::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use std::{
    fmt::{self, Write},
    marker::PhantomData,
};

/// What a daemon is doing.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Status {
    /// Tells this daemon from the next one at the same address.
    pub started_at: String,
    pub state: String,
    /// By the daemon's clock, which need not be this machine's.
    #[serde(default)]
    pub now: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub ready: bool,
    #[serde(default)]
    pub reasons: Vec<String>,
    #[serde(default)]
    pub config: Config,
    #[serde(deserialize_with = "bounded::<LISTENERS_MAX, _, _>")]
    pub listeners: Vec<Listening>,
    #[serde(default, deserialize_with = "bounded::<ITEMS_MAX, _, _>")]
    pub clusters: Vec<Cluster>,
    #[serde(default, deserialize_with = "bounded::<ITEMS_MAX, _, _>")]
    pub sessions: Vec<Session>,
    #[serde(default)]
    pub sessions_left_out: u64,
    #[serde(default, deserialize_with = "bounded::<ITEMS_MAX, _, _>")]
    pub refusals: Vec<Refusal>,
}

/// `config` of `/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Config {
    pub file: Option<String>,
    pub last_error: Option<String>,
    pub needs_restart: Vec<String>,
}

/// One of `listeners`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Listening {
    pub name: String,
    pub addresses: Vec<String>,
    pub cluster: String,
    /// Absent from a daemon that is older, and where clients choose it.
    pub user: Option<String>,
    pub user_mode: Option<String>,
    pub asks_for: Option<String>,
    pub database: String,
    pub tls: String,
    pub sessions: u64,
    pub sessions_max: u64,
    pub endpoint: Option<String>,
    pub why: Option<String>,
    pub accepted: u64,
    pub refused: u64,
    pub statements: u64,
    pub errors: u64,
    pub bytes_to_upstream: u64,
    pub bytes_to_client: u64,
}

/// One of `clusters`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Cluster {
    pub name: String,
    pub user: String,
    pub secret: Option<Secret>,
    #[serde(deserialize_with = "bounded::<ITEMS_MAX, _, _>")]
    pub users: Vec<User>,
    #[serde(deserialize_with = "bounded::<ITEMS_MAX, _, _>")]
    pub endpoints: Vec<Endpoint>,
}

/// One of a cluster's `users`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct User {
    pub name: String,
    pub secret: Option<Secret>,
}

/// `secret` of a user, or of a cluster's first one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Secret {
    pub read_at: Option<String>,
    pub error: Option<String>,
}

/// One of a cluster's `endpoints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Endpoint {
    pub name: String,
    pub host: String,
    pub state: String,
    pub reason: Option<String>,
    pub tried_at: Option<String>,
    pub latency_ms: Option<f64>,
    pub sessions: u64,
    pub warm: u64,
    pub by_hand: Option<ByHand>,
}

/// `by_hand` of an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct ByHand {
    pub order: String,
    pub until: String,
}

/// One of `sessions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Session {
    pub id: u64,
    pub listener: String,
    pub client: String,
    pub endpoint: Option<String>,
    pub database: Option<String>,
    pub application_name: Option<String>,
    pub state: String,
    pub statements: u64,
}

/// One of `refusals`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Refusal {
    pub at: String,
    pub listener: String,
    pub sqlstate: String,
    pub message: String,
    pub hint: Option<String>,
    pub count: u64,
}

impl Status {
    /// Open sessions of all listeners.
    pub fn open_sessions(&self) -> u64 {
        self.listeners.iter().fold(0, |sum, listener| sum.saturating_add(listener.sessions))
    }
}

impl Client {
    /// What the daemon is doing.
    ///
    /// # Errors
    /// It does not tell.
    pub async fn status(&self) -> Result<Status, ControlError> {
        let answer = self.ask_for_status().await?;
        serde_json::from_slice(&answer.body).ok().ok_or_else(|| self.refusal(&answer))
    }

    /// The same as the daemon writes it, a JSON object in one line. Whoever answers there: what a terminal
    /// would not print stands in it as escapes.
    ///
    /// # Errors
    /// It does not tell.
    pub async fn status_text(&self) -> Result<String, ControlError> {
        let answer = self.ask_for_status().await?;
        printable_json(&answer.body).ok_or_else(|| ControlError::NoJson { address: self.address().to_owned() })
    }

    async fn ask_for_status(&self) -> Result<Answer, ControlError> {
        let answer = self.ask(&Question::get("/status").of_bytes(STATUS_BYTES_MAX)).await?;
        match (answer.status, answer.reason()) {
            (StatusCode::OK, _) if answer.body.starts_with(b"{") => Ok(answer),
            (_, Some(reason)) => Err(ControlError::Untold(reason.to_owned())),
            _ => Err(self.refusal(&answer)),
        }
    }
}

/// The same value, in one line of letters that print; `None` if the text is no JSON.
///
/// Numbers, order and names stay as they were written, as they would not if the value were built and written
/// anew. It suffices to go by letters: in JSON one that does not print is either between the values, where
/// it is a blank, or in a string, where its escape means the same.
fn printable_json(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => printable.push(' '),
            '"' | '\'' | '\\' => printable.push(letter),
            _ if letter.escape_debug().len() == 1 => printable.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(printable, "\\u{unit:04x}");
                }
            }
        }
    }
    Some(printable)
}

/// A list of no more items than any daemon tells of: few bytes of a stranger's could fill much memory.
fn bounded<'de, const MOST: usize, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Items<const MOST: usize, T>(PhantomData<T>);
    impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for Items<MOST, T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST}")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = from.next_element()? {
                if items.len() >= MOST {
                    return Err(de::Error::invalid_length(items.len() + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    from.deserialize_seq(Items::<MOST, T>(PhantomData))
}

/// As many as there are sessions in a status, at most. Of clusters, and of endpoints in each, nobody has as many.
const ITEMS_MAX: usize = 1000;
/// Somebody may have one for each of many services.
const LISTENERS_MAX: usize = 10_000;

/// A thousand sessions with the longest names that a startup message can carry.
const STATUS_BYTES_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_another_version_is_read_as_far_as_it_goes() {
        let text =
            "{\"started_at\":\"then\",\"state\":\"running\",\"new\":{},\"listeners\":[{\"name\":\"a\",\"more\":1}]}";

        let status: Status = serde_json::from_str(text).unwrap();

        assert_eq!((status.listeners[0].name.as_str(), status.open_sessions()), ("a", 0));
        assert!(serde_json::from_str::<Status>("{}").is_err(), "which is no daemon's");

        let many =
            format!("{{\"started_at\":\"\",\"state\":\"\",\"listeners\":[{}{{}}]}}", "{},".repeat(LISTENERS_MAX));
        let error = serde_json::from_str::<Status>(&many).unwrap_err().to_string();
        assert!(error.contains("a list of at most 10000"), "{error}");
    }

    #[test]
    fn json_stays_as_it_was_but_for_what_does_not_print() {
        let said = "{\"b\": 1.50,\r\n\t\"a\":\"it's \\\"größe\\\" \\u001b\u{9b}31m\u{7f}\u{202e}\u{e0001}\",\"n\":18446744073709551615}";

        let printed = printable_json(said.as_bytes()).unwrap();

        assert_eq!(
            printed,
            "{\"b\": 1.50,   \"a\":\"it's \\\"größe\\\" \\u001b\\u009b31m\\u007f\\u202e\\udb40\\udc01\",\"n\":18446744073709551615}"
        );
        let value = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&printed), value(said));
    }

    #[test]
    fn what_is_no_json_is_not_printed() {
        for body in [
            b"{\"a\":\"\x1b[2J\"}".as_slice(),
            b"{\"a\":1}\x1b[2J",
            b"{\"a\":1",
            b"{\"a\":1} {}",
            b"{\"a\":\"\xff\"}",
            b"",
        ] {
            assert_eq!(printable_json(body), None, "{body:?}");
        }
    }
}
