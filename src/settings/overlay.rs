//! Sets single keys in the tree of the settings file, for flags and variables: in every listener, in the
//! only cluster, in its only endpoint. Owns what "only" means when there are several, or none; knows
//! no flag and checks no value.

use super::{
    reader::Reader,
    source::Source,
    sql_users::CREDENTIAL_KEYS,
    tree::{Entry, Node, Table, Value},
};

/// The list of addresses makes one listener each where the file has none, and replaces the address of
/// its only one. Without a list, one listener is made where the file has none; `whole` asked for it.
pub(super) fn set_addresses(root: &mut Table, given: Option<&Node>, whole: &Source, reader: &mut Reader<'_>) {
    // Where something else than a list stands, the reader reports it.
    let Some(listeners) = list_in(root, "listener") else {
        return;
    };
    let Some(Node { value: Value::List(addresses), source }) = given else {
        if listeners.is_empty() {
            listeners.push(Node { value: Value::Table(Table::default()), source: whole.clone() });
        }
        return;
    };
    match (listeners.as_mut_slice(), addresses.as_slice()) {
        ([], addresses) => listeners.extend(addresses.iter().map(|address| {
            let mut table = Table::default();
            table.set("address", address.clone());
            Node { value: Value::Table(table), source: source.clone() }
        })),
        ([Node { value: Value::Table(only), .. }], [address]) => only.set("address", address.clone()),
        ([_], [_]) => (),
        ([_], _) => {
            let rule = "several addresses cannot replace the one of the file's only listener";
            reader.fault(source.clone(), String::new(), rule);
        }
        (several, _) => {
            let count = several.len();
            let rule =
                format!("the file has {count} listeners, so it is unclear which one is meant; set address there");
            reader.fault(source.clone(), String::new(), rule);
        }
    }
}

/// Sets a key of every listener.
pub(super) fn set_in_listeners(root: &mut Table, key: &str, node: &Node) {
    for listener in list_in(root, "listener").into_iter().flatten() {
        if let Value::Table(table) = &mut listener.value {
            table.set(key, node.clone());
        }
    }
}

/// Sets a key of every listener that has none.
pub(super) fn set_in_silent_listeners(root: &mut Table, key: &str, node: &Node) {
    for listener in list_in(root, "listener").into_iter().flatten() {
        if let Value::Table(table) = &mut listener.value
            && !table.has(key)
        {
            table.set(key, node.clone());
        }
    }
}

/// Adds session parameters to every listener's; a name that the file sets as well is replaced.
pub(super) fn add_session_parameters(root: &mut Table, node: &Node) {
    let Value::Table(added) = &node.value else {
        return;
    };
    for listener in list_in(root, "listener").into_iter().flatten() {
        let Value::Table(table) = &mut listener.value else {
            continue;
        };
        let empty = Node { value: Value::Table(Table::default()), source: node.source.clone() };
        if !table.has("session_parameters") {
            table.set("session_parameters", empty);
        }
        let present = table.get_mut("session_parameters").map(|node| &mut node.value);
        let Some(Value::Table(present)) = present else {
            continue;
        };
        for Entry { key, node, .. } in &added.entries {
            present.set(key, node.clone());
        }
    }
}

/// Sets a key of the only cluster.
pub(super) fn set_in_cluster(root: &mut Table, key: &str, node: Node, reader: &mut Reader<'_>) {
    let Some(cluster) = only_cluster(root, &node, reader) else { return };
    let has_users = matches!(cluster.get_mut("user"), Some(Node { value: Value::Table(_), .. }));
    if has_users && (key == "user" || CREDENTIAL_KEYS.contains(&key)) {
        let rule = format!(
            "the file's cluster has a table of users, so it is unclear whose {key} is meant; set it there, and a \
             listener's user"
        );
        return reader.fault(node.source, String::new(), rule);
    }
    cluster.set(key, node);
}

/// Sets a key of the only endpoint of the only cluster.
pub(super) fn set_in_endpoint(root: &mut Table, key: &str, node: Node, reader: &mut Reader<'_>) {
    let Some(cluster) = only_cluster(root, &node, reader) else {
        return;
    };
    let Some(endpoints) = list_in(cluster, "endpoint") else {
        return;
    };
    if endpoints.is_empty() {
        let source = node.source.clone();
        endpoints.push(Node { value: Value::Table(Table::default()), source });
    }
    match endpoints.as_mut_slice() {
        [Node { value: Value::Table(only), .. }] => only.set(key, node),
        [_] => (),
        several => {
            let count = several.len();
            let rule = format!(
                "the file's cluster has {count} endpoints, so it is unclear which one is meant; set {key} there"
            );
            reader.fault(node.source, String::new(), rule);
        }
    }
}

/// The cluster that flags and variables speak of; made when the file has none.
fn only_cluster<'t>(root: &'t mut Table, node: &Node, reader: &mut Reader<'_>) -> Option<&'t mut Table> {
    let empty = || Node { value: Value::Table(Table::default()), source: node.source.clone() };
    if !root.has("cluster") {
        root.set("cluster", empty());
    }
    let Value::Table(clusters) = &mut root.get_mut("cluster")?.value else {
        return None;
    };
    if clusters.entries.is_empty() {
        clusters.set("default", empty());
    }
    match clusters.entries.as_mut_slice() {
        [Entry { node: Node { value: Value::Table(only), .. }, .. }] => Some(only),
        [_] => None,
        several => {
            let count = several.len();
            let rule = format!("the file has {count} clusters, so it is unclear which one is meant; set it there");
            reader.fault(node.source.clone(), String::new(), rule);
            None
        }
    }
}

/// A list under a key, made when absent; `None` when something else stands there.
fn list_in<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut Vec<Node>> {
    if !table.has(key) {
        table.set(key, Node { value: Value::List(Vec::new()), source: Source::Default });
    }
    match &mut table.get_mut(key)?.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}
