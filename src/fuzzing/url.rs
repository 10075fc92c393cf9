//! Connection strings, as people paste them.

use super::CANARY;
use crate::settings::url::{ConnectionString, parse};

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match parse(text) {
        Ok(string) => {
            assert!(!string.host.is_empty() && string.port != Some(0));
            bounded(&string, text);
            let exported = string.export();
            let same = ConnectionString { without_effect: Vec::new(), ..string.clone() };
            assert_eq!(parse(&exported).ok(), Some(same), "not the same once exported");
            assert_eq!(parse(&exported).ok().map(|again| again.export()), Some(exported), "another export");
            assert!(!format!("{string:?}").contains(CANARY) || !is_password(&string));
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in &faults {
                assert_eq!(fault.value, None);
                assert!(!is_in_password(text) || !fault.to_string().contains(CANARY), "{fault}");
            }
        }
    }
    assert_eq!(parse(&format!(" {text}\n")).is_ok(), parse(text).is_ok(), "blanks around it");
}

/// Whether the canary stands where a password does: between a colon and an @, whatever else stands there.
fn is_in_password(text: &str) -> bool {
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let (before_host, _) = rest.rsplit_once('@').unwrap_or_default();
    before_host.split_once(':').is_some_and(|(_, password)| password.contains(CANARY))
}

/// Nothing is made larger than it was.
fn bounded(string: &ConnectionString, text: &str) {
    let texts = [&string.user, &string.database, &string.cert, &string.key];
    let pairs = string.session_parameters.iter().map(|(key, value)| key.len() + value.len());
    let bytes = texts.into_iter().flatten().map(String::len).chain(pairs).sum::<usize>() + string.host.len();
    assert!(bytes <= text.len());
}

fn is_password(string: &ConnectionString) -> bool {
    string.password.as_ref().is_some_and(|secret| {
        let is_canary = secret.expose().windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        let others = [&string.user, &string.database, &string.cert, &string.key];
        let elsewhere = others.into_iter().flatten().any(|text| text.contains(CANARY)) || string.host.contains(CANARY);
        let parameters = string.session_parameters.iter().any(|(_, value)| value.contains(CANARY));
        let is_root = format!("{:?}", string.root_certificate).contains(CANARY);
        is_canary && !elsewhere && !parameters && !is_root
    })
}
