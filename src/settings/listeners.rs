//! Reads `[[listener]]`. Owns the rules that hold within one listener, between listeners, and between
//! a listener and the cluster it names.

use super::{
    Cluster, Limits, ListenAddress, Listener, LocalTls, Name, Settings,
    access::{read_access, read_rights},
    address::{DEFAULT_PORT, as_listen_address, collide, is_remote, listen_address, listen_text},
    client_choices::{read_client_choices, read_listener_user},
    clusters::{Clusters, read_certificate},
    keys::{SESSIONS_MAX, WARM_MAX, count},
    policy::read_policy,
    reader::{Places, Reader, Section},
    secrets::secret_source,
    shown::shown_name,
    source::{Source, did_you_mean},
    tree::{Entry, Node, Table, Value},
    values::{boolean, choice, duration_or_off, kind, name, nonempty, text, whole},
};
use std::sync::Arc;

/// Reads all listeners, in the order in which they stand. `settings` holds the clusters and limits
/// already.
pub(super) fn read_listeners(
    reader: &mut Reader<'_>,
    root: &mut Section,
    settings: &Settings,
    clusters: &Clusters,
) -> Vec<Arc<Listener>> {
    let items = match root.take("listener") {
        Some(Entry { node: Node { value: Value::List(items), .. }, .. }) => items,
        Some(Entry { source, .. }) => {
            reader.fault(source, "listener".to_owned(), "must be a list: [[listener]], once for each");
            return Vec::new();
        }
        None => Vec::new(),
    };
    let mut listeners: Vec<Arc<Listener>> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let Node { value: Value::Table(table), source } = item else {
            reader.fault(item.source, "listener".to_owned(), "must be a table");
            continue;
        };
        let mut section = section(index, source, table);
        // Faults of these two point at the key that broke the rule, and reading takes it away.
        let (name_source, address_source) = (section.source_of("name"), section.source_of("address"));
        let (name_key, address_key) = (section.key("name"), section.key("address"));
        let listener = read_listener(reader, &mut section, index, (settings, clusters));
        reader.finish(section);
        let Some(listener) = listener else { continue };
        if listeners.iter().any(|other| other.name == listener.name) {
            reader.fault(name_source, name_key, "another listener has the same name");
        }
        if let Some(by) = taken(&listener.address, &listeners, settings) {
            let rule = format!("{} is taken by {by}", listen_text(&listener.address));
            reader.fault(address_source, address_key, rule);
        }
        listeners.push(Arc::new(listener));
    }
    listeners
}

fn taken(address: &ListenAddress, others: &[Arc<Listener>], settings: &Settings) -> Option<String> {
    let other = others.iter().find(|other| collide(&other.address, address));
    let admin = as_listen_address(&settings.admin).filter(|admin| collide(admin, address));
    other.map(|other| format!("listener \"{}\"", other.name)).or_else(|| admin.map(|_| "the admin address".to_owned()))
}

fn section(index: usize, source: Source, mut table: Table) -> Section {
    let shown = match table.get_mut("name").map(|node| &node.value) {
        Some(Value::Text(name)) => name.clone(),
        _ => default_name(index),
    };
    Section::new(format!("listener \"{}\"", shown_name(&shown)), format!("listener.{shown}"), source, table)
}

fn default_name(index: usize) -> String {
    format!("listener-{}", index + 1)
}

fn read_listener(
    reader: &mut Reader<'_>,
    section: &mut Section,
    index: usize,
    (settings, clusters): (&Settings, &Clusters),
) -> Option<Listener> {
    let limits = &settings.limits;
    let name = reader.read(section, "name", listener_name).or_else(|| Name::new(&default_name(index)));
    let address = read_address(reader, section);
    let cluster = read_cluster_name(reader, section, clusters);
    let database = reader.read(section, "database", nonempty);
    let policy = read_policy(reader, section, cluster.filter(|cluster| clusters.is_complete(cluster)));
    let session_parameters = reader.read(section, "session_parameters", |node, _| parameters(node));
    let client_choices = read_client_choices(reader, section);
    let user = read_listener_user(reader, section, cluster, &address);
    let (reuse, warm_max) = read_warm(reader, section, limits);
    let on_unix = matches!(address, ListenAddress::Unix(_));
    let rights = read_rights(reader, section, on_unix);
    let access = read_access(reader, section, settings, (&address, &rights));
    let local_password = reader.read_hidden(section, "local_password", secret_source);
    let unsafe_allow_remote = reader.read(section, "unsafe_allow_remote", boolean);
    let tls = read_tls(reader, section, on_unix);
    let sessions_max = reader.read(section, "sessions_max", |node, _| count(node, 1, SESSIONS_MAX));
    let idle = reader.read(section, "session_idle_limit", |node, _| duration_or_off(node));
    let age = reader.read(section, "session_age_limit", |node, _| duration_or_off(node));

    let listener = Listener {
        name: name?,
        address,
        cluster: cluster.map(|cluster| cluster.name.clone())?,
        database: database.unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
        policy,
        reuse,
        warm_max,
        session_parameters: session_parameters.unwrap_or_default(),
        client_choices,
        user: user?,
        tls,
        local_password,
        unsafe_allow_remote: unsafe_allow_remote.unwrap_or(false),
        access,
        rights,
        sessions_max: sessions_max.unwrap_or(limits.sessions_max),
        session_idle_limit: idle.unwrap_or(limits.session_idle_limit),
        session_age_limit: age.unwrap_or(limits.session_age_limit),
    };
    Some(listener)
}

/// The log tells the admin address apart from listeners by this name.
fn listener_name(node: &Node, places: &Places<'_>) -> Result<Name, String> {
    match name(node, places)? {
        name if name.as_str() == "admin" => Err("the admin address is called so in the log; choose another".to_owned()),
        name => Ok(name),
    }
}

fn read_address(reader: &mut Reader<'_>, section: &mut Section) -> ListenAddress {
    let safe_tls = matches!(text_of(section, "tls").as_deref(), Some("require")) && section.has("local_password");
    let unsafely = match section.peek("unsafe_allow_remote") {
        Some(Value::Boolean(yes)) => *yes,
        Some(Value::Plain(said)) => said == "true",
        _ => false,
    };
    let source = section.source_of("address");
    let address = reader.read(section, "address", listen_address).unwrap_or(ListenAddress::Localhost(DEFAULT_PORT));
    if is_remote(&address) && !safe_tls {
        let shown = listen_text(&address);
        if unsafely {
            reader.warnings.push(format!(
                "{}: every host that can reach {shown} uses the database as the cluster's user, since \
                 unsafe_allow_remote is on",
                section.label
            ));
        } else {
            let rule = format!(
                "{shown} can be reached from other hosts, each of which would use the database with \
                 this daemon's credentials; listen on localhost, or set tls = \"require\" with \
                 local_password, or unsafe_allow_remote = true (--unsafe-allow-remote)"
            );
            reader.fault(source, section.key("address"), rule);
        }
    }
    address
}

fn text_of(section: &Section, key: &str) -> Option<String> {
    match section.peek(key)? {
        Value::Text(text) | Value::Plain(text) => Some(text.clone()),
        _ => None,
    }
}

fn read_cluster_name<'c>(
    reader: &mut Reader<'_>,
    section: &mut Section,
    clusters: &'c Clusters,
) -> Option<&'c Cluster> {
    let find = |name: &str| clusters.well.iter().find(|cluster| cluster.name.as_str() == name);
    if section.has("cluster") {
        let found = reader.read(section, "cluster", |node, _| {
            let name = text(node)?;
            let known = || clusters.names.iter().map(String::as_str);
            if known().all(|other| other != name) {
                return Err(format!("no cluster of this name{}", did_you_mean(name, known())));
            }
            Ok(find(name))
        });
        return found.flatten().map(AsRef::as_ref);
    }
    section.take("cluster");
    match clusters.names.as_slice() {
        [only] => find(only).map(AsRef::as_ref),
        // None at all is a fault of its own already.
        [] => None,
        _ => {
            reader.fault_in(section, "cluster", "missing; there are several clusters, so say which");
            None
        }
    }
}

/// Whether upstreams are used again, and how many are kept ready.
fn read_warm(reader: &mut Reader<'_>, section: &mut Section, limits: &Limits) -> (bool, usize) {
    let (source, key) = (section.source_of("reuse"), section.key("reuse"));
    let reuse = reader.read(section, "reuse", boolean).unwrap_or(false);
    let warm_max = reader.read(section, "warm_max", |node, _| whole(node, 0, WARM_MAX)).unwrap_or(limits.warm_max);
    let of = [("warm_max", warm_max), ("warm_total_max", limits.warm_total_max)];
    if let Some((number, _)) = of.into_iter().find(|(_, number)| reuse && *number == 0) {
        let rule = format!("needs a {number} of at least 1: an upstream waits for its next use among the warm ones");
        reader.fault(source, key, rule);
    }
    (reuse, warm_max)
}

fn parameters(node: &Node) -> Result<Vec<(String, String)>, String> {
    let Value::Table(table) = &node.value else {
        return Err(format!("must be a table, not {}", kind(&node.value)));
    };
    let mut parameters: Vec<(String, String)> = Vec::new();
    for Entry { key, node, .. } in &table.entries {
        let value = match &node.value {
            Value::Integer(number) => number.to_string(),
            Value::Boolean(yes) => yes.to_string(),
            _ => text(node).map_err(|rule| format!("{}: {rule}", shown_name(key)))?.to_owned(),
        };
        check_parameter(key)?;
        if parameters.iter().any(|(before, _)| before.eq_ignore_ascii_case(key)) {
            return Err(format!("{}: set twice; the server ignores case", shown_name(key)));
        }
        parameters.push((key.clone(), value));
    }
    let bytes: usize = parameters.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    if bytes > PARAMETERS_BYTES_MAX {
        return Err(format!("takes {bytes} bytes, and at most {PARAMETERS_BYTES_MAX} fit a startup"));
    }
    Ok(parameters)
}

/// What may stand among the session parameters; the server lower-cases names, so case does not count.
fn check_parameter(key: &str) -> Result<(), String> {
    let lower = key.to_ascii_lowercase();
    match lower.as_str() {
        "" => Err("a parameter has an empty name".to_owned()),
        "user" => Err("user: set by the cluster's user".to_owned()),
        "database" => Err("database: has a key of its own on the listener".to_owned()),
        "password" => Err("password: set by the cluster's password".to_owned()),
        _ if lower.contains('\0') => Err("a parameter's name contains a NUL".to_owned()),
        _ if lower.starts_with("crdb:") || lower.starts_with("_pq_.") => {
            Err(format!("{}: names that begin with crdb: and _pq_. are never sent", shown_name(key)))
        }
        _ => Ok(()),
    }
}

fn read_tls(reader: &mut Reader<'_>, section: &mut Section, on_unix: bool) -> LocalTls {
    let (has_cert, has_key) = (section.has("tls_cert"), section.has("tls_key"));
    let source = section.source_of("tls");
    let mode = reader.read(section, "tls", |node, _| choice(node, &TLS_MODES));
    let mode = mode.unwrap_or(TlsMode::Off);
    if mode != TlsMode::Off && on_unix {
        let rule = "a Unix socket has no TLS; its mode says who may connect";
        reader.fault(source.clone(), section.key("tls"), rule);
    }
    if mode != TlsMode::Off && !has_cert && !has_key {
        let rule = "needs tls_cert and tls_key, the certificate that clients are shown";
        reader.fault(source, section.key("tls"), rule);
    }
    let files = read_certificate(reader, section, "tls_cert", "tls_key");
    match (mode, files) {
        (TlsMode::Allow, Some(files)) => LocalTls::Allow(files),
        (TlsMode::Require, Some(files)) => LocalTls::Require(files),
        (TlsMode::Off, _) | (_, None) => LocalTls::Off,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum TlsMode {
    Off,
    Allow,
    Require,
}

/// The database of a client that names none.
pub(super) const DEFAULT_DATABASE: &str = "defaultdb";
/// Well below the 10 000 bytes of a startup message.
const PARAMETERS_BYTES_MAX: usize = 4096;
const TLS_MODES: [(&str, TlsMode); 3] =
    [("off", TlsMode::Off), ("allow", TlsMode::Allow), ("require", TlsMode::Require)];
