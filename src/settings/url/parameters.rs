//! The part of a connection string after `?`. Owns which parameters are known, refused or without
//! effect, and why. Names of unknown ones are shown only where they cannot be pieces of a password.

use super::{ConnectionString, RootCertificate, decode, fault};
use crate::{
    secret::Secret,
    settings::{
        AuthMethod,
        auth_methods::of_libpq,
        source::{Fault, nearest},
    },
};
use std::borrow::Cow;

/// Reads all parameters into `into`; what is wrong is added to `faults`. Behind a password, read or not, no unknown name is
/// shown.
pub(super) fn read(text: &str, follows_password: bool, into: &mut ConnectionString, faults: &mut Vec<Fault>) {
    let mut seen: Vec<&str> = Vec::new();
    let mut found = Found::default();
    // Behind an @ stands a host, and before it may stand a password: that of a second string, or one with a ? in it.
    let mut names_are_safe = !follows_password && !text.contains('@');
    for (index, part) in text.split('&').enumerate().filter(|(_, part)| !part.is_empty()) {
        let ordinal = || format!("parameter {}", index + 1);
        let Some((name, value)) = part.split_once('=') else {
            faults.push(fault(&ordinal(), "has no value; encode a literal & as %26"));
            continue;
        };
        // What follows may be the rest of a password with an & in it.
        names_are_safe &= !["password", "sslpassword"].contains(&name);
        let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
            let shown = if names_are_safe && is_name(name) { name.to_owned() } else { ordinal() };
            faults.push(fault(&shown, unknown(name)));
            continue;
        };
        if seen.contains(&known.means) {
            faults.push(fault(known.name, "given twice"));
            continue;
        }
        seen.push(known.means);
        match decode(value, false) {
            Ok(value) => apply(known, value, into, &mut found, faults),
            Err(rule) => faults.push(fault(known.name, rule)),
        }
    }
    found.finish(into, faults);
}

/// The parameters that say what `string` says, but for user, password, host, port and database.
pub(super) fn of(string: &ConnectionString) -> Vec<(&str, Cow<'_, str>)> {
    let mut parameters: Vec<(&str, Cow<'_, str>)> = Vec::new();
    match &string.root_certificate {
        None => (),
        Some(RootCertificate::System) => parameters.push(("sslrootcert", "system".into())),
        Some(RootCertificate::File(path)) => parameters.push(("sslrootcert", path.into())),
        Some(RootCertificate::Inline(pem)) => {
            parameters.push(("sslinline", "true".into()));
            parameters.push(("sslrootcert", pem.into()));
        }
    }
    parameters.extend(string.cert.iter().map(|path| ("sslcert", path.into())));
    parameters.extend(string.key.iter().map(|path| ("sslkey", path.into())));
    let words = |methods: &Vec<AuthMethod>| methods.iter().map(|method| method.word()).collect::<Vec<_>>().join(",");
    parameters.extend(string.require_auth.iter().map(|methods| ("require_auth", words(methods).into())));
    let session = string.session_parameters.iter();
    parameters.extend(session.map(|(key, value)| (key.as_str(), value.into())));
    parameters
}

/// Values whose meaning depends on another parameter.
#[derive(Default)]
struct Found {
    inline: bool,
    root_certificate: Option<String>,
}

impl Found {
    fn finish(self, into: &mut ConnectionString, faults: &mut Vec<Fault>) {
        let begins_pem = |text: &str| text.trim_start().starts_with("-----BEGIN");
        into.root_certificate = self.root_certificate.and_then(|said| match said.as_str() {
            "system" => Some(RootCertificate::System),
            _ if self.inline && begins_pem(&said) => Some(RootCertificate::Inline(said)),
            _ if self.inline => {
                faults.push(fault("sslrootcert", "must be PEM text, since sslinline=true says so"));
                None
            }
            _ if begins_pem(&said) => {
                faults.push(fault("sslrootcert", "PEM text needs sslinline=true beside it"));
                None
            }
            _ => Some(RootCertificate::File(said)),
        });
        if self.inline && (into.cert.is_some() || into.key.is_some()) {
            let rule = "a client certificate and key are taken from files only: write them to files and \
                        name these with --cert-file and --key-file";
            faults.push(fault("sslinline", rule));
        }
    }
}

fn apply(known: &Known, value: String, into: &mut ConnectionString, found: &mut Found, faults: &mut Vec<Fault>) {
    let empty = value.is_empty();
    match known.does {
        // libpq takes an empty value for none at all.
        _ if empty => (),
        Does::Mode => faults.extend(ssl_mode(&value).map(|rule| fault(known.name, rule))),
        Does::Inline => match value.as_str() {
            "true" => found.inline = true,
            "false" => (),
            _ => faults.push(fault(known.name, "must be true or false")),
        },
        Does::RootCertificate => found.root_certificate = Some(value),
        Does::Cert => into.cert = Some(value),
        Does::Key => into.key = Some(value),
        Does::User if into.user.is_some() => faults.push(fault(known.name, TWICE)),
        Does::User => into.user = Some(value),
        Does::Password if into.password.is_some() => faults.push(fault(known.name, TWICE)),
        Does::Password => into.password = Some(Secret::new(value.into_bytes())),
        Does::RequireAuth => match of_libpq(&value) {
            Ok(methods) => into.require_auth = Some(methods),
            Err(rule) => faults.push(fault(known.name, rule)),
        },
        Does::Session => into.session_parameters.push((known.means.to_owned(), value)),
        Does::Nothing => into.without_effect.push(known.name),
        Does::Refused(why) => faults.push(fault(known.name, why)),
    }
}

fn ssl_mode(value: &str) -> Option<&'static str> {
    match value {
        "verify-full" => None,
        "disable" | "allow" | "prefer" | "require" => Some(
            "weaker than verify-full, so anyone on the way could pose as the cluster and take the \
             password; leave sslmode out or say sslmode=verify-full, with the cluster's CA in \
             sslrootcert or --ca-file",
        ),
        "verify-ca" => Some(
            "weaker than verify-full, so a server of another name with a certificate of the same CA \
             could pose as the cluster; leave sslmode out or say sslmode=verify-full, and where the \
             dialled name differs from the certificate's set --tls-server-name",
        ),
        _ => Some("must be verify-full"),
    }
}

/// Anything else may be a piece of something secret.
fn is_name(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn unknown(name: &str) -> String {
    let suggestion = nearest(name, KNOWN.iter().map(|known| known.name));
    let suggestion = suggestion.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
    format!("no known parameter{suggestion}; encode a literal & as %26")
}

struct Known {
    name: &'static str,
    /// Two spellings of one parameter mean the same.
    means: &'static str,
    does: Does,
}

#[derive(Clone, Copy)]
enum Does {
    Mode,
    Inline,
    RootCertificate,
    Cert,
    Key,
    User,
    Password,
    RequireAuth,
    Session,
    Nothing,
    Refused(&'static str),
}

const fn known(name: &'static str, does: Does) -> Known {
    Known { name, means: name, does }
}

const TWICE: &str = "given before the @ as well; give it once";
const HOST: &str = "must stand before the path: postgresql://USER@HOST:PORT/DATABASE";
const WEAKENS: &str = "not supported, and leaving it unheeded would be less safe than asked for; take it out";
const KNOWN: &[Known] = &[
    known("sslmode", Does::Mode),
    known("sslinline", Does::Inline),
    known("sslrootcert", Does::RootCertificate),
    known("sslcert", Does::Cert),
    known("sslkey", Does::Key),
    known("user", Does::User),
    known("password", Does::Password),
    known("application_name", Does::Session),
    Known { name: "ApplicationName", means: "application_name", does: Does::Session },
    known("options", Does::Session),
    known("results_buffer_size", Does::Session),
    known("host", Does::Refused(HOST)),
    known("port", Does::Refused(HOST)),
    known("dbname", Does::Refused(HOST)),
    known("database", Does::Refused(HOST)),
    known("hostaddr", Does::Refused("give the address as --host and the certificate's name as --tls-server-name")),
    known("passfile", Does::Refused("not read here; use --password-file, a file with the password alone")),
    known("service", Does::Refused("service files are not read; write the parameters out")),
    known("sslpassword", Does::Refused("an encrypted key is refused; give an unencrypted one with mode 0600")),
    known("replication", Does::Refused("clients ask for replication themselves")),
    known("sslcrl", Does::Refused(WEAKENS)),
    known("sslcrldir", Does::Refused(WEAKENS)),
    known("require_auth", Does::RequireAuth),
    known("requirepeer", Does::Refused(WEAKENS)),
    known("ssl_min_protocol_version", Does::Refused("TLS 1.2 is the least, always; take it out")),
    known("ssl_max_protocol_version", Does::Nothing),
    known("channel_binding", Does::Nothing),
    known("client_encoding", Does::Nothing),
    known("connect_timeout", Does::Nothing),
    known("fallback_application_name", Does::Nothing),
    known("gssdelegation", Does::Nothing),
    known("gssencmode", Does::Nothing),
    known("gsslib", Does::Nothing),
    known("keepalives", Does::Nothing),
    known("keepalives_count", Does::Nothing),
    known("keepalives_idle", Does::Nothing),
    known("keepalives_interval", Does::Nothing),
    known("krbsrvname", Does::Nothing),
    known("load_balance_hosts", Does::Nothing),
    known("max_protocol_version", Does::Nothing),
    known("min_protocol_version", Does::Nothing),
    known("sslcertmode", Does::Nothing),
    known("sslcompression", Does::Nothing),
    known("sslnegotiation", Does::Nothing),
    known("sslsni", Does::Nothing),
    known("target_session_attrs", Does::Nothing),
    known("tcp_user_timeout", Does::Nothing),
];
