//! Reads `[cluster.NAME]`. Owns the rules that hold within one cluster; knows nothing of listeners.

use super::{
    AuthKind, CaSource, CertificateFiles, Cluster, Name,
    endpoints::read_endpoints,
    reader::{Places, Reader, Section},
    secrets::secret_source,
    shown::shown_name,
    sql_users::read_users,
    tree::{Entry, Node, Value},
    values::{NAME_RULE, boolean, duration, kind, path, text},
};
use std::{ops::RangeInclusive, sync::Arc, time::Duration};

/// All clusters, in the order in which they stand.
#[derive(Default)]
pub(super) struct Clusters {
    /// Those without a fault.
    pub(super) well: Vec<Arc<Cluster>>,
    /// The names of all of them, so that a listener of a broken one gets no second fault.
    pub(super) names: Vec<String>,
    /// The names of those with a fault in an endpoint: what a listener asks of their endpoints cannot be
    /// judged.
    incomplete: Vec<Name>,
}

impl Clusters {
    /// Whether every endpoint of a cluster could be read.
    pub(super) fn is_complete(&self, cluster: &Cluster) -> bool {
        !self.incomplete.contains(&cluster.name)
    }
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
    let mut incomplete = Vec::new();
    let well = table.entries.into_iter().filter_map(|entry| read_cluster(reader, entry, &mut incomplete)).collect();
    Clusters { well, names, incomplete }
}

fn read_cluster(reader: &mut Reader<'_>, entry: Entry, incomplete: &mut Vec<Name>) -> Option<Arc<Cluster>> {
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
    let mut users = read_users(reader, &mut section).into_iter();
    let (discover, discover_interval) = read_discover(reader, &mut section);
    let cluster_id = reader.read(&mut section, "cluster_id", cluster_id);
    let api_key = reader.read_hidden(&mut section, "api_key", secret_source);
    let faults_before = reader.faults.len();
    let endpoints = read_endpoints(reader, &mut section);
    if reader.faults.len() > faults_before {
        incomplete.push(name.clone());
    }
    reader.finish(section);

    let (ca, user) = (ca?, users.next()?);
    Some(Arc::new(Cluster {
        name,
        ca,
        user,
        other_users: users.collect(),
        cluster_id,
        api_key,
        discover,
        discover_interval,
        endpoints,
    }))
}

/// Whether, and how often; it needs to know of what, and as whom.
fn read_discover(reader: &mut Reader<'_>, section: &mut Section) -> (bool, Duration) {
    let wanted = reader.read(section, "discover", boolean).unwrap_or(false);
    let interval = reader.read(section, "discover_interval", |node, _| duration(node, DISCOVER_INTERVALS));
    if wanted {
        for (key, rule) in [("cluster_id", DISCOVER_ID), ("api_key", DISCOVER_KEY)] {
            if !section.has(key) {
                reader.fault_in(section, key, rule);
            }
        }
    }
    (wanted, interval.unwrap_or(DISCOVER_INTERVAL))
}

fn cluster_id(node: &Node, _: &Places<'_>) -> Result<String, String> {
    let id = text(node)?;
    // It becomes part of an address.
    let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_plain && (1..=64).contains(&id.len()) { Ok(id.to_owned()) } else { Err(ID_RULE.to_owned()) }
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

/// The API lets a user ask ten times a second; regions come and go within half an hour.
const DISCOVER_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const DISCOVER_INTERVAL: Duration = Duration::from_secs(300);
const DISCOVER_ID: &str =
    "missing; with discover = true the Cloud API is asked for the regions of the cluster of this ID";
const DISCOVER_KEY: &str = "missing; with discover = true the Cloud API is asked with this key, of a service account whose \
                            role may only read (Cluster Monitor)";
const ID_RULE: &str = "must be the cluster's ID, as 01234567-89ab-cdef-0123-456789abcdef: the Cloud Console has it in the \
                       cluster page's address";
/// The words for `auth`.
pub(super) const AUTHS: [(&str, AuthKind); 2] = [("password", AuthKind::Password), ("jwt", AuthKind::Jwt)];
const NO_CLUSTER: &str = "no cluster to reach; give a connection string, --host, or a file with \
                          [cluster.NAME]";
const CA_MISSING: &str = "the server's certificate is verified against the cluster's own CA. \
    Fetch it with crdb-proxy ca fetch --cluster-id ID (no key needed); the Cloud Console's own \
    command puts it at $HOME/Library/CockroachCloud/certs/<cluster>-ca.crt, on Linux as on macOS. Name that file with --ca-file, \
    sslrootcert= in the connection string, or ca = in the settings file";
