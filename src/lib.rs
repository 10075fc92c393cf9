//! crdb-proxy: `localhost:26257` → a verified, logged-in session on a CockroachDB Cloud cluster.

#[cfg(feature = "demo")]
pub mod demo;
pub mod secret;
pub mod settings;
