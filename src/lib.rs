//! crdb-proxy: `localhost:26257` → a verified, logged-in session on a CockroachDB Cloud cluster.

pub mod credentials;
pub mod scram;
pub mod secret;
pub mod settings;
pub mod tls;
