//! The daemon's binary between real clients and real or scripted clusters, one module per behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking; clippy.toml's exceptions reach only functions marked #[test]"
)]

mod harness;
mod harness_works;
