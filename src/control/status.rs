//! `/status` as a client reads it. What it does not know it passes over, and what is missing it does without,
//! so that daemon and command may be of different versions.

use super::{Answer, Client, ControlError, Question};
use hyper::StatusCode;
use serde::Deserialize;

/// What a daemon is doing.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "docs/status.md says what each field is")]
pub struct Status {
    /// Tells this daemon from the next one at the same address.
    pub started_at: String,
    pub state: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub ready: bool,
    #[serde(default)]
    pub reasons: Vec<String>,
    #[serde(default)]
    pub config: Config,
    pub listeners: Vec<Listening>,
    #[serde(default)]
    pub clusters: Vec<Cluster>,
    #[serde(default)]
    pub sessions: Vec<Session>,
    #[serde(default)]
    pub sessions_left_out: u64,
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
    pub endpoints: Vec<Endpoint>,
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
        let answer = self.status_text().await?;
        serde_json::from_slice(&answer.body).ok().ok_or_else(|| self.refusal(&answer))
    }

    /// The same as the daemon writes it: JSON.
    ///
    /// # Errors
    /// It does not tell.
    pub async fn status_text(&self) -> Result<Answer, ControlError> {
        let answer = self.ask(&Question::get("/status").of_bytes(STATUS_BYTES_MAX)).await?;
        match (answer.status, answer.reason()) {
            (StatusCode::OK, _) if answer.body.starts_with(b"{") => Ok(answer),
            (_, Some(reason)) => Err(ControlError::Untold(reason.to_owned())),
            _ => Err(self.refusal(&answer)),
        }
    }
}

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
    }
}
