//! The command line: which command, and what its flags said. Owns `--help`. Checks no value and reads
//! no file, so that all faults of flags, variables and file are told together by [`load`](crate::settings::load).

mod cloud;
mod exec;
mod flags;
mod line;
mod setup;
#[cfg(test)]
mod tests;
mod wrong;

#[cfg(feature = "demo")]
pub use self::flags::DemoFlags;
pub use self::{
    cloud::{AllowFlags, CloudOrder},
    exec::ExecOrder,
    setup::{CaFetchFlags, SetupFlags},
};

use self::{
    line::{ConfigSub, Line, Sub},
    setup::CaSub,
};
use crate::{control::Order, settings::Flags};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use std::ffi::OsString;

/// What the operator asked for.
#[derive(Clone)]
pub enum Command {
    /// Serve.
    Run(Flags),
    /// Try every way to the cluster.
    Check {
        /// What to load.
        flags: Flags,
        /// Only this cluster.
        cluster: Option<String>,
        /// Require that another endpoint could take over.
        failover: bool,
        /// As JSON.
        json: bool,
    },
    /// Check settings, CA, certificates and secrets without opening a socket.
    ConfigCheck(Flags),
    /// Print the effective settings.
    ConfigShow {
        /// What to load.
        flags: Flags,
        /// As JSON instead of TOML.
        json: bool,
    },
    /// Say what a reload would change.
    ConfigDiff(Flags),
    /// Say whether a running daemon is ready.
    Health(Flags),
    /// Wait until it is.
    Wait {
        /// Where its admin address is said.
        flags: Flags,
        /// How long, number and unit.
        limit: Option<String>,
    },
    /// Have it stop gently.
    Shutdown {
        /// Where its admin address is said.
        flags: Flags,
        /// Until it is gone.
        wait: bool,
    },
    /// Have it read its settings and files again.
    Reload(Flags),
    /// Show what it is doing.
    Status {
        /// Where its admin address is said.
        flags: Flags,
        /// Again and again.
        watch: bool,
        /// As the daemon writes it.
        json: bool,
    },
    /// Print how to connect.
    Url {
        /// What to load.
        flags: Flags,
        /// The name of the listener, or all.
        listener: Option<String>,
        /// In whose words.
        format: Option<String>,
    },
    /// Serve for as long as a command runs.
    Exec {
        /// What to load.
        flags: Flags,
        /// The command.
        order: ExecOrder,
    },
    /// Print what a shell needs to complete a command line.
    Completions(Shell),
    /// Print the manual page.
    Man,
    /// Have a running daemon carry out an order for an endpoint.
    Endpoint {
        /// Where its admin address is said.
        flags: Flags,
        /// The order.
        order: Order,
    },
    /// Make a settings file for a cluster of the Cloud.
    Setup(Box<SetupFlags>),
    /// Fetch a cluster's CA certificate.
    CaFetch(CaFetchFlags),
    /// Ask or tell the Cloud API something about a cluster.
    Cloud {
        /// Which settings to load, if there are any.
        flags: Flags,
        /// The cluster's name or ID.
        cluster: Option<String>,
        /// What.
        order: CloudOrder,
    },
    /// Serve an embedded cluster.
    #[cfg(feature = "demo")]
    Demo(DemoFlags),
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Declined {
    /// `--help` or `--version`: [`clap::Error::exit`] prints it where it belongs and exits with 0.
    Asked(Box<clap::Error>),
    /// A wrong command line, in one sentence that repeats no value.
    Wrong(String),
}

impl From<clap::Error> for Declined {
    fn from(error: clap::Error) -> Self {
        if error.use_stderr() { Self::Wrong(wrong::sentence(&error)) } else { Self::Asked(Box::new(error)) }
    }
}

/// Parses arguments, the program's name first.
///
/// # Errors
/// A wrong command line, and also `--help` and `--version`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Declined> {
    let line = Line::try_parse_from(exec::with_dashes(arguments))?;
    match line.command {
        None => line.settings.flags().map(Command::Run),
        Some(Sub::Run(settings)) => settings.flags().map(Command::Run),
        Some(Sub::Check { failover, json, settings }) => {
            let (flags, cluster) = settings.flags_and_cluster()?;
            Ok(Command::Check { flags, cluster, failover, json })
        }
        Some(Sub::Config { command: ConfigSub::Check(settings) }) => settings.flags().map(Command::ConfigCheck),
        Some(Sub::Config { command: ConfigSub::Show { settings, json } }) => {
            Ok(Command::ConfigShow { flags: settings.flags()?, json })
        }
        Some(Sub::Config { command: ConfigSub::Diff(daemon) }) => Ok(Command::ConfigDiff(daemon.into())),
        Some(Sub::Health(daemon)) => Ok(Command::Health(daemon.into())),
        Some(Sub::Wait { limit, daemon }) => Ok(Command::Wait { flags: daemon.into(), limit }),
        Some(Sub::Shutdown { wait, daemon }) => Ok(Command::Shutdown { flags: daemon.into(), wait }),
        Some(Sub::Reload(daemon)) => Ok(Command::Reload(daemon.into())),
        Some(Sub::Status { watch, json, daemon }) => Ok(Command::Status { flags: daemon.into(), watch, json }),
        Some(Sub::Url { listener, format, daemon }) => Ok(Command::Url { flags: daemon.into(), listener, format }),
        Some(Sub::Exec(exec)) => exec.command(),
        Some(Sub::Completions { shell }) => Ok(Command::Completions(shell)),
        Some(Sub::Man) => Ok(Command::Man),
        Some(Sub::Endpoint { command }) => Ok(command.into()),
        Some(Sub::Setup(flags)) => Ok(Command::Setup(flags)),
        Some(Sub::Ca { command: CaSub::Fetch(flags) }) => Ok(Command::CaFetch(flags)),
        Some(Sub::Allowlist { command }) => Ok(command.into()),
        Some(Sub::PrivateEndpoint { command }) => Ok(command.into()),
        Some(Sub::Users { command }) => Ok(command.into()),
        #[cfg(feature = "demo")]
        Some(Sub::Demo(flags)) => Ok(Command::Demo(flags)),
    }
}

/// The program's name.
pub const NAME: &str = "crdb-proxy";

/// The command line as clap knows it.
pub fn command() -> clap::Command {
    Line::command()
}

/// The text of `--help`, for a daemon that was started with nothing at all.
pub fn help() -> String {
    Line::command().render_long_help().to_string()
}
