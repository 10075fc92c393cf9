//! Connection strings as the Cloud Console gives them: `postgresql://USER@HOST:26257/DATABASE?…`.
//! Pure and total: any text gives a [`ConnectionString`] or faults, never a panic. No fault quotes any
//! part of the text, since a password may be anywhere in a string that was mistyped.
//!
//! People paste passwords without encoding them. A string is taken when only one reading of it is
//! possible; when there are two, guessing could send the password to a wrong host, so it is refused.

mod parameters;

use super::{
    AuthMethod,
    source::{Fault, Source},
};
use crate::secret::Secret;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::{borrow::Cow, net::Ipv6Addr};
use zeroize::Zeroizing;

/// What a connection string says.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionString {
    /// The SQL user.
    pub user: Option<String>,
    /// Its password, from before the `@` or from `password=`.
    pub password: Option<Secret>,
    /// A name or an IP address, the latter without brackets; never empty.
    pub host: String,
    /// From 1 on.
    pub port: Option<u16>,
    /// The path, when it is not empty.
    pub database: Option<String>,
    /// `sslrootcert`.
    pub root_certificate: Option<RootCertificate>,
    /// `sslcert`, a path.
    pub cert: Option<String>,
    /// `sslkey`, a path.
    pub key: Option<String>,
    /// `require_auth`, as far as the daemon does what it names.
    pub require_auth: Option<Vec<AuthMethod>>,
    /// `application_name`, `options`, `results_buffer_size`, in the order in which they stood.
    pub session_parameters: Vec<(String, String)>,
    /// Parameters that only tune libpq, by name.
    pub without_effect: Vec<&'static str>,
}

/// What the server's certificate is verified against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificate {
    /// `sslrootcert=system`.
    System,
    /// A path, not expanded.
    File(String),
    /// PEM text (`sslinline=true`).
    Inline(String),
}

/// Reads a connection string.
///
/// # Errors
/// Every rule that it breaks, with [`Source::ConnectionString`] and without any value.
pub fn parse(text: &str) -> Result<ConnectionString, Vec<Fault>> {
    let rest = without_scheme(text.trim()).map_err(|rule| vec![fault("", rule)])?;
    let mut readings = readings(rest);
    let reading = match (readings.pop(), readings.is_empty()) {
        (Some(only), true) => only,
        (Some(_), false) => return Err(vec![fault("", AMBIGUOUS)]),
        (None, _) => return Err(vec![fault("", diagnose(rest))]),
    };
    interpret(&reading)
}

impl ConnectionString {
    /// This host and nothing else.
    pub fn of_host(host: &str) -> Self {
        Self {
            user: None,
            password: None,
            host: host.to_owned(),
            port: None,
            database: None,
            root_certificate: None,
            cert: None,
            key: None,
            require_auth: None,
            session_parameters: Vec::new(),
            without_effect: Vec::new(),
        }
    }

    /// The string with everything encoded, so that it has one reading only; carries the password.
    pub fn export(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new("postgresql://".to_owned());
        if let Some(user) = &self.user {
            text.push_str(&encoded(user.as_bytes()));
        }
        if let Some(password) = &self.password {
            text.push(':');
            text.push_str(&Zeroizing::new(encoded(password.expose())));
        }
        if self.user.is_some() || self.password.is_some() {
            text.push('@');
        }
        if self.host.contains(':') {
            text.push_str(&format!("[{}]", self.host));
        } else {
            text.push_str(&self.host);
        }
        if let Some(port) = self.port {
            text.push_str(&format!(":{port}"));
        }
        if let Some(database) = &self.database {
            text.push('/');
            text.push_str(&encoded(database.as_bytes()));
        }
        let mut mark = '?';
        for (key, value) in parameters::of(self) {
            text.push(mark);
            text.push_str(&format!("{key}={}", encoded(value.as_bytes())));
            mark = '&';
        }
        text
    }
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

fn without_scheme(text: &str) -> Result<&str, &'static str> {
    if text.len() > BYTES_MAX {
        return Err("longer than 64 KiB");
    }
    if text.contains('\0') {
        return Err("contains a NUL");
    }
    let scheme = ["postgresql://", "postgres://"];
    if let Some(rest) = scheme.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        return Ok(rest);
    }
    Err(if text.starts_with("jdbc:") {
        "a JDBC URL; use the general connection string, postgresql://USER@HOST:26257/DATABASE"
    } else if text.contains("://") {
        "must begin with postgresql:// or postgres://"
    } else {
        "no connection string; it looks like postgresql://USER@HOST:26257/DATABASE?sslrootcert=FILE"
    })
}

/// One way to part the text, in which every part has the shape that it needs.
struct Reading<'t> {
    user: Option<&'t str>,
    password: Option<&'t str>,
    tail: Tail<'t>,
}

/// What follows the `@`.
struct Tail<'t> {
    host: &'t str,
    port: Option<&'t str>,
    database: &'t str,
    parameters: &'t str,
}

/// Every possible reading, at most two: more would be refused the same. Takes linear time, since the
/// scan of a tail stops at the next `@` unless it came to the parameters, where nothing is scanned.
fn readings(rest: &str) -> Vec<Reading<'_>> {
    let mut readings = Vec::new();
    readings.extend(tail(rest).map(|tail| Reading { user: None, password: None, tail }));
    let colon = rest.find(':');
    let user_end = colon.unwrap_or(rest.len());
    let bad_in_user = rest.find(['/', '?', '#', '@']).unwrap_or(rest.len());
    for (at, _) in rest.match_indices('@') {
        // Before an `@`, the user ends at the first colon; neither it nor a user alone may contain
        // what would have ended it.
        let user_end = user_end.min(at);
        if bad_in_user < user_end {
            break;
        }
        let (Some(user), Some(after)) = (rest.get(..user_end), rest.get(at + 1..)) else {
            continue;
        };
        let password = rest.get(user_end + 1..at);
        readings.extend(tail(after).map(|tail| Reading { user: Some(user), password, tail }));
        if readings.len() > 1 {
            break;
        }
    }
    readings
}

fn tail(text: &str) -> Option<Tail<'_>> {
    let (host, after_host) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let end = bracketed.bytes().take(IPV6_MAX + 1).position(|byte| byte == b']')?;
            let (ip, after) = bracketed.split_at_checked(end)?;
            ip.parse::<Ipv6Addr>().ok()?;
            (ip, after.strip_prefix(']')?)
        }
        None => {
            let well = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
            text.split_at_checked(text.bytes().take_while(|byte| well(byte)).count())?
        }
    };
    let (port, after_port) = match after_host.strip_prefix(':') {
        Some(after) => {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (port, after) = after.split_at_checked(digits)?;
            (Some(port).filter(|port| !port.is_empty()), after)
        }
        None => (None, after_host),
    };
    let (database, after) = match after_port.strip_prefix('/') {
        Some(path) => {
            let end = path.find(['?', '/', '#', '@']).unwrap_or(path.len());
            path.split_at_checked(end)?
        }
        None => ("", after_port),
    };
    let parameters = match after.strip_prefix('?') {
        Some(parameters) => parameters,
        None if after.is_empty() => "",
        None => return None,
    };
    (!host.is_empty()).then_some(Tail { host, port, database, parameters })
}

/// Why there is no reading at all.
fn diagnose(rest: &str) -> &'static str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    if hosts.contains(',') {
        return "names several hosts; give one here, or a settings file with one \
                [[cluster.NAME.endpoint]] each";
    }
    if hosts.is_empty() || hosts.starts_with(':') {
        return "names no host; it looks like postgresql://USER@HOST:26257/DATABASE";
    }
    if hosts.contains('%') {
        return "the host must be a plain name or an IP address; a Unix socket cannot lead to a cluster";
    }
    UNREADABLE
}

fn interpret(reading: &Reading<'_>) -> Result<ConnectionString, Vec<Fault>> {
    let Reading { user, password, tail } = reading;
    let mut faults = Vec::new();
    let mut take = |key, said: Option<&str>| {
        let said = said.filter(|said| !said.is_empty())?;
        decode(said, false).map_err(|rule| faults.push(fault(key, rule))).ok()
    };
    let user = take("user", *user);
    let database = take("database", Some(tail.database));
    let password = password.filter(|said| !said.is_empty());
    let follows_password = password.is_some();
    let unencoded = password.is_some_and(|said| said.contains(['@', '/', '?', '#', '[', ']']));
    let password = match password.map(|said| decode(said, unencoded)) {
        Some(Err(rule)) => {
            faults.push(fault("password", rule));
            None
        }
        Some(Ok(password)) => Some(Secret::new(password.into_bytes())),
        None => None,
    };
    let port = tail.port.and_then(|port| {
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        if port.is_none() {
            faults.push(fault("port", "must be a number from 1 to 65535"));
        }
        port
    });
    let host = ConnectionString::of_host(tail.host);
    let mut read = ConnectionString { user, password, port, database, ..host };
    parameters::read(tail.parameters, follows_password, &mut read, &mut faults);
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// Undoes percent-encoding where the writer used it. A `%` without two hexadecimal digits, or
/// anything else that encoding would have removed (`unencoded`), shows that the writer did not;
/// `%41` beside it could then be either.
fn decode(said: &str, unencoded: bool) -> Result<String, &'static str> {
    let (mut escapes, mut bare) = (0, 0);
    for part in said.split('%').skip(1) {
        let digits = part.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
        *(if digits == 2 { &mut escapes } else { &mut bare }) += 1;
    }
    if bare == 0 && !unencoded {
        let text = percent_decode_str(said).decode_utf8().ok().ok_or(NOT_UTF8)?;
        return match text {
            text if text.contains('\0') => Err("contains a NUL"),
            text => Ok(text.into_owned()),
        };
    }
    if escapes == 0 { Ok(said.to_owned()) } else { Err(HALF_ENCODED) }
}

fn fault(key: &str, rule: impl Into<Cow<'static, str>>) -> Fault {
    let rule = rule.into().into_owned();
    Fault { source: Source::ConnectionString, key: key.to_owned(), value: None, rule }
}

/// RFC 3986 calls these unreserved; all else is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const BYTES_MAX: usize = 64 * 1024;
/// The longest text of an IPv6 address.
const IPV6_MAX: usize = 45;
const NOT_UTF8: &str = "is not UTF-8 once its percent-encoding is undone; encode a literal % as %25";
const AMBIGUOUS: &str = "can be read in two ways, because of an @ that is not percent-encoded, and the \
    wrong one would send the password to another host; percent-encode special characters (@ as %40, : as \
    %3A, / as %2F, ? as %3F, # as %23, % as %25), or give the password by --password-file";
const HALF_ENCODED: &str = "can be read in two ways: some special characters are percent-encoded and \
    some are not; encode all of them (@ as %40, / as %2F, ? as %3F, # as %23, % as %25), or give the \
    password by --password-file";
const UNREADABLE: &str = "cannot be read as postgresql://USER:PASSWORD@HOST:PORT/DATABASE?NAME=VALUE; \
    percent-encode special characters in the user, password and database (@ as %40, : as %3A, / as %2F, \
    ? as %3F, # as %23, % as %25), or give the password by --password-file";

#[cfg(test)]
mod tests;
