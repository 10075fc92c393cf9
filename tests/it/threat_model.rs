//! The threat model promises nothing that no test holds the daemon to.

use crate::harness::markdown::{self, code};
use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_row_of_the_threat_model_names_tests_that_there_are() {
    let tables = markdown::tables(&markdown::read("docs/security.md"));
    let known = tests();
    assert!(known.len() > 1000, "only {} tests were found; does this test still read the right lines?", known.len());
    let rows = tables.iter().filter(|table| table.header.last().is_some_and(|title| title == "tests"));
    let rows = rows.flat_map(|table| &table.rows).collect::<Vec<_>>();
    assert!(rows.len() > 50, "only {} rows", rows.len());

    for row in rows {
        let named = code(row.last().unwrap());
        assert!(!named.is_empty(), "no test: {}", row[0]);
        for name in named {
            assert!(known.contains(&name), "there is no test {name}, which is to hold: {}", row[0]);
        }
    }
}

#[test]
fn every_attacker_has_a_section_that_says_what_cannot_be_done() {
    let model = markdown::read("docs/security.md");
    let sections = model.split("\n## ").skip(1).collect::<Vec<_>>();

    for attacker in [
        "user of the same machine",
        "Another container",
        "port squatter",
        "Malware of the same user",
        "hostile client",
        "hostile server",
        "path attacker, and an inspecting proxy",
        "page in your browser",
        "thief of the API key",
        "reader of metrics",
        "writer of files",
    ] {
        let section = sections.iter().find(|section| section.lines().next().unwrap().contains(attacker));
        let section = section.unwrap_or_else(|| panic!("{attacker}"));
        assert!(section.contains("\nIt cannot ") || section.contains("\nIt does "), "{attacker}");
    }
}

/// All tests by their paths, without the modules that are there for tests alone.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["tests/it", "src"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        look_through(&root, "", &mut found);
    }
    found
}

fn look_through(folder: &Path, module: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let inner = if name == "tests" { module.to_owned() } else { format!("{module}{name}::") };
        if path.is_dir() {
            look_through(&path, &inner, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(functions(&text).map(|function| format!("{inner}{function}")));
        }
    }
}

/// Names of the functions that are marked as tests.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let signature = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))?;
        std::mem::take(&mut is_test).then(|| signature.split(['(', '<']).next().unwrap_or_default())
    })
}
