//! One TLS library with one provider, whoever asks for another.

use crate::harness::{DEADLINE, markdown::root, process};
use std::process::Command;

#[test]
fn no_second_tls_library_and_no_second_provider_is_linked() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let tree = process::run(cargo.current_dir(root()), "", DEADLINE).expect_success();
    let names: std::collections::BTreeSet<_> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let count = |name: &str| names.iter().filter(|line| line.split(' ').next() == Some(name)).count();
    assert!(names.len() > 100 && count("reqwest") == 1, "{tree}");

    for other in ["ring", "native-tls", "openssl", "openssl-sys", "boring", "boring-sys", "rustls-rustcrypto"] {
        assert_eq!(count(other), 0, "{other} is linked");
    }
    for single in ["rustls", "rustls-webpki", "aws-lc-rs", "tokio-rustls", "hyper", "http"] {
        assert_eq!(count(single), 1, "{single} is linked more or less than once");
    }
}
