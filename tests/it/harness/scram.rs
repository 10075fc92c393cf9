//! The server's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), with the flaws that a client must notice.

use super::wire::{Message, Wire, message};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{io, num::NonZeroU32};

/// One exchange, as the server wants it.
pub(crate) struct Exchange<'a> {
    pub(crate) password: &'a str,
    /// As told, so that a test can offer too few or too many.
    pub(crate) iterations: u32,
    pub(crate) flaw: Flaw,
    /// Offers SCRAM-SHA-256-PLUS too, which binds the channel to this digest of the certificate
    /// (`tls-server-end-point`, RFC 5929); an absent digest: no client can.
    pub(crate) plus: Option<Option<Vec<u8>>>,
}

/// What the server does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// It does not know the password: its own signature is wrong.
    Signature,
    /// Its nonce does not begin with the client's.
    Nonce,
    /// It says that the login succeeded without a proof of its own.
    NoProof,
}

/// What came of an exchange.
pub(crate) struct Outcome {
    /// The client has proven to know the password, and bound the channel if it said so.
    pub(crate) proven: bool,
    /// The mechanism and GS2 header that it chose.
    pub(crate) chosen: String,
}

impl Exchange<'_> {
    /// Runs the exchange up to and including the server's own proof.
    pub(crate) fn serve(&self, wire: &mut Wire) -> io::Result<Outcome> {
        let offered: &[u8] = match self.plus {
            Some(_) => b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
            None => b"\0\0\0\x0aSCRAM-SHA-256\0\0",
        };
        wire.try_send(&message(b'R', offered))?;
        let first = ClientFirst::read(&wire.next_message()?);
        let chosen = format!("{} {}", first.mechanism, first.gs2_header);
        let nonce = match self.flaw {
            Flaw::Nonce => "0123456789abcdef".to_owned(),
            _ => format!("{}serverpart", attribute(&first.bare, 'r')),
        };
        let salt = BASE64_STANDARD.encode(SALT);
        let server_first = format!("r={nonce},s={salt},i={}", self.iterations);
        wire.try_send(&message(b'R', &[b"\0\0\0\x0b", server_first.as_bytes()].concat()))?;

        let client_final = String::from_utf8(wire.next_message()?.body).unwrap();
        if self.flaw == Flaw::NoProof {
            return Ok(Outcome { proven: true, chosen });
        }
        let (without_proof, proof) = client_final.rsplit_once(",p=").expect("a proof");
        let auth_message = format!("{},{server_first},{without_proof}", first.bare);
        let keys = Keys::derive(self.password, self.iterations);
        let bound = BASE64_STANDARD.encode(self.binding(&first.gs2_header));
        let proven = keys.accepts(&auth_message, proof) && attribute(without_proof, 'c') == bound;
        if proven {
            let signature = keys.server_signature(&auth_message, self.flaw);
            let body = [b"\0\0\0\x0cv=", signature.as_bytes()].concat();
            wire.try_send(&message(b'R', &body))?;
        }
        Ok(Outcome { proven, chosen })
    }

    /// What the client must have bound: its GS2 header, and the digest if the header promises it.
    fn binding(&self, gs2_header: &str) -> Vec<u8> {
        let digest = self.plus.clone().flatten().unwrap_or_default();
        let promised = gs2_header.starts_with("p=");
        [gs2_header.as_bytes(), if promised { &digest } else { &[] }].concat()
    }
}

struct ClientFirst {
    mechanism: String,
    gs2_header: String,
    bare: String,
}

impl ClientFirst {
    fn read(initial: &Message) -> Self {
        assert_eq!(initial.tag, b'p', "expected a SASLInitialResponse");
        let end = initial.body.iter().position(|&byte| byte == 0).unwrap();
        let mechanism = String::from_utf8_lossy(&initial.body[..end]).into_owned();
        // Four bytes of length stand before the message itself.
        let text = String::from_utf8_lossy(&initial.body[end + 5..]).into_owned();
        let header = text.find(",,").expect("a GS2 header") + 2;
        Self { mechanism, gs2_header: text[..header].to_owned(), bare: text[header..].to_owned() }
    }
}

struct Keys {
    client: Vec<u8>,
    salted: Vec<u8>,
}

impl Keys {
    fn derive(password: &str, iterations: u32) -> Self {
        let mut salted = vec![0; 32];
        // A client refuses an absurd count before it computes, so the server need not compute it either.
        let iterations = NonZeroU32::new(iterations.min(1_000_000)).unwrap_or(NonZeroU32::MIN);
        let password = password.as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, SALT, password, &mut salted);
        Self { client: mac(&salted, b"Client Key"), salted }
    }

    fn accepts(&self, auth_message: &str, proof: &str) -> bool {
        let stored = digest::digest(&digest::SHA256, &self.client);
        let signature = mac(stored.as_ref(), auth_message.as_bytes());
        let expected = self.client.iter().zip(&signature).map(|(a, b)| a ^ b);
        BASE64_STANDARD.decode(proof).unwrap() == expected.collect::<Vec<_>>()
    }

    fn server_signature(&self, auth_message: &str, flaw: Flaw) -> String {
        let name: &[u8] = if flaw == Flaw::Signature { b"Another Key" } else { b"Server Key" };
        BASE64_STANDARD.encode(mac(&mac(&self.salted, name), auth_message.as_bytes()))
    }
}

fn attribute(text: &str, name: char) -> &str {
    text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).expect("a SCRAM attribute")
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

const SALT: &[u8] = b"sixteen bytes ok";
