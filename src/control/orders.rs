//! Orders for endpoints: how they are said, sent and answered.

use super::{Answer, Client, ControlError, Question};
use crate::settings::{Name, duration_from_text};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::{fmt, ops::RangeInclusive, time::Duration};

/// What can be ordered for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// New sessions pass it over.
    Disable,
    /// The settings alone count again.
    Enable,
    /// New sessions try it first.
    Prefer,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disable, Self::Enable, Self::Prefer];

    /// As the command line and the path of a request say it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Prefer => "prefer",
        }
    }
}

/// An order, unchecked, as the command line says it.
#[derive(Clone)]
pub struct Order {
    /// What to do.
    pub verb: Verb,
    /// The endpoint's name.
    pub endpoint: String,
    /// The cluster's name; needed where several have such an endpoint.
    pub cluster: Option<String>,
    /// How long the order stands, number and unit; absent: [`USUAL_SPAN`].
    pub span: Option<String>,
}

/// An order that was taken; the body of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// `disabled`, `preferred` or `enabled`.
    pub state: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// Its cluster's name.
    pub cluster: String,
    /// When the order ends by itself, RFC 3339; absent for `enabled`.
    pub until: Option<String>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, endpoint, cluster, until } = self;
        write!(f, "endpoint \"{endpoint}\" of cluster \"{cluster}\" is {state}")?;
        match until {
            Some(until) => write!(f, " until {until}; open sessions stay where they are"),
            None => f.write_str(": the settings alone count again"),
        }
    }
}

impl Client {
    /// Has the daemon carry out an order. If the future is dropped, it may or may not have been taken.
    ///
    /// # Errors
    /// It was not taken, or nobody knows.
    pub async fn order(&self, order: &Order) -> Result<Taken, ControlError> {
        let answer = self.ask(&Question::post(&path_of(order)?)).await?;
        taken(&answer).ok_or_else(|| self.refusal(&answer))
    }
}

/// What was taken; `None` if no daemon of ours would say so.
fn taken(answer: &Answer) -> Option<Taken> {
    let body = &answer.body;
    (answer.status == StatusCode::ACCEPTED).then(|| serde_json::from_slice(body).ok()).flatten()
}

/// The request's path and query. What a name and a span may be leaves nothing to escape.
fn path_of(order: &Order) -> Result<String, ControlError> {
    let named = |name: &str, what: &str| {
        let rule = format!("the {what}'s name is no name: it must be 1 to 63 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"");
        Name::new(name).ok_or(ControlError::Wrong(rule))
    };
    let mut path = format!("/endpoints/{}/{}", named(&order.endpoint, "endpoint")?, order.verb.text());
    let mut mark = '?';
    if let Some(span) = &order.span {
        let rule = |rule| ControlError::Wrong(format!("flag --for: {rule}"));
        duration_from_text(span, SPANS).map_err(rule)?;
        path = format!("{path}?for={span}");
        mark = '&';
    }
    if let Some(cluster) = &order.cluster {
        path = format!("{path}{mark}cluster={}", named(cluster, "cluster")?);
    }
    Ok(path)
}

/// How long an order stands that does not say it.
pub const USUAL_SPAN: Duration = Duration::from_secs(3600);
/// How long an order may stand: one that is forgotten must not send traffic round for days.
pub const SPANS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn order(endpoint: &str, span: Option<&str>, cluster: Option<&str>) -> Order {
        let text = |text: &str| text.to_owned();
        Order { verb: Verb::Disable, endpoint: text(endpoint), span: span.map(text), cluster: cluster.map(text) }
    }

    #[test]
    fn a_path_says_all_of_the_order() {
        let path = |span, cluster| path_of(&order("a-b.c", span, cluster)).unwrap();

        assert_eq!(path(None, None), "/endpoints/a-b.c/disable");
        assert_eq!(path(Some("90min"), None), "/endpoints/a-b.c/disable?for=90min");
        assert_eq!(path(None, Some("prod")), "/endpoints/a-b.c/disable?cluster=prod");
        assert_eq!(path(Some("1s"), Some("prod")), "/endpoints/a-b.c/disable?for=1s&cluster=prod");
    }

    #[test]
    fn what_is_wrong_with_an_order_is_told_without_repeating_it() {
        let secret = "postgresql://app:hunter2@h/d";
        for wrong in [order(secret, None, None), order("a", Some(secret), None), order("a", None, Some(secret))] {
            let error = path_of(&wrong).unwrap_err();

            assert_eq!(error.exit_code(), 2);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        for span in ["0s", "500ms", "25h", "1", "off"] {
            let error = path_of(&order("a", Some(span), None)).unwrap_err();
            assert!(error.to_string().starts_with("flag --for: must be"), "{error}");
        }
    }

    #[test]
    fn only_what_a_daemon_of_ours_would_say_is_believed() {
        let body = br#"{"state":"enabled","endpoint":"a","cluster":"c","until":null}"#;
        let answer = |status, body: &'static [u8]| Answer { status, body: body.into() };

        assert!(matches!(taken(&answer(StatusCode::ACCEPTED, body)), Some(Taken { until: None, .. })));
        assert_eq!(taken(&answer(StatusCode::ACCEPTED, b"{}")), None);
        assert_eq!(taken(&answer(StatusCode::OK, body)), None);
    }
}
