//! The variables by which programs find a listener, and those of other databases that would lead them astray.

use crate::settings::{ClientHost, ConnectionParameters};
use std::{ffi::OsString, os::unix::ffi::OsStrExt};

/// What libpq and its relatives, most frameworks and `cockroach sql` look at.
///
/// # Errors
/// A name that no variable can hold.
pub(super) fn variables(parameters: &ConnectionParameters) -> Result<[(&'static str, OsString); 7], String> {
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

/// Variables that would turn libpq or `cockroach` to another place, or have them ask for TLS or a login that there is
/// not on this side.
pub(super) const MISLEADING: [&str; 26] = [
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGTARGETSESSIONATTRS",
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
