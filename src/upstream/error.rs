//! Why there is no upstream, and how the client and the operator learn of it.

use super::methods::Why;
use crate::{
    credentials::SecretError,
    metrics::labels::{AttemptResult, RefuseReason},
    scram::ScramError,
    settings::{AuthMethod, Endpoint, Name},
    sys,
    tls::CertificateProblem,
    wire::{ServerError, SqlState},
};
use std::{fmt, io, sync::Arc, time::Duration};

/// Why an endpoint gave no connection, or lost it before the login was over. Another may serve.
#[derive(Debug)]
pub(crate) enum EndpointError {
    /// The resolver has no address for the name.
    NotResolved(io::Error),
    /// The resolver did not answer in time.
    ResolveTimedOut,
    /// No address answered in time.
    TcpTimedOut,
    /// The last address refused, or could not be reached.
    Tcp(io::Error),
    /// The connection was made, and SSLRequest was not answered.
    NoAnswer,
    /// The connection was closed instead of an answer to SSLRequest.
    ClosedBeforeTls(io::Error),
    /// SSLRequest was answered `N`.
    TlsDeclined,
    /// SSLRequest was answered with an error; it came in clear, so its text is not to be trusted.
    ErrorBeforeTls,
    /// SSLRequest was answered with another byte.
    NotPostgres(u8),
    /// More came in clear behind the answer to SSLRequest, before the handshake began.
    BytesBeforeTls,
    /// The certificate was not accepted.
    Certificate(CertificateProblem),
    /// The handshake failed otherwise.
    Tls(io::Error),
    /// The handshake took too long.
    TlsTimedOut,
    /// The connection was lost during login.
    LoginLost(io::Error),
    /// The login took too long.
    LoginTimedOut,
    /// The server's messages are not the protocol's.
    Protocol(&'static str),
    /// The server ended TLS with an alert, as it does when it does not accept a client certificate.
    TlsAlert(String),
    /// `connect_limit` had passed before its turn came.
    NotTried,
    /// Another endpoint answered, and it had not for so long.
    Overtaken(Duration),
}

/// What a failed attempt means for the endpoint, and so for where to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// One node: it restarts, or went away. The next one may serve, so the endpoint is as well as before.
    Node,
    /// The gateway that was reached has no room. Another region's room is not this one's to give away.
    Full,
    /// The endpoint.
    Endpoint,
    /// Nothing of the cluster's: this machine is short of something.
    Ours,
    /// Nothing: every other endpoint would say the same.
    Nothing,
}

/// Why a login failed at a server that was reached.
#[derive(Debug)]
pub(crate) enum LoginError {
    /// The server's own word.
    Server(ServerError),
    /// It asks for what the daemon does not do, MD5 among it.
    Unsupported(u32),
    /// It offers none of the mechanisms that the daemon does.
    NoMechanism,
    /// It asks for a secret, and none is configured.
    NoSecret,
    /// It asks for what may not be asked for, or for too little.
    NotAllowed {
        /// What it asks for.
        asked: AuthMethod,
        /// Why that is not allowed.
        why: Why,
    },
    /// It failed to prove that it knows the password, or broke the exchange.
    Scram(ScramError),
    /// The connection did not last.
    Endpoint(EndpointError),
}

/// Why a session got no upstream.
#[derive(Debug)]
pub(crate) enum ClaimError {
    /// The cluster's secret could not be read.
    Secret(SecretError),
    /// No login slot within `login_queue_limit`.
    NoLoginSlot {
        /// Slots there are.
        logins_max: usize,
        /// How long was waited.
        limit: Duration,
        /// It is the slots for clients' own passwords that are taken.
        is_clients: bool,
    },
    /// Every endpoint failed, each in its way; none when the listener's policy leaves none.
    NoEndpoint(Vec<(Arc<Endpoint>, LoginError)>),
    /// The server was reached and let nobody in.
    Login {
        /// Which server.
        endpoint: Arc<Endpoint>,
        /// Why.
        error: LoginError,
    },
}

impl EndpointError {
    /// Whether another address of the same name may do better.
    pub(super) fn may_differ_by_address(&self) -> bool {
        !matches!(self, Self::Certificate(_) | Self::TlsDeclined | Self::NotResolved(_) | Self::ResolveTimedOut)
    }

    /// Whether it says more than that time ran out.
    pub(super) fn tells_more_than_a_timeout(&self) -> bool {
        matches!(
            self,
            Self::ClosedBeforeTls(_)
                | Self::ErrorBeforeTls
                | Self::NotPostgres(_)
                | Self::BytesBeforeTls
                | Self::Tls(_)
                | Self::Tcp(_)
        )
    }

    /// The metric's label.
    pub(crate) fn result(&self) -> AttemptResult {
        match self {
            Self::NotResolved(_) | Self::ResolveTimedOut => AttemptResult::Dns,
            Self::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused => AttemptResult::Refused,
            Self::Tcp(error) if error.kind() == io::ErrorKind::TimedOut => AttemptResult::Timeout,
            Self::TcpTimedOut | Self::NoAnswer | Self::TlsTimedOut | Self::LoginTimedOut => AttemptResult::Timeout,
            Self::Tcp(_) | Self::ClosedBeforeTls(_) | Self::LoginLost(_) => AttemptResult::Reset,
            Self::TlsDeclined => AttemptResult::TlsDeclined,
            Self::Certificate(
                CertificateProblem::UnknownCa | CertificateProblem::UnknownToSystem | CertificateProblem::SelfSigned,
            ) => AttemptResult::TlsCa,
            Self::Certificate(CertificateProblem::Expired { .. }) => AttemptResult::TlsExpired,
            Self::Certificate(CertificateProblem::NotYetValid { .. }) => AttemptResult::TlsNotYetValid,
            Self::Certificate(CertificateProblem::Name { .. }) => AttemptResult::TlsName,
            Self::Certificate(CertificateProblem::Other(_)) | Self::Tls(_) | Self::TlsAlert(_) => {
                AttemptResult::TlsOther
            }
            Self::NotTried | Self::Overtaken(_) => AttemptResult::Timeout,
            Self::ErrorBeforeTls | Self::NotPostgres(_) | Self::BytesBeforeTls | Self::Protocol(_) => {
                AttemptResult::Protocol
            }
        }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotResolved(error) => write!(f, "its name could not be resolved ({error})"),
            Self::ResolveTimedOut => f.write_str("resolving its name took too long"),
            Self::TcpTimedOut => f.write_str("no answer to TCP in time"),
            Self::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused => f.write_str("connection refused"),
            Self::Tcp(error) => write!(f, "no TCP connection ({error})"),
            Self::NoAnswer => f.write_str("connected, but no answer to the request for TLS in time"),
            Self::ClosedBeforeTls(error) => write!(f, "the connection was closed before TLS ({error})"),
            Self::TlsDeclined => f.write_str("the server does not offer TLS"),
            Self::ErrorBeforeTls => f.write_str("the server answered the request for TLS with an error"),
            Self::NotPostgres(byte) => {
                write!(f, "the answer to the request for TLS is no PostgreSQL server's (byte 0x{byte:02x})")
            }
            Self::BytesBeforeTls => {
                f.write_str("more bytes came in clear behind the answer to the request for TLS, which no server sends")
            }
            Self::Certificate(problem) => write!(f, "certificate not accepted: {problem}"),
            Self::Tls(error) => write!(f, "the TLS handshake failed ({error})"),
            Self::TlsTimedOut => f.write_str("the TLS handshake took too long"),
            Self::LoginLost(error) => write!(f, "the connection was lost during login ({error})"),
            Self::LoginTimedOut => f.write_str("the login took too long"),
            Self::TlsAlert(alert) => write!(f, "the server ended TLS with the alert {alert}"),
            Self::NotTried => f.write_str("not tried, \"connect_limit\" had passed"),
            Self::Overtaken(span) => write!(f, "no answer for {span:.1?}, while another endpoint answered"),
            Self::Protocol(reason) => write!(f, "the server's messages during login make no sense ({reason})"),
        }
    }
}

impl LoginError {
    /// The metric's label.
    pub(crate) fn result(&self) -> AttemptResult {
        match self {
            Self::Server(error) => match error.sqlstate {
                SqlState::INVALID_PASSWORD => AttemptResult::LoginPassword,
                SqlState::INVALID_AUTHORIZATION => AttemptResult::LoginRejected,
                SqlState::TOO_MANY_CONNECTIONS => AttemptResult::LoginLimit,
                SqlState::ADMIN_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => AttemptResult::LoginDraining,
                _ => AttemptResult::LoginOther,
            },
            Self::NoSecret => AttemptResult::Secret,
            Self::Unsupported(_) | Self::NoMechanism | Self::NotAllowed { .. } | Self::Scram(_) => {
                AttemptResult::LoginOther
            }
            Self::Endpoint(error) => error.result(),
        }
    }

    /// What went wrong, in a few words, for the operator.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Self::Endpoint(error) => error.to_string(),
            Self::Server(error) => format!("the server turned the login away ({}: {})", error.sqlstate, error.message),
            Self::NotAllowed { asked, why } => why.told(*asked),
            _ => "the login failed".to_owned(),
        }
    }

    /// What it means for the endpoint.
    pub(crate) fn loss(&self) -> Loss {
        match (self, self.result()) {
            (Self::Server(_), AttemptResult::LoginDraining) => Loss::Node,
            (Self::Server(_), AttemptResult::LoginLimit) => Loss::Full,
            (Self::Endpoint(EndpointError::ClosedBeforeTls(_) | EndpointError::LoginLost(_)), _) => Loss::Node,
            // The connection broke; TLS itself found no fault.
            (Self::Endpoint(EndpointError::Tls(error)), _) if is_broken(error.kind()) => Loss::Node,
            (Self::Endpoint(EndpointError::Tcp(error)), _) if sys::is_shortage(error) => Loss::Ours,
            (Self::Endpoint(_), _) => Loss::Endpoint,
            _ => Loss::Nothing,
        }
    }

    /// Whether the server says that user and secret do not fit.
    pub(super) fn rejects_the_secret(&self) -> bool {
        matches!(self.result(), AttemptResult::LoginPassword | AttemptResult::LoginRejected)
    }
}

fn is_broken(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

impl ClaimError {
    /// What went wrong, in a few words, for the operator.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Self::Login { endpoint, error } => format!("\"{}\": {}", endpoint.name, error.in_short()),
            Self::Secret(_) => "the secret could not be read".to_owned(),
            Self::NoLoginSlot { .. } | Self::NoEndpoint(_) => "no endpoint".to_owned(),
        }
    }

    /// The server's own word, if it had one.
    pub(crate) fn sqlstate(&self) -> Option<SqlState> {
        match self {
            Self::Login { error: LoginError::Server(error), .. } => Some(error.sqlstate),
            _ => None,
        }
    }

    /// The server that let nobody in, if one was reached.
    pub(crate) fn endpoint(&self) -> Option<&Name> {
        match self {
            Self::Login { endpoint, .. } => Some(&endpoint.name),
            _ => None,
        }
    }

    /// The metric's label.
    pub(crate) fn reason(&self) -> RefuseReason {
        match self {
            Self::Secret(_) => RefuseReason::Secret,
            Self::NoLoginSlot { .. } => RefuseReason::LoginQueue,
            Self::NoEndpoint(failures) if only_certificates(failures) => RefuseReason::Certificate,
            Self::NoEndpoint(_) => RefuseReason::Unreachable,
            Self::Login { error: LoginError::NoSecret, .. } => RefuseReason::Secret,
            Self::Login { error, .. } if error.result() == AttemptResult::LoginLimit => RefuseReason::UpstreamLimit,
            Self::Login { .. } => RefuseReason::Login,
        }
    }
}

fn only_certificates(failures: &[(Arc<Endpoint>, LoginError)]) -> bool {
    let is_certificate = |error: &LoginError| matches!(error, LoginError::Endpoint(EndpointError::Certificate(_)));
    !failures.is_empty() && failures.iter().all(|(_, error)| is_certificate(error))
}
