//! What the tests are built on: real and scripted clusters, the daemon's own binary, raw clients.
//!
//! Everything here blocks and has a deadline ([`DEADLINE`]), so that a test reads from top to bottom
//! and fails with a sentence instead of hanging. Nothing here sleeps to wait for something: it waits
//! for a log line, a message, an end of file, or (metrics only, which announce nothing) asks again.

pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod cloud_api;
pub(crate) mod fake_upstream;
pub(crate) mod hunt;
pub(crate) mod in_process;
pub(crate) mod machine;
pub(crate) mod markdown;
pub(crate) mod names;
pub(crate) mod other_user;
pub(crate) mod passing;
pub(crate) mod port;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod scram;
pub(crate) mod settings;
pub(crate) mod terminal;
pub(crate) mod wire;

pub(crate) use browser::Browser;
pub(crate) use certificates::{Authority, Leaf};
pub(crate) use client::TestClient;
pub(crate) use fake_upstream::{FakeUpstream, Front, Login, Script, Session};
pub(crate) use postgres::Postgres;
pub(crate) use proxy::TestProxy;
pub(crate) use settings::SettingsFile;
pub(crate) use terminal::Terminal;

use std::time::Duration;

/// The longest that anything here waits. Generous, since two cores may run four tests at once; a
/// test that passes never waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The password of the user `app` everywhere: long, odd, and searched for in every log.
pub(crate) const PASSWORD: &str = "Tq8#vR2!kZ0w/Ym5@xL";
