//! Reads `[[cluster.NAME.endpoint]]`. Owns the rules that hold within one endpoint and between those of
//! one cluster, and how a Private Service Connect endpoint's name and host become what is dialled.

use super::{
    Endpoint, EndpointKind, Name,
    address::DEFAULT_PORT,
    policy::NEAREST,
    reader::{Places, Reader, Section},
    shown::shown_name,
    tree::{Node, Value},
    values::{NAME_RULE, choice, name, port, text},
};
use rustls::pki_types::ServerName;
use std::{net::IpAddr, sync::Arc};

/// Reads all endpoints of a cluster, in order; those with a fault are left out.
pub(super) fn read_endpoints(reader: &mut Reader<'_>, cluster: &mut Section) -> Vec<Arc<Endpoint>> {
    let missing = cluster.key("endpoint");
    let items = match cluster.take("endpoint").map(|entry| (entry.source, entry.node.value)) {
        Some((_, Value::List(items))) if !items.is_empty() => items,
        None | Some((_, Value::List(_))) => {
            reader.fault_in(cluster, "endpoint", ENDPOINT_MISSING);
            return Vec::new();
        }
        Some((source, _)) => {
            reader.fault(source, missing, "must be a list: [[cluster.NAME.endpoint]], once for each");
            return Vec::new();
        }
    };
    let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
    for item in items {
        let source = item.source.clone();
        let Some(endpoint) = read_endpoint(reader, cluster, item) else {
            continue;
        };
        let label = format!("{}: endpoint \"{}\"", cluster.label, endpoint.name);
        for other in &endpoints {
            if other.name == endpoint.name {
                let rule = "another endpoint of this cluster has the same name; give each its own";
                reader.fault(source.clone(), format!("{label}: name"), rule);
            }
            if same_target(other, &endpoint) {
                let rule = format!("the same host and port as endpoint \"{}\"", other.name);
                reader.fault(source.clone(), format!("{label}: host"), rule);
            }
        }
        endpoints.push(Arc::new(endpoint));
    }
    endpoints
}

fn same_target(one: &Endpoint, other: &Endpoint) -> bool {
    one.host.eq_ignore_ascii_case(&other.host) && one.port == other.port && one.tls_server_name == other.tls_server_name
}

fn read_endpoint(reader: &mut Reader<'_>, cluster: &Section, item: Node) -> Option<Endpoint> {
    let Node { value: Value::Table(mut table), source } = item else {
        reader.fault(item.source, cluster.key("endpoint"), "must be a table");
        return None;
    };
    // The name is part of every fault's key, so it is worked out first, from what is well.
    let mut plain = |key| match table.get_mut(key).map(|node| &node.value) {
        Some(Value::Text(text) | Value::Plain(text)) => Some(text.clone()),
        _ => None,
    };
    let kind = plain("kind").unwrap_or_else(|| "public".to_owned());
    let by_region = plain("region").map(|region| format!("{region}-{kind}"));
    let shown = plain("name").or(by_region).unwrap_or_else(|| "default".to_owned());
    let label = format!("{}: endpoint \"{}\"", cluster.label, shown_name(&shown));
    let mut section = Section::new(label, format!("{}.endpoint.{shown}", cluster.path), source, table);

    let unnamed = Name::new(&shown);
    if !section.has("name") && unnamed.is_none() {
        let rule = format!("missing; REGION-KIND {NAME_RULE}, so set one");
        reader.fault_in(&section, "name", rule);
    }
    let name = reader.read(&mut section, "name", name).or(unnamed);
    let region = reader.read(&mut section, "region", region);
    let kind = match section.has("kind") {
        true => reader.read(&mut section, "kind", |node, _| choice(node, &KINDS)),
        false => Some(EndpointKind::Public),
    };
    let host = reader.require(&mut section, "host", HOST_MISSING, host);
    let (host, endpoint_name) = read_endpoint_name(reader, &mut section, kind, host);
    let port = reader.read(&mut section, "port", port).unwrap_or(DEFAULT_PORT);
    let tls_server_name = read_server_name(reader, &mut section, host.as_deref());
    reader.finish(section);

    Some(Endpoint {
        name: name?,
        region,
        kind: kind?,
        host: host?,
        endpoint_name,
        port,
        tls_server_name: tls_server_name?,
    })
}

/// What is dialled, and the name of a Private Service Connect endpoint, which goes in front of the host.
fn read_endpoint_name(
    reader: &mut Reader<'_>,
    section: &mut Section,
    kind: Option<EndpointKind>,
    host: Option<String>,
) -> (Option<String>, Option<String>) {
    let (given, source, key) =
        (section.has("endpoint_name"), section.source_of("endpoint_name"), section.key("endpoint_name"));
    if given && kind.is_some_and(|kind| kind != EndpointKind::Psc) {
        reader.fault(source.clone(), key.clone(), "only an endpoint of kind \"psc\" has one");
    }
    let name = reader.read(section, "endpoint_name", |node, _| endpoint_name(node));
    let (Some(EndpointKind::Psc), Some(said)) = (kind, host.as_deref()) else {
        return (host, name);
    };
    let dialled = match &name {
        _ if said.parse::<IpAddr>().is_ok() => {
            if given {
                let warning =
                    format!("{key}: the host is an IP address and is dialled as it is; it has no effect here");
                reader.warnings.push(warning);
            }
            host
        }
        Some(name) => with_name_in_front(name, said).or_else(|| {
            let rule = format!("together with the host it has more than the {HOST_MAX} letters of a host name");
            reader.fault(source, key, rule);
            None
        }),
        None => {
            if !given {
                reader.fault_in(section, "endpoint_name", ENDPOINT_NAME_MISSING);
            }
            None
        }
    };
    (dialled, name)
}

/// The host may have the name in front already: `config show` prints what is dialled.
fn with_name_in_front(name: &str, host: &str) -> Option<String> {
    let begins = host.split_once('.').is_some_and(|(first, _)| first.eq_ignore_ascii_case(name));
    let dialled = if begins { host.to_owned() } else { format!("{name}.{host}") };
    (dialled.len() <= HOST_MAX).then_some(dialled)
}

fn endpoint_name(node: &Node) -> Result<String, String> {
    let said = text(node)?;
    check_endpoint_name(said).map(|()| said.to_owned())
}

/// The rule of Google Cloud for names of endpoints: a DNS label that begins with a letter.
///
/// # Errors
/// The rule, in words.
pub(crate) fn check_endpoint_name(said: &str) -> Result<(), String> {
    let well = said.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let ends = said.starts_with(|first: char| first.is_ascii_lowercase()) && !said.ends_with('-');
    if well && ends && said.len() <= 63 { Ok(()) } else { Err(ENDPOINT_NAME_RULE.to_owned()) }
}

fn read_server_name(reader: &mut Reader<'_>, section: &mut Section, host: Option<&str>) -> Option<ServerName<'static>> {
    if section.has("tls_server_name") {
        return reader.read(section, "tls_server_name", |node, _| server_name(text(node)?));
    }
    let host = host?;
    match server_name(host) {
        Ok(name) => Some(name),
        Err(rule) => {
            let rule = format!("missing; the host is no name that a certificate can carry: {rule}");
            reader.fault_in(section, "tls_server_name", rule);
            None
        }
    }
}

fn server_name(said: &str) -> Result<ServerName<'static>, String> {
    // A name that ends in a dot is looked up as it is, but no certificate carries the dot.
    let said = said.strip_suffix('.').unwrap_or(said).to_owned();
    let name = ServerName::try_from(said).ok();
    name.ok_or_else(|| "must be a host name or an IP address".to_owned())
}

/// A host name or an IP address, as it is dialled.
pub(super) fn host(node: &Node, _: &Places<'_>) -> Result<String, String> {
    let host = text(node)?;
    if host.is_empty() {
        return Err(format!("must not be empty; give {HOST_MISSING}"));
    }
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    if host.contains("://") {
        return Err("must be a host alone; a connection string goes on the command line".to_owned());
    }
    if host.contains(',') {
        return Err("must be one host; further ones are endpoints of their own in a file".to_owned());
    }
    if host.contains([':', '[']) {
        return Err("must be a host name or an IP address alone; the port has its own key".to_owned());
    }
    let well = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if host.len() > HOST_MAX || !host.bytes().all(well) {
        return Err("must be a host name or an IP address".to_owned());
    }
    Ok(host.to_owned())
}

fn region(node: &Node, _: &Places<'_>) -> Result<String, String> {
    let region = text(node)?;
    match Name::new(region) {
        Some(_) if region == NEAREST => Err("is no region, but what a listener's regions may say".to_owned()),
        Some(_) => Ok(region.to_owned()),
        None => Err("must be a region as SQL shows it, like \"gcp-us-east1\"".to_owned()),
    }
}

/// The word for a kind.
pub(crate) fn kind_text(kind: EndpointKind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("public", |(word, _)| word)
}

/// Whether two spellings mean one region: SQL says `gcp-us-east1`, the Cloud API `us-east1`.
pub(crate) fn same_region(one: &str, other: &str) -> bool {
    let without_cloud = |region| ["gcp-", "aws-", "azure-"].iter().find_map(|cloud| str::strip_prefix(region, cloud));
    one == other || without_cloud(one) == Some(other) || without_cloud(other) == Some(one)
}

/// The words for `kind`.
pub(super) const KINDS: [(&str, EndpointKind); 4] = [
    ("public", EndpointKind::Public),
    ("internal", EndpointKind::Internal),
    ("psc", EndpointKind::Psc),
    ("custom", EndpointKind::Custom),
];
const ENDPOINT_MISSING: &str = "no endpoint to dial; add [[cluster.NAME.endpoint]] with a host, or give \
                                --host";
const ENDPOINT_NAME_MISSING: &str = "missing; a psc endpoint is dialled as ENDPOINT_NAME.HOST, so set the name that \
    the Private Service Connect endpoint has in your network. To dial something else, set host to the \
    endpoint's IP address with tls_server_name, or kind = \"custom\" to dial the host as it is";
const ENDPOINT_NAME_RULE: &str = "must be the name of a Private Service Connect endpoint: 1 to 63 of a-z, 0-9 and \
    \"-\", beginning with a letter and not ending in \"-\"";
/// With the dot at the end that a name may have.
const HOST_MAX: usize = 254;
const HOST_MISSING: &str = "the host name of the connection string that the Cloud Console shows";
