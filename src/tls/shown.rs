//! A certificate in words, for people who have to tell it from another one.

use super::certificate::fingerprint;
use crate::diagnostics::printable;
use rustls::pki_types::CertificateDer;
use std::{net::IpAddr, time::SystemTime};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// What a certificate says of itself. Nothing of it is believed: it may be anybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Whose it is, as RFC 4514 writes names.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The common name of [`Described::subject`].
    pub common_name: Option<String>,
    /// The host names and addresses that it is for.
    pub names: Vec<String>,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

impl Described {
    /// Reads one; nothing when it is not X.509 in strict DER. Texts are bounded and hold no control characters.
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0);
        Some(Self {
            common_name: common_name(&certificate.subject),
            subject: text(&certificate.subject.to_string()),
            issuer: text(&certificate.issuer.to_string()),
            names: names.unwrap_or_default().iter().filter_map(name).take(NAMES_MAX).collect(),
            not_before: certificate.validity.not_before.to_system_time(),
            not_after: certificate.validity.not_after.to_system_time(),
            sha256: fingerprint(der),
        })
    }
}

fn common_name(subject: &x509_cert::name::Name) -> Option<String> {
    let parts = subject.to_string();
    parts.split(['+', ',']).find_map(|part| part.trim().strip_prefix("CN=").map(text))
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(text(name.as_str())),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let address = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            address.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn text(said: &str) -> String {
    printable(&said.chars().take(TEXT_CHARS_MAX).collect::<String>())
}

const NAMES_MAX: usize = 50;
const TEXT_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf};
    use super::*;

    #[test]
    fn a_certificate_is_told_by_its_names_dates_and_issuer() {
        let ca = Ca::new("one");
        let leaf = ca.issue(Leaf::named("db.example"));

        let (own, issuer) = (Described::of(&leaf.der()).unwrap(), Described::of(&ca.der()).unwrap());

        assert_eq!(own.names, ["db.example"]);
        assert_eq!(own.issuer, issuer.subject);
        assert!(own.not_before < SystemTime::now() && own.not_after > SystemTime::now());
        assert_eq!(own.sha256.len(), 64);
        assert_ne!(own.sha256, issuer.sha256);
    }

    #[test]
    fn what_is_no_certificate_is_not_described() {
        assert_eq!(Described::of(&CertificateDer::from(b"nonsense".to_vec())), None);
    }
}
