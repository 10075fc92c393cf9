//! What a client, and what the operator, is told about an upstream that could not be had. Remote clients
//! never read addresses of private hosts or names of files; nobody ever reads a secret.

use super::error::{ClaimError, EndpointError, LoginError};
use crate::{
    diagnostics::Chain,
    settings::{Endpoint, EndpointKind, Name},
    tls::CertificateProblem,
    wire::{ClientError, ServerError, SqlState},
};
use std::sync::Arc;

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
    /// The user stands in a table of its own.
    pub(crate) has_own_table: bool,
}

impl Facts<'_> {
    /// Where the settings say that the user is this one.
    fn place_of_user(&self) -> String {
        let Self { cluster, user, has_own_table, .. } = self;
        let is_bare = user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        match (has_own_table, is_bare) {
            (false, _) => "the cluster's \"user\" setting".to_owned(),
            (true, true) => format!("the name of its table [cluster.{cluster}.user.{user}]"),
            (true, false) => format!("the name of its table [cluster.{cluster}.user.{user:?}]"),
        }
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

impl ClaimError {
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
                    Audience::Local => told
                        .detail(cause)
                        .hint(format!("Correct that source; the next connection reads it again. {CHECK}")),
                    Audience::Remote => told.hint("The log of crdb-proxy says which source it is and why."),
                }
            }
            Self::NoLoginSlot { logins_max, limit, is_clients } => {
                let logins = match is_clients {
                    true => format!("{logins_max} logins with clients' own passwords at cluster \"{cluster}\""),
                    false => format!("{logins_max} logins at cluster \"{cluster}\""),
                };
                let message = format!("{logins} are in flight, and none ended within {limit:?}");
                ClientError::new(SqlState::TOO_MANY_CONNECTIONS, message)
                    .hint("Open fewer connections at once, or raise \"logins_max\" or \"login_queue_limit\".")
            }
            Self::NoEndpoint(failures) => no_endpoint(failures, cluster, audience),
            Self::Login { error, .. } => return error.to_client(facts, audience),
        })
    }
}

impl LoginError {
    fn to_client(&self, facts: &Facts<'_>, audience: Audience) -> Told {
        let (cluster, user) = (facts.cluster, facts.user);
        let source = facts.secret_source.filter(|_| audience == Audience::Local);
        let failed = |text: String, hint: &'static str| {
            let message = format!("login at cluster \"{cluster}\" as \"{user}\" failed: {text}");
            Told::Ours(ClientError::new(SqlState::CONNECT_FAILED, message).hint(format!("{hint} {CHECK}")))
        };
        match self {
            Self::Server(error) if self.rejects_the_secret() => {
                let secret =
                    source.map_or("its configured secret".to_owned(), |source| format!("the secret from {source}"));
                let hint = format!(
                    "crdb-proxy logged in as \"{user}\" with {secret}. Correct that secret or {place}; the next connection uses it without a restart. {CHECK}",
                    place = facts.place_of_user()
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
                if facts.has_own_table { NO_PASSWORD_IN_TABLE } else { NO_PASSWORD },
            ),
            Self::NotAllowed { asked, why } => {
                let message = format!("login at cluster \"{cluster}\" as \"{user}\" failed: {}", why.told(*asked));
                let hint = format!("{} {CHECK}", why.hint(*asked));
                Told::Ours(ClientError::new(SqlState::CONNECT_FAILED, message).hint(hint))
            }
            Self::Scram(error) => {
                failed(error.to_string(), "Is this really the cluster? A server that knows the password can prove it.")
            }
            Self::Endpoint(error) => failed(error.to_string(), "Try again."),
        }
    }
}

impl EndpointError {
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
            (Self::ErrorBeforeTls | Self::NotPostgres(_) | Self::BytesBeforeTls | Self::Protocol(_), _) => {
                "Are \"host\" and \"port\" those of the cluster itself? Something else seems to answer there."
            }
            _ => {
                "If it lasts, look at what stands between this machine and the cluster, and at the cluster's own state."
            }
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

fn no_endpoint(failures: &[(Arc<Endpoint>, LoginError)], cluster: &Name, audience: Audience) -> ClientError {
    let each: Vec<_> = failures.iter().map(|(endpoint, error)| describe(endpoint, error, audience)).collect();
    let message = match each.as_slice() {
        [] => format!("no endpoint of cluster \"{cluster}\" may serve this listener now"),
        [only] => format!("cluster \"{cluster}\" cannot be reached: {only}"),
        _ => format!("cluster \"{cluster}\" cannot be reached at any endpoint: {}", each.join("; ")),
    };
    let error = ClientError::new(SqlState::CONNECT_FAILED, message);
    match failures.first() {
        Some((endpoint, LoginError::Endpoint(first))) => error.hint(format!("{} {CHECK}", first.hint(endpoint.kind))),
        Some(_) => error.hint(format!("Connect again in a moment: nodes that restart turn clients away. {CHECK}")),
        None => error.hint(
            "Each endpoint that its \"regions\" and \"path\" allow was disabled by hand: crdb-proxy endpoint enable NAME.",
        ),
    }
}

fn describe(endpoint: &Endpoint, error: &LoginError, audience: Audience) -> String {
    let Endpoint { name, host, port, kind, .. } = endpoint;
    let what = match error {
        // Names in certificates are addresses, too.
        LoginError::Endpoint(EndpointError::Certificate(CertificateProblem::Name { .. }))
            if audience == Audience::Remote && *kind != EndpointKind::Public =>
        {
            "certificate not accepted: it is for other names".to_owned()
        }
        error => error.in_short(),
    };
    match (audience, kind) {
        (Audience::Local, _) | (_, EndpointKind::Public) => format!("\"{name}\" ({host}:{port}): {what}"),
        (Audience::Remote, _) => format!("\"{name}\": {what}"),
    }
}

const NO_PASSWORD: &str =
    "Set the cluster's \"password\" (or --password-file), or have the server accept the client certificate alone.";
const NO_PASSWORD_IN_TABLE: &str =
    "Set \"password\" in the user's own table, or have the server accept the client certificate alone.";
/// What helps with all of them.
const CHECK: &str =
    "`crdb-proxy check`, with the daemon's flags and on its host, tries each step and says what to mend.";

#[cfg(test)]
mod tests;
