//! The messages that the daemon itself sends, and the few of a server that login reads.

use super::{CancelKey, StartupParameters, first_message as first};
use crate::secret::Secret;
use zeroize::Zeroizing;

/// A typed message under construction; its length is filled in last.
pub struct Frame(Vec<u8>);

impl Frame {
    /// Begins a message of this type.
    pub fn new(kind: u8) -> Self {
        Self(vec![kind, 0, 0, 0, 0])
    }

    /// As [`Frame::new`], with room for a body, so that no copy of it is left behind by growing.
    pub fn with_room(kind: u8, body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(body_bytes.saturating_add(5));
        bytes.extend([kind, 0, 0, 0, 0]);
        Self(bytes)
    }

    /// Appends raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    /// Appends a NUL-terminated text; a NUL inside would end it early and is left out.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend(text.bytes().filter(|&byte| byte != 0));
        self.byte(0)
    }

    /// Appends a field of an ErrorResponse.
    pub fn field(&mut self, kind: u8, text: &str) -> &mut Self {
        self.byte(kind).text(text)
    }

    /// Fills in the length and gives the message.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.0);
        // Bodies built here are far below 4 GiB.
        let length = u32::try_from(bytes.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if let Some(place) = bytes.get_mut(1..5) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        bytes
    }
}

/// A whole message.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    Frame::with_room(kind, body.len()).bytes(body).finish()
}

/// AuthenticationOk.
pub const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

/// Terminate.
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// AuthenticationSASL with one mechanism.
pub fn authentication_sasl(mechanism: &str) -> Vec<u8> {
    Frame::new(b'R').bytes(&10_u32.to_be_bytes()).text(mechanism).byte(0).finish()
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(data: &[u8]) -> Vec<u8> {
    Frame::new(b'R').bytes(&11_u32.to_be_bytes()).bytes(data).finish()
}

/// AuthenticationSASLFinal.
pub fn authentication_sasl_final(data: &[u8]) -> Vec<u8> {
    Frame::new(b'R').bytes(&12_u32.to_be_bytes()).bytes(data).finish()
}

/// NegotiateProtocolVersion: the newest version spoken, as the full 32-bit number, and the protocol
/// options that are not known.
pub fn negotiate_protocol_version<'a>(version: u32, unknown: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut count = 0_u32;
    for name in unknown {
        names.extend_from_slice(name);
        names.push(0);
        count = count.saturating_add(1);
    }
    Frame::new(b'v').bytes(&version.to_be_bytes()).bytes(&count.to_be_bytes()).bytes(&names).finish()
}

/// BackendKeyData.
pub fn backend_key_data(key: &CancelKey) -> Vec<u8> {
    frame(b'K', key.bytes())
}

/// SSLRequest.
pub fn ssl_request() -> [u8; 8] {
    (u64::from(first::SSL_REQUEST) | (8 << 32)).to_be_bytes()
}

/// CancelRequest.
pub fn cancel_request(key: &CancelKey) -> Vec<u8> {
    untyped(first::CANCEL_REQUEST, key.bytes())
}

/// The startup message of protocol 3.0: servers up to v25.4 refuse 3.2.
pub fn startup(parameters: &StartupParameters) -> Vec<u8> {
    let mut body = Vec::new();
    parameters.encode(&mut body);
    untyped(first::VERSION_3_0, &body)
}

/// PasswordMessage, which holds the secret and so is one.
pub fn password(secret: &Secret) -> Secret {
    let mut body = Zeroizing::new(Vec::with_capacity(secret.expose().len().saturating_add(1)));
    body.extend_from_slice(secret.expose());
    body.push(0);
    Secret::new(frame(b'p', &body))
}

/// SASLInitialResponse.
pub fn sasl_initial_response(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    Frame::new(b'p').text(mechanism).bytes(&length.to_be_bytes()).bytes(data).finish()
}

fn untyped(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len().saturating_add(8)).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// What a server asks for in an Authentication message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Authentication<'a> {
    /// Nothing more.
    Ok,
    /// The password as it is.
    Cleartext,
    /// One of these SASL mechanisms, NUL-separated.
    Sasl(&'a [u8]),
    /// The server's part of the exchange.
    SaslContinue(&'a [u8]),
    /// The server's proof.
    SaslFinal(&'a [u8]),
    /// What the daemon does not do, MD5 among it.
    Other(u32),
}

impl<'a> Authentication<'a> {
    /// Reads the body of an Authentication message; `None` when it is too short to say anything.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let (code, data) = body.split_first_chunk()?;
        Some(match u32::from_be_bytes(*code) {
            0 => Self::Ok,
            3 => Self::Cleartext,
            10 => Self::Sasl(data),
            11 => Self::SaslContinue(data),
            12 => Self::SaslFinal(data),
            other => Self::Other(other),
        })
    }
}

/// Type, body and size of the message at the front, once it is whole.
pub fn whole(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (header, after) = bytes.split_first_chunk::<5>()?;
    let [kind, length @ ..] = *header;
    let body = usize::try_from(u32::from_be_bytes(length)).ok()?.checked_sub(4)?;
    Some((kind, after.get(..body)?, body.checked_add(5)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untyped_messages_carry_their_codes() {
        assert_eq!(ssl_request(), [0, 0, 0, 8, 4, 210, 22, 47]);
        assert_eq!(cancel_request(&CancelKey::new(&[1; 8]).unwrap())[..8], [0, 0, 0, 16, 4, 210, 22, 46]);
        assert_eq!(startup(&StartupParameters::default()), [0, 0, 0, 9, 0, 3, 0, 0, 0]);
    }

    #[test]
    fn negotiation_names_the_full_version_and_each_unknown_option() {
        let names: [&[u8]; 2] = [b"_pq_.a", b"_pq_.b"];

        let message = negotiate_protocol_version(first::VERSION_3_2, names.into_iter());

        assert_eq!(message, b"v\0\0\0\x1a\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0");
    }

    #[test]
    fn authentication_bodies_of_any_length_are_read_without_panic() {
        assert_eq!(Authentication::parse(&[0, 0, 0]), None);
        assert_eq!(Authentication::parse(&[0, 0, 0, 10, b'x']), Some(Authentication::Sasl(b"x")));
        assert_eq!(Authentication::parse(&[0, 0, 0, 5, 1, 2, 3, 4]), Some(Authentication::Other(5)));
    }

    #[test]
    fn only_whole_messages_are_read() {
        assert_eq!(whole(b"Z\0\0\0\x05I"), Some((b'Z', &b"I"[..], 6)));
        for half in [&b""[..], b"Z\0\0\0", b"Z\0\0\0\x05", b"Z\0\0\0\x03I"] {
            assert_eq!(whole(half), None);
        }
    }
}
