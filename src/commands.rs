//! The commands beside `run`: those that ask or tell a running daemon something, and those that print what
//! the settings or the program itself say. Each is one function from inputs to exit code. What people asked
//! for goes to standard output, everything else to standard error; nothing that a daemon or a file says
//! reaches the terminal as a control character.

mod allowlist;
mod ca;
mod check;
mod cloud;
mod completions;
mod config;
mod difference;
mod endpoint;
mod environment;
mod exec;
mod health;
mod look;
mod man;
mod private_endpoint;
mod questions;
mod reload;
mod setup;
mod shutdown;
mod status;
mod url;
mod users;
mod wait;
mod whole_file;

pub use self::{
    ca::ca_fetch,
    check::check as walk,
    cloud::cloud,
    completions::completions,
    config::{check, diff, show},
    endpoint::endpoint,
    exec::exec,
    health::health,
    man::man,
    reload::reload,
    setup::setup,
    shutdown::shutdown,
    status::status,
    url::url,
    wait::wait,
};

use crate::{
    cloud::CloudError,
    control::{Client, ControlError},
    daemon::StartError,
    diagnostics,
    settings::{self, Faults, Inputs},
};
use std::{fmt, io::Write};

/// Why a command has not done what it is there for.
#[derive(Debug)]
pub enum CommandError {
    /// What flags, variables and file say.
    Settings(Faults),
    /// A file that the settings name.
    Start(StartError),
    /// The daemon was not asked, or did not answer.
    Control(ControlError),
    /// The Cloud API was not asked, or did not answer.
    Cloud(CloudError),
    /// Anything else, in words, and the exit code.
    Said(u8, String),
}

impl From<Faults> for CommandError {
    fn from(faults: Faults) -> Self {
        Self::Settings(faults)
    }
}

impl From<StartError> for CommandError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<CloudError> for CommandError {
    fn from(error: CloudError) -> Self {
        Self::Cloud(error)
    }
}

impl From<ControlError> for CommandError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

/// The daemon that flags, variables and file speak of.
fn daemon_of(inputs: &Inputs) -> Result<Client, CommandError> {
    Ok(Client::new(settings::load_admin(inputs)?)?)
}

/// Runs on this thread alone: probes are run often, and have little to do.
fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| CommandError::Said(1, format!("the system gives no event queue: {error}")))?;
    let done = runtime.block_on(work);
    // A resolver that hangs must not hold up the exit.
    runtime.shutdown_background();
    done
}

/// What was asked for, to standard output.
fn say(text: &str) -> Result<(), CommandError> {
    say_bytes(text.as_bytes())
}

fn say_bytes(text: &[u8]) -> Result<(), CommandError> {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.map_err(|error| CommandError::Said(1, format!("standard output takes nothing: {error}")))
}

/// Something beside what was asked for, whoever reads it.
fn note(text: &str) {
    diagnostics::plainly(&format!("crdb-proxy: {}", diagnostics::printable(text)));
}

/// Tells whoever sits at the terminal how it goes; a script reads nothing of it.
fn whisper(text: &str) {
    if diagnostics::has_reader() {
        diagnostics::plainly(&diagnostics::printable(text));
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(faults) => faults.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Control(error) => error.fmt(f),
            Self::Cloud(error) => error.fmt(f),
            Self::Said(_, text) => f.write_str(text),
        }
    }
}
