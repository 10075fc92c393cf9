//! crdb-proxy: `localhost:26257` → a verified, logged-in session on a CockroachDB Cloud cluster.

pub mod cli;
pub mod secret;
pub mod settings;
