//! The command line of `exec`: flags of ours, then the command's own words, which nobody here may take for flags.

use super::{Command, Declined, flags::SettingsFlags, line::Line};
use clap::{Arg, Args, CommandFactory, ValueHint};
use std::ffi::OsString;

#[derive(Args)]
pub(super) struct ExecFlags {
    #[command(flatten)]
    settings: SettingsFlags,
    /// Listen on a free port, whatever the settings say; the same as --listen localhost:0
    #[arg(long)]
    free_port: bool,
    /// The listener that the command is led to [default: the first]
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    listener: Option<String>,
    /// The longest wait until the daemon is ready, from 1s to 24h [default: 30s]
    #[arg(long, value_name = "SPAN", value_hint = ValueHint::Other)]
    limit: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandName)]
    words: Vec<OsString>,
}

/// A command, and what it is given.
#[derive(Clone)]
pub struct ExecOrder {
    /// The command and its arguments; at least the former.
    pub words: Vec<OsString>,
    /// Listen on a free port, whatever the settings say.
    pub free_port: bool,
    /// The name of the listener that it is led to; the first.
    pub listener: Option<String>,
    /// How long to wait until the daemon is ready, number and unit.
    pub limit: Option<String>,
}

impl ExecFlags {
    pub(super) fn command(self) -> Result<Command, Declined> {
        let Self { settings, free_port, listener, limit, words } = self;
        Ok(Command::Exec { flags: settings.flags()?, order: ExecOrder { words, free_port, listener, limit } })
    }
}

/// As `--help` of this command says it, where it goes by another default than the daemon that runs all the time.
pub(super) fn with_own_default(arg: Arg) -> Arg {
    let own = OWN_DEFAULTS.iter().find(|(flag, ..)| arg.get_long() == Some(flag));
    let Some((_, usual, own)) = own else { return arg };
    let help = arg.get_help().map(|help| help.to_string().replace(usual, own));
    help.into_iter().fold(arg, |arg, help| arg.help(help))
}

/// Puts `--` before the command of `exec` where it is left out, since from there on no word is ours. Ours are flags
/// with their values, and one connection string.
pub(super) fn with_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|command| command == EXEC)
        && let Some(at) = begin_of_command(&arguments)
    {
        arguments.insert(at, DASHES.into());
    }
    arguments
}

fn begin_of_command(arguments: &[OsString]) -> Option<usize> {
    let line = Line::command();
    let exec = line.find_subcommand(EXEC)?;
    let takes_value = |flag: &str| {
        let known = exec.get_arguments().find(|arg| arg.get_long() == Some(flag));
        known.is_some_and(|arg| arg.get_action().takes_values())
    };
    let (mut at, mut has_url) = (2, false);
    loop {
        let word = arguments.get(at)?.to_string_lossy();
        at += match word.strip_prefix("--") {
            Some("") => return None,
            Some(flag) if takes_value(flag) => 2,
            Some(_) => 1,
            None if word.starts_with('-') => 1,
            None if word.contains("://") && !has_url => {
                has_url = true;
                1
            }
            None => return Some(at),
        };
    }
}

pub(super) const USAGE: &str = "crdb-proxy exec [FLAGS] [URL] [--] CMD [ARG]...";

pub(super) const AFTER_HELP: &str = "\
Flags are those of run, and stand before the command. Where nobody says otherwise the daemon listens on a free port of \
localhost. So it does, with a warning, where the port that the settings file says is taken, so that a daemon that is \
running already is in nobody's way; an address that is said as a flag must be free. There is no admin address unless \
one is said as a flag, and only warnings are logged unless told otherwise.

The command gets PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE, DATABASE_URL and COCKROACH_URL. It does not get variables \
that would lead it elsewhere (such as PGSERVICE), nor PGPASSWORD, CRDB_PROXY_* and COCKROACH_API_KEY.

Signals are passed on to the command, and its exit code is returned: 128 and the number of the signal where one ended \
it, 126 where it cannot be run, 127 where there is none. If the daemon cannot start, the command is not run: 1, 2 and 3 \
are as for run. When the command has ended, sessions that it left open (of processes in the background) end as in a \
drain.";
/// A flag, its usual default in `--help`, and its own one here.
const OWN_DEFAULTS: [(&str, &str, &str); 3] = [
    ("listen", "[default: localhost:26257]", "[default: the file's, or localhost and a free port]"),
    ("admin", "[default: localhost:9257]", "[default: off]"),
    ("log-level", "[default: info]", "[default: warn]"),
];
const EXEC: &str = "exec";
const DASHES: &str = "--";

#[cfg(test)]
mod tests {
    use super::{super::parse, *};
    use crate::settings::Flag;

    fn order(arguments: &str) -> (crate::settings::Flags, ExecOrder) {
        let words = arguments.split(' ').map(OsString::from);
        match parse([OsString::from("crdb-proxy"), EXEC.into()].into_iter().chain(words)) {
            Ok(Command::Exec { flags, order }) => (flags, order),
            Ok(_) => panic!("another command"),
            Err(declined) => panic!("{arguments}: {declined:?}"),
        }
    }

    #[test]
    fn flags_of_ours_end_where_the_command_begins() {
        for arguments in [
            "--config f --free-port psql --host x -c y",
            "--config f --free-port -- psql --host x -c y",
            "--config=f --free-port psql --host x -c y",
        ] {
            let (flags, order) = order(arguments);

            assert_eq!(order.words, ["psql", "--host", "x", "-c", "y"], "{arguments}");
            assert!(order.free_port && flags.config.is_some() && flags.given.is_empty(), "{arguments}");
        }
    }

    #[test]
    fn one_connection_string_is_ours_and_the_next_is_the_commands() {
        for arguments in ["a://b --port 5 c://d --help", "a://b --port 5 -- c://d --help"] {
            let (flags, order) = order(arguments);

            assert_eq!(flags.url.as_deref(), Some("a://b"));
            assert_eq!(flags.given, [(Flag::Port, "5".to_owned())]);
            assert_eq!(order.words, ["c://d", "--help"]);
        }
        assert_eq!(order("psql a://b").1.words, ["psql", "a://b"]);
    }

    #[test]
    fn dashes_of_the_command_are_the_commands() {
        assert_eq!(order("-- a -- b").1.words, ["a", "--", "b"]);
        assert_eq!(order("a -- b").1.words, ["a", "--", "b"]);
    }

    #[test]
    fn help_has_the_defaults_of_this_command() {
        let help = match parse(["crdb-proxy", EXEC, "--help"].map(OsString::from)) {
            Err(Declined::Asked(help)) => help.to_string(),
            _ => panic!("no help"),
        };

        for (flag, usual, own) in OWN_DEFAULTS {
            let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(own) && !words.contains(usual), "{flag}: {words}");
        }
    }

    #[test]
    fn without_a_command_there_is_nothing_to_run() {
        for arguments in ["", "--config f", "--config f --", "a://b"] {
            let words = ["crdb-proxy", EXEC].into_iter().chain(arguments.split_ascii_whitespace());
            match parse(words.map(OsString::from)) {
                Err(Declined::Wrong(sentence)) => {
                    assert!(sentence.contains("`exec` needs the command to run"), "{sentence}");
                }
                _ => panic!("{arguments} was taken"),
            }
        }
    }
}
