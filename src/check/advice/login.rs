//! Logins that were turned away, databases that are not there, and queries without an answer.

use super::{Advice, Case, listed};
use crate::{
    settings::AuthKind,
    upstream::{AskError, EndpointError, LoginError},
    wire::{ServerError, SqlState},
};

/// As a secret of it is described.
const CONNECTION_STRING: &str = "the connection string";

/// Why nobody was let in, and what to do.
pub(super) fn login(case: &Case<'_>, error: &LoginError) -> Advice {
    match error {
        LoginError::Server(error) => by_server(case, error),
        LoginError::NoSecret => Advice::new(
            "no_secret",
            format!("{} asks for a password, and none is configured", case.target()),
            "only a client certificate is configured, and the cluster's HBA rules want a password as well or instead",
            "set the cluster's \"password\" (or --password-file)",
        ),
        LoginError::Unsupported(_) | LoginError::NoMechanism => Advice::new(
            "unsupported_authentication",
            format!("{} asks for a way to log in that crdb-proxy does not do", case.target()),
            "no CockroachDB Cloud cluster does: MD5, Kerberos and LDAP are others' ways",
            "is \"host\" right? SCRAM-SHA-256, a password over TLS, a client certificate and a JWT are supported",
        ),
        LoginError::NotAllowed { asked, why } => Advice::new(
            "authentication_not_allowed",
            format!("{}: {}", case.target(), why.told(*asked)),
            "the user's password has another kind of hash than was thought, or the cluster's HBA rules let it in otherwise",
            why.hint(*asked),
        ),
        LoginError::Scram(error) => Advice::new(
            "server_not_proven",
            format!("{}: the login broke off: {error}", case.target()),
            "the server could not prove that it knows the password, or does not keep to SCRAM",
            "is this really the cluster? Its certificate was accepted; look at what \"ca\" trusts",
        ),
        LoginError::Endpoint(EndpointError::TlsAlert(alert)) => Advice::new(
            "client_certificate_refused",
            format!("{}: the server ended TLS with the alert {alert}", case.target()),
            "it does not accept the client certificate of \"cert\": it is of a CA that was not uploaded, or has expired",
            format!(
                "upload its CA to the cluster, or renew it; its common name must be the SQL user \"{}\"",
                case.user.name
            ),
        ),
        LoginError::Endpoint(error) => Advice::new(
            "login_lost",
            format!("{}: {error}", case.target()),
            "a node that restarts, or an overloaded one: a login must be done within ten seconds there",
            "try again in a minute; if it lasts, look at the cluster's CPU and state in the Cloud Console",
        ),
    }
}

fn by_server(case: &Case<'_>, error: &ServerError) -> Advice {
    let (user, code, words) = (&case.user.name, error.sqlstate, &error.message);
    let symptom = format!("{} turns \"{user}\" away ({code}: {words})", case.target());
    match code {
        SqlState::INVALID_PASSWORD if case.user.auth == AuthKind::Jwt => token(case, symptom),
        SqlState::INVALID_PASSWORD => wrong_password(case, symptom),
        SqlState::INVALID_AUTHORIZATION if case.user.auth == AuthKind::Jwt => token(case, symptom),
        SqlState::INVALID_AUTHORIZATION => Advice::new(
            "login_forbidden",
            symptom,
            match &case.user.client_certificate {
                Some(_) => format!(
                    "the common name of the client certificate is not \"{user}\", or the user may not log in (NOLOGIN, expired)"
                ),
                None => {
                    "the user may not log in (NOLOGIN, VALID UNTIL has passed), or an HBA rule rejects it".to_owned()
                }
            },
            format!(
                "as an admin: SHOW USERS, then ALTER USER {user} WITH LOGIN; look at server.host_based_authentication.configuration"
            ),
        ),
        SqlState::TOO_MANY_CONNECTIONS => Advice::new(
            "too_many_connections",
            symptom,
            "this gateway node has as many sessions as server.max_connections_per_gateway allows",
            "shrink the applications' pools, or have an admin raise that cluster setting; another listener's region may have room",
        ),
        SqlState::ADMIN_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => Advice::new(
            "node_draining",
            symptom,
            "the node is about to restart: maintenance or an upgrade goes from node to node",
            "try again in a minute; crdb-proxy does so for its clients",
        ),
        SqlState::NO_DATABASE => Advice::new(
            "no_database",
            symptom,
            "the listener's \"database\" is not there",
            "correct \"database\" of the listener (--database; SHOW DATABASES lists them; names mind their case)",
        ),
        _ if is_for_routed_clusters(words) => Advice::new(
            "not_advanced",
            symptom,
            "the host is that of a Basic or Standard cluster, which is found by routing, or `--cluster=` was left in the options",
            "take the host from the Connect dialog of the Advanced cluster, and drop `--cluster=` from the options",
        ),
        SqlState::PROTOCOL_VIOLATION => Advice::new(
            "refused_by_server",
            symptom,
            "the server does not like what was sent at the start, \"session_parameters\" perhaps",
            "take \"session_parameters\" away and try again; then add them one by one",
        ),
        _ => Advice::new(
            "refused_by_server",
            symptom,
            "see the server's own words",
            "look the code up in CockroachDB's documentation, \"Common Errors\"",
        ),
    }
}

fn wrong_password(case: &Case<'_>, symptom: String) -> Advice {
    let (user, source) = (&case.user.name, case.secret_source.unwrap_or("the settings"));
    let into = if source == CONNECTION_STRING { "a file (--password-file)" } else { source };
    let reset = format!(
        "is \"{user}\" right (`crdb-proxy users list`, SHOW USERS)? Then an Org Administrator or Cluster Admin resets its password in the \
         Cloud Console, SQL Users; put that into {into}"
    );
    if case.cloud.is_some_and(|cloud| cloud.lacks_user(user)) {
        return Advice::new(
            "no_such_user",
            symptom,
            format!("the Cloud API lists no SQL user \"{user}\" (one that was made by SQL alone may be missing there)"),
            "correct \"user\", or create it in the Cloud Console, SQL Users (`crdb-proxy users list` shows those that are listed)",
        );
    }
    let shape = case.seen.secret_shape;
    if let Some(odd) = shape.and_then(super::super::walk::Shape::oddity) {
        return Advice::new(
            "odd_password",
            symptom,
            format!("the secret from {source} {odd}"),
            format!("correct {source}; if it is meant to be so, {reset}"),
        );
    }
    Advice::new(
        "wrong_password",
        symptom,
        format!(
            "the password from {source} is not this user's, or there is no user \"{user}\": the server does not say which"
        ),
        reset,
    )
}

fn token(case: &Case<'_>, symptom: String) -> Advice {
    let source = case.secret_source.unwrap_or("the settings");
    let user = &case.user.name;
    let (cause, fix) = match case.seen.secret_shape.and_then(|shape| shape.token) {
        Some(token) if token.is_expired_at(case.seen.at) => (
            format!("the token from {source} has expired"),
            format!(
                "have {source} give a new one; a password command with a \"lifetime\" below the token's does so by itself"
            ),
        ),
        Some(_) => (
            format!(
                "no user \"{user}\" is mapped to the token's subject, or the cluster does not trust its issuer or audience"
            ),
            format!(
                "does the SQL user exist (for Cloud SSO it begins with sso_), and is server.jwt_authentication set up? The token comes from {source}"
            ),
        ),
        None => (
            format!("what {source} gives is no JWT: three parts with dots between"),
            format!("have {source} give the token itself, or set auth = \"password\""),
        ),
    };
    Advice::new("token_refused", symptom, cause, fix)
}

/// In the words of the proxy that stands before Basic and Standard clusters.
fn is_for_routed_clusters(words: &str) -> bool {
    ["codeParamsRoutingFailed", "missing cluster identifier", "invalid cluster name", "cluster name"]
        .iter()
        .any(|part| words.contains(part))
}

/// The database that a client gets is not there.
pub(super) fn no_database(case: &Case<'_>, name: &str, existing: &[String]) -> Advice {
    let of_api = case.cloud.and_then(|cloud| cloud.databases());
    let existing: Vec<_> = match of_api {
        Some(of_api) if existing.is_empty() => of_api,
        _ => existing.iter().map(String::as_str).collect(),
    };
    let there_are = if existing.is_empty() {
        "SHOW DATABASES lists them".to_owned()
    } else {
        format!("there are {}", listed(existing.iter().copied()))
    };
    let similar = existing.iter().find(|other| other.eq_ignore_ascii_case(name));
    let cause = match similar {
        Some(other) => format!("names mind their case: \"{other}\" is there"),
        None => "a typing error, another cluster, or it was never created".to_owned(),
    };
    Advice::new(
        "no_database",
        format!("{} has no database \"{name}\"", case.target()),
        cause,
        format!("correct \"database\" of the listener (--database); {there_are}"),
    )
}

/// Logged in, and then no answer.
pub(super) fn query(case: &Case<'_>, error: &AskError) -> Advice {
    let target = case.target();
    match error {
        AskError::Server(error) => Advice::new(
            "query_refused",
            format!("{target} answers SELECT 1 with {}: {}", error.sqlstate, error.message),
            "the node is not fit to serve: it restarts, or has lost its ranges",
            "try again in a minute; then look at the cluster's state in the Cloud Console",
        ),
        AskError::Lost(_) | AskError::Late => Advice::new(
            "query_unanswered",
            format!("{target} let \"{}\" in and then did not answer SELECT 1", case.user.name),
            "the node is overloaded, has lost its ranges, or what stands between cuts idle or large packets (an MTU too large for a tunnel)",
            "try again; look at the cluster's CPU; through a VPN, try with a smaller MTU",
        ),
    }
}
