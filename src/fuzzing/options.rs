//! The startup parameter `options`: what a server would find there is found here.

use super::bytes::first;
use crate::wire::{
    StartupParameters,
    options::{Allowed, Reserved, settings, swallows_what_follows},
};

pub(super) fn run(input: &[u8]) {
    let (how, text) = first(input);
    if text.contains(&0) {
        return;
    }
    let allowed = Allowed { cluster: how & 1 != 0, database: how & 2 != 0 };
    let found = settings(text);
    assert!(found.iter().all(|setting| setting.key.len() + setting.value.len() <= text.len()));
    assert!(found.len() <= 2 * 3 * (text.len() / 2 + 1), "{} settings in {} bytes", found.len(), text.len());

    let reserved = of(text, allowed);
    if let Some(reserved) = &reserved {
        let told = format!("{reserved} {}", reserved.hint());
        assert!(told.len() < TOLD_MAX && !told.chars().any(char::is_control), "{told:?}");
        // Who may choose less is refused too, and so is who says more.
        assert!(of(text, Allowed { cluster: false, database: false }).is_some());
        let after = [b"-c a=b ", text].concat();
        assert!(of(&after, allowed).is_some(), "hidden behind another option");
    }
    for (key, reserved) in [("crdb:x", "crdb:x"), ("CRDB:Y", "crdb:y"), ("system_identity", "system_identity")] {
        let said = [text, b" -c", key.as_bytes(), b"=1"].concat();
        let is_found = matches!(of(&said, Allowed { cluster: true, database: true }), Some(Reserved::Vendor(_)));
        assert!(is_found || swallows_what_follows(text), "{reserved} is hidden by what stands before it");
    }
}

fn of(options: &[u8], allowed: Allowed) -> Option<Reserved> {
    let body = [b"user\0me\0options\0", options, b"\0\0"].concat();
    StartupParameters::parse(&body).ok().and_then(|parameters| parameters.reserved(allowed))
}

/// A refusal stays short, whatever it is about.
const TOLD_MAX: usize = 1000;
