//! What the pages say, and what the program says, in the same shape.

use crate::harness::{
    markdown::{self, Table, code},
    proxy::run_daemon,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Section and name.
pub(super) type Key = (String, String);

/// Keys with their defaults, of the tables that stand under a heading of the settings file.
pub(super) fn documented_keys() -> BTreeMap<Key, String> {
    let mut keys = BTreeMap::new();
    for table in markdown::tables(&markdown::read("docs/settings.md")) {
        let (Some(key), Some(default)) = (table.column("key"), table.column("default")) else { continue };
        let section = match code(&table.heading).first().map(String::as_str) {
            None => "",
            Some("[cluster.NAME]") => "cluster",
            Some("[[cluster.NAME.endpoint]]") => "endpoint",
            Some("[[listener]]") => "listener",
            Some(other) => panic!("{other} is no section"),
        };
        for row in &table.rows {
            for name in code(&row[key]) {
                let before = keys.insert((section.to_owned(), name), row[default].replace('`', ""));
                assert!(before.is_none(), "{row:?} stands there twice");
            }
        }
    }
    keys
}

/// The keys of the annotated settings file, those that are commented out too.
pub(super) fn annotated_keys() -> BTreeSet<Key> {
    let (mut section, mut keys) = (String::new(), BTreeSet::new());
    for line in markdown::read("config/crdb-proxy.toml").lines() {
        if line.starts_with('[') {
            let name = line.trim_matches(['[', ']']).rsplit('.').next().unwrap();
            section = if name == "prod" { "cluster".to_owned() } else { name.to_owned() };
            continue;
        }
        let Some((name, _)) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ") else { continue };
        if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            keys.insert((section.clone(), name.to_owned()));
        }
    }
    keys
}

/// What `config show` says where nobody set anything.
pub(super) fn defaults() -> BTreeMap<Key, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("minimal.toml"), MINIMAL).unwrap();
    let shown = run_daemon(folder.path(), &["config", "show", "--json", "--config", "minimal.toml"], &[]);
    let shown: Value = serde_json::from_str(&shown.expect_success()).unwrap();
    let mut defaults = BTreeMap::new();
    for table in shown["tables"].as_array().unwrap() {
        let section = table["table"].as_str().unwrap().trim_matches(['[', ']']).rsplit('.').next().unwrap();
        let section = if section == "c" { "cluster" } else { section };
        for value in table["values"].as_array().unwrap().iter().filter(|value| value["source"] == "default") {
            let text = value["value"].as_str().map_or_else(|| value["value"].to_string(), str::to_owned);
            defaults.insert((section.to_owned(), value["key"].as_str().unwrap().to_owned()), text);
        }
    }
    assert!(defaults.len() > 30, "{defaults:?}");
    defaults
}

/// What stands in backticks in the column with this title, and the default in the same row.
pub(super) fn column(tables: &[Table], title: &str) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    for table in tables {
        let Some(column) = table.column(title) else { continue };
        for row in &table.rows {
            let default = table.column("default").map(|default| row[default].replace('`', ""));
            found.extend(code(&row[column]).into_iter().map(|name| (name, default.clone())));
        }
    }
    found
}

/// The flags in a help text, with the defaults that it gives.
pub(super) fn flags_of(arguments: &[&str]) -> BTreeMap<String, Option<String>> {
    let folder = tempfile::tempdir().unwrap();
    let help = run_daemon(folder.path(), arguments, &[]).expect_success();
    let mut flags = BTreeMap::new();
    let mut last = None;
    for line in help.lines().map(str::trim_start) {
        let starts = line.split(' ').find(|word| word.starts_with("--")).filter(|_| line.starts_with('-'));
        if let Some(flag) = starts {
            last = Some(flag.to_owned());
            flags.insert(flag.to_owned(), String::new());
        }
        if let Some(text) = last.as_ref().and_then(|last| flags.get_mut(last)) {
            *text += &format!("{line} ");
        }
    }
    let default = |text: &str| Some(text.split_once("[default: ")?.1.split_once(']')?.0.to_owned());
    flags.into_iter().map(|(flag, text)| (flag, default(&text))).collect()
}

/// Those that docs/setup.md has.
pub(super) fn flags_of_setup() -> BTreeMap<String, Option<String>> {
    let mut flags = flags_of(&["setup", "--help"]);
    flags.extend(flags_of(&["ca", "fetch", "--help"]));
    flags
}

/// A metric's type, and each label with its values; free ones have none.
pub(super) type Family = (String, BTreeMap<String, BTreeSet<String>>);

pub(super) fn families(metrics: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with("# HELP")) {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            families.insert(name.to_owned(), (kind.to_owned(), BTreeMap::new()));
            continue;
        }
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = of_histogram.filter(|name| families.contains_key(*name)).unwrap_or(name);
        let (_, known) = families.get_mut(name).expect(name);
        for (label, value) in labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\"")) {
            let values = known.entry(label.to_owned()).or_default();
            if !FREE_LABELS.contains(&label) {
                values.insert(value.trim_end_matches('"').to_owned());
            }
        }
        known.remove("le");
    }
    families
}

pub(super) fn documented_families() -> BTreeMap<String, Family> {
    let tables = markdown::tables(&markdown::read("docs/metrics.md"));
    let cell = |cell: &String| code(cell).into_iter();
    let (lists, values): (Vec<_>, Vec<_>) = tables.iter().partition(|table| table.header[0] == "name");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for row in lists.iter().flat_map(|table| &table.rows) {
        let labels = cell(&row[2]).map(|label| (label, BTreeSet::new())).collect();
        families.insert(code(&row[0])[0].clone(), (row[1].clone(), labels));
    }
    for table in values {
        let [label, metric] = code(&table.heading).try_into().expect("`label` of `metric`");
        let (_, labels) = families.get_mut(&metric).expect(&metric);
        let known = labels.get_mut(&label).expect(&label);
        known.extend(table.rows.iter().flat_map(|row| cell(&row[0])));
    }
    families
}

pub(super) fn collect_fields(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(field, value)| {
            fields.insert(field.clone());
            collect_fields(value, fields);
        }),
        Value::Array(items) => items.iter().for_each(|item| collect_fields(item, fields)),
        _ => {}
    }
}

pub(super) fn collect_source(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_source(&path, into);
        } else {
            *into += &fs::read_to_string(&path).unwrap();
        }
    }
}

/// Commands with flags of their own.
pub(super) const COMMANDS: [&[&str]; 9] = [
    &["check"],
    &["endpoint", "disable"],
    &["wait"],
    &["shutdown"],
    &["status"],
    &["url"],
    &["allowlist", "add"],
    &["private-endpoint", "add"],
    &["users", "list"],
];

pub(super) const MINIMAL: &str = "[cluster.c]\nca = \"ca.crt\"\nuser = \"u\"\npassword = { file = \"p\" }\n\
    [[cluster.c.endpoint]]\nhost = \"h\"\n";

/// Defaults that are no fixed text, as the documentation puts them.
pub(super) const DERIVED: [(&str, &str, &str); 10] = [
    ("endpoint", "name", "REGION-KIND"),
    ("endpoint", "tls_server_name", "the host"),
    ("listener", "name", "listener-N"),
    ("listener", "cluster", "the only one"),
    ("listener", "user", "the only one"),
    ("listener", "local_access", "the daemon's"),
    ("listener", "sessions_max", "the daemon's"),
    ("listener", "session_idle_limit", "the daemon's"),
    ("listener", "session_age_limit", "the daemon's"),
    ("listener", "warm_max", "the daemon's"),
];

pub(super) const FREE_LABELS: [&str; 8] =
    ["listener", "cluster", "endpoint", "name", "version", "revision", "rustc", "le"];
