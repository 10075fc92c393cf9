//! Every rustls configuration: the cluster's side, where the server's certificate is verified in
//! full, and a listener's side.
//!
//! Owns what is trusted and which certificates the daemon shows. It must never turn verification
//! off, never add the machine's roots to a cluster's own CA, and never rely on a crypto provider
//! that somebody else installed for the process.

mod authority;
mod ca;
mod certificate;
mod doubts;
mod error;
mod low_water;
mod pem;
mod problem;
mod public;
mod read_ahead;
mod record_socket;
mod record_stream;
mod shown;
#[cfg(test)]
mod testing;
mod witness;

pub use authority::{Authorities, Authority, authorities, certificates};
pub use certificate::{not_after, server_end_point};
pub use doubts::Doubts;
pub use error::{Found, Place, TlsSetupError};
pub use problem::CertificateProblem;
pub use public::public_client;
pub use record_socket::RecordSocket;
pub use record_stream::RecordStream;
pub use shown::Described;
pub use witness::Witness;

use crate::settings::{CaSource, CertificateFiles};
use ::aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::UnixTime,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use std::{sync::Arc, time::SystemTime};

/// How a cluster is reached over TLS, made anew whenever one of its files changes.
#[derive(Clone, Debug)]
pub struct ClusterTls {
    /// Verifies in full, TLS 1.2 or newer. It keeps resumable sessions of its own, so that none of
    /// them outlives the CA under which its certificate was verified.
    pub config: Arc<rustls::ClientConfig>,
    /// What is trusted, and nothing else.
    roots: Arc<RootCertStore>,
    /// Nothing when the system's roots are trusted: those are the machine's to watch.
    pub ca: Option<CaFacts>,
    /// When the client certificate ends, if one is configured.
    pub certificate_not_after: Option<SystemTime>,
    /// What the operator should look at although it works, one sentence each.
    pub warnings: Vec<String>,
    /// How others could change its files; the warnings tell them.
    pub doubts: Doubts,
    /// The same as long as the same is trusted and shown.
    pub identity: Identity,
}

/// Tells whether files that were read again say anything new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Vec<u8>);

/// What status and metrics tell about a cluster's CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFacts {
    /// SHA-256 of each certificate (DER) in the file's order, lower-case hex, at least one; the
    /// first is the one to display.
    pub sha256: Vec<String>,
    /// The earliest end among all certificates of the bundle, expired ones included.
    pub not_after: SystemTime,
}

/// How a listener speaks TLS, made anew whenever one of its files changes.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Serves both TLS after SSLRequest and direct TLS: a client may offer no ALPN, and one that
    /// offers any must offer `postgresql`.
    pub config: Arc<rustls::ServerConfig>,
    /// When the certificate ends; nothing when its dates could not be read.
    pub not_after: Option<SystemTime>,
    /// How others could change its files.
    pub doubts: Doubts,
    /// The same as long as the same certificate is shown.
    pub identity: Identity,
}

/// Builds the TLS side of a cluster for one of its users: from the CA and, where configured, the user's certificate.
///
/// `now` decides which CA certificates have expired. Reads files, so it belongs off the event loop.
///
/// # Errors
/// Names the file and what is wrong with it; nothing is trusted half-way.
pub fn cluster_tls(
    trusted: &CaSource,
    own: Option<&CertificateFiles>,
    now: SystemTime,
) -> Result<ClusterTls, TlsSetupError> {
    let ca::Roots { store, facts, mut warnings, mut doubts } = ca::roots(trusted, now)?;
    let roots = Arc::new(store);
    let provider = provider();
    let own = own.map(|files| own_certificate(files, &provider)).transpose()?;
    let identity = Identity::of(&roots, own.as_ref());
    let builder = rustls::ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsSetupError::Rustls { source })?
        .with_root_certificates(Arc::clone(&roots));
    let Some(own) = own else {
        warnings.extend(doubts.told());
        return Ok(ClusterTls {
            config: Arc::new(builder.with_no_client_auth()),
            roots,
            ca: facts,
            certificate_not_after: None,
            warnings,
            doubts,
            identity,
        });
    };
    if let Some(end) = own.not_after.filter(|end| *end < now) {
        let (place, end) = (own.place, certificate::day(end));
        warnings.push(format!("{place} expired on {end}; the cluster will refuse it, renew it"));
    }
    doubts.append(own.doubts);
    warnings.extend(doubts.told());
    let resolver = Arc::new(SingleCertAndKey::from(own.key));
    Ok(ClusterTls {
        config: Arc::new(builder.with_client_cert_resolver(resolver)),
        roots,
        ca: facts,
        certificate_not_after: own.not_after,
        warnings,
        doubts,
        identity,
    })
}

/// Builds the TLS side of a listener.
///
/// Reads files, so it belongs off the event loop.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn server_tls(files: &CertificateFiles) -> Result<ServerTls, TlsSetupError> {
    let provider = provider();
    let own = own_certificate(files, &provider)?;
    let identity = Identity::of(&RootCertStore::empty(), Some(&own));
    let mut config = rustls::ServerConfig::builder_with_details(provider, Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsSetupError::Rustls { source })?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.key)));
    // Rustls refuses a client whose ALPN holds none of these, and lets one without ALPN pass.
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(ServerTls { config: Arc::new(config), not_after: own.not_after, doubts: own.doubts, identity })
}

impl Identity {
    fn of(trusted: &RootCertStore, own: Option<&OwnCertificate>) -> Self {
        let mut digest = Context::new(&SHA256);
        // Lengths first, or two lists could look the same run together.
        let mut add = |bytes: &[u8]| {
            digest.update(&bytes.len().to_be_bytes());
            digest.update(bytes);
        };
        for root in &trusted.roots {
            add(&root.subject);
            add(&root.subject_public_key_info);
        }
        for certificate in own.iter().flat_map(|own| &own.key.cert) {
            add(certificate);
        }
        Self(digest.finish().as_ref().to_vec())
    }
}

/// The system's clock; one that was set before 1970 fails handshakes instead of the program.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

struct OwnCertificate {
    place: Place,
    key: CertifiedKey,
    not_after: Option<SystemTime>,
    doubts: Doubts,
}

fn own_certificate(files: &CertificateFiles, provider: &CryptoProvider) -> Result<OwnCertificate, TlsSetupError> {
    let place = Place::CertificateFile(files.cert.clone());
    let key_place = Place::KeyFile(files.key.clone());
    let mut doubts = Doubts::default();
    let chain = pem::certificates(&pem::read(&files.cert, &place, &mut doubts)?, &place)?;
    let end = chain.first().and_then(|leaf| not_after(leaf));
    let key = pem::key(&pem::read_key(&files.key, &key_place, &mut doubts)?, &key_place)?;
    let signer = provider
        .key_provider
        .load_private_key(key)
        .map_err(|source| TlsSetupError::UnusableKey { place: key_place.clone(), source })?;
    let key = CertifiedKey::new(chain, signer);
    match key.keys_match() {
        // A key that cannot tell its public half is left to the handshake to judge.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => (),
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(TlsSetupError::KeyMismatch { certificate: place, key: key_place });
        }
        Err(source) => return Err(TlsSetupError::UnusableCertificate { place, source }),
    }
    Ok(OwnCertificate { place, key, not_after: end, doubts })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The protocol's ALPN name, as PostgreSQL 17 registered it for direct TLS.
const ALPN: &[u8] = b"postgresql";

#[cfg(test)]
mod tests {
    use super::testing::{Ca, Leaf, handshake, write};
    use super::*;
    use crate::settings::CaSource;
    use rustls::ProtocolVersion;

    fn listener(folder: &std::path::Path, ca: &Ca) -> ServerTls {
        let leaf = ca.issue(Leaf::named("localhost"));
        server_tls(&leaf.files(folder, "server")).unwrap()
    }

    #[test]
    fn a_cluster_is_reached_with_its_own_ca_over_tls_1_3() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("one");
        let server = listener(folder.path(), &ca);
        let client = cluster_tls(&ca.source(), None, SystemTime::now()).unwrap();

        let version = handshake(&client.config, &server.config, "localhost", &[]).unwrap();

        assert_eq!(version, ProtocolVersion::TLSv1_3);
        assert_eq!(client.warnings, Vec::<String>::new());
        assert_eq!(client.certificate_not_after, None);
        assert!(server.not_after.unwrap() > SystemTime::now());
    }

    #[test]
    fn a_cluster_side_offers_nothing_older_than_tls_1_2() {
        let ca = Ca::new("one");
        let client = cluster_tls(&ca.source(), None, SystemTime::now()).unwrap();

        let suites = &client.config.crypto_provider().cipher_suites;

        let known = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];
        assert!(!suites.is_empty());
        assert!(suites.iter().all(|suite| known.contains(&suite.version().version)));
    }

    #[test]
    fn a_listener_takes_no_alpn_and_postgresql_and_refuses_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("one");
        let server = listener(folder.path(), &ca);
        let client = cluster_tls(&ca.source(), None, SystemTime::now()).unwrap();
        let shake = |alpn: &[&[u8]]| handshake(&client.config, &server.config, "localhost", alpn);

        assert!(shake(&[]).is_ok());
        assert!(shake(&[b"postgresql"]).is_ok());
        assert!(shake(&[b"h2", b"postgresql"]).is_ok());
        let refused = shake(&[b"h2"]).unwrap_err();

        assert_eq!(refused, rustls::Error::NoApplicationProtocol);
    }

    #[test]
    fn a_client_certificate_is_shown_to_a_server_that_asks() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("one");
        let leaf = ca.issue(Leaf::named("localhost"));
        let user = ca.issue(Leaf::named("app"));
        let own = user.files(folder.path(), "client");
        let client = cluster_tls(&ca.source(), Some(&own), SystemTime::now()).unwrap();
        let server = leaf.server_that_asks_for_certificates(&ca);

        let shown = handshake(&client.config, &server, "localhost", &[]);

        assert!(shown.is_ok(), "{shown:?}");
        assert_eq!(client.certificate_not_after, not_after(&user.der()));
        assert!(client.certificate_not_after.is_some());
    }

    #[test]
    fn an_expired_client_certificate_is_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("one");
        let user = ca.issue(Leaf::named("app").until(2020));
        let own = user.files(folder.path(), "client");

        let client = cluster_tls(&ca.source(), Some(&own), SystemTime::now()).unwrap();

        let [warning] = client.warnings.as_slice() else { panic!("{:?}", client.warnings) };
        assert!(warning.contains("client.crt expired on 2020-01-01"), "{warning}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_and_both_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("one");
        let mut files = ca.issue(Leaf::named("localhost")).files(folder.path(), "server");
        files.key = ca.issue(Leaf::named("localhost")).files(folder.path(), "other").key;

        let error = server_tls(&files).unwrap_err();

        assert!(matches!(error, TlsSetupError::KeyMismatch { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("other.key") && text.contains("server.crt"), "{text}");
    }

    #[test]
    fn a_missing_key_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Ca::new("one").issue(Leaf::named("localhost")).files(folder.path(), "server");
        files.key = folder.path().join("gone.key");

        let text = server_tls(&files).unwrap_err().to_string();

        assert!(text.contains("gone.key does not exist"), "{text}");
    }

    #[test]
    fn a_key_of_no_known_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Ca::new("one").issue(Leaf::named("localhost")).files(folder.path(), "server");
        let nonsense = "-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2U=\n-----END PRIVATE KEY-----\n";
        files.key = write(folder.path(), "odd.key", nonsense);

        let error = server_tls(&files).unwrap_err();

        assert!(matches!(error, TlsSetupError::UnusableKey { .. }), "{error:?}");
        assert!(error.to_string().contains("odd.key"), "{error}");
    }

    #[test]
    fn no_configuration_depends_on_a_process_wide_provider() {
        let ca = Ca::new("one");

        cluster_tls(&ca.source(), None, SystemTime::now()).unwrap();

        assert!(CryptoProvider::get_default().is_none());
    }

    #[test]
    fn the_system_roots_are_used_only_when_asked_for_and_have_no_ca_facts() {
        // A machine without roots is a fault of its own kind, so both outcomes are checked.
        match cluster_tls(&CaSource::System, None, SystemTime::now()) {
            Ok(tls) => assert_eq!(tls.ca, None),
            Err(error) => assert!(matches!(error, TlsSetupError::NoSystemRoots { .. }), "{error:?}"),
        }
    }
}
