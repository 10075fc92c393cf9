//! What a cluster's certificate is verified against.
//!
//! Owns the choice of trusted certificates from a file, from inline text or from the machine. It
//! must never mix the three.

use super::{
    CaFacts,
    certificate::{self, Facts},
    doubts::Doubts,
    error::{Place, TlsSetupError},
    pem,
};
use crate::settings::CaSource;
use rustls::{RootCertStore, pki_types::CertificateDer};
use std::{borrow::Cow, time::SystemTime};

pub(super) struct Roots {
    pub(super) store: RootCertStore,
    pub(super) facts: Option<CaFacts>,
    pub(super) warnings: Vec<String>,
    pub(super) doubts: Doubts,
}

/// Reads the trusted certificates; expired ones are left out, since rustls does not look at the
/// dates of what it was told to trust.
pub(super) fn roots(source: &CaSource, now: SystemTime) -> Result<Roots, TlsSetupError> {
    let mut doubts = Doubts::default();
    let (place, text) = match source {
        CaSource::System => return system_roots(),
        CaSource::File(path) => {
            let place = Place::CaFile(path.clone());
            let text = pem::read(path, &place, &mut doubts)?;
            (place, Cow::Owned(text.to_vec()))
        }
        CaSource::Inline(text) => (Place::CaInline, Cow::Borrowed(text.as_bytes())),
    };
    let certificates = pem::certificates(&text, &place)?;
    Ok(Roots { doubts, ..judged(place, &certificates, now)? })
}

/// Sorts certificates into trusted ones and others; at least one must be trusted.
pub(super) fn judged(
    place: Place,
    certificates: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<Roots, TlsSetupError> {
    Bundle::new(place, now, certificates.len()).read(certificates)
}

fn system_roots() -> Result<Roots, TlsSetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // The machine's store may hold what no verifier can use; one good root is enough.
    let (usable, _) = store.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reason = found.errors.first().map(ToString::to_string);
        return Err(TlsSetupError::NoSystemRoots { reason });
    }
    Ok(Roots { store, facts: None, warnings: Vec::new(), doubts: Doubts::default() })
}

/// The certificates of one place, sorted into trusted ones and reasons why the others are not.
struct Bundle {
    place: Place,
    now: SystemTime,
    count: usize,
    store: RootCertStore,
    sha256: Vec<String>,
    ends: Vec<SystemTime>,
    last_expired: Option<SystemTime>,
    unreadable: Option<String>,
    warnings: Vec<String>,
}

impl Bundle {
    fn new(place: Place, now: SystemTime, count: usize) -> Self {
        Self {
            place,
            now,
            count,
            store: RootCertStore::empty(),
            sha256: Vec::new(),
            ends: Vec::new(),
            last_expired: None,
            unreadable: None,
            warnings: Vec::new(),
        }
    }

    fn read(mut self, certificates: &[CertificateDer<'static>]) -> Result<Roots, TlsSetupError> {
        for (index, der) in certificates.iter().enumerate() {
            self.take(index.saturating_add(1), der);
        }
        let place = self.place;
        if !self.store.is_empty() {
            let facts = self.ends.iter().min().map(|end| CaFacts { sha256: self.sha256, not_after: *end });
            let doubts = Doubts::default();
            return Ok(Roots { store: self.store, facts, warnings: self.warnings, doubts });
        }
        Err(match (self.last_expired, self.unreadable) {
            (Some(last), _) => TlsSetupError::AllExpired { place, last },
            (None, Some(reason)) => TlsSetupError::Malformed { place, reason },
            (None, None) => TlsSetupError::NotACa { place },
        })
    }

    fn take(&mut self, number: usize, der: &CertificateDer<'static>) {
        self.sha256.push(certificate::fingerprint(der));
        let facts = match Facts::read(der) {
            Ok(facts) => facts,
            Err(reason) => return self.unreadable(number, reason),
        };
        self.ends.push(facts.not_after);
        if facts.not_after < self.now {
            self.last_expired = self.last_expired.max(Some(facts.not_after));
            let end = certificate::day(facts.not_after);
            return self.warn(number, &format!("expired on {end} and is not trusted; remove it"));
        }
        if facts.is_leaf() {
            return self.warn(number, "is not a CA's and is not used; remove it");
        }
        if let Err(reason) = self.store.add(der.clone()) {
            return self.unreadable(number, reason.to_string());
        }
        if facts.not_before > self.now {
            let start = certificate::day(facts.not_before);
            self.warn(number, &format!("is not valid before {start}; is this machine's clock right?"));
        }
    }

    fn unreadable(&mut self, number: usize, reason: String) {
        self.warn(number, &format!("cannot be read and is not used: {reason}"));
        self.unreadable.get_or_insert(reason);
    }

    fn warn(&mut self, number: usize, text: &str) {
        let (place, count) = (&self.place, self.count);
        self.warnings.push(format!("certificate {number} of {count} in {place} {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf, handshake, write};
    use super::super::{cluster_tls, server_tls};
    use super::*;
    use std::path::Path;

    fn refuse(text: &str) -> TlsSetupError {
        let folder = tempfile::tempdir().unwrap();
        refuse_file(&write(folder.path(), "prod-ca.crt", text))
    }

    fn refuse_file(path: &Path) -> TlsSetupError {
        match roots(&CaSource::File(path.to_owned()), SystemTime::now()) {
            Ok(_) => panic!("accepted"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_ca_file_gives_its_fingerprint_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("one");
        let path = write(folder.path(), "ca.crt", &ca.pem());

        let roots = roots(&CaSource::File(path), SystemTime::now()).unwrap();

        let facts = roots.facts.unwrap();
        assert_eq!(facts.sha256, [certificate::fingerprint(&ca.der())]);
        assert_eq!(Some(facts.not_after), certificate::not_after(&ca.der()));
        assert_eq!(roots.store.len(), 1);
    }

    #[test]
    fn a_bundle_trusts_each_of_its_certificates_and_reports_the_earliest_end() {
        let (short, long) = (Ca::until("short", 2060), Ca::until("long", 2090));
        let bundle = CaSource::Inline(format!("{}\n# second\n{}", long.pem(), short.pem()));

        let roots = roots(&bundle, SystemTime::now()).unwrap();

        assert_eq!(roots.store.len(), 2);
        let facts = roots.facts.unwrap();
        assert_eq!(facts.sha256.len(), 2);
        assert_eq!(Some(facts.not_after), certificate::not_after(&short.der()));
    }

    #[test]
    fn an_expired_certificate_of_a_bundle_is_not_trusted_and_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (Ca::until("old", 2020), Ca::new("new"));
        let bundle = CaSource::Inline(old.pem() + &new.pem());

        let client = cluster_tls(&bundle, None, SystemTime::now()).unwrap();

        let [warning] = client.warnings.as_slice() else { panic!("{:?}", client.warnings) };
        assert!(warning.contains("certificate 1 of 2"), "{warning}");
        assert!(warning.contains("expired on 2020-01-01"), "{warning}");
        let leaf = old.issue(Leaf::named("localhost"));
        let server = server_tls(&leaf.files(folder.path(), "server")).unwrap();
        assert!(handshake(&client.config, &server.config, "localhost", &[]).is_err());
    }

    #[test]
    fn a_file_of_expired_certificates_is_refused_with_the_date() {
        let error = refuse(&(Ca::until("a", 2019).pem() + &Ca::until("b", 2020).pem()));

        assert!(matches!(error, TlsSetupError::AllExpired { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("prod-ca.crt") && text.contains("2020-01-01"), "{text}");
    }

    #[test]
    fn a_certificate_that_is_not_yet_valid_is_warned_about() {
        let text = Ca::new("one").pem();

        let roots = roots(&CaSource::Inline(text), SystemTime::UNIX_EPOCH).unwrap();

        assert!(roots.warnings[0].contains("is not valid before"), "{:?}", roots.warnings);
    }

    #[test]
    fn a_server_certificate_in_place_of_the_ca_is_told_apart() {
        let error = refuse(&Ca::new("one").issue(Leaf::named("localhost")).pem());

        assert!(matches!(error, TlsSetupError::NotACa { .. }), "{error:?}");
        assert!(error.to_string().contains("prod-ca.crt"), "{error}");
    }

    #[test]
    fn a_leaf_beside_a_ca_is_warned_about() {
        let ca = Ca::new("one");
        let chain = ca.issue(Leaf::named("localhost")).pem() + &ca.pem();

        let roots = roots(&CaSource::Inline(chain), SystemTime::now()).unwrap();

        assert_eq!(roots.store.len(), 1);
        assert!(roots.warnings[0].contains("is not a CA's"), "{:?}", roots.warnings);
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();

        let error = refuse_file(&folder.path().join("gone.crt"));

        assert!(matches!(error, TlsSetupError::Unreadable { .. }), "{error:?}");
        assert!(error.to_string().contains("gone.crt does not exist"), "{error}");
    }

    #[test]
    fn a_folder_is_not_read_as_a_file() {
        let folder = tempfile::tempdir().unwrap();

        let error = refuse_file(folder.path());

        assert!(matches!(error, TlsSetupError::NotAFile { .. }), "{error:?}");
    }

    #[test]
    fn an_inline_ca_without_a_certificate_names_the_parameter() {
        let error = roots(&CaSource::Inline("nothing".into()), SystemTime::now()).err().unwrap();

        assert!(error.to_string().contains("sslrootcert"), "{error}");
    }

    #[test]
    fn a_certificate_that_is_no_x509_is_told_with_its_reason() {
        let error = refuse("-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n");

        assert!(matches!(error, TlsSetupError::Malformed { .. }), "{error:?}");
    }
}
