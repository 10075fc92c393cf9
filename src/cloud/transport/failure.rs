//! Tells what went wrong from what the libraries say.

use super::{
    Call, Transport,
    answer::{Answer, BYTES_MAX, BodyFault},
    lookup::NotFound,
};
use crate::{
    cloud::{CloudError, Stage},
    diagnostics::printable,
};
use std::{error::Error, io, time::Duration};

/// What failed, and what the server asks to wait.
pub(super) struct Failed {
    pub(super) error: CloudError,
    pub(super) wait: Option<Duration>,
    /// Whether the same question may be answered a moment later.
    pub(super) may_pass: bool,
}

impl From<CloudError> for Failed {
    fn from(error: CloudError) -> Self {
        let may_pass = error.may_pass();
        Self { error, wait: None, may_pass }
    }
}

impl Transport {
    /// There is no answer.
    pub(super) fn failure(&self, error: &reqwest::Error, call: &Call<'_>) -> Failed {
        let server = self.server.clone();
        let is_change = call.is_change();
        if error.is_connect() {
            if error.is_timeout() {
                let cause = format!("no answer within {:?}", self.limits.connect);
                let error = CloudError::Unreachable { server, stage: Stage::Tcp, cause };
                // Whoever waits has waited long enough.
                return Failed { error, wait: None, may_pass: false };
            }
            let (stage, cause) = stage(error);
            return CloudError::Unreachable { server, stage, cause: printable(&cause) }.into();
        }
        if error.is_timeout() {
            return CloudError::Late { server, limit: self.limits.request, is_change }.into();
        }
        CloudError::Lost { server, cause: printable(&deepest(error).to_string()), is_change }.into()
    }

    /// There is half an answer.
    pub(super) fn cut_off(&self, fault: BodyFault, call: &Call<'_>) -> Failed {
        match fault {
            BodyFault::TooLong => {
                CloudError::TooLong { server: self.server.clone(), limit: BYTES_MAX, is_change: call.is_change() }
                    .into()
            }
            BodyFault::Lost(error) => self.failure(&error, call),
        }
    }

    /// There is an answer, and it is no.
    pub(super) fn refusal(&self, answer: &Answer, call: &Call<'_>) -> Failed {
        let (server, act) = (self.server.clone(), call.act.clone());
        let said = answer.body.as_ref().ok().and_then(|body| self.said(body));
        let error = match answer.status {
            401 if call.with_key => CloudError::KeyRefused { server, said },
            403 if call.with_key => CloudError::RoleMissing { act, role: call.role, said },
            404 => CloudError::NotFound { what: call.what.clone(), said },
            429 => CloudError::TooFast { wait: answer.wait },
            300..=399 => CloudError::Redirected { server },
            status @ 500.. => CloudError::ServerFault { server, status, said, is_change: call.is_change() },
            status => CloudError::Refused { act, status, said },
        };
        Failed { wait: answer.wait, ..Failed::from(error) }
    }
}

/// How far a connection came, and the cause in the words of whoever knows it first-hand.
fn stage(error: &reqwest::Error) -> (Stage, String) {
    let mut stage = Stage::Proxy;
    for cause in causes(error) {
        if cause.is::<NotFound>() {
            return (Stage::Dns, cause.to_string());
        } else if let Some(tls) = tls_error(cause) {
            return (Stage::Tls, tls.to_string());
        } else if cause.is::<io::Error>() {
            stage = Stage::Tcp;
        }
    }
    (stage, deepest(error).to_string())
}

/// The error of TLS that this is, or that lies in it: `source` passes by what an I/O error was made of.
fn tls_error<'e>(mut error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = inner;
    }
    error.downcast_ref()
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| Error::source(*error))
}

fn deepest<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}
