//! The command line: which command, and what its flags said. Owns `--help`. Checks no value and reads
//! no file, so that all faults of flags, variables and file are told together by [`load`](crate::settings::load).

mod wrong;

use crate::{
    control::{Order, Verb},
    settings::{Flag, Flags},
};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::{ffi::OsString, path::PathBuf};

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

/// The flags of `demo`, unchecked.
#[cfg(feature = "demo")]
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DemoFlags {
    /// Address to listen on: localhost:PORT, IP:PORT or unix:FOLDER; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Address of metrics and status: localhost:PORT, IP:PORT, unix:PATH or off
    #[arg(long, value_name = "ADDR|off")]
    pub admin: Option<String>,
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
        Some(Sub::Endpoint { command }) => Ok(command.into()),
        #[cfg(feature = "demo")]
        Some(Sub::Demo(flags)) => Ok(Command::Demo(flags)),
    }
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
    name = "crdb-proxy",
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
    /// Check or show the settings without serving
    #[command(arg_required_else_help = false)]
    Config {
        #[command(subcommand)]
        command: ConfigSub,
    },
    /// Move traffic by hand: tell a running daemon which endpoint to pass over, or to take first
    #[command(arg_required_else_help = false)]
    Endpoint {
        #[command(subcommand)]
        command: EndpointSub,
    },
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
}

#[derive(Subcommand)]
enum EndpointSub {
    /// Let new sessions pass an endpoint over, until the order ends
    Disable {
        #[command(flatten)]
        target: TargetFlags,
        #[command(flatten)]
        span: SpanFlag,
    },
    /// End an order: the settings alone count again
    Enable(TargetFlags),
    /// Let new sessions try an endpoint first, until the order ends
    Prefer {
        #[command(flatten)]
        target: TargetFlags,
        #[command(flatten)]
        span: SpanFlag,
    },
}

#[derive(Args)]
struct TargetFlags {
    /// The endpoint's name, as the settings and /status have it
    #[arg(value_name = "NAME")]
    endpoint: String,
    /// The endpoint's cluster, where several have an endpoint of this name
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The daemon's settings file (TOML), which says where it takes orders
    #[arg(long, value_name = "FILE", help_heading = "Daemon")]
    config: Option<PathBuf>,
    /// Where it takes orders: localhost:PORT, IP:PORT or unix:PATH [default: localhost:9257]
    #[arg(long, value_name = "ADDR", help_heading = "Daemon")]
    admin: Option<String>,
}

#[derive(Args)]
struct SpanFlag {
    /// How long the order stands, from 1s to 24h [default: 1h]
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<String>,
}

impl From<EndpointSub> for Command {
    fn from(command: EndpointSub) -> Self {
        let (verb, target, span) = match command {
            EndpointSub::Disable { target, span } => (Verb::Disable, target, span.span),
            EndpointSub::Enable(target) => (Verb::Enable, target, None),
            EndpointSub::Prefer { target, span } => (Verb::Prefer, target, span.span),
        };
        let TargetFlags { endpoint, cluster, config, admin } = target;
        let given = admin.into_iter().map(|said| (Flag::Admin, said)).collect();
        Self::Endpoint { flags: Flags { config, url: None, given }, order: Order { verb, endpoint, cluster, span } }
    }
}

#[derive(Args)]
struct SettingsFlags {
    /// Connection string from the Cloud Console:
    /// postgresql://USER@HOST:26257/DATABASE?sslrootcert=FILE
    #[arg(value_name = "URL", num_args = 0..)]
    url: Vec<String>,

    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,

    /// Address to listen on: localhost:PORT, IP:PORT or unix:FOLDER; may be repeated
    /// [default: localhost:26257]
    #[arg(long, value_name = "ADDR", help_heading = "Clients")]
    listen: Vec<String>,
    /// Database of clients that name none [default: defaultdb]
    #[arg(long, value_name = "NAME", help_heading = "Clients")]
    database: Option<String>,
    /// Let other hosts use the database with this daemon's credentials
    #[arg(long, help_heading = "Clients")]
    unsafe_allow_remote: bool,

    /// Host of the cluster, as in the connection string
    #[arg(long, value_name = "HOST", help_heading = "Cluster")]
    host: Option<String>,
    /// Port of the cluster [default: 26257]
    #[arg(long, value_name = "PORT", help_heading = "Cluster")]
    port: Option<String>,
    /// Regions to use, in order, or "nearest"; with --host, the region of that host
    #[arg(long, value_name = "A,B", help_heading = "Cluster")]
    region: Option<String>,
    /// The cluster's CA certificate (PEM), or "system"
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    ca_file: Option<String>,
    /// Name that the cluster's certificate must carry, where it is not the host
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    tls_server_name: Option<String>,

    /// SQL user that every session logs in as
    #[arg(long, value_name = "NAME", help_heading = "Login")]
    user: Option<String>,
    /// File with the user's password
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    password_file: Option<String>,
    /// Command that prints the user's password; words are split at blanks, without a shell
    #[arg(long, value_name = "COMMAND", help_heading = "Login")]
    password_command: Option<String>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    cert_file: Option<String>,
    /// Key of the client certificate (PEM, not encrypted)
    #[arg(long, value_name = "FILE", help_heading = "Login")]
    key_file: Option<String>,

    /// Address of metrics and status: localhost:PORT, IP:PORT, unix:PATH or off
    /// [default: localhost:9257]
    #[arg(long, value_name = "ADDR|off", help_heading = "Operation")]
    admin: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Operation")]
    log_format: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Operation")]
    log_level: Option<String>,
}

impl SettingsFlags {
    fn flags(self) -> Result<Flags, Declined> {
        // Whether it is a good one is for those to say who read connection strings.
        if let Some(argument) = self.url.iter().find(|argument| !argument.contains("://")) {
            return Err(Declined::Wrong(wrong::neither(argument)));
        }
        if self.url.len() > 1 {
            return Err(Declined::Wrong(wrong::several()));
        }
        let mut given: Vec<(Flag, String)> = self.listen.into_iter().map(|address| (Flag::Listen, address)).collect();
        let single = [
            (Flag::Admin, self.admin),
            (Flag::Host, self.host),
            (Flag::Port, self.port),
            (Flag::User, self.user),
            (Flag::Database, self.database),
            (Flag::PasswordFile, self.password_file),
            (Flag::PasswordCommand, self.password_command),
            (Flag::CaFile, self.ca_file),
            (Flag::TlsServerName, self.tls_server_name),
            (Flag::CertFile, self.cert_file),
            (Flag::KeyFile, self.key_file),
            (Flag::Region, self.region),
            (Flag::LogFormat, self.log_format),
            (Flag::LogLevel, self.log_level),
            (Flag::UnsafeAllowRemote, self.unsafe_allow_remote.then(|| "true".to_owned())),
        ];
        given.extend(single.into_iter().filter_map(|(flag, said)| Some((flag, said?))));
        Ok(Flags { config: self.config, url: self.url.into_iter().next(), given })
    }
}

const AFTER_HELP: &str = "\
Each flag is also a variable: CRDB_PROXY_ and the flag in capitals (CRDB_PROXY_PASSWORD_FILE); so are \
CRDB_PROXY_URL, CRDB_PROXY_PASSWORD and the keys of the settings file's first block. A flag goes before a \
variable, a variable before the file. There is no password flag: other users can read the process list.

Without a file, a connection string or --host, crdb-proxy/crdb-proxy.toml is read from $XDG_CONFIG_HOME \
(or ~/.config), then from /etc.

Exit codes: 0 done, 1 fault of the daemon, or an order that it did not take, 2 command line, variables or settings, 3 address cannot be \
bound, 4 sessions cut at drain_limit, 5 ended by a second signal.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &str) -> Result<Command, Declined> {
        let words = arguments.split_ascii_whitespace().map(OsString::from);
        parse([OsString::from("crdb-proxy")].into_iter().chain(words))
    }

    fn flags(arguments: &str) -> Flags {
        match parsed(arguments) {
            Ok(Command::Run(flags)) => flags,
            Ok(_) => panic!("another command"),
            Err(declined) => panic!("{declined:?}"),
        }
    }

    fn wrong(arguments: &str) -> String {
        match parsed(arguments) {
            Err(Declined::Wrong(sentence)) => sentence,
            Err(Declined::Asked(_)) => panic!("{arguments}: help"),
            Ok(_) => panic!("{arguments} was taken"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Line::command().debug_assert();
    }

    #[test]
    fn run_is_the_command_that_may_be_left_out() {
        for arguments in ["postgresql://a@h/d --port 5", "run postgresql://a@h/d --port 5"] {
            let flags = flags(arguments);

            assert_eq!(flags.url.as_deref(), Some("postgresql://a@h/d"));
            assert_eq!(flags.given, [(Flag::Port, "5".to_owned())]);
        }
    }

    #[test]
    fn every_flag_reaches_the_settings_under_its_own_name() {
        for flag in Flag::ALL {
            let with_value = flag != Flag::UnsafeAllowRemote;
            let value = if with_value { " x" } else { "" };
            let said = if with_value { "x" } else { "true" };

            let flags = flags(&format!("--{}{value}", flag.name()));

            assert_eq!(flags.given, [(flag, said.to_owned())]);
        }
    }

    #[test]
    fn listen_may_be_repeated_and_no_other_flag_may() {
        let twice = flags("--listen a --listen b");

        assert_eq!(twice.given.len(), 2);
        assert!(parsed("--host a --host b").is_err());
    }

    #[test]
    fn a_wrong_command_line_is_one_sentence() {
        let cases = [
            (
                "--password hunter2",
                "there is no `--password`, since other users can read the process list; use `--password-file`",
            ),
            ("--pasword-file x", "`--pasword-file` is no flag of this command; did you mean `--password-file`?"),
            ("--host", "`--host` needs a value"),
            ("--host a --host b", "`--host` was given twice"),
            ("--unsafe-allow-remote=hunter2", "`--unsafe-allow-remote` takes no value"),
            ("--host h config check", "the command `config` goes before everything else"),
            ("run config", "the command `config` goes before everything else"),
            ("config", "`config` needs a command: `config check` or `config show`"),
            ("endpoint", "`endpoint` needs a command: `endpoint disable`, `endpoint enable` or `endpoint prefer`"),
            ("endpoint disable", "the endpoint's name is missing"),
            ("endpoint disabel e", "`disabel` is no command; did you mean `endpoint disable`?"),
            ("endpoint enable e --for 1h", "`--for` is no flag of this command"),
            ("endpoint disable e f", "an argument is not expected here"),
            ("config chekc", "`chekc` is no command; did you mean `config check`?"),
            ("status", "`status` is neither a command nor a connection string, which begins with postgresql://"),
            (
                "run cofnig",
                "`cofnig` is neither a command nor a connection string, which begins with postgresql://; did you mean `config check`?",
            ),
        ];
        for (arguments, expected) in cases {
            assert_eq!(wrong(arguments), format!("{expected} (see crdb-proxy --help)"), "{arguments}");
        }
        assert!(wrong("check").contains("did you mean `config check`?"));
    }

    #[test]
    fn no_sentence_repeats_what_may_hold_a_password() {
        for place in [
            "S",
            "run S",
            "config S",
            "config check S",
            "--S",
            "x://y S",
            "S x://y",
            "demo S",
            "--json=S",
            "endpoint S",
            "endpoint disable e S",
        ] {
            for secret in ["app:hunter2@host/d", "hunter2", "Correcthorse", "h=x,password=hunter2"] {
                let sentence = wrong(&place.replace('S', secret));
                assert!(!sentence.contains(secret) && !sentence.contains("hunter2"), "{place}: {sentence}");
            }
        }
        for place in ["config S", "demo S", "S S", "--S", "--unsafe-allow-remote=S", "config show --json=S"] {
            let sentence = wrong(&place.replace('S', "postgresql://app:hunter2@h/d"));
            assert!(!sentence.contains("hunter2"), "{place}: {sentence}");
        }
    }

    #[test]
    fn config_show_and_check_take_the_same_flags() {
        assert!(matches!(
            parsed("config show --json --config f.toml"),
            Ok(Command::ConfigShow { json: true, flags: Flags { config: Some(_), .. } })
        ));
        assert!(matches!(parsed("config check --host h"), Ok(Command::ConfigCheck(_))));
    }

    #[test]
    fn help_names_every_flag_and_is_no_error() {
        let help = help();

        for flag in Flag::ALL {
            assert!(help.contains(&format!("--{}", flag.name())), "{} is missing", flag.name());
        }
        let asked = |arguments| match parsed(arguments) {
            Err(Declined::Asked(asked)) => asked,
            _ => panic!("{arguments} is an error"),
        };
        assert_eq!(asked("--help").exit_code(), 0);
        assert_eq!(asked("--version").to_string(), "crdb-proxy 0.1.0\n");
    }

    #[test]
    fn an_order_for_an_endpoint_is_told_apart_from_where_the_daemon_is() {
        let Ok(Command::Endpoint { flags, order }) = parsed("endpoint prefer e --for 2h --cluster c --admin unix:s")
        else {
            panic!("not taken")
        };

        assert_eq!((order.verb, order.endpoint.as_str()), (Verb::Prefer, "e"));
        assert_eq!((order.span.as_deref(), order.cluster.as_deref()), (Some("2h"), Some("c")));
        assert_eq!(flags.given, [(Flag::Admin, "unix:s".to_owned())]);
        assert!(matches!(
            parsed("endpoint enable e --config f.toml"),
            Ok(Command::Endpoint { flags: Flags { config: Some(_), .. }, order: Order { span: None, .. } })
        ));
    }

    #[cfg(feature = "demo")]
    #[test]
    fn the_demo_has_two_flags_of_its_own() {
        assert!(matches!(
            parsed("demo --listen localhost:0 --admin off"),
            Ok(Command::Demo(DemoFlags { admin: Some(_), .. }))
        ));
        assert!(parsed("demo --host h").is_err());
    }
}
