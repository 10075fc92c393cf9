//! crdb-proxy: `localhost:26257` → a verified, logged-in session on a CockroachDB Cloud cluster.
//!
//! The way of one client connection is the reading order: [`cli`] and [`daemon`] build every part from
//! [`settings`]; a `listener` accepts a client and owns its session; `session` reads its startup, admits
//! it, claims an `upstream` (from the `pool`, or anew: choose an endpoint, connect, log in), relays, and
//! closes. Everything below them is a side room: it imports side rooms only.

pub mod check;
pub mod cli;
pub mod commands;
pub mod daemon;
#[cfg(feature = "demo")]
pub mod demo;

mod listener;
mod pool;
mod session;
pub mod upstream;

mod admin;
mod buffers;
pub mod clock;
pub mod cloud;
pub mod control;
pub mod credentials;
pub mod diagnostics;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod jitter;
mod lock;
pub mod metrics;
pub mod refusals;
pub mod scram;
pub mod secret;
pub mod service_manager;
pub mod sessions;
pub mod settings;
pub mod shutdown;
mod stamp;
pub mod sys;
pub mod tls;
pub mod trusted_file;
pub mod wire;
