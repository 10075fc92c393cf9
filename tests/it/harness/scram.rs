//! The server's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), with the flaws that a client must notice.

use super::wire::{Message, Wire, message};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{io, num::NonZeroU32};

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

/// Runs the exchange; `Ok(true)` once the client has proven to know `password`. Iterations as told,
/// so that a test can offer too few or too many.
pub(crate) fn serve(
    wire: &mut Wire,
    password: &str,
    iterations: u32,
    flaw: Flaw,
) -> io::Result<bool> {
    wire.try_send(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
    let initial = wire.next_message()?;
    let client_first_bare = client_first_bare(&initial);
    let client_nonce = attribute(&client_first_bare, 'r').to_owned();
    let server_nonce = if flaw == Flaw::Nonce {
        "0123456789abcdef".into()
    } else {
        format!("{client_nonce}serverpart")
    };
    let salt = b"sixteen bytes ok";
    let server_first = format!(
        "r={server_nonce},s={},i={iterations}",
        BASE64_STANDARD.encode(salt)
    );
    wire.try_send(&message(
        b'R',
        &[b"\0\0\0\x0b", server_first.as_bytes()].concat(),
    ))?;

    let client_final = String::from_utf8(wire.next_message()?.body).unwrap();
    if flaw == Flaw::NoProof {
        return Ok(true);
    }
    let (without_proof, proof) = client_final
        .rsplit_once(",p=")
        .expect("a client-final message without a proof");
    let auth_message = format!("{client_first_bare},{server_first},{without_proof}");
    let salted = salted_password(password, salt, iterations);
    let client_key = mac(&salted, b"Client Key");
    let client_signature = mac(
        digest::digest(&digest::SHA256, &client_key).as_ref(),
        auth_message.as_bytes(),
    );
    let expected = client_key
        .iter()
        .zip(&client_signature)
        .map(|(a, b)| a ^ b)
        .collect::<Vec<_>>();
    if BASE64_STANDARD.decode(proof).unwrap() != expected {
        return Ok(false);
    }
    let server_key = mac(
        &salted,
        if flaw == Flaw::Signature {
            b"Other Key!"
        } else {
            b"Server Key"
        },
    );
    let signature = BASE64_STANDARD.encode(mac(&server_key, auth_message.as_bytes()));
    wire.try_send(&message(
        b'R',
        &[b"\0\0\0\x0cv=", signature.as_bytes()].concat(),
    ))?;
    Ok(true)
}

/// The client's first message without its GS2 header, which says that the client binds no channel:
/// `n` not at all, `y` because the server did not offer to.
fn client_first_bare(initial: &Message) -> String {
    assert_eq!(initial.tag, b'p', "expected a SASLInitialResponse");
    let text = String::from_utf8_lossy(&initial.body);
    let rest = text
        .strip_prefix("SCRAM-SHA-256\0")
        .expect("a mechanism that was not offered");
    let start = rest.find(",,").expect("a GS2 header");
    assert!(
        rest[..start].ends_with(['n', 'y']),
        "a channel bound although PLUS was not offered"
    );
    rest[start + 2..].to_owned()
}

fn attribute(text: &str, name: char) -> &str {
    text.split(',')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        .expect("a SCRAM attribute")
}

fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
    let mut salted = vec![0; 32];
    // A client must refuse an absurd count before it computes; so the server need not compute it either.
    let iterations = NonZeroU32::new(iterations.min(100_000)).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password.as_bytes(),
        &mut salted,
    );
    salted
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
        .as_ref()
        .to_vec()
}
