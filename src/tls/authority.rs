//! What people compare of a CA before they trust it: fingerprints, subjects, dates. Decides by the same
//! rules as a cluster's `ca`, so that nothing is written that the daemon would refuse.

use super::{
    ca,
    certificate::{self, Facts},
    error::{Place, TlsSetupError},
    pem,
};
use std::time::SystemTime;

/// The certificates of a CA, at least one of which can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// In the text's order.
    pub certificates: Vec<Authority>,
    /// The same as PEM text, and nothing else that stood around them.
    pub pem: String,
    /// Why some of them are not used, one sentence each.
    pub warnings: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// SHA-256 of the certificate (DER), lower-case hex.
    pub sha256: String,
    /// Whom it names, as RFC 4514 writes it; bounded, and what the certificate says: not fit for a terminal as it is.
    pub subject: String,
    /// First and last day, in UTC: `2020-01-01 to 2030-01-01`.
    pub validity: String,
}

/// Reads certificates as a cluster's `ca` would be read.
///
/// # Errors
/// No certificate, broken ones, none of a CA, expired ones only, or more than a CA file may have.
pub fn authorities(text: &[u8], place: &Place, now: SystemTime) -> Result<Authorities, TlsSetupError> {
    let read = pem::certificates(text, place)?;
    let pem = pem::text(&read, place)?;
    let roots = ca::judged(place.clone(), &read, now)?;
    Ok(Authorities { certificates: certificates(pem.as_bytes(), place)?, pem, warnings: roots.warnings })
}

/// The same without a judgement: of expired certificates and of leaves too.
///
/// # Errors
/// No certificate, or broken PEM.
pub fn certificates(text: &[u8], place: &Place) -> Result<Vec<Authority>, TlsSetupError> {
    let read = pem::certificates(text, place)?;
    let certificates = read.iter().map(|der| {
        let (subject, validity) = match Facts::read(der) {
            Ok(facts) => {
                let days = [facts.not_before, facts.not_after].map(certificate::day);
                (facts.subject.chars().take(SUBJECT_CHARS_MAX).collect(), days.join(" to "))
            }
            Err(reason) => (reason, "unknown".to_owned()),
        };
        Authority { sha256: certificate::fingerprint(der), subject, validity }
    });
    Ok(certificates.collect())
}

/// Names of CAs are a tenth of it.
const SUBJECT_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf};
    use super::*;

    fn read(text: &str) -> Result<Authorities, TlsSetupError> {
        authorities(text.as_bytes(), &Place::CaFetched("cloud.test".to_owned()), SystemTime::now())
    }

    #[test]
    fn each_certificate_tells_fingerprint_subject_and_days() {
        let (one, other) = (Ca::new("one"), Ca::until("other", 2090));

        let read = read(&(one.pem() + &other.pem())).unwrap();

        let [first, second] = read.certificates.as_slice() else { panic!("{read:?}") };
        assert_eq!(first.sha256, certificate::fingerprint(&one.der()));
        assert_eq!((first.subject.as_str(), first.validity.as_str()), ("CN=one", "2000-01-01 to 2100-01-01"));
        assert_eq!((second.subject.as_str(), second.validity.as_str()), ("CN=other", "2000-01-01 to 2090-01-01"));
        assert!(read.warnings.is_empty(), "{read:?}");
    }

    #[test]
    fn nothing_is_kept_but_the_certificates() {
        let (one, other) = (Ca::new("one"), Ca::new("other"));
        let text = format!("\u{1b}[2Jjunk\n{}\u{202e}\n{}<html>\n", one.pem().replace('\n', "\r\n"), other.pem());

        assert_eq!(read(&text).unwrap().pem, one.pem() + &other.pem());
    }

    #[test]
    fn more_than_a_ca_file_may_have_is_refused() {
        let many = Ca::new("one").pem().repeat(3000);

        assert!(read(&many).unwrap_err().to_string().contains("is over 1 MiB"));
    }

    #[test]
    fn what_a_cluster_would_refuse_is_refused() {
        let ca = Ca::new("one");

        let told = |text: &str| read(text).unwrap_err().to_string();

        let page = told("<html>Welcome to our hotel</html>");
        assert_eq!(
            page,
            "the CA certificate that cloud.test gives holds no certificate: it holds a web page; was the download refused?"
        );
        let page = told("<html>-----BEGIN CERTIFICATE-----</html>");
        assert!(page.ends_with("it holds a web page; was the download refused?"), "{page}");
        let inside = told("here: -----BEGIN CERTIFICATE-----");
        assert!(inside.ends_with("is broken: a BEGIN line does not begin its line"), "{inside}");
        assert!(told("").ends_with("it is empty"));
        assert!(told(&Ca::until("old", 2020).pem()).contains("expired on 2020-01-01"));
        assert!(told(&ca.issue(Leaf::named("localhost")).pem()).contains("not of a CA"));
        assert!(told(&ca.pem().replace("-----END", "")).contains("is broken"));
    }

    #[test]
    fn an_expired_certificate_beside_a_good_one_is_warned_about() {
        let read = read(&(Ca::until("old", 2020).pem() + &Ca::new("new").pem())).unwrap();

        assert_eq!(read.certificates.len(), 2);
        assert!(read.warnings[0].contains("certificate 1 of 2"), "{read:?}");
    }
}
