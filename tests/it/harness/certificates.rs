//! Throwaway authorities and the certificates that they sign.

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA512, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// The name that a cluster's certificate carries unless a test asks for another.
pub(crate) const CLUSTER_NAME: &str = "cluster.test";

/// A certificate authority that lives as long as the test; its clones are the same authority.
#[derive(Clone)]
pub(crate) struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: String,
    algorithm: &'static SignatureAlgorithm,
}

/// What a leaf certificate says.
pub(crate) struct Leaf<'a> {
    /// DNS names and IP addresses.
    pub(crate) names: &'a [&'a str],
    /// First and last year of its validity, both from 1 January.
    pub(crate) years: (i32, i32),
    /// The common name: a server ignores it, a client certificate names its user with it.
    pub(crate) common_name: &'a str,
}

/// A leaf certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The certificate as PEM text.
    pub(crate) certificate: String,
    /// Its key as PEM text (PKCS#8).
    pub(crate) key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
    signature: &'static SignatureAlgorithm,
}

impl Authority {
    /// Signs with ECDSA over P-256 and SHA-256.
    pub(crate) fn new() -> Self {
        Self::signing_with(&PKCS_ECDSA_P256_SHA256)
    }

    /// Signs with `algorithm`, which decides the hash of `tls-server-end-point` channel binding.
    pub(crate) fn signing_with(algorithm: &'static SignatureAlgorithm) -> Self {
        Self::valid_in(algorithm, (2020, 2100), "Throwaway test CA")
    }

    /// An authority whose own certificate has expired.
    pub(crate) fn expired() -> Self {
        Self::valid_in(&PKCS_ECDSA_P256_SHA256, (2000, 2010), "Throwaway test CA")
    }

    /// One of this name.
    pub(crate) fn named(name: &str) -> Self {
        Self::valid_in(&PKCS_ECDSA_P256_SHA256, (2020, 2100), name)
    }

    /// The authority's certificate as PEM text.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A leaf with the usual names of a local cluster.
    pub(crate) fn server(&self) -> Identity {
        self.sign(&Leaf::default())
    }

    /// A client certificate for the SQL user `user`.
    pub(crate) fn client(&self, user: &str) -> Identity {
        self.sign(&Leaf { names: &[], common_name: user, ..Leaf::default() })
    }

    /// Signs `leaf` with a key of its own.
    pub(crate) fn sign(&self, leaf: &Leaf<'_>) -> Identity {
        let names = leaf.names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, leaf.common_name);
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: pem_of(&key),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
            signature: self.algorithm,
        }
    }

    fn valid_in(algorithm: &'static SignatureAlgorithm, years: (i32, i32), name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Arc::new(Issuer::new(params, key)), pem, algorithm }
    }
}

/// PKCS#8 as OpenSSL reads it: of Ed25519 keys only the first version, without the public half.
fn pem_of(key: &KeyPair) -> String {
    let der = key.serialize_der();
    if key.algorithm() != &PKCS_ED25519 {
        return key.serialize_pem();
    }
    // RFC 8410: version 0, algorithm 1.3.101.112, and the 32 bytes of the key in two octet strings;
    // the longer form has them at the same place.
    let first = [b"\x30\x2e\x02\x01\x00".as_slice(), &der[5..48]].concat();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(first))
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self { names: &[CLUSTER_NAME, "localhost", "127.0.0.1", "::1"], years: (2020, 2100), common_name: CLUSTER_NAME }
    }
}

impl Identity {
    /// The `tls-server-end-point` channel binding of RFC 5929: a digest by the hash of the
    /// certificate's signature, at least SHA-256; none for Ed25519, whose hash is no separate choice.
    pub(crate) fn end_point_digest(&self) -> Option<Vec<u8>> {
        let hash = match self.signature {
            _ if *self.signature == PKCS_ED25519 => return None,
            _ if *self.signature == PKCS_ECDSA_P384_SHA384 => &digest::SHA384,
            _ if *self.signature == PKCS_RSA_SHA512 => &digest::SHA512,
            _ => &digest::SHA256,
        };
        Some(digest::digest(hash, &self.der).as_ref().to_vec())
    }

    /// The chain as rustls wants it.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone()]
    }

    /// The key as rustls wants it.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }
}
