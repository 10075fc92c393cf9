//! What is true of everything that reads what strangers wrote, whatever they wrote: one target each, over bytes.
//!
//! The same functions run under libFuzzer (`fuzz/`) and, on a stable compiler, as tests that mutate the corpus
//! (`tests.rs`). They panic where a promise is broken, so nothing of this is in a daemon: only tests and the feature
//! `fuzzing` have it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fuzz target says what is wrong by a panic"
)]

mod bytes;
mod client_frames;
mod cloud;
mod options;
mod scram;
mod server_frames;
mod settings;
mod startup;
mod url;

/// What is called with any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its file here and of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("startup", startup::run),
    ("client_frames", client_frames::run),
    ("server_frames", server_frames::run),
    ("options", options::run),
    ("url", url::run),
    ("scram", scram::run),
    ("settings", settings::run),
    ("cloud", cloud::run),
];

/// Calls one of them.
///
/// # Panics
/// Where there is none of that name, and where it finds a promise broken.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("there is no target {name}"));
    target(input);
}

/// Stands where a secret would, in the corpus; no error may repeat it.
const CANARY: &str = "s3cr3tc4n4ry";

#[cfg(test)]
mod mutator;
#[cfg(test)]
mod tests;
