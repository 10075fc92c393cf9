//! Why a server's certificate was not accepted, in people's words.

use super::certificate;
use rustls::{CertificateError, OtherError, pki_types::UnixTime};
use std::{
    error::Error,
    fmt, io,
    time::{Duration, SystemTime},
};

/// Why a server's certificate was not accepted. Nothing that it says is secret; names and dates
/// come from the server's certificate and are bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateProblem {
    /// Not issued by what the cluster's settings trust.
    UnknownCa,
    /// Not issued by any CA of this machine, which the settings trust instead of the cluster's own.
    UnknownToSystem,
    /// The server shows a CA's certificate as its own, as self-signed servers do.
    SelfSigned,
    /// It has ended; the moment is unknown when the library did not tell.
    Expired {
        /// When.
        not_after: Option<SystemTime>,
    },
    /// It has not begun.
    NotYetValid {
        /// When it will.
        not_before: Option<SystemTime>,
    },
    /// It is for other names.
    Name {
        /// The name that was asked for; empty when the library did not tell.
        expected: String,
        /// The first ten names that it carries.
        presented: Vec<String>,
    },
    /// Anything else, in the library's words, bounded.
    Other(String),
}

impl CertificateProblem {
    /// What is wrong with the certificate; nothing when the handshake failed for another reason.
    pub fn of(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(error) => Some(Self::of_certificate(error)),
            rustls::Error::NoCertificatesPresented => Some(Self::Other("the server showed no certificate".to_owned())),
            _ => None,
        }
    }

    /// As [`CertificateProblem::of`], for the [`io::Error`] in which a stream wraps it.
    pub fn of_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().and_then(Self::of)
    }

    /// The same problem, for a connection that trusts the machine's own roots.
    pub fn under_system_roots(self) -> Self {
        match self {
            Self::UnknownCa => Self::UnknownToSystem,
            other => other,
        }
    }

    /// The likeliest causes and what to do next, as a full sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownToSystem => {
                "A CockroachDB Cloud Advanced cluster has a CA of its own: download its certificate from the Cloud Console and name that file as \"ca\"."
            }
            Self::UnknownCa => {
                "The CA file may be another cluster's, or something between here and the cluster opens TLS connections. Download this cluster's CA certificate from the Cloud Console and name it as \"ca\"."
            }
            Self::SelfSigned => "Give the server a certificate that a CA issued, and name that CA as \"ca\".",
            Self::Expired { .. } => {
                "Is this machine's clock right? If so, the server's operator has to renew the certificate."
            }
            Self::NotYetValid { .. } => "Is this machine's clock right? It may be behind.",
            Self::Name { presented, .. } if presented.is_empty() => {
                "The certificate needs its names as subject alternative names; a common name alone does not count."
            }
            Self::Name { .. } => {
                "Set the endpoint's \"tls_server_name\" to the name that the certificate should carry (for an IP address, a private endpoint or a tunnel: the host name of the cluster), or correct \"host\"."
            }
            Self::Other(_) => "The server's operator has to look at its certificate.",
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // Two clusters' CAs may bear one name: then the wrong one is found by name, and what
            // fails is the signature, or the kind of key that it was made with.
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::UnknownCa,
            CertificateError::Expired => Self::Expired { not_after: None },
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired { not_after: system_time(*not_after) },
            CertificateError::NotValidYet => Self::NotYetValid { not_before: None },
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid { not_before: system_time(*not_before) }
            }
            CertificateError::NotValidForName => Self::Name { expected: String::new(), presented: Vec::new() },
            CertificateError::NotValidForNameContext { expected, presented } => Self::Name {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().take(NAMES_MAX).map(|name| name_text(name)).collect(),
            },
            CertificateError::Other(OtherError(inner)) if is_ca_as_server(inner.as_ref()) => Self::SelfSigned,
            other => Self::Other(bounded(&other.to_string(), TEXT_CHARS_MAX)),
        }
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownToSystem => {
                f.write_str("the server's certificate was not issued by any CA of this machine (ca = \"system\")")
            }
            Self::UnknownCa => f.write_str("the server's certificate was not issued by the cluster's CA"),
            Self::SelfSigned => f.write_str("the server shows a CA certificate as its own (a self-signed certificate)"),
            Self::Expired { not_after: None } => f.write_str("the server's certificate has expired"),
            Self::Expired { not_after: Some(end) } => {
                let end = certificate::moment(*end);
                write!(f, "the server's certificate expired on {end}")
            }
            Self::NotYetValid { not_before: None } => f.write_str("the server's certificate is not valid yet"),
            Self::NotYetValid { not_before: Some(start) } => {
                let start = certificate::moment(*start);
                write!(f, "the server's certificate is not valid before {start}")
            }
            Self::Name { expected, presented } => {
                write!(f, "the server's certificate is not for \"{expected}\" but for ")?;
                match presented.as_slice() {
                    [] => f.write_str("no name at all"),
                    names => f.write_str(&names.join(", ")),
                }
            }
            Self::Other(text) => write!(f, "the server's certificate was not accepted: {text}"),
        }
    }
}

impl Error for CertificateProblem {}

/// The verifier's own error type is no dependency of ours, so it is known by its name; a test
/// holds the two together.
fn is_ca_as_server(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    format!("{error:?}") == "CaUsedAsEndEntity"
}

fn system_time(time: UnixTime) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// `DnsName("db.example")` as the library writes it → `db.example`.
fn name_text(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    bounded(inner.unwrap_or(name).trim_matches('"'), NAME_CHARS_MAX)
}

fn bounded(text: &str, chars_max: usize) -> String {
    let shown = text.chars().take(chars_max);
    shown.map(|char| if char.is_control() { '?' } else { char }).collect()
}

const NAMES_MAX: usize = 10;
/// As long as a DNS name may be.
const NAME_CHARS_MAX: usize = 253;
const TEXT_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Issued, Leaf, handshake};
    use super::super::{cluster_tls, not_after};
    use super::*;

    fn problem(trusted: &Ca, server: &Issued, name: &str) -> CertificateProblem {
        let client = cluster_tls(&trusted.source(), None, SystemTime::now()).unwrap();
        let error = handshake(&client.config, &server.server(), name, &[]).unwrap_err();
        CertificateProblem::of_io(&io::Error::new(io::ErrorKind::InvalidData, error)).unwrap()
    }

    #[test]
    fn a_certificate_of_another_ca_is_told_as_such() {
        let server = Ca::new("another").issue(Leaf::named("localhost"));

        let problem = problem(&Ca::new("one"), &server, "localhost");

        assert_eq!(problem, CertificateProblem::UnknownCa);
        assert!(problem.hint().contains("another cluster's"), "{}", problem.hint());
    }

    #[test]
    fn a_certificate_of_another_ca_with_the_same_name_is_an_unknown_ca_too() {
        let kinds = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
            &rcgen::PKCS_ED25519,
        ];
        for kind in kinds {
            let server = Ca::make("same", 2100, kind).issue(Leaf::named("localhost"));

            let problem = problem(&Ca::new("same"), &server, "localhost");

            assert_eq!(problem, CertificateProblem::UnknownCa, "{kind:?}");
        }
    }

    #[test]
    fn an_expired_certificate_is_told_with_its_end() {
        let ca = Ca::new("one");
        let server = ca.issue(Leaf::named("localhost").until(2020));

        let problem = problem(&ca, &server, "localhost");

        let not_after = not_after(&server.der());
        assert_eq!(problem, CertificateProblem::Expired { not_after });
        let text = problem.to_string();
        assert_eq!(text, "the server's certificate expired on 2020-01-01 00:00:00 UTC");
    }

    #[test]
    fn a_certificate_of_the_future_is_told_with_its_beginning() {
        let ca = Ca::new("one");

        let problem = problem(&ca, &ca.issue(Leaf::named("localhost").from(2099)), "localhost");

        let text = problem.to_string();
        assert_eq!(text, "the server's certificate is not valid before 2099-01-01 00:00:00 UTC");
    }

    #[test]
    fn a_wrong_name_is_told_with_both_names() {
        let ca = Ca::new("one");
        let names = vec!["*.example.com".to_owned(), "127.0.0.1".to_owned()];
        let server = ca.issue(Leaf::named("").names(names));

        let problem = problem(&ca, &server, "db.internal");

        let expected = "the server's certificate is not for \"db.internal\" but for *.example.com, 127.0.0.1";
        assert_eq!(problem.to_string(), expected);
        assert!(problem.hint().contains("tls_server_name"), "{}", problem.hint());
    }

    #[test]
    fn an_ip_address_that_the_certificate_lacks_is_a_wrong_name() {
        let ca = Ca::new("one");

        let problem = problem(&ca, &ca.issue(Leaf::named("localhost")), "10.1.2.3");

        let presented = vec!["localhost".to_owned()];
        let expected = "10.1.2.3".to_owned();
        assert_eq!(problem, CertificateProblem::Name { expected, presented });
    }

    #[test]
    fn a_certificate_without_names_is_told_with_what_it_needs() {
        let ca = Ca::new("one");
        let server = ca.issue(Leaf::named("").names(Vec::new()));

        let problem = problem(&ca, &server, "localhost");

        assert!(problem.to_string().ends_with("but for no name at all"), "{problem}");
        assert!(problem.hint().contains("subject alternative names"), "{}", problem.hint());
    }

    #[test]
    fn only_the_first_ten_names_are_told() {
        let ca = Ca::new("one");
        let names = (0..50).map(|number| format!("n{number}.example.com")).collect();
        let server = ca.issue(Leaf::named("").names(names));

        let CertificateProblem::Name { presented, .. } = problem(&ca, &server, "localhost") else {
            panic!("not a name problem")
        };

        assert_eq!(presented.len(), 10);
        assert_eq!(presented[9], "n9.example.com");
    }

    #[test]
    fn a_self_signed_server_is_told_as_such() {
        let ca = Ca::new("one");

        assert_eq!(problem(&ca, &ca.as_server(), "localhost"), CertificateProblem::SelfSigned);
    }

    #[test]
    fn a_failed_handshake_with_an_accepted_certificate_is_no_problem_of_the_certificate() {
        assert_eq!(CertificateProblem::of(&rustls::Error::NoApplicationProtocol), None);
        assert_eq!(CertificateProblem::of_io(&io::Error::other("reset")), None);
        assert_eq!(CertificateProblem::of_io(&io::ErrorKind::ConnectionReset.into()), None);
    }

    #[test]
    fn what_a_certificate_says_is_shown_bounded_and_without_control_characters() {
        let shown = name_text(&format!("DnsName(\"a\x1b[2J{}\")", "x".repeat(1000)));

        assert_eq!(shown.chars().count(), 253);
        assert!(shown.starts_with("a?[2J"), "{shown}");
    }
}
