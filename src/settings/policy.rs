//! Which endpoints may serve a listener's sessions, and which goes first. Owns a policy's words, the rule of
//! what it allows, and the check that it leaves an endpoint; puts nothing in order.

use super::{
    Cluster, Endpoint, EndpointKind,
    endpoints::{KINDS, kind_text, same_region},
    reader::{Reader, Section},
    shown::shown_name,
    source::did_you_mean,
    tree::{Node, Value},
    values::{boolean, choice, list, word},
};
use std::sync::Arc;

/// Which endpoints may serve a listener's sessions, and which goes first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Which regions, and in which order.
    pub regions: Regions,
    /// Only these kinds, in this order; empty: the private kinds, all alike, where any is defined, else the
    /// public one.
    pub path: Vec<EndpointKind>,
    /// What counts first where the two orders disagree.
    pub prefer: Prefer,
    /// Whether a region that has no room left (SQLSTATE 53300) may pass a session on to another one.
    pub overflow: bool,
}

/// Regions as a listener wants them, in the spelling of the endpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Regions {
    /// Only these, in this order; empty: all, in the endpoints' own order.
    Listed(Vec<String>),
    /// The nearest first, of only these; empty: of all. An endpoint without a region stands for itself.
    Nearest(Vec<String>),
}

impl Default for Regions {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// Which of a policy's two orders counts first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// By path, then by region.
    #[default]
    Path,
    /// By region, then by path.
    Region,
}

impl Policy {
    /// Whether a session may ever be served by this endpoint, one of `all` those of its cluster.
    pub fn allows(&self, endpoint: &Endpoint, all: &[Arc<Endpoint>]) -> bool {
        let regions = self.regions.named();
        let of_kind = match self.path.as_slice() {
            // Traffic that has a private way must not take the internet without being told to.
            [] => endpoint.kind.is_private() || !all.iter().any(|endpoint| endpoint.kind.is_private()),
            path => path.contains(&endpoint.kind),
        };
        of_kind && (regions.is_empty() || is_in(endpoint, regions))
    }
}

impl Regions {
    /// Those that are named; none where all are meant.
    pub fn named(&self) -> &[String] {
        let (Self::Listed(regions) | Self::Nearest(regions)) = self;
        regions
    }

    /// As a settings file says it.
    pub(super) fn show(&self) -> toml::Value {
        match self {
            Self::Listed(regions) => regions.clone().into(),
            Self::Nearest(regions) if regions.is_empty() => NEAREST.into(),
            Self::Nearest(regions) => toml::Table::from_iter([(NEAREST.to_owned(), regions.clone().into())]).into(),
        }
    }
}

impl EndpointKind {
    /// Whether the way does not lead over the internet.
    pub fn is_private(self) -> bool {
        self != Self::Public
    }
}

/// Reads a listener's policy. Without `cluster`, what is asked of its endpoints is not checked.
pub(super) fn read_policy(reader: &mut Reader<'_>, section: &mut Section, cluster: Option<&Cluster>) -> Policy {
    let (has_path, faults_before) = (section.has("path"), reader.faults.len());
    let (regions_source, path_source) = (section.source_of("regions"), section.source_of("path"));
    let regions = reader.read(section, "regions", |node, _| regions(node, cluster));
    let path = reader.read(section, "path", |node, _| path(node));
    let prefer = reader.read(section, "prefer", |node, _| choice(node, &PREFERENCES));
    let overflow = reader.read(section, "overflow", boolean);
    let policy = Policy {
        regions: regions.unwrap_or_default(),
        path: path.unwrap_or_default(),
        prefer: prefer.unwrap_or_default(),
        overflow: overflow.unwrap_or(false),
    };
    let Some(cluster) = cluster.filter(|_| reader.faults.len() == faults_before) else {
        return policy;
    };
    if let Some(rule) = leaves_none(&policy, cluster) {
        let (source, key) = if has_path { (path_source, "path") } else { (regions_source, "regions") };
        reader.fault(source, section.key(key), rule);
    } else {
        let key = section.key("regions");
        reader.warnings.extend(idle_regions(&policy, cluster).map(|warning| format!("{key}: {warning}")));
    }
    policy
}

/// What is wrong where no endpoint is left.
fn leaves_none(policy: &Policy, cluster: &Cluster) -> Option<String> {
    let (name, all) = (&cluster.name, &cluster.endpoints);
    let leaves_one = |policy: &Policy| all.iter().any(|endpoint| policy.allows(endpoint, all));
    let everywhere = Policy { regions: Regions::default(), ..policy.clone() };
    if all.is_empty() || leaves_one(policy) {
        return None;
    }
    let regions = policy.regions.named();
    let there: Vec<_> = match leaves_one(&everywhere) {
        true => all.iter().filter(|endpoint| is_in(endpoint, regions)).collect(),
        false => all.iter().collect(),
    };
    let kinds = kinds_text(KINDS.iter().filter(|(_, kind)| there.iter().any(|endpoint| endpoint.kind == *kind)));
    Some(if !leaves_one(&everywhere) {
        format!("leaves no endpoint: those of cluster \"{name}\" are {kinds}")
    } else if policy.path.is_empty() {
        format!("leaves no endpoint: cluster \"{name}\" has only public ones there, and {WITHOUT_PATH}")
    } else {
        let regions = regions.join(", ");
        format!("leaves no endpoint together with regions: those of cluster \"{name}\" in {regions} are {kinds}")
    })
}

/// Says of every region that is named and that the path leaves out why it never serves.
fn idle_regions<'p>(policy: &'p Policy, cluster: &'p Cluster) -> impl Iterator<Item = String> + use<'p> {
    let all = &cluster.endpoints;
    let serves = |region| {
        all.iter().any(|endpoint| is_in(endpoint, std::slice::from_ref(region)) && policy.allows(endpoint, all))
    };
    policy.regions.named().iter().filter(move |region| !serves(region)).map(|region| {
        let why = match policy.path.as_slice() {
            [] => WITHOUT_PATH.to_owned(),
            path => format!("path is {}", path.iter().map(|kind| kind_text(*kind)).collect::<Vec<_>>().join(", ")),
        };
        format!("no endpoint of \"{region}\" ever serves: {why}")
    })
}

fn is_in(endpoint: &Endpoint, regions: &[String]) -> bool {
    endpoint.region.as_ref().is_some_and(|region| regions.contains(region))
}

fn kinds_text<'k>(kinds: impl Iterator<Item = &'k (&'k str, EndpointKind)>) -> String {
    kinds.map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
}

fn regions(node: &Node, cluster: Option<&Cluster>) -> Result<Regions, String> {
    match &node.value {
        Value::Text(said) | Value::Plain(said) if said == NEAREST => Ok(Regions::Nearest(Vec::new())),
        Value::Plain(_) | Value::List(_) => resolve(&list(node)?, cluster).map(Regions::Listed),
        Value::Table(table) => match table.entries.as_slice() {
            [only] if only.key == NEAREST => resolve(&list(&only.node)?, cluster).map(Regions::Nearest),
            _ => Err(REGIONS_RULE.to_owned()),
        },
        _ => Err(REGIONS_RULE.to_owned()),
    }
}

/// The regions in the spelling of the endpoints, which is what they are compared with later.
fn resolve(wanted: &[String], cluster: Option<&Cluster>) -> Result<Vec<String>, String> {
    if wanted.iter().any(|region| region == NEAREST) {
        return Err(format!("\"{NEAREST}\" is no region; {REGIONS_RULE}"));
    }
    let Some(cluster) = cluster else {
        return Ok(wanted.to_vec());
    };
    let known: Vec<&str> = cluster.endpoints.iter().filter_map(|endpoint| endpoint.region.as_deref()).collect();
    let mut resolved: Vec<String> = Vec::new();
    for region in wanted {
        let Some(found) = known.iter().find(|known| same_region(known, region)) else {
            let suggestion = did_you_mean(region, known.iter().copied());
            let region = shown_name(region);
            return Err(format!("no endpoint of cluster \"{}\" has the region \"{region}\"{suggestion}", cluster.name));
        };
        if resolved.iter().any(|before| before == found) {
            return Err(format!("names \"{found}\" twice"));
        }
        resolved.push((*found).to_owned());
    }
    Ok(resolved)
}

fn path(node: &Node) -> Result<Vec<EndpointKind>, String> {
    let mut path = Vec::new();
    for said in list(node)? {
        let kind = word(&said, &KINDS).map_err(|rule| format!("\"{}\": {rule}", shown_name(&said)))?;
        if path.contains(&kind) {
            return Err(format!("names \"{said}\" twice"));
        }
        path.push(kind);
    }
    Ok(path)
}

/// The words for `prefer`.
pub(super) const PREFERENCES: [(&str, Prefer); 2] = [("path", Prefer::Path), ("region", Prefer::Region)];
/// The word for regions by distance, which no region may be called.
pub(super) const NEAREST: &str = "nearest";
const REGIONS_RULE: &str = "must be a list of regions in order, \"nearest\", or { nearest = [\"…\"] } for the nearest \
    of some";
const WITHOUT_PATH: &str = "without path only private ones (internal, psc, custom) serve where a cluster has any; \
    path = [\"public\"] lets public ones serve";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Name;
    use EndpointKind::{Custom, Internal, Psc, Public};

    fn endpoints(of: &[(&str, EndpointKind)]) -> Vec<Arc<Endpoint>> {
        let endpoint = |(region, kind): &(&str, EndpointKind)| Endpoint {
            name: Name::new(&format!("{region}-{}", kind_text(*kind))).unwrap(),
            region: Some((*region).to_owned()).filter(|region| region != "none"),
            kind: *kind,
            host: "db.example".into(),
            endpoint_name: None,
            port: 26257,
            tls_server_name: "db.example".try_into().unwrap(),
        };
        of.iter().map(endpoint).map(Arc::new).collect()
    }

    fn allowed(policy: &Policy, of: &[(&str, EndpointKind)]) -> Vec<String> {
        let all = endpoints(of);
        all.iter().filter(|one| policy.allows(one, &all)).map(|one| one.name.to_string()).collect()
    }

    fn regions(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_path_public_endpoints_serve_only_where_there_is_no_private_one() {
        let policy = Policy::default();

        assert_eq!(allowed(&policy, &[("a", Public), ("none", Public)]), ["a-public", "none-public"]);
        for private in [Psc, Internal, Custom] {
            let name = format!("b-{}", kind_text(private));
            assert_eq!(allowed(&policy, &[("a", Public), ("b", private)]), [name]);
        }
        assert_eq!(allowed(&policy, &[("a", Psc), ("a", Internal), ("b", Custom)]).len(), 3);
    }

    #[test]
    fn without_a_path_a_private_way_into_one_region_closes_the_public_one_into_another() {
        let policy = Policy { regions: Regions::Listed(regions(&["a"])), ..Policy::default() };

        assert_eq!(allowed(&policy, &[("a", Public), ("b", Psc)]), Vec::<String>::new());
    }

    #[test]
    fn a_path_allows_the_kinds_that_it_lists_and_no_other() {
        let policy = Policy { path: vec![Public, Psc], ..Policy::default() };

        assert_eq!(allowed(&policy, &[("a", Psc), ("a", Internal), ("a", Public)]), ["a-psc", "a-public"]);
    }

    #[test]
    fn regions_that_are_named_leave_out_the_others_and_endpoints_without_one() {
        let of = [("a", Public), ("b", Public), ("none", Public)];
        for named in [Regions::Listed, Regions::Nearest] {
            let policy = |names| Policy { regions: named(regions(names)), ..Policy::default() };

            assert_eq!(allowed(&policy(&["b"]), &of), ["b-public"]);
            assert_eq!(allowed(&policy(&[]), &of).len(), 3);
        }
    }
}
