//! Lengths and counts come from peers: what is shipped panics where one overflows, and what reads them truncates and
//! indexes nothing.

use crate::harness::markdown;
use std::{fs, path::Path};
use toml::{Table, Value};

#[test]
fn every_program_that_is_shipped_checks_for_overflow() {
    let manifest = manifest();
    let profiles = manifest["profile"].as_table().unwrap();

    for shipped in ["release", "image"] {
        assert_eq!(inherited(profiles, shipped, "overflow-checks"), Some(&Value::Boolean(true)), "{shipped}");
        // A package's own setting would win.
        assert!(!profiles[shipped].as_table().unwrap().contains_key("package"), "{shipped}");
    }
    // The tests' own profile, in which all else is shown.
    let sum = std::panic::catch_unwind(|| std::hint::black_box(u32::MAX) + std::hint::black_box(1));
    assert!(sum.is_err(), "overflow wraps in the tests");
}

#[test]
fn no_build_turns_the_checks_off_by_its_environment() {
    let mut read = 0;
    for file in ["tests/run", ".ci/run", "Dockerfile", "packaging/build-deb"] {
        let text = markdown::read(file);
        read += text.len();
        for word in ["OVERFLOW_CHECKS", "overflow-checks"] {
            assert!(!text.contains(word), "{file} says {word}");
        }
    }
    assert!(read > 1000);
}

#[test]
fn whatever_reads_strangers_bytes_is_held_to_no_truncation_and_no_indexing() {
    let manifest = manifest();
    let lints = &manifest["lints"]["clippy"];
    for lint in HELD_TO {
        assert_eq!(lints[lint].as_str(), Some("warn"), "{lint}");
        // They fail a build only where warnings do.
        assert!(markdown::read("tests/run").contains("cargo clippy --locked --all-targets -- -D warnings"));
    }

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = PARSERS.iter().flat_map(|room| sources(&source.join(room)));
    let mut count = 0;
    for file in files.chain(PARSERS.iter().map(|room| source.join(format!("{room}.rs")))) {
        count += 1;
        let text = fs::read_to_string(&file).unwrap();
        for lint in HELD_TO {
            assert!(!text.contains(&format!("clippy::{lint}")), "{} is let off {lint}", file.display());
        }
    }
    assert!(count > 50, "only {count} files");
}

fn manifest() -> Table {
    markdown::read("Cargo.toml").parse().unwrap()
}

/// A profile's setting, or that of the one it is made from.
fn inherited<'m>(profiles: &'m Table, profile: &str, key: &str) -> Option<&'m Value> {
    let own = profiles.get(profile)?.as_table()?;
    own.get(key).or_else(|| inherited(profiles, own.get("inherits")?.as_str()?, key))
}

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

const HELD_TO: [&str; 2] = ["cast_possible_truncation", "indexing_slicing"];

/// The rooms under `src/` that do.
const PARSERS: [&str; 5] = ["wire", "scram", "settings", "cloud", "session"];
