//! crdb-proxy: `localhost:26257` → a verified, logged-in session on a CockroachDB Cloud cluster.

pub mod metrics;
pub mod credentials;
pub mod scram;
pub mod cli;
pub mod secret;
pub mod sessions;
pub mod settings;
pub mod shutdown;
pub mod sys;
pub mod tls;
pub mod wire;
