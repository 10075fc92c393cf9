//! `man`: the manual page, made from the command line itself, so that it names every command and flag; and
//! what no flag tells: exit codes, files, variables, signals.

use super::{CommandError, say_bytes};
use crate::cli;
use clap::{Arg, Command};
use clap_mangen::{
    Man,
    roff::{Roff, bold, italic, roman},
};

/// Prints it, for `man -l` or a folder of manual pages.
///
/// # Errors
/// Nobody takes it.
pub fn man() -> Result<u8, CommandError> {
    say_bytes(&page())?;
    Ok(0)
}

fn page() -> Vec<u8> {
    let command = cli::command().override_usage("crdb-proxy [run] [FLAGS] [URL]\ncrdb-proxy COMMAND [FLAGS]");
    // Without a date, whose place must be kept all the same.
    let title = format!(".TH {0} 1 \"\" \"{0} {1}\" \"User Commands\"\n", cli::NAME, env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone());
    let mut text = title.into_bytes();
    // Writing to memory does not fail.
    let _ = page.render_name_section(&mut text);
    let _ = page.render_synopsis_section(&mut text);
    let _ = page.render_description_section(&mut text);
    let _ = page.render_options_section(&mut text);
    let mut rest = Roff::new();
    commands(&mut rest, &command);
    for (title, entries) in SECTIONS {
        rest.control("SH", [*title]);
        for (term, meaning) in *entries {
            if !term.is_empty() {
                rest.control("TP", []);
                rest.text([bold(*term)]);
            }
            rest.text([roman(*meaning)]);
        }
    }
    let _ = rest.to_writer(&mut text);
    text
}

/// One part for each command, but for `run`, whose flags stand above.
fn commands(page: &mut Roff, root: &Command) {
    page.control("SH", ["COMMANDS"]);
    page.text([roman("Those that speak to a running daemon find its admin address by")]);
    page.text([bold("--admin"), roman(", the variable "), bold("CRDB_PROXY_ADMIN"), roman(", or")]);
    page.text([bold("admin"), roman(" in the settings file ("), bold("--config"), roman(" or the usual place),")]);
    page.text([roman("which is the daemon's own only if it was not changed since the start.")]);
    page.text([roman("Those that ask the Cloud API ("), bold("allowlist"), roman(", "), bold("private-endpoint")]);
    page.text([
        roman("and "),
        bold("users"),
        roman(") take "),
        bold("--cluster"),
        roman(" (a cluster's name in the settings"),
    ]);
    page.text([roman("file, or its name or ID in the Cloud) and "), bold("--config"), roman(".")]);
    let mut orders = vec![roman("Orders (")];
    for (index, name) in ORDERS.into_iter().enumerate() {
        orders.extend([roman(if index > 0 { ", " } else { "" }), bold(name)]);
    }
    orders.extend([roman(") are taken from the daemon's own user and root, unless "), bold("admin_post")]);
    orders.push(roman(" is on."));
    page.text(orders);
    let mut left: Vec<_> = visible(root).map(|command| (command.get_name().to_owned(), command)).collect();
    left.reverse();
    while let Some((name, command)) = left.pop() {
        let inner: Vec<_> = visible(command).map(|inner| (format!("{name} {}", inner.get_name()), inner)).collect();
        if inner.is_empty() {
            entry(page, &name, command);
        }
        left.extend(inner.into_iter().rev());
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    let is_told = |inner: &&Command| !inner.is_hide_set() && !["help", "run"].contains(&inner.get_name());
    command.get_subcommands().filter(is_told)
}

fn entry(page: &mut Roff, name: &str, command: &Command) {
    let of_its_own = |arg: &&Arg| !arg.is_hide_set() && arg.get_help_heading().is_none_or(|title| OWN.contains(&title));
    let own: Vec<_> = command.get_arguments().filter(of_its_own).filter(|arg| arg.get_id() != "url").collect();
    let mut title = vec![bold(name)];
    for arg in own.iter().filter(|arg| arg.is_positional()) {
        let value = value_of(arg);
        title.push(italic(if arg.is_required_set() { format!(" {value}") } else { format!(" [{value}]") }));
    }
    page.control("TP", []);
    page.text(title);
    page.text([roman(sentence(command.get_about()))]);
    let own: Vec<_> = own.into_iter().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())).collect();
    if own.is_empty() {
        return;
    }
    page.control("RS", []);
    for arg in own {
        page.control("TP", []);
        page.text(match arg.get_long() {
            Some(long) if arg.get_action().takes_values() => {
                vec![bold(format!("--{long}")), italic(format!(" {}", value_of(arg)))]
            }
            Some(long) => vec![bold(format!("--{long}"))],
            None => vec![italic(value_of(arg))],
        });
        page.text([roman(sentence(arg.get_help()))]);
    }
    page.control("RE", []);
}

fn value_of(arg: &Arg) -> String {
    arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default()
}

fn sentence(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(|text| format!("{text}.")).unwrap_or_default()
}

/// Headings of `--help` under which a command has flags that no other has.
const OWN: [&str; 3] = ["Connection", "Output", "Password"];

/// Commands that a daemon takes from its own user and root only.
const ORDERS: [&str; 4] = ["config diff", "endpoint", "reload", "shutdown"];

/// Titles, and what stands below: a term, and what it means.
const SECTIONS: &[(&str, &[(&str, &str)])] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "Done; of the daemon: every session had ended; of health and wait: ready."),
            (
                "1",
                "A fault of the daemon; of other commands: it, or the Cloud API, is not ready, cannot be reached, or \
                 refused the order.",
            ),
            (
                "2",
                "Command line, variables, settings, or a file that they name; of reload: the daemon refused its settings.",
            ),
            ("3", "An address cannot be bound."),
            ("4", "Sessions were cut off at drain_limit; the log has their number. Of shutdown --wait too."),
            ("5", "Ended by a second signal. Of shutdown --wait too."),
            ("126", "Of exec: the command cannot be run."),
            (
                "127",
                "Of exec: there is no such command. Else exec exits with the command's own code, or 128 and the number \
             of the signal that ended it.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            (
                "$XDG_CONFIG_HOME/crdb-proxy/crdb-proxy.toml",
                "The settings file where none is named, nor a host; \
             ~/.config stands for $XDG_CONFIG_HOME where that is not set.",
            ),
            ("/etc/crdb-proxy/crdb-proxy.toml", "The same, where there is none in the user's folder."),
            ("FOLDER/.s.PGSQL.26257", "The socket of a listener whose address is unix:FOLDER."),
            ("$CREDENTIALS_DIRECTORY", "Where secrets are that systemd passes on."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "CRDB_PROXY_NAME",
                "Each flag of the daemon is also a variable: CRDB_PROXY_ and the flag in capitals, such as \
             CRDB_PROXY_PASSWORD_FILE; and so is each key of the settings file's first block. A flag goes before a \
             variable, a variable before the file.",
            ),
            ("CRDB_PROXY_URL", "The connection string."),
            ("CRDB_PROXY_PASSWORD", "The password."),
            (
                "COCKROACH_API_KEY",
                "The key of the Cloud API, of the commands that ask it, where the cluster has no api_key in the settings.",
            ),
            ("COCKROACH_SERVER", "The Cloud API's address; https://cockroachlabs.cloud where that is not set."),
            ("HTTPS_PROXY, NO_PROXY", "The way to the Cloud API."),
            ("NO_COLOR", "No colours on a terminal."),
        ],
    ),
    (
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "Stop: new clients are refused, open sessions end when they are idle, and all are cut off \
             after drain_limit. SIGINT skips drain_delay. A second signal ends the daemon at once.",
            ),
            ("SIGHUP", "Settings and certificates are read again; where standard input is a terminal, as SIGTERM."),
        ],
    ),
    (
        "SEE ALSO",
        &[("", "The documentation that comes with the program: README.md, and docs/settings.md for every key.")],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_setup_stands_there() {
        let page = String::from_utf8(page()).unwrap();
        let root = cli::command();
        let setup = root.get_subcommands().find(|command| command.get_name() == "setup").unwrap();

        let flags: Vec<_> = setup.get_arguments().filter_map(Arg::get_long).filter(|flag| *flag != "help").collect();
        assert!(flags.len() > 8, "{flags:?}");
        for flag in flags {
            assert!(page.contains(&format!("\\fB\\-\\-{}", flag.replace('-', "\\-"))), "{flag} is missing in {page}");
        }
    }

    #[test]
    fn every_command_has_its_entry() {
        let page = String::from_utf8(page()).unwrap();
        let root = cli::command();

        for command in visible(&root) {
            let name = command.get_name().replace('-', "\\-");
            assert!(page.contains(&format!("\\fB{name}")), "{name} is missing in {page}");
        }
        assert!(page.contains("\\fBconfig diff") && page.contains("\\fBendpoint prefer"), "{page}");
    }
}
