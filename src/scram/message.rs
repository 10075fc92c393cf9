//! The grammar that all SCRAM messages share: attributes `x=value` between commas (RFC 5802 §7).

use super::{crypto::KEY_BYTES, error::ScramError};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// The attributes of a message, read one by one in the order that the grammar gives.
pub(super) struct Attributes<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    /// Refuses what is longer than any honest message.
    pub(super) fn of(message: &'a [u8]) -> Result<Self, ScramError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(ScramError::Malformed("it is too long"));
        }
        Ok(Self { rest: Some(message) })
    }

    /// The value of the next attribute, which must be `name`. An `m=` in its place asks for an
    /// extension that we would have to know.
    pub(super) fn take(&mut self, name: u8, part: &'static str) -> Result<&'a [u8], ScramError> {
        match self.next() {
            Some([first, b'=', value @ ..]) if *first == name => Ok(value),
            Some([b'm', b'=', ..]) => Err(ScramError::MandatoryExtension),
            _ => Err(ScramError::Malformed(part)),
        }
    }

    /// Passes over optional extensions: attributes of names that the grammar has not given away.
    pub(super) fn end(mut self) -> Result<(), ScramError> {
        while let Some(attribute) = self.next() {
            match attribute {
                [b'm', b'=', ..] => return Err(ScramError::MandatoryExtension),
                [name, b'=', _, ..] if name.is_ascii_alphabetic() && !KNOWN.contains(name) => (),
                _ => return Err(ScramError::Malformed("unexpected text at its end")),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let mut parts = rest.splitn(2, |byte| *byte == b',');
        let first = parts.next();
        self.rest = parts.next();
        first
    }
}

/// A nonce: printable ASCII without a comma, at least one character.
pub(super) fn printable<'a>(value: &'a [u8], part: &'static str) -> Result<&'a str, ScramError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_graphic) {
        return Err(ScramError::Malformed(part));
    }
    // All of it is ASCII.
    std::str::from_utf8(value).ok().ok_or(ScramError::Malformed(part))
}

pub(super) fn base64(value: &[u8], part: &'static str) -> Result<Vec<u8>, ScramError> {
    let decoded = STANDARD.decode(value).ok();
    decoded.ok_or(ScramError::Malformed(part))
}

/// A proof or a signature.
pub(super) fn key(value: &[u8], part: &'static str) -> Result<[u8; KEY_BYTES], ScramError> {
    let bytes = Zeroizing::new(base64(value, part)?);
    let key = bytes.as_slice().try_into().ok();
    key.ok_or(ScramError::Malformed(part))
}

/// Digits alone, without sign or leading zero, above zero.
pub(super) fn count(value: &[u8]) -> Option<u32> {
    if !value.iter().all(u8::is_ascii_digit) || value.first() == Some(&b'0') {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Far above any honest message (libpq's are some 100 bytes), far below what would cost memory.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The names that RFC 5802 §5.1 gives a meaning; none of them may come where an extension may.
const KNOWN: &[u8] = b"anmrcsipve";
