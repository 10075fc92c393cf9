//! Reads `[cluster.NAME]` and `[[cluster.NAME.endpoint]]`. Owns the rules that hold within one
//! cluster; knows nothing of listeners.

use super::{
    AuthKind, CaSource, CertificateFiles, Cluster, Endpoint, EndpointKind, Name,
    address::DEFAULT_PORT,
    reader::{Places, Reader, Section},
    secrets::secret_source,
    shown::shown_name,
    tree::{Entry, Node, Value},
    values::{NAME_RULE, choice, kind, name, nonempty, path, port, text},
};
use rustls::pki_types::ServerName;
use std::{net::IpAddr, sync::Arc};

/// All clusters, in the order in which they stand.
#[derive(Default)]
pub(super) struct Clusters {
    /// Those without a fault.
    pub(super) well: Vec<Arc<Cluster>>,
    /// The names of all of them, so that a listener of a broken one gets no second fault.
    pub(super) names: Vec<String>,
}

/// Reads all clusters.
pub(super) fn read_clusters(reader: &mut Reader<'_>, root: &mut Section) -> Clusters {
    let Some(Entry { source, node, .. }) = root.take("cluster") else {
        reader.fault(root.source.clone(), "cluster".to_owned(), NO_CLUSTER);
        return Clusters::default();
    };
    let Value::Table(table) = node.value else {
        reader.fault(source, "cluster".to_owned(), "must be a table: [cluster.NAME]");
        return Clusters::default();
    };
    if table.entries.is_empty() {
        reader.fault(source, "cluster".to_owned(), NO_CLUSTER);
    }
    let names = table.entries.iter().map(|entry| entry.key.clone()).collect();
    let well = table.entries.into_iter().filter_map(|entry| read_cluster(reader, entry)).collect();
    Clusters { well, names }
}

fn read_cluster(reader: &mut Reader<'_>, entry: Entry) -> Option<Arc<Cluster>> {
    let Entry { key, source, node } = entry;
    let label = format!("cluster \"{}\"", shown_name(&key));
    let Some(name) = Name::new(&key) else {
        reader.fault(source, label, format!("the name {NAME_RULE}"));
        return None;
    };
    let Value::Table(table) = node.value else {
        let rule = format!("must be a table, not {}: [cluster.NAME]", kind(&node.value));
        reader.fault(source, label, rule);
        return None;
    };
    let mut section = Section::new(label, format!("cluster.{name}"), source, table);

    let ca = reader.require(&mut section, "ca", CA_MISSING, ca_source);
    let user = reader.require(&mut section, "user", USER_MISSING, nonempty);
    let auth = reader.read(&mut section, "auth", |node, _| choice(node, &AUTHS));
    let auth = auth.unwrap_or(AuthKind::Password);
    let credential = read_credential(reader, &mut section, auth);
    let endpoints = read_endpoints(reader, &mut section);
    reader.finish(section);

    let (password, client_certificate) = credential;
    let (ca, user) = (ca?, user?);
    Some(Arc::new(Cluster { name, ca, user, auth, password, client_certificate, endpoints }))
}

type Credential = (Option<super::SecretSource>, Option<CertificateFiles>);

fn read_credential(reader: &mut Reader<'_>, section: &mut Section, auth: AuthKind) -> Credential {
    let (has_password, has_cert) = (section.has("password"), section.has("cert"));
    if !has_password && auth == AuthKind::Jwt {
        reader.fault_in(section, "password", "missing; auth = \"jwt\" sends the secret as a token");
    } else if !has_password && !has_cert && !section.has("key") {
        reader.fault_in(section, "password", CREDENTIAL_MISSING);
    }
    let password = reader.read_hidden(section, "password", secret_source);
    (password, read_certificate(reader, section, "cert", "key"))
}

/// A certificate with its key: both, or neither.
pub(super) fn read_certificate(
    reader: &mut Reader<'_>,
    section: &mut Section,
    cert_key: &'static str,
    key_key: &'static str,
) -> Option<CertificateFiles> {
    for (present, absent) in [(cert_key, key_key), (key_key, cert_key)] {
        if section.has(present) && !section.has(absent) {
            let flags = if cert_key == "cert" { " (--cert-file with --key-file)" } else { "" };
            let rule = format!("missing; {present} and {absent} go together{flags}");
            reader.fault(section.source_of(present), section.key(absent), rule);
        }
    }
    let cert = reader.read(section, cert_key, path);
    let key = reader.read(section, key_key, path);
    Some(CertificateFiles { cert: cert?, key: key? })
}

fn ca_source(node: &Node, places: &Places<'_>) -> Result<CaSource, String> {
    match &node.value {
        Value::Pem(pem) => Ok(CaSource::Inline(pem.clone())),
        _ if text(node)? == "system" => Ok(CaSource::System),
        _ => path(node, places).map(CaSource::File),
    }
}

fn read_endpoints(reader: &mut Reader<'_>, cluster: &mut Section) -> Vec<Arc<Endpoint>> {
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
    let kind = reader.read(&mut section, "kind", |node, _| choice(node, &KINDS));
    let host = reader.require(&mut section, "host", HOST_MISSING, host);
    let port = reader.read(&mut section, "port", port).unwrap_or(DEFAULT_PORT);
    let tls_server_name = read_server_name(reader, &mut section, host.as_deref());
    reader.finish(section);

    Some(Endpoint {
        name: name?,
        region,
        kind: kind.unwrap_or(EndpointKind::Public),
        host: host?,
        endpoint_name: None,
        port,
        tls_server_name: tls_server_name?,
    })
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
        return Err("must not be empty".to_owned());
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
    if host.len() > 254 || !host.bytes().all(well) {
        return Err("must be a host name or an IP address".to_owned());
    }
    Ok(host.to_owned())
}

fn region(node: &Node, _: &Places<'_>) -> Result<String, String> {
    let region = text(node)?;
    match Name::new(region) {
        Some(_) => Ok(region.to_owned()),
        None => Err("must be a region as SQL shows it, like \"gcp-us-east1\"".to_owned()),
    }
}

/// Whether two spellings mean one region: SQL says `gcp-us-east1`, the Cloud API `us-east1`.
pub(super) fn same_region(one: &str, other: &str) -> bool {
    let without_cloud = |region| ["gcp-", "aws-", "azure-"].iter().find_map(|cloud| str::strip_prefix(region, cloud));
    one == other || without_cloud(one) == Some(other) || without_cloud(other) == Some(one)
}

/// The words for `auth`.
pub(super) const AUTHS: [(&str, AuthKind); 2] = [("password", AuthKind::Password), ("jwt", AuthKind::Jwt)];
/// The words for `kind`.
pub(super) const KINDS: [(&str, EndpointKind); 4] = [
    ("public", EndpointKind::Public),
    ("internal", EndpointKind::Internal),
    ("psc", EndpointKind::Psc),
    ("custom", EndpointKind::Custom),
];
const NO_CLUSTER: &str = "no cluster to reach; give a connection string, --host, or a file with \
                          [cluster.NAME]";
const CA_MISSING: &str = "the server's certificate is verified against the cluster's own CA. \
    Download it from the Connect dialog of the Cloud Console or from \
    https://cockroachlabs.cloud/clusters/<cluster-id>/cert (no key needed), by default to \
    $HOME/Library/CockroachCloud/certs/<cluster>-ca.crt, and name that file with --ca-file, \
    sslrootcert= in the connection string, or ca = in the settings file";
const USER_MISSING: &str = "the SQL user that every session logs in as; set user in the settings \
                            file, --user, or postgresql://USER@…";
const CREDENTIAL_MISSING: &str = "missing; set password = { file = \"…\" } in the settings file, \
    --password-file, --password-command or CRDB_PROXY_PASSWORD, or a client certificate with cert and key";
const ENDPOINT_MISSING: &str = "no endpoint to dial; add [[cluster.NAME.endpoint]] with a host, or give \
                                --host";
const HOST_MISSING: &str = "the host name of the connection string that the Cloud Console shows";
