//! From what a walk has met to what a person should do: symptom, likely cause, fix. Pure; knows no clock, network or
//! file. The order within each function is that of likelihood, the most telling fact first.

mod certificate;
mod cloud;
mod login;
mod network;
mod settings;

use super::{
    cloud::CloudFacts,
    walk::{Failure, Seen},
};
use crate::settings::{Cluster, Endpoint, EndpointKind, SqlUser};
use serde::Serialize;

pub(super) use certificate::{ca_ends, certificate_ends};
pub(super) use cloud::{notes as cloud_notes, unreachable as cloud_unreachable};
pub(super) use network::exposed;
pub(crate) use settings::{ca_missing, secret_exposed};

/// What somebody should do about something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The same for the same trouble, for scripts.
    pub id: &'static str,
    /// What was seen.
    pub symptom: String,
    /// What most likely is behind it.
    pub cause: String,
    /// What to do next.
    pub fix: String,
}

impl Advice {
    pub(super) fn new(
        id: &'static str,
        symptom: impl Into<String>,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { id, symptom: symptom.into(), cause: cause.into(), fix: fix.into() }
    }
}

/// What is known besides the failure itself.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) cluster: &'a Cluster,
    /// Who was to log in last.
    pub(super) user: &'a SqlUser,
    pub(super) endpoint: &'a Endpoint,
    /// Where the secret comes from.
    pub(super) secret_source: Option<&'a str>,
    pub(super) seen: &'a Seen,
    /// What the Cloud API says, where it was asked.
    pub(super) cloud: Option<&'a CloudFacts>,
}

impl Case<'_> {
    /// `HOST:PORT`.
    fn target(&self) -> String {
        format!("{}:{}", self.endpoint.host, self.endpoint.port)
    }

    fn is_private(&self) -> bool {
        matches!(self.endpoint.kind, EndpointKind::Internal | EndpointKind::Psc)
    }

    fn cloud_of_region(&self) -> Option<&'static str> {
        let region = self.endpoint.region.as_deref()?;
        ["aws", "gcp", "azure"].into_iter().find(|cloud| region.starts_with(&format!("{cloud}-")))
    }
}

/// What to do about a failure.
pub(super) fn advise(case: &Case<'_>, failure: &Failure) -> Advice {
    if let Some(advice) = case.cloud.and_then(|cloud| cloud::overrides(case, cloud, failure)) {
        return advice;
    }
    match failure {
        Failure::Secret(error) => settings::secret(error),
        Failure::Dns(error) => network::dns(case, error),
        Failure::Tcp(error) => network::tcp(case, error),
        Failure::Tls(error) => network::tls(case, error),
        Failure::Certificate(problem) => certificate::certificate(case, problem),
        Failure::Login(error) => login::login(case, error),
        Failure::NoDatabase { name, existing } => login::no_database(case, name, existing),
        Failure::Query(error) => login::query(case, error),
    }
}

/// `"a", "b" and 3 more`.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let quoted: Vec<_> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.get(..LISTED_MAX) {
        Some(first) if quoted.len() > LISTED_MAX => {
            format!("{} and {} more", first.join(", "), quoted.len() - LISTED_MAX)
        }
        _ => quoted.join(", "),
    }
}

const LISTED_MAX: usize = 12;
