//! What may stand on a command line, as clap reads it, with the texts of `--help`.

#[cfg(feature = "demo")]
use super::flags::DemoFlags;
use super::{
    Command, NAME,
    cloud::{AllowlistSub, PrivateEndpointSub, UsersSub},
    exec,
    flags::{DaemonFlags, EndpointFlags, OneOf, SettingsFlags, SpanFlag},
    setup::{CaSub, SETUP_AFTER_HELP, SetupFlags},
};
use crate::control::{Order, Verb};
use clap::{Parser, Subcommand, ValueHint};
use clap_complete::Shell;

/// Lets any application reach a CockroachDB Cloud Advanced cluster at localhost:26257.
///
/// Applications connect in clear and without a password; the daemon connects to the cluster by TLS,
/// verifies its certificate, and logs in with credentials that the application never sees. Only its own
/// user's applications, and root's, may come in, unless the settings file says otherwise (local_access).
#[derive(Parser)]
#[command(
    name = NAME,
    version,
    args_conflicts_with_subcommands = true,
    after_help = AFTER_HELP,
    subcommand_help_heading = "Commands"
)]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) command: Option<Sub>,
    #[command(flatten)]
    pub(super) settings: SettingsFlags,
}

#[derive(Subcommand)]
pub(super) enum Sub {
    /// Serve; this is what happens without a command too
    #[command(after_help = AFTER_HELP)]
    Run(SettingsFlags),
    /// Try every way to the cluster, stage by stage, and say what to mend; serves nobody and changes nothing
    #[command(after_help = CHECK_EXIT)]
    Check {
        /// Also require of every listener that another endpoint could take over from its first: exit 1 without
        #[arg(long, help_heading = "Check")]
        failover: bool,
        /// Print JSON, by docs/check.schema.json
        #[arg(long, help_heading = "Check")]
        json: bool,
        #[command(flatten)]
        settings: SettingsFlags,
    },
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
    /// Print how to connect to each listener, or to the one that is named, as the running daemon listens
    Url {
        /// The listener's name
        #[arg(value_name = "LISTENER", value_hint = ValueHint::Other)]
        listener: Option<String>,
        /// In whose words: url, dsn (libpq), jdbc, env (for `eval` in a shell), params (one a line), django, sqlalchemy,
        /// prisma or cockroach [default: url]
        #[arg(long, value_name = "FORMAT", help_heading = "Output", value_parser = OneOf(FORMATS), hide_possible_values = true)]
        format: Option<String>,
        #[command(flatten)]
        daemon: DaemonFlags,
    },
    /// Run a command with a daemon of its own, which it finds by PGHOST, DATABASE_URL and the like
    #[command(override_usage = exec::USAGE, after_help = exec::AFTER_HELP)]
    #[command(mut_args(exec::with_own_default))]
    Exec(exec::ExecFlags),
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
    /// Make a settings file for a cluster of CockroachDB Cloud, from what its API says and a few questions
    #[command(after_help = SETUP_AFTER_HELP)]
    Setup(Box<SetupFlags>),
    /// Fetch the CA certificate of a cluster
    #[command(arg_required_else_help = false)]
    Ca {
        #[command(subcommand)]
        command: CaSub,
    },
    /// Ask the Cloud API who may connect over the public path, and change that
    #[command(arg_required_else_help = false)]
    Allowlist {
        #[command(subcommand)]
        command: AllowlistSub,
    },
    /// Ask the Cloud API about private endpoints (Private Service Connect, PrivateLink, Private Link), and add one
    #[command(arg_required_else_help = false)]
    PrivateEndpoint {
        #[command(subcommand)]
        command: PrivateEndpointSub,
    },
    /// Ask the Cloud API for SQL users
    #[command(arg_required_else_help = false)]
    Users {
        #[command(subcommand)]
        command: UsersSub,
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
pub(super) enum ConfigSub {
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
pub(super) enum EndpointSub {
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

const FORMATS: &[&str] = &["url", "dsn", "jdbc", "env", "params", "django", "sqlalchemy", "prisma", "cockroach"];

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

const CHECK_EXIT: &str = "\
In place of a connection string the name of a cluster of the settings file may stand; without one, all are checked.

Exit codes: 0 all well; 1 no failover, where --failover asks for one; 2 command line, settings, or a file that they name; \
else the stage at which the first failing endpoint fails: 10 secret, 11 DNS, 12 TCP, 13 TLS, 14 certificate, 15 login, \
16 database, 17 query; 18 the Cloud API could not be asked. The API is asked where the cluster has an api_key, or \
COCKROACH_API_KEY is set.";

const AFTER_HELP: &str = "\
Each flag is also a variable: CRDB_PROXY_ and the flag in capitals (CRDB_PROXY_PASSWORD_FILE); so are \
CRDB_PROXY_URL, CRDB_PROXY_PASSWORD and the keys of the settings file's first block. A flag goes before a \
variable, a variable before the file. There is no password flag: other users can read the process list.

Without a file, a connection string or --host, crdb-proxy/crdb-proxy.toml is read from $XDG_CONFIG_HOME \
(or ~/.config), then from /etc.

Exit codes: 0 done, or ready; 1 fault of the daemon, not ready, not reachable, or an order that it did not take; \
2 command line, variables or settings; 3 address cannot be bound; 4 sessions cut at drain_limit; 5 ended by a second signal. \
Those of shutdown --wait, as far as it is told, are the daemon's; those of exec are its command's, 126 where that cannot \
be run, 127 where there is none.

Orders (config diff, endpoint, reload, shutdown) are taken from the daemon's own user and root.";
