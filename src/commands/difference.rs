//! What would change in a settings file, as `diff -u` shows it. Compared is what TOML makes of both texts, never their
//! lines: a value is shown only where its key is known to be harmless, a comment never, since either may be a secret.

use crate::{diagnostics::printable, settings::is_daemon_key};
use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};
use toml::{Table, Value};

/// Removed lines begin with `-`, added ones with `+`; empty where both say the same. Nothing where the old text is no
/// settings file: whatever else it is must not be shown.
pub(super) fn difference(old: &[u8], new: &str) -> Option<String> {
    let (old, new) = (settings_of(std::str::from_utf8(old).ok()?)?, settings_of(new)?);
    let (old, new) = (Line::all_of(&old), Line::all_of(&new));
    let mut shown = String::new();
    for group in group_diff_ops(capture_diff_slices(Algorithm::Myers, &old, &new), CONTEXT_LINES) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let span = |from: usize, to: usize| format!("{},{}", from.saturating_add(1), to.saturating_sub(from));
        let old_span = span(first.old_range().start, last.old_range().end);
        let new_span = span(first.new_range().start, last.new_range().end);
        shown += &format!("@@ -{old_span} +{new_span} @@\n");
        for change in group {
            let (removed, added) = match change {
                DiffOp::Equal { .. } => {
                    write(&mut shown, ' ', old.get(change.old_range()));
                    continue;
                }
                _ => (change.old_range(), change.new_range()),
            };
            write(&mut shown, '-', old.get(removed));
            write(&mut shown, '+', new.get(added));
        }
    }
    Some(shown)
}

fn write(shown: &mut String, sign: char, lines: Option<&[Line]>) {
    for line in lines.unwrap_or_default() {
        shown.push(sign);
        shown.push_str(&printable(&line.shown));
        shown.push('\n');
    }
}

/// A text that is at least meant to be our settings.
fn settings_of(text: &str) -> Option<Table> {
    let table = text.parse::<Table>().ok()?;
    let has_ours =
        table.get("cluster").is_some_and(Value::is_table) || table.get("listener").is_some_and(Value::is_array);
    (has_ours && !text.contains("-----BEGIN")).then_some(table)
}

/// Two that look the same may still differ in what is not shown.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Line {
    shown: String,
    whole: String,
}

impl Line {
    fn all_of(settings: &Table) -> Vec<Self> {
        let mut lines = Vec::new();
        gather(settings, &mut Vec::new(), &mut lines);
        lines
    }

    fn of(key: &str, value: &Value) -> Self {
        let whole = format!("{key} = {value}");
        let shown = if is_harmless(key) {
            format!("{key} = {}", plain(value).unwrap_or_else(|| HIDDEN.to_owned()))
        } else if SOURCES.contains(&key) {
            format!("{key} = {}", place(value).unwrap_or_else(|| HIDDEN.to_owned()))
        } else if key == "session_parameters" {
            format!("{key} = {HIDDEN}")
        } else {
            format!("{HIDDEN} = {HIDDEN}")
        };
        Self { shown, whole }
    }

    fn header(path: &[&str], is_item: bool) -> Self {
        let names = path.iter().enumerate().map(|(depth, name)| match (depth, *name) {
            (0, "cluster" | "listener") | (2, "endpoint" | "user") => *name,
            // What a cluster is called, and a user of it.
            (1, name) if path.first() == Some(&"cluster") => name,
            (3, name) if path.first() == Some(&"cluster") && path.get(2) == Some(&"user") => name,
            _ => HIDDEN,
        });
        let shown = names.collect::<Vec<_>>().join(".");
        let shown = if is_item { format!("[[{shown}]]") } else { format!("[{shown}]") };
        Self { shown, whole: path.join(".") }
    }
}

/// Keys with a value of their own first, as TOML must have it.
fn gather<'t>(table: &'t Table, path: &mut Vec<&'t str>, lines: &mut Vec<Line>) {
    let is_value = |key: &str| SOURCES.contains(&key) || key == "session_parameters";
    let mut inner = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(below) if !is_value(key) => inner.push((key, vec![below], false)),
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_table) => {
                inner.push((key, items.iter().filter_map(Value::as_table).collect(), true));
            }
            _ => lines.push(Line::of(key, value)),
        }
    }
    for (key, tables, is_item) in inner {
        path.push(key);
        for below in tables {
            // TOML needs no header where there are headers below.
            if is_item || below.is_empty() || below.iter().any(|(key, value)| !value.is_table() || is_value(key)) {
                lines.push(Line::header(path, is_item));
            }
            gather(below, path, lines);
        }
        path.pop();
    }
}

fn is_harmless(key: &str) -> bool {
    is_daemon_key(key) || HARMLESS.contains(&key)
}

/// A value that is no connection string, no key and nothing nested.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text)
            if text.chars().count() > CHARS_MAX || text.contains(['=', '@', '\n']) || text.contains("://") =>
        {
            None
        }
        Value::String(_) | Value::Integer(_) | Value::Boolean(_) => Some(value.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| plain(item).filter(|_| !item.is_array())).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        _ => None,
    }
}

/// Where a secret is. The words of a command may be secrets themselves.
fn place(source: &Value) -> Option<String> {
    let source = source.as_table()?;
    let (kind, value) = source.iter().next().filter(|_| source.len() == 1)?;
    let value = match kind.as_str() {
        "file" | "env" | "credential" if value.is_str() => plain(value)?,
        "command" => HIDDEN.to_owned(),
        _ => return None,
    };
    Some(format!("{{ {kind} = {value} }}"))
}

const HIDDEN: &str = "***";
const SOURCES: [&str; 3] = ["password", "local_password", "api_key"];
/// Of clusters, endpoints and listeners; the daemon's own keys are all harmless.
const HARMLESS: [&str; 33] = [
    "address",
    "allow_cluster_option",
    "auth",
    "ca",
    "cert",
    "cluster",
    "cluster_id",
    "credential",
    "database",
    "database_locked",
    "discover",
    "discover_interval",
    "endpoint_name",
    "host",
    "key",
    "kind",
    "mode",
    "name",
    "overflow",
    "path",
    "port",
    "prefer",
    "region",
    "regions",
    "require_auth",
    "reuse",
    "tls",
    "tls_cert",
    "tls_key",
    "tls_server_name",
    "unsafe_allow_remote",
    "user",
    "user_mode",
];
/// Hosts and paths are shorter.
const CHARS_MAX: usize = 300;
/// As `diff -u` shows around a change.
const CONTEXT_LINES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn of_cluster(lines: &str) -> String {
        difference(format!("[cluster.prod]\n{lines}\n").as_bytes(), "[cluster.prod]\n").unwrap()
    }

    #[test]
    fn changed_lines_stand_below_each_other_with_what_is_around_them() {
        let old =
            "log_level = \"info\"\n[cluster.prod]\nuser = \"app\" # mine\nca = \"a\"\n[[listener]]\npath = [\"psc\"]\n";
        let new = old.replace("\"app\" # mine", "'shop'");

        let shown = difference(old.as_bytes(), &new).unwrap();

        assert_eq!(
            shown,
            "@@ -1,6 +1,6 @@\n log_level = \"info\"\n [cluster.prod]\n ca = \"a\"\n-user = \"app\"\n+user = \"shop\"\n \
             [[listener]]\n path = [\"psc\"]\n"
        );
        assert_eq!(difference(old.as_bytes(), old).unwrap(), "");
        assert_eq!(difference(old.as_bytes(), &old.replace(" # mine", "")).unwrap(), "", "a comment is no change");
    }

    #[test]
    fn no_way_to_write_a_secret_shows_it() {
        for text in [
            "[cluster.prod]\npassword = \"hunter2\"",
            "[cluster]\nprod.password = 'hunter2'",
            "cluster = { prod = { password = \"hunter2\" } }",
            "cluster = { prod = { user = \"a\", 'password' = \"hunter2\", ca = \"b\" } }",
            "[cluster.prod]\n'password' = 'hunter2'",
            "[cluster.prod]\n\"pass\\u0077ord\" = 'hunter2'",
            "[cluster.prod]\npassword = \"\"\"\nhunter2\n\"\"\"",
            "[cluster.prod]\nuser = \"\"\"\nhunter2\n\"\"\"",
            "[cluster.prod]\npassword = { value = \"hunter2\" }",
            "[cluster.prod]\npassword = { file = \"x\", value = \"hunter2\" }",
            "[cluster.prod.password]\nhunter2 = { a = 1 }",
            "[cluster.prod.hunter2.hunter2]\nhunter2 = 1",
            "[cluster.prod]\npassword = { command = [\"vault\", \"--token\", \"hunter2\"] }",
            "[cluster.prod]\nurl = 'host=h password=hunter2'",
            "[cluster.prod]\nhost = 'host=h password=hunter2'",
            "[cluster.prod]\nhost = 'postgresql://app:hunter2@h/d'",
            "[cluster.prod]\nregions = [['hunter2']]",
            "[cluster.prod]\npasword = 'hunter2'",
            "[cluster.prod]\nhunter2 = true",
            "[cluster.prod]\nsession_parameters = { a = 'hunter2' }",
            "[[listener]]\nlocal_password = ['hunter2']",
            "listener = [{ local_password = 'hunter2' }]",
            "listener = ['hunter2']",
            "# hunter2\n[cluster.prod] # hunter2\nuser = 'a' # hunter2\n# password = hunter2",
        ] {
            let shown = difference(text.as_bytes(), "[cluster.x]\n").unwrap();

            assert!(!shown.contains("hunter2") && !shown.is_empty(), "{text}: {shown}");
        }
    }

    #[test]
    fn what_is_not_settings_is_not_shown_at_all() {
        let pem = "# -----BEGIN PRIVATE KEY-----\n[cluster.prod]\n";
        for text in ["hunter2", "hunter2 = 1", "[broken", "", "-----BEGIN PRIVATE KEY-----", pem, "cluster = 'hunter2'"]
        {
            assert_eq!(difference(text.as_bytes(), "[cluster.x]\n"), None, "{text}");
        }
        assert_eq!(difference(b"\xff", "[cluster.x]\n"), None);
    }

    #[test]
    fn where_a_secret_is_may_be_seen_and_that_another_one_comes() {
        assert!(of_cluster("password = { file = \"prod.pw\" }").contains("-password = { file = \"prod.pw\" }\n"));
        let shown = difference(b"[cluster.p]\npassword = 'a'\n", "[cluster.p]\npassword = 'b'\n").unwrap();
        assert!(shown.ends_with("-password = ***\n+password = ***\n"), "{shown}");
    }

    #[test]
    fn a_table_of_users_shows_whose_secret_is_where_and_no_secret() {
        let shown = of_cluster(
            "[cluster.prod.user.app]\npassword = { file = \"app.pw\" }\n[cluster.prod.user.bot]\npassword = 'hunter2'",
        );

        assert!(shown.contains("-[cluster.prod.user.app]\n-password = { file = \"app.pw\" }\n"), "{shown}");
        assert!(shown.contains("-[cluster.prod.user.bot]\n-password = ***\n"), "{shown}");
    }

    #[test]
    fn nothing_that_moves_the_cursor_is_shown() {
        let shown = of_cluster("user = \"a\\u001b[2J\u{202e}\"\n[cluster.\"b\\u001b\"]");

        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    }
}
