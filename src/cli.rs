//! The command line: which command, and what its flags said. Owns `--help`. Checks no value and reads
//! no file, so that all faults of flags, variables and file are told together by [`load`](crate::settings::load).

mod flags;
#[cfg(test)]
mod tests;
mod wrong;

#[cfg(feature = "demo")]
pub use self::flags::DemoFlags;

use self::flags::{DaemonFlags, EndpointFlags, SettingsFlags, SpanFlag};
use crate::{
    control::{Order, Verb},
    settings::Flags,
};
use clap::{CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use std::ffi::OsString;

/// What the operator asked for.
#[derive(Clone)]
pub enum Command {
    /// Serve.
    Run(Flags),
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
    let line = Line::try_parse_from(arguments)?;
    match line.command {
        None => line.settings.flags().map(Command::Run),
        Some(Sub::Run(settings)) => settings.flags().map(Command::Run),
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
        Some(Sub::Url { listener, daemon }) => Ok(Command::Url { flags: daemon.into(), listener }),
        Some(Sub::Completions { shell }) => Ok(Command::Completions(shell)),
        Some(Sub::Man) => Ok(Command::Man),
        Some(Sub::Endpoint { command }) => Ok(command.into()),
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

/// Lets any application reach a CockroachDB Cloud Advanced cluster at localhost:26257.
///
/// Applications connect in clear and without a password; the daemon connects to the cluster by TLS,
/// verifies its certificate, and logs in with credentials that the application never sees.
#[derive(Parser)]
#[command(
    name = NAME,
    version,
    args_conflicts_with_subcommands = true,
    after_help = AFTER_HELP,
    subcommand_help_heading = "Commands"
)]
struct Line {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    settings: SettingsFlags,
}

#[derive(Subcommand)]
enum Sub {
    /// Serve; this is what happens without a command too
    #[command(after_help = AFTER_HELP)]
    Run(SettingsFlags),
    /// Check or show the settings without serving, or compare them with a running daemon's
    #[command(arg_required_else_help = false)]
    Config {
        #[command(subcommand)]
        command: ConfigSub,
    },
    /// Show what a running daemon is doing: listeners, endpoints, sessions, last refusals
    #[command(after_help = STATUS_COLUMNS)]
    Status {
        /// Show it again every second, with rates, until Ctrl-C or q
        #[arg(long, help_heading = "Output")]
        watch: bool,
        /// Print /status itself, JSON in one line
        #[arg(long, help_heading = "Output")]
        json: bool,
        #[command(flatten)]
        daemon: DaemonFlags,
    },
    /// Print the connection string of each listener, or of the one that is named, as the running daemon listens
    Url {
        /// The listener's name
        #[arg(value_name = "LISTENER", value_hint = ValueHint::Other)]
        listener: Option<String>,
        #[command(flatten)]
        daemon: DaemonFlags,
    },
    /// Say whether a running daemon is ready: exit 0, or 1 and the reason; for health checks
    Health(DaemonFlags),
    /// Wait until a daemon is there, started and ready
    Wait {
        /// The longest wait, from 1s to 24h [default: 30s]
        #[arg(long, value_name = "SPAN", value_hint = ValueHint::Other)]
        limit: Option<String>,
        #[command(flatten)]
        daemon: DaemonFlags,
    },
    /// Tell a running daemon to read settings and certificates again, and say what changed
    Reload(DaemonFlags),
    /// Tell a running daemon to stop gently, as SIGTERM does
    Shutdown {
        /// Wait until it is gone, and exit with the daemon's own code: 4 where drain_limit cut sessions off, 5 after a
        /// second signal; 0 where it did not say how it ended, which is told
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        daemon: DaemonFlags,
    },
    /// Move traffic by hand: tell a running daemon which endpoint to pass over, or to take first
    #[command(arg_required_else_help = false)]
    Endpoint {
        #[command(subcommand)]
        command: EndpointSub,
    },
    /// Print what a shell needs to complete command lines of this program
    Completions {
        /// bash, elvish, fish, powershell or zsh
        #[arg(value_name = "SHELL", hide_possible_values = true)]
        shell: Shell,
    },
    /// Print the manual page, for `man -l -`
    Man,
    /// Try it out: serve an embedded three-region cluster in this process
    #[cfg(feature = "demo")]
    Demo(DemoFlags),
}

#[derive(Subcommand)]
enum ConfigSub {
    /// Check settings, CA, certificates and secrets (but for commands); opens no socket
    Check(SettingsFlags),
    /// Print the effective settings, each with its source; secrets are masked
    Show {
        #[command(flatten)]
        settings: SettingsFlags,
        /// Print JSON instead of TOML
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Say what a reload of a running daemon would change; changes nothing, and exits with 0 whether or not it would
    Diff(DaemonFlags),
}

#[derive(Subcommand)]
enum EndpointSub {
    /// Let new sessions pass an endpoint over, until the order ends
    Disable {
        #[command(flatten)]
        target: EndpointFlags,
        #[command(flatten)]
        span: SpanFlag,
    },
    /// End an order: the settings alone count again
    Enable(EndpointFlags),
    /// Let new sessions try an endpoint first, until the order ends
    Prefer {
        #[command(flatten)]
        target: EndpointFlags,
        #[command(flatten)]
        span: SpanFlag,
    },
}

impl From<EndpointSub> for Command {
    fn from(command: EndpointSub) -> Self {
        let (verb, target, span) = match command {
            EndpointSub::Disable { target, span } => (Verb::Disable, target, span.span),
            EndpointSub::Enable(target) => (Verb::Enable, target, None),
            EndpointSub::Prefer { target, span } => (Verb::Prefer, target, span.span),
        };
        let EndpointFlags { endpoint, cluster, daemon } = target;
        Self::Endpoint { flags: daemon.into(), order: Order { verb, endpoint, cluster, span } }
    }
}

const STATUS_COLUMNS: &str = "\
Columns; listeners count from the daemon's start (with /S: in each second of late):

  LISTENER  OPEN sessions now, NEW clients, REF clients refused,
            STMT statements completed, ERR errors of the server,
            IN bytes from clients, OUT bytes to clients;
            ENDPOINT is where its next session is tried first
  ENDPOINT  STATE well, suspect (failed once), down (failed again), unknown;
            TRIED how long ago a login or probe last found that out,
            MS distance in milliseconds, OPEN sessions now,
            READY upstreams that are logged in for the next clients
  CLIENT    STATE what the session is doing, ID the log's session.id,
            STMT statements completed; the oldest 100

Below stand the last three refusals: SQLSTATE, how often, how long ago, at which listener, and what clients \
read. A terminal gets lines of its width, anything else whole ones; --json has all of it.";

const AFTER_HELP: &str = "\
Each flag is also a variable: CRDB_PROXY_ and the flag in capitals (CRDB_PROXY_PASSWORD_FILE); so are \
CRDB_PROXY_URL, CRDB_PROXY_PASSWORD and the keys of the settings file's first block. A flag goes before a \
variable, a variable before the file. There is no password flag: other users can read the process list.

Without a file, a connection string or --host, crdb-proxy/crdb-proxy.toml is read from $XDG_CONFIG_HOME \
(or ~/.config), then from /etc.

Exit codes: 0 done, or ready; 1 fault of the daemon, not ready, not reachable, or an order that it did not take; \
2 command line, variables or settings; 3 address cannot be bound; 4 sessions cut at drain_limit; 5 ended by a second signal. \
Those of shutdown --wait, as far as it is told, are the daemon's.

Orders (config diff, endpoint, reload, shutdown) are taken from the daemon's own user and root.";
