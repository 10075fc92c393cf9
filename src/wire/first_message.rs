//! What a client may send before a session exists: untyped messages, each behind its length.

use super::{CancelKey, StartupParameters};

/// One untyped message of a client.
#[derive(Debug, PartialEq)]
pub enum FirstMessage {
    /// Asks for TLS; the answer is one byte.
    SslRequest,
    /// Asks for GSSAPI encryption; the answer is one byte.
    GssEncRequest,
    /// Asks to cancel what another connection runs; there is no answer.
    Cancel(CancelKey),
    /// Opens a session.
    Startup {
        /// Minor version of protocol 3 that was asked for.
        minor: u16,
        /// In the client's order.
        parameters: StartupParameters,
    },
}

/// Why bytes are no first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstMessageError {
    /// Longer than allowed; the number is what its length says.
    TooLarge(u32),
    /// Not what the protocol describes.
    Malformed(&'static str),
    /// A major version that is not ours.
    Major(u16),
}

impl FirstMessage {
    /// Reads a message from the front of `bytes`: `None` when more bytes are needed, else the message
    /// and how many bytes it took. A message longer than `bytes_max` is refused by its length alone.
    pub fn parse(bytes: &[u8], bytes_max: usize) -> Result<Option<(Self, usize)>, FirstMessageError> {
        let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size < HEADER_BYTES {
            return Err(FirstMessageError::Malformed("its length is less than 8"));
        }
        if size > bytes_max {
            return Err(FirstMessageError::TooLarge(length));
        }

        let Some((code, _)) = rest.split_first_chunk() else { return Ok(None) };
        let code = u32::from_be_bytes(*code);
        let Some(body) = bytes.get(HEADER_BYTES..size) else {
            // An unknown major may mean anything by what follows: refused before it is awaited.
            return if is_foreign(code) { Err(FirstMessageError::Major(major(code))) } else { Ok(None) };
        };
        Self::from_code(code, body).map(|message| Some((message, size)))
    }

    fn from_code(code: u32, body: &[u8]) -> Result<Self, FirstMessageError> {
        let empty = |message| match body {
            [] => Ok(message),
            _ => Err(FirstMessageError::Malformed("an encryption request has a body")),
        };
        match code {
            SSL_REQUEST => empty(Self::SslRequest),
            GSS_ENC_REQUEST => empty(Self::GssEncRequest),
            CANCEL_REQUEST => CancelKey::new(body)
                .map(Self::Cancel)
                .ok_or(FirstMessageError::Malformed("a cancel key has 8 to 260 bytes")),
            _ if is_foreign(code) => Err(FirstMessageError::Major(major(code))),
            _ => {
                let parameters = StartupParameters::parse(body).map_err(FirstMessageError::Malformed)?;
                Ok(Self::Startup { minor: minor(code), parameters })
            }
        }
    }
}

/// The byte that begins a TLS handshake; as a length it would be over 369 MB.
pub const TLS_HANDSHAKE: u8 = 0x16;

/// Protocol 3.0, as a startup message and NegotiateProtocolVersion carry it.
pub const VERSION_3_0: u32 = 3 << 16;
/// Protocol 3.2.
pub const VERSION_3_2: u32 = (3 << 16) | 2;

/// Code of an SSLRequest.
pub const SSL_REQUEST: u32 = (1234 << 16) | 5679;
/// Code of a GSSENCRequest.
pub const GSS_ENC_REQUEST: u32 = (1234 << 16) | 5680;
/// Code of a CancelRequest.
pub const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;

const HEADER_BYTES: usize = 8;

fn is_foreign(code: u32) -> bool {
    major(code) != 3 && ![SSL_REQUEST, GSS_ENC_REQUEST, CANCEL_REQUEST].contains(&code)
}

fn major(code: u32) -> u16 {
    let [a, b, ..] = code.to_be_bytes();
    u16::from_be_bytes([a, b])
}

fn minor(code: u32) -> u16 {
    let [.., c, d] = code.to_be_bytes();
    u16::from_be_bytes([c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + body.len()).unwrap();
        [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
    }

    #[test]
    fn requests_and_startups_are_told_apart() {
        let parse = |code, body: &[u8]| FirstMessage::parse(&message(code, body), 10_000);

        assert_eq!(parse(SSL_REQUEST, b""), Ok(Some((FirstMessage::SslRequest, 8))));
        assert_eq!(parse(GSS_ENC_REQUEST, b""), Ok(Some((FirstMessage::GssEncRequest, 8))));
        assert!(matches!(parse(CANCEL_REQUEST, &[7; 36]), Ok(Some((FirstMessage::Cancel(_), 44)))));
        assert!(matches!(parse(VERSION_3_2, b"user\0app\0\0"), Ok(Some((FirstMessage::Startup { minor: 2, .. }, 18)))));
    }

    #[test]
    fn half_a_message_asks_for_more_at_every_cut() {
        let whole = message(VERSION_3_0, b"user\0app\0\0");

        for cut in 0..whole.len() {
            assert_eq!(FirstMessage::parse(&whole[..cut], 10_000), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_the_bytes_arrive() {
        let length = 10_001_u32.to_be_bytes();

        assert_eq!(FirstMessage::parse(&length, 10_000), Err(FirstMessageError::TooLarge(10_001)));
    }

    #[test]
    fn other_majors_are_refused_by_their_number() {
        for major in [0, 1, 2, 4, 0x5353] {
            let code = u32::from(major) << 16;
            assert_eq!(FirstMessage::parse(&message(code, b"x"), 10_000), Err(FirstMessageError::Major(major)));
        }
    }

    #[test]
    fn short_lengths_and_odd_bodies_are_malformed() {
        let malformed =
            |bytes: &[u8]| matches!(FirstMessage::parse(bytes, 10_000), Err(FirstMessageError::Malformed(_)));

        assert!(malformed(&7_u32.to_be_bytes()));
        assert!(malformed(&message(SSL_REQUEST, b"x")));
        assert!(malformed(&message(CANCEL_REQUEST, &[0; 7])));
        assert!(malformed(&message(CANCEL_REQUEST, &[0; 261])));
        assert!(malformed(&message(VERSION_3_0, b"user\0app\0")));
    }
}
