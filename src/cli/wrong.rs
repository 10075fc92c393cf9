//! What is said of a wrong command line: one sentence, which repeats flags and commands and never a value,
//! since a connection string with a password may stand anywhere. Owns the wording in place of clap's.

use crate::settings::nearest;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// The sentence for what clap found.
pub(super) fn sentence(error: &Error) -> String {
    let argument = context(error, ContextKind::InvalidArg);
    // `--host <HOST>`
    let flag = argument.split(' ').next().filter(|flag| is_flag(flag));
    let said = match (error.kind(), flag) {
        (ErrorKind::UnknownArgument, Some("--password")) => NO_PASSWORD.to_owned(),
        (ErrorKind::UnknownArgument, Some(flag)) => {
            let suggested = context(error, ContextKind::SuggestedArg);
            format!("`{flag}` is no flag of this command{}", did_you_mean(suggested))
        }
        (ErrorKind::InvalidValue, Some(flag)) => format!("`{flag}` needs a value"),
        (ErrorKind::TooManyValues, Some(flag)) => format!("`{flag}` takes no value"),
        (ErrorKind::ArgumentConflict, Some(flag)) => match context(error, ContextKind::PriorArg).split(' ').next() {
            Some(other) if is_flag(other) && other != flag => format!("`{flag}` and `{other}` exclude each other"),
            _ => format!("`{flag}` was given twice"),
        },
        (ErrorKind::ArgumentConflict, None) => "the command goes before everything else".to_owned(),
        // "crdb-proxy endpoint"
        (ErrorKind::MissingSubcommand, _) if context(error, ContextKind::InvalidSubcommand).ends_with(" endpoint") => {
            "`endpoint` needs a command: `endpoint disable`, `endpoint enable` or `endpoint prefer`".to_owned()
        }
        (ErrorKind::MissingSubcommand, _) if group(error).is_some() => {
            let (name, commands) = group(error).unwrap_or_default();
            format!("`{name}` needs a command: {commands}")
        }
        (ErrorKind::MissingSubcommand, _) => {
            "`config` needs a command: `config check`, `config show` or `config diff`".to_owned()
        }
        (ErrorKind::InvalidValue, None) if argument == "<SHELL>" => format!("this is none of the shells: {SHELLS}"),
        (ErrorKind::MissingRequiredArgument, _) if argument == "<SHELL>" => format!("the shell is missing: {SHELLS}"),
        (ErrorKind::MissingRequiredArgument, _) if argument.starts_with("<CMD>") => {
            "`exec` needs the command to run".to_owned()
        }
        (ErrorKind::MissingRequiredArgument, Some(flag)) => format!("`{flag}` is missing"),
        (ErrorKind::MissingRequiredArgument, _) if argument == "<CIDR>" => {
            "the range is missing: see `allowlist list`".to_owned()
        }
        (ErrorKind::MissingRequiredArgument, _) if argument == "<ENDPOINT_ID>" => {
            "the private endpoint's ID is missing".to_owned()
        }
        (ErrorKind::MissingRequiredArgument, _) => "the endpoint's name is missing".to_owned(),
        (ErrorKind::InvalidSubcommand, _) => {
            let of_group = |command: &str| group_of(error).is_none_or(|group| command.starts_with(&group));
            stray(context(error, ContextKind::InvalidSubcommand), "no command", of_group)
        }
        (ErrorKind::InvalidUtf8, _) => "an argument is not UTF-8".to_owned(),
        _ => "an argument is not expected here".to_owned(),
    };
    format!("{said} {SEE_HELP}")
}

/// Which of the commands that ask the Cloud API it is, and what may follow.
fn group(error: &Error) -> Option<(&'static str, &'static str)> {
    let asked = context(error, ContextKind::InvalidSubcommand);
    GROUPS.into_iter().find(|(name, _)| asked.split(' ').next_back() == Some(name))
}

/// `config ` where it is a command of that group that is wrong.
fn group_of(error: &Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return None };
    let usage = usage.to_string();
    let mut words = usage.split_ascii_whitespace().skip_while(|word| *word != super::NAME).skip(1);
    let group = format!("{} ", words.next()?);
    COMMANDS.iter().any(|(_, command)| command.starts_with(&group)).then_some(group)
}

/// The sentence for an argument that stands where a connection string may, and is none.
pub(super) fn neither(argument: &str) -> String {
    if COMMANDS.iter().any(|(word, command)| *word == argument && command.split(' ').next() == Some(argument)) {
        return format!("the command `{argument}` goes before everything else {SEE_HELP}");
    }
    let what = "neither a command nor a connection string, which begins with postgresql://";
    let file = if argument.ends_with(".toml") { "; a settings file stands behind `--config`" } else { "" };
    format!("{}{file} {SEE_HELP}", stray(argument, what, |_| true))
}

/// The sentence for more than one connection string.
pub(super) fn several() -> String {
    format!("more than one connection string; quote it, since & and blanks end it in a shell {SEE_HELP}")
}

/// `what` it is not, in words.
fn stray(argument: &str, what: &str, is_meant: impl Fn(&str) -> bool) -> String {
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if argument.is_empty() || argument.len() > WORD_MAX || !is_word(argument) {
        return format!("an argument (not shown) is {what}");
    }
    let known = || COMMANDS.iter().filter(|(_, command)| is_meant(command));
    let meant = nearest(argument, known().map(|(word, _)| *word));
    let meant = known().find(|(word, _)| Some(*word) == meant).map_or("", |(_, command)| command);
    format!("`{argument}` is {what}{}", did_you_mean(meant))
}

fn did_you_mean(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("; did you mean `{name}`?") }
}

fn context(error: &Error, kind: ContextKind) -> &str {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text,
        Some(ContextValue::Strings(texts)) => texts.first().map_or("", String::as_str),
        _ => "",
    }
}

/// Whether this has the shape of a flag's name, which can be repeated.
fn is_flag(argument: &str) -> bool {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-').filter(|name| name.len() == 1));
    name.is_some_and(|name| {
        name.len() <= FLAG_MAX && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

/// What may be typed, and the command that was then meant.
const COMMANDS: &[(&str, &str)] = &[
    ("run", "run"),
    ("serve", "run"),
    ("start", "run"),
    ("config", "config check"),
    ("check", "check"),
    ("check", "config check"),
    ("doctor", "check"),
    ("test", "check"),
    ("show", "config show"),
    ("diff", "config diff"),
    ("health", "health"),
    ("healthcheck", "health"),
    ("wait", "wait"),
    ("status", "status"),
    ("top", "status"),
    ("url", "url"),
    ("exec", "exec"),
    ("completions", "completions"),
    ("completion", "completions"),
    ("man", "man"),
    ("setup", "setup"),
    ("init", "setup"),
    ("ca", "ca fetch"),
    ("fetch", "ca fetch"),
    ("reload", "reload"),
    ("shutdown", "shutdown"),
    ("stop", "shutdown"),
    ("drain", "shutdown"),
    ("endpoint", "endpoint disable"),
    ("disable", "endpoint disable"),
    ("allowlist", "allowlist list"),
    ("private-endpoint", "private-endpoint list"),
    ("users", "users list"),
    ("enable", "endpoint enable"),
    ("prefer", "endpoint prefer"),
    #[cfg(feature = "demo")]
    ("demo", "demo"),
    ("help", "--help"),
    ("version", "--version"),
];
/// Longer than any command, shorter than most passwords.
const WORD_MAX: usize = 16;
const GROUPS: [(&str, &str); 4] = [
    ("ca", "`ca fetch`"),
    ("allowlist", "`allowlist list`, `allowlist add` or `allowlist remove`"),
    (
        "private-endpoint",
        "`private-endpoint list`, `private-endpoint services`, `private-endpoint add` or `private-endpoint status`",
    ),
    ("users", "`users list`"),
];
const SHELLS: &str = "bash, elvish, fish, powershell, zsh";
const FLAG_MAX: usize = 24;
const NO_PASSWORD: &str =
    "there is no `--password`, since other users can read the process list; use `--password-file`";
const SEE_HELP: &str = "(see crdb-proxy --help)";
