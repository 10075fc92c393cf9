//! Asks and reads answers: HTTP, its limits, and when to ask again.
//!
//! Owns the one header that carries the key. It goes to the server that was named and below `/api/v1` alone: no
//! redirect is followed, and plain http never goes through a proxy.

mod answer;
mod budget;
mod failure;
mod key;
mod lookup;

pub(super) use self::{budget::Budget, lookup::Lookup};

use self::{answer::Answer, failure::Failed, key::Key};
use super::{Clocks, CloudError, Limits, Server, said};
use crate::{jitter, lock::lock, secret::Secret, tls};
use reqwest::{
    Client, Method, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect, retry,
};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::time::{sleep, timeout};

/// The way to one server.
pub(super) struct Transport {
    http: Client,
    server: Server,
    key: Option<Key>,
    limits: Limits,
    clocks: Mutex<Option<Clocks>>,
}

/// A question, and the words for what may be wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Call<'c> {
    pub(super) method: Method,
    /// Behind the server, and behind `/api/v1` where the key goes along.
    pub(super) path: &'c [&'c str],
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    /// `read the allowlist`.
    pub(super) act: String,
    /// The least role that may.
    pub(super) role: &'static str,
    /// What a 404 says is not there.
    pub(super) what: String,
    pub(super) with_key: bool,
}

impl<'c> Call<'c> {
    /// Reads something below `/api/v1`.
    pub(super) fn get(path: &'c [&'c str], act: &str, role: &'static str, what: String) -> Self {
        let act = act.to_owned();
        Self { method: Method::GET, path, query: Vec::new(), body: None, act, role, what, with_key: true }
    }

    /// Changes something there.
    pub(super) fn change(self, method: Method, body: Option<Value>) -> Self {
        Self { method, body, ..self }
    }

    fn is_change(&self) -> bool {
        self.method != Method::GET
    }
}

impl Transport {
    pub(super) fn new(server: Server, key: Option<Secret>, limits: Limits) -> Result<Self, CloudError> {
        let key = key.map(Key::new).transpose()?;
        let inside = |error: &dyn std::fmt::Display| CloudError::Inside(error.to_string());
        let mut http = Client::builder()
            .tls_backend_preconfigured(tls::public_client().map_err(|error| inside(&error))?)
            .dns_resolver(Arc::new(Lookup { only_loopback: !server.is_secure() }))
            .redirect(redirect::Policy::none())
            // Ours are counted, and never of a change.
            .retry(retry::never())
            .default_headers(headers())
            .user_agent(concat!("crdb-proxy/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect)
            .timeout(limits.request)
            // A person may think for minutes between two questions, which balancers do not wait for.
            .pool_idle_timeout(Duration::from_secs(5));
        if !server.is_secure() {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| inside(&error))?;
        Ok(Self { http, server, key, limits, clocks: Mutex::new(None) })
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn clocks(&self) -> Option<Clocks> {
        *lock(&self.clocks)
    }

    /// The answer's JSON; `Null` where a change is answered with nothing. Asks again where that may help and
    /// nothing is changed.
    pub(super) async fn json(&self, call: &Call<'_>) -> Result<Value, CloudError> {
        self.parse(&self.bytes(call).await?, call, &mut Budget::default())
    }

    /// The JSON of an answer, which takes from what all answers to a question may hold.
    pub(super) fn parse(&self, body: &[u8], call: &Call<'_>, budget: &mut Budget) -> Result<Value, CloudError> {
        if body.is_empty() && call.is_change() {
            return Ok(Value::Null);
        }
        budget.take(body).map_err(|fault| self.malformed(call, &fault))?;
        // The parser's own words may quote what is in it.
        let value = serde_json::from_slice(body).map_err(|error| {
            self.malformed(call, &format!("no JSON from line {}, column {} on", error.line(), error.column()))
        })?;
        // Escapes hide it from whoever looks at the bytes alone.
        if self.key.as_ref().is_some_and(|key| key.is_in_json(&value)) { Err(self.echo(call)) } else { Ok(value) }
    }

    /// The answer holds the key. Whatever is made of answers may be printed.
    fn echo(&self, call: &Call<'_>) -> CloudError {
        self.malformed(call, "the API key, which is sent to it and never back (it is not shown)")
    }

    /// The answer is none that the API would give.
    pub(super) fn malformed(&self, call: &Call<'_>, fault: &str) -> CloudError {
        CloudError::Malformed { server: self.server.clone(), fault: fault.to_owned(), is_change: call.is_change() }
    }

    /// Gives up a question that takes too long as a whole.
    pub(super) async fn in_time<T>(
        &self,
        is_change: bool,
        answered: impl Future<Output = Result<T, CloudError>>,
    ) -> Result<T, CloudError> {
        let limit = self.limits.question;
        let late = |_elapsed| CloudError::Endless { server: self.server.clone(), limit, is_change };
        timeout(limit, answered).await.map_err(late)?
    }

    /// The answer as it came, to a question that has one only.
    pub(super) async fn bytes(&self, call: &Call<'_>) -> Result<Vec<u8>, CloudError> {
        self.in_time(call.is_change(), self.part(call)).await
    }

    /// The same for a question that has several.
    pub(super) async fn part(&self, call: &Call<'_>) -> Result<Vec<u8>, CloudError> {
        let mut pause = self.limits.retry_pause;
        let mut left = TRIES_MAX - 1;
        loop {
            let Failed { error, wait, may_pass } = match self.once(call).await {
                Ok(body) => return Ok(body),
                Err(failed) => failed,
            };
            let wait = wait.unwrap_or_else(|| jitter::around(pause));
            if left == 0 || call.is_change() || !may_pass || wait > self.limits.retry_after_max {
                return Err(error);
            }
            sleep(wait).await;
            pause *= 2;
            left -= 1;
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Vec<u8>, Failed> {
        let url = self.url(call).ok_or_else(|| CloudError::NotFound { what: call.what.clone(), said: None })?;
        let mut request = self.http.request(call.method.clone(), url);
        if call.with_key {
            let key = self.key.as_ref().ok_or(CloudError::NoKey)?;
            request = request.header(AUTHORIZATION, key.header());
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.failure(&error, call)),
        };
        if let Some(server) = answer::date(response.headers()) {
            *lock(&self.clocks) = Some(Clocks { server, local: SystemTime::now() });
        }
        let answer = Answer::read(response).await;
        match answer {
            Answer { status: 200..=299, body: Ok(body), .. } => match &self.key {
                Some(key) if key.is_in(&body) => Err(self.echo(call).into()),
                _ => Ok(body),
            },
            Answer { status: 200..=299, body: Err(fault), .. } => Err(self.cut_off(fault, call)),
            refusal => Err(self.refusal(&refusal, call)),
        }
    }

    fn url(&self, call: &Call<'_>) -> Option<Url> {
        // Such a segment would be left out, and another thing be asked for.
        if call.path.iter().any(|segment| ["", ".", ".."].contains(segment)) {
            return None;
        }
        let mut url = self.server.url()?;
        {
            let mut segments = url.path_segments_mut().ok()?;
            segments.clear();
            if call.with_key {
                segments.extend(["api", "v1"]);
            }
            segments.extend(call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Some(url)
    }

    /// The server's own words, if it has any, without the key and fit to be shown.
    fn said(&self, body: &[u8]) -> Option<String> {
        said::message(body, self.key.as_ref().map(Key::secret))
    }
}

fn headers() -> HeaderMap {
    let pairs = [
        (ACCEPT, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("cc-version"), HeaderValue::from_static(API_VERSION)),
    ];
    pairs.into_iter().collect()
}

/// The version that the shapes are of; without it the API would answer in its latest.
const API_VERSION: &str = "2024-09-16";
/// The first included.
const TRIES_MAX: usize = 3;
