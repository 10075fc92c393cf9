//! What concerns the whole daemon: that it reads its settings again and that it stops.

use super::{Client, ControlError, Question};
use hyper::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

/// How a reload went.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything new counts from now on.
    Reloaded(News),
    /// This is what a reload would change.
    DryRun(News),
    /// What was there before stays.
    Refused {
        /// Why, one sentence each.
        faults: Vec<String>,
    },
}

/// What is new, one sentence each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct News {
    /// What is another value, or another certificate.
    pub changes: Vec<String>,
    /// Keys whose new values count from the next start on.
    pub needs_restart: Vec<String>,
    /// What the operator should look at although it works.
    pub warnings: Vec<String>,
}

/// What a daemon answers that was told to stop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stopping {
    /// `delaying` or `draining`.
    pub state: String,
    /// The longest that it may take, by its settings.
    pub ends_within_ms: Option<u64>,
}

/// How a daemon ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// `stopped`.
    pub state: String,
    /// Its process's.
    pub exit_code: u8,
    /// Sessions that were open when `drain_limit` had passed.
    pub sessions_cut: u64,
}

impl Stopping {
    /// The longest that it may take; no daemon is believed that it takes more than a day.
    pub fn ends_within(&self) -> Duration {
        self.ends_within_ms.map_or(UNKNOWN_END, Duration::from_millis).min(END_MAX)
    }
}

impl Client {
    /// Has the daemon read settings and files again; with `dry_run` only say what that would change.
    ///
    /// # Errors
    /// It did not, or nobody knows.
    pub async fn reload(&self, dry_run: bool) -> Result<Outcome, ControlError> {
        let path = if dry_run { "/reload?dry_run=true" } else { "/reload" };
        let question = Question::post(path).within(RELOAD_LIMIT).of_bytes(NEWS_BYTES_MAX);
        let answer = self.ask(&question).await?;
        let known = [StatusCode::OK, StatusCode::ACCEPTED, StatusCode::UNPROCESSABLE_ENTITY].contains(&answer.status);
        parsed(&answer.body).filter(|_| known).ok_or_else(|| self.refusal(&answer))
    }

    /// Has the daemon stop gently.
    ///
    /// # Errors
    /// It does not, or nobody knows.
    pub async fn drain(&self) -> Result<Stopping, ControlError> {
        let answer = self.ask(&Question::post("/drain")).await?;
        let taken = answer.status == StatusCode::ACCEPTED;
        parsed(&answer.body).filter(|_| taken).ok_or_else(|| self.refusal(&answer))
    }

    /// How the daemon ended, once it has. Orders nothing, so that it may be asked again whoever is there meanwhile.
    ///
    /// # Errors
    /// It has not been told to stop, or does not say how it ended.
    pub async fn end(&self) -> Result<Stopped, ControlError> {
        let answer = self.ask(&Question::post("/drain?end=true").within(END_MAX)).await?;
        let known = answer.status == StatusCode::OK;
        parsed(&answer.body).filter(|_| known).ok_or_else(|| self.refusal(&answer))
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// A little more than the daemon gives its files.
const RELOAD_LIMIT: Duration = Duration::from_secs(35);
const NEWS_BYTES_MAX: usize = 4 * 1024 * 1024;
const UNKNOWN_END: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_daemon_is_believed_that_it_takes_longer_than_a_day_to_end() {
        let within = |ends_within_ms| Stopping { state: "draining".to_owned(), ends_within_ms }.ends_within();

        assert_eq!(within(Some(25_000)), Duration::from_secs(25));
        assert_eq!(within(None), UNKNOWN_END);
        assert_eq!(within(Some(u64::MAX)), END_MAX);
    }
}
