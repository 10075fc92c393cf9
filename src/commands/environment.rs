//! The variables by which programs find a listener, and those of other databases that would lead them astray.

use crate::settings::{ClientHost, ConnectionParameters};
use std::{ffi::OsString, os::unix::ffi::OsStrExt};

/// What libpq and its relatives, most frameworks and `cockroach sql` look at.
///
/// # Errors
/// A name that no variable can hold.
pub(super) fn variables(parameters: &ConnectionParameters) -> Result<[(&'static str, OsString); 7], String> {
    check(parameters)?;
    let host = match &parameters.host {
        ClientHost::Folder(folder) => folder.clone().into_os_string(),
        ClientHost::Ip(ip) => ip.to_string().into(),
        ClientHost::Localhost => "localhost".into(),
    };
    let url = parameters.url();
    let variables = [
        ("PGHOST", host),
        ("PGPORT", parameters.port.to_string().into()),
        ("PGUSER", parameters.user.clone().into()),
        ("PGDATABASE", parameters.database.clone().into()),
        ("PGSSLMODE", parameters.sslmode().into()),
        ("DATABASE_URL", url.clone().into()),
        ("COCKROACH_URL", url.into()),
    ];
    match variables.iter().find(|(_, value)| value.as_bytes().contains(&0)) {
        Some((name, _)) => Err(format!("{name} would have to hold a NUL, which no variable can")),
        None => Ok(variables),
    }
}

/// Whether there is a way that most drivers can be told at all.
///
/// # Errors
/// There is none, and why.
pub(super) fn check(parameters: &ConnectionParameters) -> Result<(), String> {
    match &parameters.host {
        ClientHost::Folder(folder) if folder.as_os_str().as_bytes().contains(&b',') => Err(format!(
            "the folder {folder:?} has a comma in its name, which ends a host for libpq and its relatives; \
             have the socket in another one"
        )),
        _ => Ok(()),
    }
}

/// Variables that would turn libpq or `cockroach` to another place, or have them ask for TLS, a login or a version of
/// the protocol that there is not on this side. Not those of the session itself (`PGOPTIONS`, `PGTZ`, …), which the
/// program's user may want as they are, nor those of Kerberos, for which no listener asks.
pub(super) const MISLEADING: [&str; 30] = [
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSERVICEFILE",
    // Where libpq looks for services that the other one does not have.
    "PGSYSCONFDIR",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGMINPROTOCOLVERSION",
    "PGMAXPROTOCOLVERSION",
    "PGCHANNELBINDING",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGGSSENCMODE",
    "PGSSLNEGOTIATION",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCERTMODE",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLSNI",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "COCKROACH_HOST",
    "COCKROACH_PORT",
    "COCKROACH_USER",
    "COCKROACH_DATABASE",
    "COCKROACH_INSECURE",
    "COCKROACH_CERTS_DIR",
    "COCKROACH_CERT_PRINCIPAL_MAP",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_nul_is_none_for_a_variable() {
        let parameters = |user: &str| ConnectionParameters {
            host: ClientHost::Ip("::1".parse().unwrap()),
            port: 5,
            user: user.to_owned(),
            database: "d".to_owned(),
            needs_tls: false,
        };

        assert_eq!(variables(&parameters("u")).unwrap()[0], ("PGHOST", "::1".into()));
        let folder = ConnectionParameters { host: ClientHost::Folder("/run/a,b".into()), ..parameters("u") };
        assert!(variables(&folder).unwrap_err().starts_with("the folder \"/run/a,b\" has a comma"));
        assert!(variables(&parameters("a\0b")).unwrap_err().contains("PGUSER would have to hold a NUL"));
    }
}
