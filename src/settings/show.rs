//! The effective settings as text, each value with its source: what `config show` prints. A secret's
//! place is shown, a secret never.

use super::{
    AuthKind, CaSource, Cluster, Endpoint, Listener, Loaded, LocalAccess, LocalTls, SecretSource, SocketRights,
    SqlUser,
    address::listen_text,
    clusters::AUTHS,
    endpoints::kind_text,
    keys::{SCALARS, number, span_or_off_text, word_of},
    policy::PREFERENCES,
    source::Source,
    values::duration_text,
};
use serde::Serialize;
use std::fmt::Write;
use toml::Value;

/// Valid TOML; each value's source stands behind it as a comment. What has no place in a file, a
/// password or certificates out of a connection string, is a comment only.
pub fn show(loaded: &Loaded) -> String {
    let mut text = String::new();
    if let Some(file) = &loaded.settings.file {
        text += &commented(&file.display().to_string());
    }
    for (index, table) in tables(loaded).iter().enumerate() {
        if index > 0 {
            let _ = write!(text, "\n{}\n", table.header);
        }
        for line in &table.lines {
            text += &match &line.value {
                Some(value) => {
                    let source = one_line(&line.source);
                    format!("{} = {value}  # {source}\n", line.key)
                }
                None => commented(&format!("{}: from the {}, not shown", line.key, line.source)),
            };
        }
    }
    text
}

/// One JSON object: `file`, and `tables`, a list in the order of [`show`], each with the `table` it
/// stands for and its `values`: key, value (null when it is not shown) and source.
pub fn show_json(loaded: &Loaded) -> String {
    let file = loaded.settings.file.as_ref().map(|file| file.display().to_string());
    let shown = serde_json::json!({ "file": file, "tables": tables(loaded) });
    format!("{shown:#}\n")
}

/// One table of the settings file.
#[derive(Serialize)]
pub(super) struct Table {
    /// `[cluster.prod]`; empty for the first block.
    #[serde(rename = "table")]
    pub(super) header: String,
    #[serde(rename = "values")]
    pub(super) lines: Vec<Line>,
    /// As [`super::Provenance`] names the table.
    #[serde(skip)]
    path: String,
}

/// A key and its value.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) key: &'static str,
    /// Nothing when it is not shown.
    pub(super) value: Option<Value>,
    source: String,
    /// By somebody, and not the default.
    #[serde(skip)]
    pub(super) is_set: bool,
}

/// Builds one table, looking up sources as it goes.
struct Builder<'l> {
    loaded: &'l Loaded,
    table: Table,
}

impl<'l> Builder<'l> {
    fn new(loaded: &'l Loaded, header: String, path: String) -> Self {
        Self { loaded, table: Table { header, lines: Vec::new(), path } }
    }

    fn line(&mut self, key: &'static str, value: impl Into<Value>) {
        self.push(key, Some(value.into()));
    }

    fn push(&mut self, key: &'static str, value: Option<Value>) {
        let path = &self.table.path;
        let full = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let source = self.loaded.provenance.of(&full);
        let is_set = *source != Source::Default;
        self.table.lines.push(Line { key, value, source: source.to_string(), is_set });
    }
}

/// Every table, in the order of the settings file.
pub(super) fn tables(loaded: &Loaded) -> Vec<Table> {
    let mut tables = vec![scalars(loaded)];
    for cluster in &loaded.settings.clusters {
        tables.push(cluster_table(loaded, cluster));
        let own = cluster.users().filter(|user| user.has_own_table);
        tables.extend(own.map(|user| user_table(loaded, cluster, user)));
        tables.extend(cluster.endpoints.iter().map(|endpoint| endpoint_table(loaded, cluster, endpoint)));
    }
    tables.extend(loaded.settings.listeners.iter().map(|listener| listener_table(loaded, listener)));
    tables
}

fn scalars(loaded: &Loaded) -> Table {
    let mut builder = Builder::new(loaded, String::new(), String::new());
    let mut settings = loaded.settings.clone();
    for key in SCALARS {
        builder.line(key.name, key.slot.show(&mut settings));
    }
    builder.table
}

fn cluster_table(loaded: &Loaded, cluster: &Cluster) -> Table {
    let header = format!("[cluster.{}]", quoted(cluster.name.as_str()));
    let mut builder = Builder::new(loaded, header, format!("cluster.{}", cluster.name));
    builder.push(
        "ca",
        match &cluster.ca {
            CaSource::System => Some("system".into()),
            CaSource::File(path) => Some(path.display().to_string().into()),
            CaSource::Inline(_) => None,
        },
    );
    if !cluster.user.has_own_table {
        builder.line("user", cluster.user.name.as_str());
        show_credential(&mut builder, &cluster.user);
    }
    if let Some(id) = &cluster.cluster_id {
        builder.line("cluster_id", id.as_str());
    }
    if let Some(source) = &cluster.api_key {
        builder.push("api_key", secret_value(source));
    }
    builder.line("discover", cluster.discover);
    builder.line("discover_interval", duration_text(cluster.discover_interval));
    builder.table
}

fn user_table(loaded: &Loaded, cluster: &Cluster, user: &SqlUser) -> Table {
    let header = format!("[cluster.{}.user.{}]", quoted(cluster.name.as_str()), Value::from(user.name.as_str()));
    let mut builder = Builder::new(loaded, header, format!("cluster.{}.user.{}", cluster.name, user.name));
    show_credential(&mut builder, user);
    builder.table
}

fn show_credential(builder: &mut Builder<'_>, user: &SqlUser) {
    builder.line("auth", auth_text(user.auth));
    if let Some(password) = &user.password {
        builder.push("password", secret_value(password));
    }
    if user.asks_client {
        builder.line("credential", "client");
    }
    if let Some(files) = &user.client_certificate {
        builder.line("cert", files.cert.display().to_string());
        builder.line("key", files.key.display().to_string());
    }
    if let Some(methods) = &user.require_auth {
        builder.line("require_auth", methods.iter().map(|method| method.word()).collect::<Vec<_>>());
    }
}

fn endpoint_table(loaded: &Loaded, cluster: &Cluster, endpoint: &Endpoint) -> Table {
    let header = format!("[[cluster.{}.endpoint]]", quoted(cluster.name.as_str()));
    let path = format!("cluster.{}.endpoint.{}", cluster.name, endpoint.name);
    let mut builder = Builder::new(loaded, header, path);
    builder.line("name", endpoint.name.as_str());
    if let Some(region) = &endpoint.region {
        builder.line("region", region.as_str());
    }
    builder.line("kind", kind_text(endpoint.kind));
    builder.line("host", endpoint.host.as_str());
    builder.line("port", i64::from(endpoint.port));
    builder.line("tls_server_name", endpoint.tls_server_name.to_str().as_ref());
    if let Some(name) = &endpoint.endpoint_name {
        builder.line("endpoint_name", name.as_str());
    }
    builder.table
}

fn listener_table(loaded: &Loaded, listener: &Listener) -> Table {
    let path = format!("listener.{}", listener.name);
    let mut builder = Builder::new(loaded, "[[listener]]".to_owned(), path);
    builder.line("name", listener.name.as_str());
    builder.line("address", listen_text(&listener.address));
    builder.line("cluster", listener.cluster.as_str());
    builder.line("database", listener.database.as_str());
    let policy = &listener.policy;
    builder.line("regions", policy.regions.show());
    builder.line("path", policy.path.iter().map(|kind| kind_text(*kind)).collect::<Vec<_>>());
    builder.line("prefer", word_of(&policy.prefer, &PREFERENCES));
    builder.line("overflow", policy.overflow);
    let parameters = listener.session_parameters.iter();
    let parameters = parameters.map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    builder.line("session_parameters", Value::Table(parameters.collect()));
    for (key, value) in listener.user.show().into_iter().chain(listener.client_choices.show()) {
        builder.line(key, value);
    }
    builder.line("reuse", listener.reuse);
    let (tls, files) = match &listener.tls {
        LocalTls::Off => ("off", None),
        LocalTls::Allow(files) => ("allow", Some(files)),
        LocalTls::Require(files) => ("require", Some(files)),
    };
    builder.line("tls", tls);
    if let Some(files) = files {
        builder.line("tls_cert", files.cert.display().to_string());
        builder.line("tls_key", files.key.display().to_string());
    }
    if let Some(password) = &listener.local_password {
        builder.push("local_password", secret_value(password));
    }
    builder.line("unsafe_allow_remote", listener.unsafe_allow_remote);
    builder.line("local_access", listener.access.word().text());
    if let LocalAccess::Uids(uids) = &listener.access {
        builder.line("allowed_uids", uids.iter().map(|uid| i64::from(*uid)).collect::<Vec<_>>());
    }
    let SocketRights { mode, owner, group } = &listener.rights;
    builder.line("mode", format!("{mode:04o}"));
    for (key, account) in [("owner", owner), ("group", group)] {
        if let Some(account) = account {
            builder.line(key, account.to_string());
        }
    }
    builder.line("sessions_max", number(listener.sessions_max.get()));
    builder.line("session_idle_limit", span_or_off_text(listener.session_idle_limit));
    builder.line("session_age_limit", span_or_off_text(listener.session_age_limit));
    builder.line("warm_max", number(listener.warm_max));
    builder.table
}

/// Where a secret is; `None` for one that stood in the connection string.
fn secret_value(source: &SecretSource) -> Option<Value> {
    let mut table = toml::Table::new();
    let mut put = |key: &str, value: Value| table.insert(key.to_owned(), value);
    match source {
        SecretSource::File(path) => put("file", path.display().to_string().into()),
        SecretSource::Env(name) => put("env", name.as_str().into()),
        SecretSource::Credential(name) => put("credential", name.as_str().into()),
        SecretSource::Command { argv, limit, lifetime, .. } => {
            put("limit", duration_text(*limit).into());
            put("lifetime", duration_text(*lifetime).into());
            put("command", argv.clone().into())
        }
        SecretSource::Given { .. } => return None,
    };
    Some(Value::Table(table))
}

fn auth_text(auth: AuthKind) -> &'static str {
    AUTHS.iter().find(|(_, known)| *known == auth).map_or("password", |(word, _)| word)
}

/// Names may contain dots, which part keys in TOML; nothing else in them needs quotes.
fn quoted(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

fn commented(text: &str) -> String {
    format!("# {}\n", one_line(text))
}

/// A file's name may contain a line feed, which would end a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
