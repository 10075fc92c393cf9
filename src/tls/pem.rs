//! Bounded reading of PEM files, and what a file holds when it is not what was expected.

use super::{
    doubts::Doubts,
    error::{Found, Place, TlsSetupError},
};
use crate::trusted_file::{self, Kinds, OpenError, Opened};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject},
};
use std::{io::Read, os::unix::fs::MetadataExt, path::Path};
use x509_cert::der::pem::{self, LineEnding};
use zeroize::Zeroizing;

/// Reads a whole file of at most [`BYTES_MAX`]; it may hold a key, so the buffer is wiped.
pub(super) fn read(path: &Path, place: &Place, doubts: &mut Doubts) -> Result<Zeroizing<Vec<u8>>, TlsSetupError> {
    read_opened(path, place, doubts).map(|(text, _)| text)
}

/// As [`read`], of what nobody else should be able to read.
pub(super) fn read_key(path: &Path, place: &Place, doubts: &mut Doubts) -> Result<Zeroizing<Vec<u8>>, TlsSetupError> {
    let (text, mode) = read_opened(path, place, doubts)?;
    // The mode of a systemd credential shows its access list, not who may read it.
    let is_credential = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder));
    let exposed = trusted_file::exposed(path, mode).filter(|_| !is_credential);
    doubts.add(place, exposed.into_iter().collect());
    Ok(text)
}

/// The text, and the file's mode.
fn read_opened(path: &Path, place: &Place, doubts: &mut Doubts) -> Result<(Zeroizing<Vec<u8>>, u32), TlsSetupError> {
    let unreadable = |source| TlsSetupError::Unreadable { place: place.clone(), source };
    let opened = trusted_file::open(path, Kinds::Regular).map_err(|error| match error {
        OpenError::Io(source) => unreadable(source),
        OpenError::NotAFile => TlsSetupError::NotAFile { place: place.clone() },
        OpenError::Distrusted(distrust) => TlsSetupError::Distrusted { place: place.clone(), distrust },
    })?;
    let Opened { file, metadata, doubts: found } = opened;
    doubts.add(place, found);
    let mut text = Zeroizing::new(Vec::new());
    let too_large = TlsSetupError::TooLarge { place: place.clone() };
    if metadata.len() > BYTES_MAX {
        return Err(too_large);
    }
    // A growing buffer would leave copies of a key behind.
    let expected = usize::try_from(metadata.len()).unwrap_or_default();
    text.reserve_exact(expected.saturating_add(64));
    let read = file.take(BYTES_MAX.saturating_add(1)).read_to_end(&mut text).map_err(unreadable)?;
    if u64::try_from(read).is_ok_and(|read| read <= BYTES_MAX) { Ok((text, metadata.mode())) } else { Err(too_large) }
}

/// Every certificate of the text, in order; at least one.
pub(super) fn certificates(text: &[u8], place: &Place) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let found = CertificateDer::pem_slice_iter(plain(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(&error, place))?;
    if !found.is_empty() {
        return Ok(found);
    }
    let place = place.clone();
    Err(match look(text) {
        // One that the parser does not see.
        Found::Certificate => {
            TlsSetupError::Malformed { place, reason: "a BEGIN line does not begin its line".to_owned() }
        }
        found => TlsSetupError::NoCertificate { place, found },
    })
}

/// These certificates as a file of them would be read again.
pub(super) fn text(certificates: &[CertificateDer<'_>], place: &Place) -> Result<String, TlsSetupError> {
    let mut text = String::new();
    for certificate in certificates {
        let one = pem::encode_string("CERTIFICATE", LineEnding::LF, certificate);
        text += &one.map_err(|error| TlsSetupError::Malformed { place: place.clone(), reason: error.to_string() })?;
    }
    let is_too_large = u64::try_from(text.len()).is_ok_and(|length| length > BYTES_MAX);
    if is_too_large { Err(TlsSetupError::TooLarge { place: place.clone() }) } else { Ok(text) }
}

/// The first private key of the text.
pub(super) fn key(text: &[u8], place: &Place) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    // Told first: the parser skips one kind of encrypted key and calls the other bad base64.
    if ENCRYPTED.iter().any(|mark| contains(text, mark)) {
        return Err(TlsSetupError::EncryptedKey { place: place.clone() });
    }
    match PrivateKeyDer::from_pem_slice(plain(text)) {
        Ok(key) => Ok(key),
        Err(PemError::NoItemsFound) => Err(TlsSetupError::NoKey { place: place.clone(), found: look(text) }),
        Err(error) => Err(malformed(&error, place)),
    }
}

/// Names the fault without the parser's text, which may quote a line of a key.
fn malformed(error: &PemError, place: &Place) -> TlsSetupError {
    let reason = match error {
        PemError::MissingSectionEnd { .. } => "an END line is missing; is the file cut short?",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is broken",
        PemError::Base64Decode(_) => "what stands between BEGIN and END is not base64",
        _ => "it is not PEM text",
    };
    TlsSetupError::Malformed { place: place.clone(), reason: reason.to_owned() }
}

/// Guesses what a file is that holds nothing of what was expected.
fn look(text: &[u8]) -> Found {
    let text = plain(text).trim_ascii();
    let marks: [(&[u8], Found); 3] = [
        (b"PRIVATE KEY-----", Found::Key),
        (b"BEGIN CERTIFICATE REQUEST-----", Found::Request),
        (b"BEGIN CERTIFICATE-----", Found::Certificate),
    ];
    if text.is_empty() {
        return Found::Nothing;
    }
    // Which may quote one.
    if text.starts_with(b"<") {
        return Found::WebPage;
    }
    if let Some((_, found)) = marks.into_iter().find(|(mark, _)| contains(text, mark)) {
        return found;
    }
    match text {
        // A DER sequence with a two-byte length, as certificates and keys have.
        [0x30, 0x81 | 0x82, ..] => Found::Der,
        _ => Found::SomethingElse,
    }
}

/// Without the byte order mark that some Windows editors put first, which would hide the BEGIN line.
fn plain(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text)
}

fn contains(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).any(|window| window == mark)
}

/// Longest PEM text; the bundle of all public CAs is a quarter of it.
const BYTES_MAX: u64 = 1024 * 1024;

/// PKCS#8 and the older form of OpenSSL.
const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

#[cfg(test)]
mod tests {
    use super::super::testing::{Ca, Leaf, write};
    use super::*;

    fn place() -> Place {
        Place::CaFile("prod-ca.crt".into())
    }

    fn no_certificate(text: &[u8]) -> Found {
        match certificates(text, &place()).unwrap_err() {
            TlsSetupError::NoCertificate { found, .. } => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_told_by_what_it_holds_instead() {
        let leaf = Ca::new("one").issue(Leaf::named("localhost"));

        assert_eq!(no_certificate(b" \n"), Found::Nothing);
        assert_eq!(no_certificate(leaf.key_pem().as_bytes()), Found::Key);
        assert_eq!(no_certificate(&leaf.der()), Found::Der);
        assert_eq!(no_certificate(b"\n<!DOCTYPE html>"), Found::WebPage);
        assert_eq!(no_certificate(b"hello"), Found::SomethingElse);
        let request = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(no_certificate(request), Found::Request);
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
        let text = format!("\u{FEFF}{}", Ca::new("one").pem().replace('\n', "\r\n"));

        assert_eq!(certificates(text.as_bytes(), &place()).unwrap().len(), 1);
    }

    #[test]
    fn a_file_over_one_mebibyte_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "big.crt", &"x".repeat(1024 * 1024 + 1));

        let error = read(&path, &place(), &mut Doubts::default()).unwrap_err();

        assert!(matches!(error, TlsSetupError::TooLarge { .. }), "{error:?}");
    }

    #[test]
    fn a_certificate_cut_short_is_told_as_such() {
        let whole = Ca::new("one").pem();

        let error = certificates(&whole.as_bytes()[..200], &place()).unwrap_err();

        assert!(error.to_string().contains("cut short"), "{error}");
    }

    #[test]
    fn both_kinds_of_encrypted_keys_are_refused_with_the_way_to_decrypt_them() {
        let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";

        for text in [pkcs8, old] {
            let error = key(text.as_bytes(), &Place::KeyFile("client.key".into())).unwrap_err();

            assert!(matches!(error, TlsSetupError::EncryptedKey { .. }), "{error:?}");
            assert!(error.to_string().contains("openssl pkey -in client.key"), "{error}");
        }
    }

    #[test]
    fn a_certificate_in_place_of_the_key_is_told_as_such() {
        let error = key(Ca::new("one").pem().as_bytes(), &Place::KeyFile("k".into())).unwrap_err();

        let told = matches!(&error, TlsSetupError::NoKey { found: Found::Certificate, .. });
        assert!(told, "{error:?}");
    }

    #[test]
    fn a_broken_key_never_shows_its_text() {
        let text = "-----BEGIN PRIVATE KEY-----\nnot*base64*secret\n-----END PRIVATE KEY-----\n";

        let error = key(text.as_bytes(), &Place::KeyFile("k".into())).unwrap_err();

        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}
