//! Why a TLS configuration could not be made, in sentences that name the file and the way out.

use super::certificate;
use crate::trusted_file::Distrust;
use std::{error::Error, fmt, io, path::PathBuf, time::SystemTime};

/// Why a TLS configuration could not be made. The operator is to blame for every case but
/// [`TlsSetupError::Rustls`].
#[derive(Debug)]
pub enum TlsSetupError {
    /// The file is missing or may not be read.
    Unreadable {
        /// Where the text was looked for.
        place: Place,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder, pipe or device stands where a file was expected.
    NotAFile {
        /// Where the text was looked for.
        place: Place,
    },
    /// Others than root and the daemon's user could change it.
    Distrusted {
        /// Where the text was looked for.
        place: Place,
        /// How they could.
        distrust: Distrust,
    },
    /// Over 1 MiB.
    TooLarge {
        /// Where the text was looked for.
        place: Place,
    },
    /// No certificate in it.
    NoCertificate {
        /// Where the text was looked for.
        place: Place,
        /// What it holds instead.
        found: Found,
    },
    /// Broken PEM, or no X.509 certificate inside it.
    Malformed {
        /// Where the text stands.
        place: Place,
        /// What is broken; never a part of the text.
        reason: String,
    },
    /// Every certificate of a CA has expired.
    AllExpired {
        /// Where the text stands.
        place: Place,
        /// When the last of them did.
        last: SystemTime,
    },
    /// Certificates of servers or clients only, none of a CA.
    NotACa {
        /// Where the text stands.
        place: Place,
    },
    /// The system's roots were asked for and there are none.
    NoSystemRoots {
        /// The first reason that the system gave.
        reason: Option<String>,
    },
    /// No private key in it.
    NoKey {
        /// Where the text was looked for.
        place: Place,
        /// What it holds instead.
        found: Found,
    },
    /// The key is encrypted; the daemon has nobody to ask for the passphrase.
    EncryptedKey {
        /// Where the key stands.
        place: Place,
    },
    /// The key is of a kind that TLS does not use, or broken.
    UnusableKey {
        /// Where the key stands.
        place: Place,
        /// The library's reason.
        source: rustls::Error,
    },
    /// The daemon's own certificate is broken.
    UnusableCertificate {
        /// Where the certificate stands.
        place: Place,
        /// The library's reason.
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    KeyMismatch {
        /// Where the certificate stands.
        certificate: Place,
        /// Where the key stands.
        key: Place,
    },
    /// The TLS library refused its own defaults: a fault of the daemon.
    Rustls {
        /// The library's reason.
        source: rustls::Error,
    },
}

/// Where a certificate or key was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A cluster's `ca`.
    CaFile(PathBuf),
    /// `sslrootcert` of a connection string with `sslinline=true`.
    CaInline,
    /// A CA certificate that was just fetched from this host.
    CaFetched(String),
    /// A `cert` or `tls_cert`.
    CertificateFile(PathBuf),
    /// A `key` or `tls_key`.
    KeyFile(PathBuf),
}

/// What a file holds that should have held something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing at all.
    Nothing,
    /// A private key.
    Key,
    /// A certificate.
    Certificate,
    /// A certificate request.
    Request,
    /// Binary DER.
    Der,
    /// HTML or XML.
    WebPage,
    /// None of these.
    SomethingElse,
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { place, source } => match source.kind() {
                io::ErrorKind::NotFound => write!(f, "{place} does not exist; check the path"),
                io::ErrorKind::PermissionDenied => {
                    write!(f, "{place} may not be read; let the daemon's user read it")
                }
                _ => write!(f, "{place} cannot be read"),
            },
            Self::NotAFile { place } => write!(f, "{place} is not a regular file; name a PEM file"),
            Self::Distrusted { place, distrust } => write!(f, "{place} {}", distrust.told(place.stakes())),
            Self::TooLarge { place } => {
                write!(f, "{place} is over 1 MiB; is it a certificate in PEM form?")
            }
            Self::NoCertificate { place, found } => {
                write!(f, "{place} holds no certificate: {found}")
            }
            Self::Malformed { place, reason } => write!(f, "{place} is broken: {reason}"),
            Self::AllExpired { place, last } => write!(
                f,
                "{place} expired on {}; download the cluster's current CA certificate (or set this machine's clock, if that is wrong)",
                certificate::day(*last)
            ),
            Self::NotACa { place } => write!(
                f,
                "{place} holds the certificate of a server or client, not of a CA; name the CA certificate of the cluster"
            ),
            Self::NoSystemRoots { reason } => {
                f.write_str("ca = \"system\", but this machine has no root certificates")?;
                if let Some(reason) = reason {
                    write!(f, " ({reason})")?;
                }
                f.write_str("; install its package ca-certificates or name a CA file")
            }
            Self::NoKey { place, found } => write!(f, "{place} holds no private key: {found}"),
            Self::EncryptedKey { place } => write!(
                f,
                "{place} is encrypted, and the daemon has no passphrase for it; decrypt it with: openssl pkey -in {} -out decrypted.key",
                place.path()
            ),
            Self::UnusableKey { place, .. } => {
                write!(f, "{place} cannot be used for TLS; an RSA (2048 bits or more), ECDSA or Ed25519 key is needed")
            }
            Self::UnusableCertificate { place, .. } => write!(f, "{place} cannot be used for TLS"),
            Self::KeyMismatch { certificate, key } => write!(
                f,
                "{key} does not belong to the first certificate of {certificate}; name a matching pair, the leaf certificate first"
            ),
            Self::Rustls { .. } => f.write_str("the TLS library refused its own defaults"),
        }
    }
}

impl Error for TlsSetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Said in full by the sentence itself.
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => None,
            Self::Unreadable { source, .. } => Some(source),
            Self::UnusableKey { source, .. } | Self::UnusableCertificate { source, .. } | Self::Rustls { source } => {
                Some(source)
            }
            _ => None,
        }
    }
}

impl Place {
    fn path(&self) -> String {
        match self {
            Self::CaInline | Self::CaFetched(_) => "FILE".to_owned(),
            Self::CaFile(path) | Self::CertificateFile(path) | Self::KeyFile(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaInline => f.write_str("the connection string's sslrootcert"),
            Self::CaFetched(host) => write!(f, "the CA certificate that {host} gives"),
            Self::CaFile(path) => write!(f, "CA file {}", path.display()),
            Self::CertificateFile(path) => write!(f, "certificate file {}", path.display()),
            Self::KeyFile(path) => write!(f, "key file {}", path.display()),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "it is empty",
            Self::Key => "it holds a private key; are the two files swapped?",
            Self::Certificate => "it holds a certificate; are the two files swapped?",
            Self::Request => "it holds a certificate request; have it signed by the CA first",
            Self::Der => "it is binary (DER); convert it to PEM with openssl",
            Self::WebPage => "it holds a web page; was the download refused?",
            Self::SomethingElse => "it is not PEM text (no BEGIN line that is understood)",
        })
    }
}
