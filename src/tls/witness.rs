//! A cluster's side that remembers what the server showed, so that a person can be told about a certificate that
//! was not accepted. It accepts exactly what the cluster's own does.

use super::{ClusterTls, TlsSetupError, provider};
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::sync::{Arc, Mutex};

/// What a server showed, its own certificate first.
#[derive(Debug)]
pub struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    shown: Mutex<Vec<CertificateDer<'static>>>,
}

impl Witness {
    /// One for a single handshake, and the configuration to make that with: it resumes no session, since the server
    /// would show nothing then.
    ///
    /// # Errors
    /// Nothing is trusted.
    pub fn of(tls: &ClusterTls) -> Result<(Arc<Self>, Arc<rustls::ClientConfig>), TlsSetupError> {
        let roots: Arc<RootCertStore> = Arc::clone(&tls.roots);
        let judge = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let judge =
            judge.map_err(|error| TlsSetupError::Rustls { source: rustls::Error::General(error.to_string()) })?;
        let witness = Arc::new(Self { judge, shown: Mutex::default() });
        let mut config = rustls::ClientConfig::clone(&tls.config);
        config.resumption = Resumption::disabled();
        config.dangerous().set_certificate_verifier(Arc::<Self>::clone(&witness));
        Ok((witness, Arc::new(config)))
    }

    /// The chain as it came; nothing when none did.
    pub fn shown(&self) -> Vec<CertificateDer<'static>> {
        crate::lock::lock(&self.shown).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(own).chain(others).take(CHAIN_MAX);
        *crate::lock::lock(&self.shown) = chain.map(|certificate| certificate.clone().into_owned()).collect();
        self.judge.verify_server_cert(own, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// Longer chains are nobody's.
const CHAIN_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf, handshake};
    use super::super::{CertificateProblem, cluster_tls};
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn it_accepts_and_refuses_as_the_cluster_does_and_remembers_what_was_shown() {
        let (own, other) = (Ca::new("one"), Ca::new("another"));
        let tls = cluster_tls(&own.source(), None, SystemTime::now()).unwrap();
        let well = own.issue(Leaf::named("localhost"));
        let cases = [
            (&well, "localhost", None),
            (&other.issue(Leaf::named("localhost")), "localhost", Some(CertificateProblem::UnknownCa)),
            (&own.issue(Leaf::named("db.example")), "localhost", Some(name_problem())),
        ];
        for (leaf, name, expected) in cases {
            let (witness, config) = Witness::of(&tls).unwrap();
            assert_eq!(witness.shown(), []);

            let shaken = handshake(&config, &leaf.server(), name, &[]);
            let by_cluster = handshake(&tls.config, &leaf.server(), name, &[]);

            assert_eq!(shaken.as_ref().err().and_then(CertificateProblem::of), expected);
            assert_eq!(shaken, by_cluster);
            assert_eq!(witness.shown().first(), Some(&leaf.der()));
        }
    }

    fn name_problem() -> CertificateProblem {
        CertificateProblem::Name { expected: "localhost".into(), presented: vec!["db.example".into()] }
    }
}
