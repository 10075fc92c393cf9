//! Every target over its corpus and over what is made of it at random. `FUZZ_CASES` asks for more of each, `FUZZ_SEED`
//! for others.

use super::{TARGETS, Target, mutator::mutate};
use fastrand::Rng;
use std::{env, fs, path::Path, str::FromStr, thread};

/// Over a million in all for those that read what comes over the wire.
const CASES: [(&str, usize); 8] = [
    ("startup", 400_000),
    ("client_frames", 400_000),
    ("server_frames", 400_000),
    ("options", 50_000),
    ("url", 15_000),
    ("scram", 20_000),
    ("settings", 3_000),
    ("cloud", 30_000),
];

#[test]
fn any_startup_is_read_as_it_stands() {
    replay_and_mutate("startup");
}

#[test]
fn a_clients_frames_are_the_same_however_they_are_cut() {
    replay_and_mutate("client_frames");
}

#[test]
fn a_servers_frames_are_the_same_however_they_are_cut() {
    replay_and_mutate("server_frames");
}

#[test]
fn no_reading_of_options_hides_a_reserved_key() {
    replay_and_mutate("options");
}

#[test]
fn any_connection_string_is_refused_or_means_one_thing() {
    replay_and_mutate("url");
}

#[test]
fn any_scram_message_is_refused_or_answered() {
    replay_and_mutate("scram");
}

#[test]
fn any_settings_are_refused_or_shown_as_they_are() {
    replay_and_mutate("settings");
}

#[test]
fn any_answer_of_the_cloud_api_is_bounded() {
    replay_and_mutate("cloud");
}

#[test]
fn every_target_has_a_corpus_a_test_and_a_program() {
    for (name, _) in TARGETS {
        assert!(corpus(name).len() >= 5, "{name}");
        assert!(CASES.iter().any(|(known, cases)| *known == name && *cases > 0), "{name}");
        let program = fs::read_to_string(folder().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("\"{name}\"")), "{program}");
    }
    let on_the_wire = &CASES[..4];
    assert!(on_the_wire.iter().map(|(_, cases)| cases).sum::<usize>() >= 1_000_000);
}

fn replay_and_mutate(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let (_, cases) = CASES.into_iter().find(|(known, _)| *known == name).unwrap();
    let corpus = corpus(name);
    for input in &corpus {
        run(target, input, || format!("{name}: a file of the corpus"));
    }
    // The same each time, unless asked otherwise: a build must not fail for what it did not change.
    let seed = number("FUZZ_SEED").unwrap_or(SEED);
    let mut rng = Rng::with_seed(seed);
    let mut input = Vec::new();
    for case in 0..number("FUZZ_CASES").unwrap_or(cases) {
        mutate(&corpus, &mut rng, &mut input);
        run(target, &input, || format!("{name}: case {case} of FUZZ_SEED={seed}"));
    }
}

/// Says which input it was, should the target panic.
fn run(target: Target, input: &[u8], which: impl Fn() -> String) {
    struct Shown<'a, F: Fn() -> String>(&'a [u8], F);
    impl<F: Fn() -> String> Drop for Shown<'_, F> {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("{}: b\"{}\"", (self.1)(), self.0.escape_ascii());
            }
        }
    }
    let _shown = Shown(input, which);
    target(input);
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn number<N: FromStr>(variable: &str) -> Option<N> {
    env::var(variable).ok()?.parse().ok()
}

const SEED: u64 = 7;
