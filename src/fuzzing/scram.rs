//! SCRAM in both roles: what a server says to our login, and what a client says to a listener's password.

use super::bytes::first;
use crate::scram::{ChannelBinding, ClientFirst, ScramError, ScramKeys, ServerExchange, Verifier};
use std::{
    num::NonZero,
    sync::{Arc, OnceLock},
};

pub(super) fn run(input: &[u8]) {
    let (role, text) = first(input);
    let cut = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
    let (one, two) = (&text[..cut], text.get(cut + 1..).unwrap_or_default());
    match role % 3 {
        0 => as_client(role, one, two),
        1 => as_server(one, two),
        _ => verifier(text),
    }
}

/// `one` and `two` are a server's messages.
fn as_client(role: u8, one: &[u8], two: &[u8]) {
    let binding = match role / 3 % 3 {
        0 => ChannelBinding::Unsupported,
        1 => ChannelBinding::NotOffered,
        _ => ChannelBinding::ServerEndPoint(vec![7; 32]),
    };
    let client = ClientFirst::new(binding).unwrap_or_else(|error| panic!("no random bytes: {error}"));
    let hello = client.message();
    let nonce = hello.rsplit(|&byte| byte == b'=').next().unwrap_or_default().to_vec();
    let server_first = with_nonce(one, &nonce);
    let challenge = match client.challenge(&server_first) {
        Ok(challenge) => challenge,
        Err(error) => return told(&error),
    };
    assert!((4096..=1_000_000).contains(&challenge.iterations().get()));
    assert!(!challenge.salt().is_empty() && challenge.salt().len() <= server_first.len());
    assert!(server_first.starts_with(&[b"r=", &*nonce].concat()), "another's nonce was taken");
    let (answer, expected) = challenge.answer(keys());
    assert!(answer.len() <= server_first.len() + ANSWER_MAX && answer.is_ascii());
    match expected.verify(two) {
        Ok(()) => panic!("a server that does not know the password was believed"),
        Err(error) => told(&error),
    }
}

/// `one` and `two` are a client's messages.
fn as_server(one: &[u8], two: &[u8]) {
    let (server_first, exchange) = match ServerExchange::new(known()).client_first(one) {
        Ok(begun) => begun,
        Err(error) => return told(&error),
    };
    assert!(server_first.is_ascii() && server_first.len() <= one.len() + ANSWER_MAX);
    assert!(one.starts_with(b"n,,") || one.starts_with(b"y,,"));
    let nonce = server_first.strip_prefix(b"r=").and_then(|rest| rest.split(|&byte| byte == b',').next());
    match exchange.client_final(&with_nonce(two, nonce.unwrap_or_default())) {
        Ok(_) => panic!("a client that does not know the password was let in"),
        Err(error) => told(&error),
    }
}

fn verifier(text: &[u8]) {
    match Verifier::parse(text) {
        Ok(verifier) => {
            assert_eq!(format!("{verifier:?}"), "***");
            let begun = ServerExchange::new(Arc::new(verifier)).client_first(b"n,,n=,r=abc");
            assert!(begun.is_ok_and(|(message, _)| message.len() < SERVER_FIRST_MAX));
        }
        Err(error) => told(&error),
    }
}

/// An error is one short line.
fn told(error: &ScramError) {
    let told = error.to_string();
    assert!(!told.is_empty() && told.len() < TOLD_MAX && !told.chars().any(char::is_control), "{told:?}");
}

/// An input cannot know a nonce: `@@` stands for it.
fn with_nonce(text: &[u8], nonce: &[u8]) -> Vec<u8> {
    match text.windows(2).position(|pair| pair == b"@@") {
        Some(place) => [&text[..place], nonce, &text[place + 2..]].concat(),
        None => text.to_vec(),
    }
}

/// Derived once: a real exchange's PBKDF2 would take all the time there is.
fn keys() -> &'static ScramKeys {
    static KEYS: OnceLock<ScramKeys> = OnceLock::new();
    KEYS.get_or_init(|| ScramKeys::derive(b"pencil", b"salt", ITERATIONS))
}

fn known() -> Arc<Verifier> {
    static KNOWN: OnceLock<Arc<Verifier>> = OnceLock::new();
    let derive = || Verifier::derive(b"pencil", ITERATIONS).unwrap_or_else(|error| panic!("no random bytes: {error}"));
    Arc::clone(KNOWN.get_or_init(|| Arc::new(derive())))
}

const ITERATIONS: NonZero<u32> = NonZero::new(4096).unwrap();
/// Proof or nonce, salt, channel binding.
const ANSWER_MAX: usize = 200;
const SERVER_FIRST_MAX: usize = 2000;
const TOLD_MAX: usize = 300;
