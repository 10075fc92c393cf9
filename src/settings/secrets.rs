//! The rule for secret sources: `{ file = … }`, `{ env = … }`, `{ credential = … }`, `{ command = … }`.
//! Says where a secret is; reads none, and no error here shows a value.

use super::{
    SecretSource,
    reader::Places,
    shown::{CONNECTION_STRING, is_connection_string, shown_name},
    source::did_you_mean,
    tree::{Entry, Node, Table, Value},
    values::{DURATIONS, duration, kind, path, text},
};
use std::{sync::Arc, time::Duration};

/// A secret source, or the password that a connection string carried.
pub(super) fn secret_source(node: &Node, places: &Places<'_>) -> Result<SecretSource, String> {
    match &node.value {
        Value::Table(table) => from_table(table, places),
        Value::Secret(secret) => Ok(SecretSource::Given { secret: secret.clone(), by: "the connection string" }),
        Value::Text(_) | Value::Plain(_) => {
            Err(format!("a secret must not stand in the settings file; put it into a file of its own and say {FORMS}"))
        }
        other => Err(format!("must be {FORMS}, not {}", kind(other))),
    }
}

fn from_table(table: &Table, places: &Places<'_>) -> Result<SecretSource, String> {
    let strange = |entry: &&Entry| !KEYS.contains(&entry.key.as_str());
    if let Some(entry) = table.entries.iter().find(strange) {
        let suggestion = did_you_mean(&entry.key, KEYS);
        return Err(format!("\"{}\" is no secret source{suggestion}; it must be {FORMS}", shown_name(&entry.key)));
    }
    let get = |key: &str| table.entries.iter().find(|entry| entry.key == key).map(|e| &e.node);
    let about = |key: &'static str| move |rule: String| format!("{key} {rule}");
    if get("command").is_none() && (get("limit").is_some() || get("lifetime").is_some()) {
        return Err("limit and lifetime belong to a command".to_owned());
    }
    match (get("file"), get("env"), get("credential"), get("command")) {
        (Some(node), None, None, None) => path(node, places).map(SecretSource::File).map_err(about("file")),
        (None, Some(node), None, None) => env(node).map_err(about("env")),
        (None, None, Some(node), None) => credential(node).map_err(about("credential")),
        (None, None, None, Some(node)) => {
            let span = |key: &'static str, default| {
                get(key).map_or(Ok(default), |node| duration(node, DURATIONS).map_err(about(key)))
            };
            Ok(SecretSource::Command {
                argv: command(node).map_err(about("command"))?,
                limit: span("limit", COMMAND_LIMIT)?,
                lifetime: span("lifetime", COMMAND_LIFETIME)?,
                // Known once all are read.
                withheld: Arc::default(),
            })
        }
        _ => Err(format!("must name exactly one source: {FORMS}")),
    }
}

fn env(node: &Node) -> Result<SecretSource, String> {
    let name = named(node)?;
    // A password pasted here by mistake is caught by this rule more often than not.
    if name.is_empty() || name.contains('=') {
        return Err("must be the name of a variable".to_owned());
    }
    Ok(SecretSource::Env(name.to_owned()))
}

fn credential(node: &Node) -> Result<SecretSource, String> {
    let name = named(node)?;
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err("must be the name of a file in $CREDENTIALS_DIRECTORY, without a path".to_owned());
    }
    Ok(SecretSource::Credential(name.to_owned()))
}

fn command(node: &Node) -> Result<Vec<String>, String> {
    let Value::List(words) = &node.value else {
        return Err("must be a list: program, then arguments".to_owned());
    };
    let argv = words.iter().map(|word| text(word).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
    match argv.first() {
        // Whoever cannot run a program says which.
        Some(program) if is_connection_string(program) => Err(CONNECTION_STRING.to_owned()),
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err("must name a program".to_owned()),
    }
}

/// The name of a place, which is told when there is nothing in it.
fn named(node: &Node) -> Result<&str, String> {
    match text(node)? {
        name if is_connection_string(name) => Err(CONNECTION_STRING.to_owned()),
        name => Ok(name),
    }
}

/// Longest run of a secret command that says nothing else.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// How long the output of a secret command that says nothing else is used.
pub(super) const COMMAND_LIFETIME: Duration = Duration::from_secs(15 * 60);
const KEYS: [&str; 6] = ["file", "env", "credential", "command", "limit", "lifetime"];
const FORMS: &str = "{ file = \"PATH\" }, { env = \"NAME\" }, { credential = \"NAME\" } or \
                     { command = [\"PROGRAM\", \"ARGUMENT\"] }";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tree::parse;
    use std::path::Path;

    fn read(value: &str) -> Result<SecretSource, String> {
        let mut table = parse(&format!("password = {value}"), "f.toml").ok().unwrap();
        let places = Places { home: None, working_folder: Path::new("/w"), file_folder: "/f".into() };
        secret_source(table.get_mut("password").unwrap(), &places)
    }

    #[test]
    fn a_secret_has_four_kinds_of_source() {
        assert_eq!(read("{ file = 'p.pw' }"), Ok(SecretSource::File("/f/p.pw".into())));
        assert_eq!(read("{ env = 'NAME' }"), Ok(SecretSource::Env("NAME".into())));
        assert_eq!(read("{ credential = 'db' }"), Ok(SecretSource::Credential("db".into())));
        let command = SecretSource::Command {
            argv: vec!["vault".into(), "read".into()],
            limit: Duration::from_secs(2),
            lifetime: COMMAND_LIFETIME,
            withheld: Arc::default(),
        };
        assert_eq!(read("{ command = ['vault', 'read'], limit = '2s' }"), Ok(command));
    }

    #[test]
    fn a_literal_secret_is_refused_and_not_repeated() {
        let rule = read("'hunter2'").unwrap_err();

        assert!(rule.contains("must not stand in the settings file"), "{rule}");
        assert!(!rule.contains("hunter2"), "{rule}");
    }

    #[test]
    fn a_source_is_exactly_one_and_known() {
        let bad = ["{}", "{ file = 'a', env = 'B' }", "{ file = '' }", "{ credential = '../x' }"];
        for value in bad.into_iter().chain(["7", "{ command = [] }", "{ command = 'x y' }"]) {
            assert!(read(value).is_err(), "{value} was taken");
        }
        assert!(read("{ file = 'a', limit = '1s' }").unwrap_err().contains("belong to a command"));
        assert!(read("{ flie = 'a' }").unwrap_err().contains("did you mean \"file\"?"));
    }
}
