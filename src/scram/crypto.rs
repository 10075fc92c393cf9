//! The arithmetic of RFC 5802 §3 with SHA-256, over aws-lc.

use super::error::ScramError;
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac, pbkdf2, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::num::NonZero;
use zeroize::Zeroizing;

/// A SCRAM-SHA-256 key, wiped when dropped.
pub(super) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// ClientKey and ServerKey of a password: the costly part of a login, so keep it off the event loop.
pub(super) fn derive(password: &[u8], salt: &[u8], iterations: NonZero<u32>) -> (Key, Key) {
    let prepared = prepare(password);
    let mut salted = Key::default();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, &prepared, salted.as_mut_slice());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
    (Zeroizing::new(sign_with(&key, b"Client Key")), Zeroizing::new(sign_with(&key, b"Server Key")))
}

pub(super) fn sign(key: &Key, text: &[u8]) -> [u8; KEY_BYTES] {
    sign_with(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), text)
}

pub(super) fn hash(key: &Key) -> Key {
    let mut hashed = Key::default();
    fill(&mut hashed, digest::digest(&digest::SHA256, key.as_slice()).as_ref());
    hashed
}

pub(super) fn xor(left: &[u8; KEY_BYTES], right: &[u8; KEY_BYTES]) -> Key {
    let mut mixed = Zeroizing::new(*left);
    for (byte, other) in mixed.iter_mut().zip(right) {
        *byte ^= other;
    }
    mixed
}

/// In a time that tells nothing about where they differ.
pub(super) fn equal(left: &[u8; KEY_BYTES], right: &[u8; KEY_BYTES]) -> bool {
    verify_slices_are_equal(left, right).is_ok()
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], ScramError> {
    let mut bytes = [0; N];
    match rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(aws_lc_rs::error::Unspecified) => Err(ScramError::Unavailable),
    }
}

/// 18 bytes, as PostgreSQL takes: base64 makes printable text without a comma of them.
pub(super) fn nonce() -> Result<String, ScramError> {
    Ok(STANDARD.encode(random::<18>()?))
}

fn sign_with(key: &hmac::Key, text: &[u8]) -> [u8; KEY_BYTES] {
    let mut signature = [0; KEY_BYTES];
    fill(&mut signature, hmac::sign(key, text).as_ref());
    signature
}

/// Both are 32 bytes long; a copy of slices would have to panic if they were not.
fn fill(target: &mut [u8; KEY_BYTES], bytes: &[u8]) {
    for (to, from) in target.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// SASLprep (RFC 4013), or the bytes as they are where it does not apply, which is what PostgreSQL's
/// server and libpq both do: text that is not UTF-8, holds a prohibited character, or of which
/// nothing would be left.
fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| {
        let prepared = stringprep::saslprep(text).ok()?;
        Some(Zeroizing::new(prepared.into_owned().into_bytes()))
    });
    match prepared {
        Some(prepared) if !prepared.is_empty() => prepared,
        _ => Zeroizing::new(password.to_vec()),
    }
}

/// Length of every SCRAM-SHA-256 key, proof and signature.
pub(super) const KEY_BYTES: usize = 32;

/// RFC 7677 §4 asks for at least so many; CockroachDB's and PostgreSQL's least is the same.
pub(super) const ITERATIONS_MIN: u32 = 4096;

/// About 0.3 s of one core; CockroachDB's default has been at most 119 680.
pub(super) const ITERATIONS_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Vec<u8> {
        prepare(text.as_bytes()).to_vec()
    }

    #[test]
    fn passwords_are_prepared_as_rfc_4013_shows() {
        assert_eq!(prepared("I\u{AD}X"), b"IX");
        assert_eq!(prepared("user"), b"user");
        assert_eq!(prepared("USER"), b"USER");
        assert_eq!(prepared("\u{AA}"), b"a");
        assert_eq!(prepared("\u{2168}"), b"IX");
    }

    #[test]
    fn passwords_that_cannot_be_prepared_are_taken_as_they_are() {
        for text in ["a\u{7}b", "\u{627}1", "\u{AD}", "\u{0221}"] {
            assert_eq!(prepared(text), text.as_bytes(), "{text:?}");
        }
        assert_eq!(prepare(b"\xFF\xFEpw").as_slice(), b"\xFF\xFEpw");
    }
}
