//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) for both of the daemon's sides: logging
//! in to a cluster, and checking a listener's local password.
//!
//! Pure state machines: they read and write messages and do no I/O. Nothing here may panic on what a
//! peer sends, and no secret or key may reach an error or a log.

mod client;
mod crypto;
mod error;
mod keys;
mod message;
mod server;

pub use client::{Challenge, ChannelBinding, ClientFirst, Expected};
pub use error::ScramError;
pub use keys::{KeyCache, ScramKeys};
pub use server::{AwaitsProof, ServerExchange, Verifier};

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

#[cfg(test)]
mod tests;
