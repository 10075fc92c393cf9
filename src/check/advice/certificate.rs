//! Certificates that were not accepted: the most frequent trouble of all.

use super::{Advice, Case, listed};
use crate::{
    diagnostics::rfc3339,
    settings::{CaSource, EndpointKind},
    tls::{CertificateProblem, Described},
};
use std::time::{Duration, SystemTime};

/// Why the certificate was not accepted, and what to do.
pub(super) fn certificate(case: &Case<'_>, problem: &CertificateProblem) -> Advice {
    match problem {
        CertificateProblem::UnknownCa | CertificateProblem::UnknownToSystem => unknown_ca(case, problem),
        CertificateProblem::SelfSigned => Advice::new(
            "self_signed",
            format!("{} shows a CA certificate as its own", case.target()),
            "a self-signed server, or an inspecting proxy",
            "no CockroachDB Cloud cluster does that: is \"host\" right? For a server of your own: have a CA issue its certificate",
        ),
        CertificateProblem::Expired { .. } => dates(case, "certificate_expired", problem, "ahead"),
        CertificateProblem::NotYetValid { .. } => dates(case, "certificate_not_yet_valid", problem, "behind"),
        CertificateProblem::Name { presented, .. } => name(case, presented),
        CertificateProblem::Other(_) => Advice::new(
            "certificate_refused",
            format!("{}: {problem}", case.target()),
            "the certificate breaks a rule of TLS",
            "the server's operator has to look at it",
        ),
    }
}

fn unknown_ca(case: &Case<'_>, problem: &CertificateProblem) -> Advice {
    let shown = case.seen.chain.first();
    let issuer = shown.map_or("nobody that could be read", |shown| shown.issuer.as_str());
    let fetch = "fetch this cluster's own: `crdb-proxy ca fetch --cluster-id ID` (no key needed), or the Connect dialog of the \
                 Cloud Console, and name that file as \"ca\" (--ca-file, sslrootcert=)";
    if shown.is_some_and(is_of_basic_or_standard) {
        return Advice::new(
            "public_ca",
            format!("{}: its certificate is issued by \"{issuer}\", a public CA", case.target()),
            "Basic and Standard clusters have such certificates; Advanced ones have a CA of their own, so \"host\" may be another cluster's",
            "compare \"host\" with the Connect dialog; for a Basic or Standard cluster set ca = \"system\"",
        );
    }
    let root_crt = match &case.cluster.ca {
        CaSource::File(path) if path.ends_with(".postgresql/root.crt") => {
            "\"ca\" is ~/.postgresql/root.crt, which tools write for Basic and Standard clusters; "
        }
        _ => "",
    };
    let machine = if *problem == CertificateProblem::UnknownToSystem {
        "ca = \"system\" trusts this machine's CAs, and an Advanced cluster has a CA of its own"
    } else {
        ""
    };
    Advice::new(
        "unknown_ca",
        format!("{}: its certificate is issued by \"{issuer}\", which \"ca\" does not trust", case.target()),
        if machine.is_empty() {
            format!(
                "{root_crt}the CA file is another cluster's, or a proxy that inspects TLS stands between (then the issuer is your company's)"
            )
        } else {
            machine.to_owned()
        },
        format!("{fetch}. If the issuer is your company's, have the cluster's hosts exempted from inspection"),
    )
}

/// As the public CAs write themselves that Basic and Standard clusters use.
fn is_of_basic_or_standard(shown: &Described) -> bool {
    ["Let's Encrypt", "ISRG", "Google Trust Services"].iter().any(|name| shown.issuer.contains(name))
}

fn dates(case: &Case<'_>, id: &'static str, problem: &CertificateProblem, off: &str) -> Advice {
    let clock = case.cloud.and_then(|cloud| cloud.clock_off_by);
    let clock = match clock {
        Some(seconds) if seconds.abs() > CLOCK_SLACK_SECONDS => {
            format!("this machine's clock is {} s {}", seconds.abs(), if seconds > 0 { "ahead" } else { "behind" })
        }
        Some(_) => "this machine's clock is right, so it is the certificate".to_owned(),
        None => format!("this machine's clock is {off}, or the certificate is at fault"),
    };
    let dates = case.seen.chain.first().map(|shown| {
        format!(
            " (from {} to {}; here it is {})",
            rfc3339(shown.not_before),
            rfc3339(shown.not_after),
            rfc3339(case.seen.at)
        )
    });
    Advice::new(
        id,
        format!("{}: {problem}{}", case.target(), dates.unwrap_or_default()),
        clock,
        "set the clock (`timedatectl` shows whether it is synchronised); if it is right, ask Cockroach Labs support",
    )
}

fn name(case: &Case<'_>, presented: &[String]) -> Advice {
    let wanted = case.endpoint.tls_server_name.to_str();
    let carries: Vec<_> = match case.seen.chain.first() {
        Some(shown) if !shown.names.is_empty() => shown.names.clone(),
        _ => presented.to_vec(),
    };
    let symptom = format!(
        "{}: the certificate is not for \"{wanted}\", but for {}",
        case.target(),
        if carries.is_empty() { "no name at all".to_owned() } else { listed(carries.iter().map(String::as_str)) }
    );
    let known = case.cloud.and_then(|cloud| cloud.names_of(case.endpoint).find(|name| is_for(&carries, name)));
    if let Some(name) = known {
        return Advice::new(
            "name_mismatch",
            symptom,
            format!("the cluster's own name for this way is \"{name}\", and the certificate carries it"),
            format!("set tls_server_name = \"{name}\" on this endpoint"),
        );
    }
    let (cause, fix) = match case.endpoint.kind {
        EndpointKind::Psc => (
            "the name in front of the host does not fit the pattern of the certificate",
            "\"endpoint_name\" must be one label, and the host the cluster's private_endpoint_dns as it is",
        ),
        _ => (
            "an IP address, a vpce- name, a CNAME or a tunnel is dialled, which no certificate of the cluster carries; or \"host\" is another cluster's",
            "keep \"host\" as it is and set \"tls_server_name\" (--tls-server-name) to the cluster's own host name of this path, as the Connect dialog shows it",
        ),
    };
    Advice::new("name_mismatch", symptom, cause, fix)
}

/// The server's certificate ends soon.
pub(crate) fn certificate_ends(case: &Case<'_>, end: SystemTime) -> Option<Advice> {
    let left = end.duration_since(case.seen.at).ok().filter(|left| *left < CERTIFICATE_SOON)?;
    Some(Advice::new(
        "certificate_ends_soon",
        format!("the certificate of {} ends in {} days", case.target(), days(left)),
        "the provider renews certificates in time, as a rule",
        "nothing yet; if it is still so two days before, ask Cockroach Labs support",
    ))
}

/// The CA ends soon.
pub(crate) fn ca_ends(end: SystemTime, now: SystemTime) -> Option<Advice> {
    let left = end.duration_since(now).ok().filter(|left| *left < CA_SOON)?;
    Some(Advice::new(
        "ca_ends_soon",
        format!("a CA certificate of \"ca\" ends in {} days", days(left)),
        "the cluster gets a new CA before that; what it signs is refused until the file here has it too",
        "`crdb-proxy ca fetch --cluster-id ID` shows whether there is a new one",
    ))
}

fn days(span: Duration) -> u64 {
    span.as_secs() / 86_400
}

/// Whether one of these names, which may begin with `*.`, is for `name`.
fn is_for(carried: &[String], name: &str) -> bool {
    carried.iter().any(|carried| match carried.strip_prefix("*.") {
        Some(domain) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => carried.eq_ignore_ascii_case(name),
    })
}

/// Less is not worth a word: the API's `Date` is in whole seconds, and the answer took its time.
const CERTIFICATE_SOON: Duration = Duration::from_secs(7 * 86_400);
const CA_SOON: Duration = Duration::from_secs(30 * 86_400);
const CLOCK_SLACK_SECONDS: i64 = 30;
