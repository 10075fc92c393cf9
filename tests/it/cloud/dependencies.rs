//! One TLS library with one provider, whoever asks for another.

use crate::harness::markdown;

#[test]
fn no_second_tls_library_and_no_second_provider_is_linked() {
    let lock = markdown::read("Cargo.lock").parse::<toml::Table>().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let names: Vec<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"rustls") && names.contains(&"aws-lc-rs") && names.contains(&"reqwest"), "{names:?}");

    let others =
        ["ring", "native-tls", "openssl", "openssl-sys", "boring", "boring-sys", "schannel-sys", "rustls-rustcrypto"];
    for other in others {
        assert!(!names.contains(&other), "Cargo.lock holds {other}");
    }
    for single in ["rustls", "rustls-webpki", "aws-lc-rs", "tokio-rustls", "hyper", "http"] {
        assert_eq!(names.iter().filter(|name| **name == single).count(), 1, "{single} is there twice");
    }
}
