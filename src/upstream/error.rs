//! Why there is no upstream, and how the client and the operator learn of it.

use crate::{
    credentials::SecretError,
    diagnostics::Chain,
    metrics::labels::{AttemptResult, RefuseReason},
    scram::ScramError,
    settings::{Endpoint, EndpointKind, Name},
    tls::CertificateProblem,
    wire::{ClientError, ServerError, SqlState},
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
}

/// Why a login failed at a server that was reached. Another endpoint would say the same.
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
    },
    /// Every endpoint failed, each in its way; none when the listener's policy leaves none.
    NoEndpoint(Vec<(Arc<Endpoint>, EndpointError)>),
    /// The server was reached and let nobody in.
    Login {
        /// Which server.
        endpoint: Arc<Endpoint>,
        /// Why.
        error: LoginError,
    },
}

/// Who reads an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Someone on this machine: addresses and file names help.
    Local,
    /// A client of a listener that other hosts reach: neither is shown.
    Remote,
}

/// What a client is told: in the server's words or in ours.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The daemon's own error.
    Ours(ClientError),
    /// The server's, passed on.
    Servers(ServerError),
}

/// What a refusal may name.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The cluster's name.
    pub(crate) cluster: &'a Name,
    /// The SQL user.
    pub(crate) user: &'a str,
    /// Where the secret comes from, if there is one.
    pub(crate) secret_source: Option<&'a str>,
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
            Self::ClosedBeforeTls(_) | Self::ErrorBeforeTls | Self::NotPostgres(_) | Self::Tls(_) | Self::Tcp(_)
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
            Self::NotTried => AttemptResult::Timeout,
            Self::ErrorBeforeTls | Self::NotPostgres(_) | Self::Protocol(_) => AttemptResult::Protocol,
        }
    }

    fn hint(&self, kind: EndpointKind) -> &'static str {
        match (self, kind) {
            (Self::Certificate(problem), _) => problem.hint(),
            (Self::NotResolved(_) | Self::ResolveTimedOut, EndpointKind::Public | EndpointKind::Custom) => {
                "Is the endpoint's \"host\" as the Cloud Console's Connect dialog gives it, and does this machine have a working resolver?"
            }
            (Self::NotResolved(_) | Self::ResolveTimedOut, _) => {
                "A private name resolves only inside its own network: is private DNS on (AWS), the zone linked (Azure), Service Directory set up (GCP)?"
            }
            (Self::TcpTimedOut | Self::NoAnswer, EndpointKind::Public) => {
                "Is this network on the cluster's IP allowlist, with SQL access (Cloud Console, Networking)? A silent timeout usually means that it is not."
            }
            (Self::TcpTimedOut | Self::NoAnswer, _) => {
                "Does the way to the private endpoint allow TCP to this port (security group, peering routes, global access)?"
            }
            (Self::Tcp(_), _) => {
                "Are \"host\" and \"port\" right? A node that restarts refuses for a moment; then try again."
            }
            (Self::TlsAlert(_), _) => {
                "Does the cluster accept the client certificate that \"cert\" and \"key\" name: of a CA that was uploaded there, not expired, its common name the SQL user?"
            }
            (Self::TlsDeclined, _) => {
                "crdb-proxy never sends a password over a connection in clear. Are \"host\" and \"port\" those of the cluster itself?"
            }
            (Self::ErrorBeforeTls | Self::NotPostgres(_) | Self::Protocol(_), _) => {
                "Are \"host\" and \"port\" those of the cluster itself? Something else seems to answer there."
            }
            _ => {
                "If it lasts, look at what stands between this machine and the cluster, and at the cluster's own state."
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
            Self::Certificate(problem) => write!(f, "certificate not accepted: {problem}"),
            Self::Tls(error) => write!(f, "the TLS handshake failed ({error})"),
            Self::TlsTimedOut => f.write_str("the TLS handshake took too long"),
            Self::LoginLost(error) => write!(f, "the connection was lost during login ({error})"),
            Self::LoginTimedOut => f.write_str("the login took too long"),
            Self::TlsAlert(alert) => write!(f, "the server ended TLS with the alert {alert}"),
            Self::NotTried => f.write_str("not tried, \"connect_limit\" had passed"),
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
            Self::Unsupported(_) | Self::NoMechanism | Self::Scram(_) => AttemptResult::LoginOther,
            Self::Endpoint(error) => error.result(),
        }
    }

    /// Whether the server says that user and secret do not fit.
    pub(super) fn rejects_the_secret(&self) -> bool {
        matches!(self.result(), AttemptResult::LoginPassword | AttemptResult::LoginRejected)
    }

    fn to_client(&self, facts: &Facts<'_>, audience: Audience) -> Told {
        let (cluster, user) = (facts.cluster, facts.user);
        let source = facts.secret_source.filter(|_| audience == Audience::Local);
        let failed = |text: String, hint: &'static str| {
            let message = format!("login at cluster \"{cluster}\" as \"{user}\" failed: {text}");
            Told::Ours(ClientError::new(SqlState::CONNECT_FAILED, message).hint(hint))
        };
        match self {
            Self::Server(error) if self.rejects_the_secret() => {
                let secret =
                    source.map_or("its configured secret".to_owned(), |source| format!("the secret from {source}"));
                let hint = format!(
                    "crdb-proxy logged in as \"{user}\" with {secret}. Correct that secret or the cluster's \"user\" setting; the next connection uses it without a restart."
                );
                Told::Servers(error.clone().with_hint(&hint))
            }
            Self::Server(error) => Told::Servers(error.clone()),
            Self::Unsupported(method) => failed(
                format!("the server asks for {}, which crdb-proxy does not do", method_name(*method)),
                "SCRAM-SHA-256, a password over TLS, a client certificate and a JWT are supported.",
            ),
            Self::NoMechanism => failed(
                "the server offers no SASL mechanism that crdb-proxy does".into(),
                "SCRAM-SHA-256 and SCRAM-SHA-256-PLUS are supported.",
            ),
            Self::NoSecret => failed(
                "the server asks for a password, and none is configured".into(),
                "Set the cluster's \"password\" (or --password-file), or have the server accept the client certificate alone.",
            ),
            Self::Scram(error) => {
                failed(error.to_string(), "Is this really the cluster? A server that knows the password can prove it.")
            }
            Self::Endpoint(error) => failed(error.to_string(), "Try again."),
        }
    }
}

impl ClaimError {
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

    /// What the operator reads.
    pub(crate) fn cause(&self, facts: &Facts<'_>) -> String {
        match self {
            Self::Secret(error) => Chain(error).to_string(),
            _ => self.to_client(facts, Audience::Local).message().to_owned(),
        }
    }

    /// What the client reads: what happened, to what, most likely why, and what to do next.
    pub(crate) fn to_client(&self, facts: &Facts<'_>, audience: Audience) -> Told {
        let cluster = facts.cluster;
        Told::Ours(match self {
            Self::Secret(error) => {
                let cause = Chain(error).to_string();
                let told = ClientError::new(
                    SqlState::CONNECT_FAILED,
                    format!("the secret of cluster \"{cluster}\" could not be read"),
                );
                match audience {
                    Audience::Local => {
                        told.detail(cause).hint("Correct that source; the next connection reads it again.")
                    }
                    Audience::Remote => told.hint("The log of crdb-proxy says which source it is and why."),
                }
            }
            Self::NoLoginSlot { logins_max, limit } => ClientError::new(
                SqlState::TOO_MANY_CONNECTIONS,
                format!("{logins_max} logins at cluster \"{cluster}\" are in flight, and none ended within {limit:?}"),
            )
            .hint("Open fewer connections at once, or raise \"logins_max\" or \"login_queue_limit\"."),
            Self::NoEndpoint(failures) => no_endpoint(failures, cluster, audience),
            Self::Login { error, .. } => return error.to_client(facts, audience),
        })
    }
}

impl Told {
    /// The ErrorResponse.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ours(error) => error.encode(),
            Self::Servers(error) => error.encode(),
        }
    }

    /// Its code.
    pub(crate) fn sqlstate(&self) -> SqlState {
        match self {
            Self::Ours(error) => error.sqlstate,
            Self::Servers(error) => error.sqlstate,
        }
    }

    /// Its primary message.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Ours(error) => &error.message,
            Self::Servers(error) => &error.message,
        }
    }
}

fn method_name(method: u32) -> String {
    let name = match method {
        2 => "Kerberos V5",
        5 => "an MD5 password",
        7 => "GSSAPI",
        9 => "SSPI",
        _ => return format!("authentication method {method}"),
    };
    format!("authentication by {name}")
}

fn only_certificates(failures: &[(Arc<Endpoint>, EndpointError)]) -> bool {
    !failures.is_empty() && failures.iter().all(|(_, error)| matches!(error, EndpointError::Certificate(_)))
}

fn no_endpoint(failures: &[(Arc<Endpoint>, EndpointError)], cluster: &Name, audience: Audience) -> ClientError {
    let each: Vec<_> = failures.iter().map(|(endpoint, error)| describe(endpoint, error, audience)).collect();
    let message = match each.as_slice() {
        [] => format!("no endpoint of cluster \"{cluster}\" is in the listener's \"regions\""),
        [only] => format!("cluster \"{cluster}\" cannot be reached: {only}"),
        _ => format!("cluster \"{cluster}\" cannot be reached at any endpoint: {}", each.join("; ")),
    };
    let error = ClientError::new(SqlState::CONNECT_FAILED, message);
    match failures.first() {
        Some((endpoint, first)) => error.hint(first.hint(endpoint.kind)),
        None => error,
    }
}

fn describe(endpoint: &Endpoint, error: &EndpointError, audience: Audience) -> String {
    let Endpoint { name, host, port, kind, .. } = endpoint;
    match (audience, kind, error) {
        (Audience::Local, ..) | (_, EndpointKind::Public, _) => format!("\"{name}\" ({host}:{port}): {error}"),
        // Names in certificates are addresses, too.
        (Audience::Remote, _, EndpointError::Certificate(CertificateProblem::Name { .. })) => {
            format!("\"{name}\": certificate not accepted: it is for other names")
        }
        (Audience::Remote, ..) => format!("\"{name}\": {error}"),
    }
}

#[cfg(test)]
mod tests;
