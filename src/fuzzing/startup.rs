//! A client's first message, and what of it goes upstream.

use super::bytes::first;
use crate::wire::{
    CancelKey, FirstMessage, StartupParameters, first_message::FirstMessageError, messages, parameters::Injected,
};

pub(super) fn run(input: &[u8]) {
    let (how, bytes) = first(input);
    match FirstMessage::parse(bytes, BYTES_MAX) {
        Ok(None) => assert!(bytes.len() < BYTES_MAX, "it waits for more than it will take"),
        Ok(Some((message, size))) => {
            assert!((8..=BYTES_MAX.min(bytes.len())).contains(&size));
            let again = FirstMessage::parse(&bytes[..size], BYTES_MAX);
            assert_eq!(again, Ok(Some((message, size))), "what follows a message changed it");
            cut_short(&bytes[..size], usize::from(how) % size);
            read(again.ok().flatten().map(|(message, _)| message), &bytes[..size], how);
        }
        Err(error) => {
            let more = [bytes, b"\0more\0"].concat();
            assert_eq!(FirstMessage::parse(&more, BYTES_MAX), Err(error), "what follows an error changed it");
            if let FirstMessageError::TooLarge(length) = error {
                assert!(length as usize > BYTES_MAX);
            }
        }
    }
}

/// Half a message is waited for, and never taken for a whole one.
fn cut_short(message: &[u8], cut: usize) {
    assert_eq!(FirstMessage::parse(&message[..cut], BYTES_MAX), Ok(None), "cut at {cut}");
}

fn read(message: Option<FirstMessage>, bytes: &[u8], how: u8) {
    match message {
        Some(FirstMessage::SslRequest | FirstMessage::GssEncRequest) => assert_eq!(bytes.len(), 8),
        Some(FirstMessage::Cancel(key)) => {
            assert!((8..=260).contains(&key.bytes().len()));
            assert_eq!(messages::cancel_request(&key), bytes);
            assert_eq!(CancelKey::new(key.bytes()), Some(key));
        }
        Some(FirstMessage::Startup { parameters, .. }) => {
            let encoded = messages::startup(&parameters);
            assert_eq!(encoded[8..], bytes[8..], "not kept byte for byte");
            upstream(&parameters, how);
        }
        None => unreachable!("it was read before"),
    }
}

fn upstream(parameters: &StartupParameters, how: u8) {
    let session_parameters = [("application_name".to_owned(), "ours".to_owned())];
    let injected = Injected {
        user: "app",
        database: "defaultdb",
        session_parameters: if how & 1 == 0 { &[] } else { &session_parameters },
        jwt: how & 2 != 0,
        is_database_locked: how & 4 != 0,
    };
    let sent = parameters.for_upstream(&injected);

    let reread = FirstMessage::parse(&messages::startup(&sent), usize::MAX);
    assert!(
        matches!(&reread, Ok(Some((FirstMessage::Startup { parameters, .. }, _))) if *parameters == sent),
        "the server would read something else"
    );
    assert!(sent.bytes() <= parameters.bytes() + OURS_MAX);
    let pairs = pairs_of(&sent);
    let users = pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"user"));
    assert_eq!(users.collect::<Vec<_>>(), [&(b"user".to_vec(), b"app".to_vec())]);
    assert!(pairs.iter().all(|(name, _)| !is_reserved(name)), "{pairs:?}");
    let databases: Vec<_> = pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"database")).collect();
    assert!(databases.iter().any(|(_, value)| !value.is_empty()), "{pairs:?}");
    assert!(!injected.is_database_locked || databases == [&(b"database".to_vec(), b"defaultdb".to_vec())], "{pairs:?}");
    in_order(&pairs_of(parameters), &pairs, injected.jwt);
    if !injected.jwt {
        let mut again = pairs_of(&sent.for_upstream(&injected));
        again.sort();
        let mut pairs = pairs;
        pairs.sort();
        assert_eq!(again, pairs, "once more makes it another");
    }
}

/// What is the client's own passes byte for byte and in its order.
fn in_order(own: &[Pair], sent: &[Pair], jwt: bool) {
    let mut rest = sent.iter();
    for (name, value) in own {
        let is_changed = (jwt && name.eq_ignore_ascii_case(b"options")) || name.eq_ignore_ascii_case(b"database");
        if name.eq_ignore_ascii_case(b"user") || is_reserved(name) || is_changed {
            continue;
        }
        assert!(rest.any(|pair| pair.0 == *name && pair.1 == *value), "{name:?} is lost or out of place");
    }
}

type Pair = (Vec<u8>, Vec<u8>);

fn pairs_of(parameters: &StartupParameters) -> Vec<Pair> {
    let mut bytes = Vec::new();
    parameters.encode(&mut bytes);
    let texts: Vec<_> = bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    texts.chunks_exact(2).filter(|pair| !pair[0].is_empty()).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn is_reserved(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.starts_with(b"crdb:") || lower.starts_with(b"_pq_.")
}

const BYTES_MAX: usize = 2000;
/// User, database, session parameters and the option, with their names.
const OURS_MAX: usize = 128;
