//! Facts read out of one certificate: its dates, its fingerprint and its channel binding.
//!
//! Nothing here decides whether a certificate is trusted; that is the TLS library's work alone.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use std::{fmt::Write, time::SystemTime};
use x509_cert::{
    Certificate,
    der::{DateTime, Decode, SliceReader, TagNumber, asn1::ContextSpecific, asn1::ObjectIdentifier},
    ext::pkix::BasicConstraints,
    spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef},
};

/// When the certificate ends; nothing when it is not X.509 in strict DER.
pub fn not_after(der: &CertificateDer<'_>) -> Option<SystemTime> {
    Facts::read(der).ok().map(|facts| facts.not_after)
}

/// The channel binding `tls-server-end-point` of a server's leaf certificate (RFC 5929 §4.1): its
/// digest under the hash of its signature algorithm, and under SHA-256 where that is MD5 or SHA-1.
///
/// Nothing when the algorithm has no single hash (Ed25519, Ed448) or is unknown; SCRAM then does
/// without channel binding.
pub fn server_end_point(leaf: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(leaf).ok()?;
    let hash = binding_hash(&certificate.signature_algorithm)?;
    Some(digest::digest(hash, leaf).as_ref().to_vec())
}

fn binding_hash(signature: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    if signature.oid == RSA_PSS {
        return pss_hash(signature);
    }
    let (_, hash) = SIGNATURES.iter().find(|(oid, _)| *oid == signature.oid)?;
    Some(*hash)
}

/// RFC 4055 §3.1: the hash is the first parameter, tagged 0, and SHA-1 when absent.
fn pss_hash(signature: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    let Some(parameters) = &signature.parameters else {
        return Some(&digest::SHA256);
    };
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let named = ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode_explicit(&mut reader, TagNumber::N0).ok()?;
    let Some(named) = named else {
        return Some(&digest::SHA256);
    };
    let (_, hash) = HASHES.iter().find(|(oid, _)| *oid == named.value.oid)?;
    Some(*hash)
}

/// SHA-256 of the certificate in lower-case hex.
pub(super) fn fingerprint(der: &CertificateDer<'_>) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A date and time for people, in UTC: `2026-01-31 12:00:00 UTC`.
pub(super) fn moment(time: SystemTime) -> String {
    match DateTime::from_system_time(time) {
        Ok(date) => date.to_string().replace('T', " ").replace('Z', " UTC"),
        // Before 1970 or after 9999: no certificate that is in use.
        Err(_) => "an impossible date".to_owned(),
    }
}

/// A date for people, in UTC: `2026-01-31`.
pub(super) fn day(time: SystemTime) -> String {
    let text = moment(time);
    match text.split_once(' ') {
        Some((day, _)) if day.starts_with(|first: char| first.is_ascii_digit()) => day.to_owned(),
        _ => text,
    }
}

/// What the choice of trusted certificates looks at.
pub(super) struct Facts {
    /// As RFC 4514 writes it.
    pub(super) subject: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    ca: bool,
    self_issued: bool,
}

impl Facts {
    /// Errors give a reason for people.
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = Certificate::from_der(der).map_err(|error| format!("not an X.509 certificate ({error})"))?;
        let certificate = certificate.tbs_certificate;
        let constraints = certificate
            .get::<BasicConstraints>()
            .map_err(|error| format!("its basic constraints are broken ({error})"))?;
        Ok(Self {
            subject: certificate.subject.to_string(),
            not_before: certificate.validity.not_before.to_system_time(),
            not_after: certificate.validity.not_after.to_system_time(),
            ca: constraints.is_some_and(|(_, constraints)| constraints.ca),
            self_issued: certificate.subject == certificate.issuer,
        })
    }

    /// Can issue nothing. One that issued itself is no leaf: it may be an old root without basic
    /// constraints, or a self-signed server certificate that is trusted as such.
    pub(super) fn is_leaf(&self) -> bool {
        !self.ca && !self.self_issued
    }
}

const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// Signature algorithm (RFC 8017, RFC 5758) → hash of the channel binding.
static SIGNATURES: [(ObjectIdentifier, &digest::Algorithm); 11] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"), &digest::SHA256), // MD5 with RSA
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"), &digest::SHA256), // SHA-1 with RSA
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.14"), &digest::SHA224),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), &digest::SHA256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), &digest::SHA384),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), &digest::SHA512),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), &digest::SHA256), // SHA-1 with ECDSA
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.1"), &digest::SHA224),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), &digest::SHA256),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), &digest::SHA384),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"), &digest::SHA512),
];

/// Hash named by RSA-PSS parameters (RFC 4055, RFC 5754) → hash of the channel binding.
static HASHES: [(ObjectIdentifier, &digest::Algorithm); 6] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.5"), &digest::SHA256), // MD5
    (ObjectIdentifier::new_unwrap("1.3.14.3.2.26"), &digest::SHA256),      // SHA-1
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.4"), &digest::SHA224),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"), &digest::SHA256),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"), &digest::SHA384),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"), &digest::SHA512),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf, MD5_WITH_RSA, PSS_WITH_DEFAULTS, PSS_WITH_SHA384};
    use super::*;
    use rustls::pki_types::pem::PemObject;

    fn binding_hex(pem: &str) -> String {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let binding = server_end_point(&der).unwrap();
        binding.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn replace(der: &CertificateDer<'_>, old: &[u8], new: &[u8]) -> CertificateDer<'static> {
        let mut bytes = der.to_vec();
        let places = (0..bytes.len()).filter(|start| bytes[*start..].starts_with(old));
        let places: Vec<_> = places.collect();
        assert!(!places.is_empty());
        for start in places {
            bytes[start..start + new.len()].copy_from_slice(new);
        }
        bytes.into()
    }

    #[test]
    fn the_binding_is_the_digest_under_the_hash_of_the_signature() {
        let cases = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, &digest::SHA256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, &digest::SHA384),
            (&rcgen::PKCS_ECDSA_P521_SHA512, &digest::SHA512),
            (&rcgen::PKCS_RSA_SHA256, &digest::SHA256),
            (&rcgen::PKCS_RSA_SHA384, &digest::SHA384),
            (&rcgen::PKCS_RSA_SHA512, &digest::SHA512),
        ];
        for (kind, hash) in cases {
            let der = Ca::make("one", 2100, kind).der();

            let binding = server_end_point(&der).unwrap();

            assert_eq!(binding, digest::digest(hash, &der).as_ref(), "{kind:?}");
        }
    }

    #[test]
    fn the_binding_equals_what_openssl_computes_for_md5_and_for_pss() {
        let expected = "cc16c2f94943f7812be708f7c23fc17c18a8d2d1d11b71f44299c206f0276971";
        assert_eq!(binding_hex(MD5_WITH_RSA), expected);
        let expected = "6aeaa494a87057650df96c7420d47feff7cc3d430c25f71119f59ac7be6e\
                        7ec3c41f26ee1c72c574a0263559547e5a69";
        assert_eq!(binding_hex(PSS_WITH_SHA384), expected);
        let expected = "d5540c7fd1022bc86fb0b8fe6124c2e37a84157590ab44bbc958af465976731c";
        assert_eq!(binding_hex(PSS_WITH_DEFAULTS), expected);
    }

    #[test]
    fn a_sha_1_signature_is_bound_with_sha_256() {
        let der = Ca::make("one", 2100, &rcgen::PKCS_RSA_SHA512).der();
        let sha512_with_rsa = b"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0D";
        let sha1_with_rsa = b"\x2A\x86\x48\x86\xF7\x0D\x01\x01\x05";
        let der = replace(&der, sha512_with_rsa, sha1_with_rsa);

        let binding = server_end_point(&der).unwrap();

        assert_eq!(binding, digest::digest(&digest::SHA256, &der).as_ref());
    }

    #[test]
    fn ed25519_and_ed448_have_no_binding() {
        let der = Ca::make("one", 2100, &rcgen::PKCS_ED25519).der();
        let ed448 = replace(&der, b"\x06\x03\x2B\x65\x70", b"\x06\x03\x2B\x65\x71");

        assert_eq!(server_end_point(&der), None);
        assert_eq!(server_end_point(&ed448), None);
    }

    #[test]
    fn garbage_has_neither_dates_nor_binding() {
        let whole = Ca::new("one").der();
        for length in 0..whole.len() {
            let cut = CertificateDer::from(whole[..length].to_vec());
            assert_eq!(not_after(&cut), None);
            assert_eq!(server_end_point(&cut), None);
        }
    }

    #[test]
    fn dates_are_written_for_people() {
        let end = not_after(&Ca::until("one", 2031).der()).unwrap();

        assert_eq!(day(end), "2031-01-01");
        assert_eq!(moment(end), "2031-01-01 00:00:00 UTC");
    }

    #[test]
    fn a_leaf_is_told_from_a_ca_and_from_a_self_signed_certificate() {
        let ca = Ca::new("one");
        let leaf = ca.issue(Leaf::named("localhost"));

        assert!(Facts::read(&leaf.der()).unwrap().is_leaf());
        assert!(!Facts::read(&ca.der()).unwrap().is_leaf());
    }
}
