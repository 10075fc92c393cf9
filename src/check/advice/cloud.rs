//! What the Cloud API adds: the entry that is missing, the endpoint that waits, the state that explains it all.

use super::{Advice, Case, listed};
use crate::{
    check::{cloud::CloudFacts, walk::Failure},
    cloud::{
        AllowedNetwork, Allowlist, Cidr, ClusterState, Plan, PrivateConnectionStatus, Provider, allowlist_limit,
        connection_advice,
    },
    settings::EndpointKind,
    sys::Route,
    upstream::EndpointError,
};

/// Advice that the API makes certain, in place of what the wire alone suggests.
pub(super) fn overrides(case: &Case<'_>, cloud: &CloudFacts, failure: &Failure) -> Option<Advice> {
    if let Some(advice) = not_serving(case, cloud) {
        return Some(advice);
    }
    match (failure, case.endpoint.kind) {
        (Failure::Tcp(error), EndpointKind::Public) if is_silence(error) => {
            silent_public(case, cloud.allowlist.as_ref()?)
        }
        (Failure::Tcp(_) | Failure::Dns(_), EndpointKind::Psc | EndpointKind::Internal) => private(case, cloud),
        (Failure::Dns(_), EndpointKind::Public) => other_host(case, cloud),
        _ => None,
    }
}

fn is_silence(error: &EndpointError) -> bool {
    match error {
        EndpointError::TcpTimedOut => true,
        EndpointError::Tcp(error) => error.kind() == std::io::ErrorKind::TimedOut,
        _ => false,
    }
}

fn not_serving(case: &Case<'_>, cloud: &CloudFacts) -> Option<Advice> {
    let name = &cloud.cluster.name;
    let state = cloud.cluster.state.as_ref()?;
    let (cause, fix) = match state {
        ClusterState::Creating => {
            ("it is still being created", "wait until its state is CREATED; that can take half an hour")
        }
        ClusterState::Locked => (
            "an operation is under way that allows no other; whether it serves meanwhile is nowhere documented",
            "see its page in the Cloud Console, and ask Cockroach Labs support if it lasts for hours",
        ),
        ClusterState::CreationFailed => {
            ("creating it failed", "delete it and create it again, or ask Cockroach Labs support")
        }
        ClusterState::Deleted => ("it was deleted", "point the settings at another cluster"),
        ClusterState::Created | ClusterState::Other(_) => return None,
    };
    Some(Advice::new(
        "cluster_state",
        format!("cluster \"{name}\" is {state}, and {} does not serve", case.target()),
        cause,
        fix,
    ))
}

fn silent_public(case: &Case<'_>, allowlist: &Allowlist) -> Option<Advice> {
    let symptom = format!("{} does not answer at all", case.target());
    let entries = &allowlist.entries;
    if allowlist.propagating {
        return Some(Advice::new(
            "allowlist_propagating",
            symptom,
            "the allowlist was changed a moment ago, and the change is not everywhere yet",
            "wait some seconds and check again",
        ));
    }
    if entries.is_empty() {
        return Some(Advice::new(
            "allowlist_empty",
            symptom,
            "the cluster's IP allowlist is empty: nobody can connect over the public path",
            "crdb-proxy allowlist add ADDRESS/32, with this network's public IPv4 address",
        ));
    }
    let with_sql: Vec<_> = entries.iter().filter(|entry| entry.sql).map(range).collect();
    if with_sql.is_empty() {
        return Some(Advice::new(
            "allowlist_without_sql",
            symptom,
            "no entry of the cluster's IP allowlist has the SQL client flag: they open the DB Console only",
            "give this network's entry SQL access, in the Cloud Console, Networking",
        ));
    }
    if entries.iter().any(|entry| entry.sql && entry.cidr_mask == 0) {
        return Some(Advice::new(
            "silent_public",
            symptom,
            "the allowlist lets everybody in (0.0.0.0/0), so a firewall here lets port 26257 not out, or this host has IPv6 only",
            "allow outbound TCP 26257; allowlists know IPv4 only",
        ));
    }
    Some(Advice::new(
        "not_allowlisted",
        symptom,
        format!(
            "this network's public IPv4 address is most likely in none of {}, which are all that may connect by SQL",
            listed(with_sql.iter().map(String::as_str))
        ),
        "crdb-proxy allowlist add ADDRESS/32 with this network's public address; if it is in one of them, a firewall here \
         lets port 26257 not out, or this host has IPv6 only",
    ))
}

fn private(case: &Case<'_>, cloud: &CloudFacts) -> Option<Advice> {
    let region = cloud.region_of(case.endpoint);
    let symptom = format!("{} cannot be reached", case.target());
    if case.endpoint.kind == EndpointKind::Psc && region.is_some_and(|region| region.private_endpoint_dns.is_none()) {
        return Some(Advice::new(
            "psc_no_service",
            symptom,
            "the cluster has no private endpoint service in this region yet, so there is no name to resolve",
            "create it in the Cloud Console, Networking, Private endpoint; `crdb-proxy private-endpoint services` shows it",
        ));
    }
    let connections = cloud.connections.as_ref()?;
    let is_here = |name: Option<&str>| match (region, name) {
        (Some(region), Some(name)) => crate::settings::same_region(&region.name, name),
        _ => true,
    };
    let here: Vec<_> = connections.iter().filter(|known| is_here(known.region_name.as_deref())).collect();
    let is_peered = cloud.cluster.cloud_provider == Some(Provider::Gcp) && case.endpoint.kind == EndpointKind::Internal;
    if here.is_empty() && !is_peered {
        return Some(Advice::new(
            "private_endpoint_unknown",
            symptom,
            "the cluster knows of no private endpoint in this region: it was not made, not validated, or removed on your side",
            "crdb-proxy private-endpoint services shows what to make it for; then crdb-proxy private-endpoint add ENDPOINT_ID",
        ));
    }
    let well = |status: &PrivateConnectionStatus| *status == PrivateConnectionStatus::Available;
    if here.iter().any(|known| known.status.as_ref().is_some_and(well)) {
        return None;
    }
    let known = here.first()?;
    let services = cloud.services.iter().flatten();
    let service =
        services.filter(|service| is_here(service.region_name.as_deref())).find_map(|service| service.name.as_deref());
    if let (Some(made_for), Some(service)) = (known.service_name.as_deref(), service)
        && made_for != service
    {
        return Some(Advice::new(
            "private_endpoint_service",
            symptom,
            format!(
                "endpoint {} was made for \"{made_for}\", and the cluster's service in this region is \"{service}\"",
                known.endpoint_id
            ),
            "delete the endpoint, make it again for that service, and add it again (crdb-proxy private-endpoint add)",
        ));
    }
    let status = known.status.as_ref()?;
    Some(Advice::new(
        "private_endpoint_status",
        symptom,
        format!("the cluster has endpoint {} as {status}", known.endpoint_id),
        connection_advice(&cloud.cluster, known),
    ))
}

/// A public name that does not resolve, while the cluster has another one.
fn other_host(case: &Case<'_>, cloud: &CloudFacts) -> Option<Advice> {
    let name = cloud.names_of(case.endpoint).next()?;
    if name.eq_ignore_ascii_case(&case.endpoint.host) {
        return Some(Advice::new(
            "name_not_found",
            format!("no address for \"{name}\""),
            "the Cloud API has this very host, so it is this machine's resolver that does not know it",
            format!("`getent hosts {name}` asks it; look at /etc/resolv.conf, the VPN, and the network itself"),
        ));
    }
    Some(Advice::new(
        "name_not_found",
        format!("no address for \"{}\"", case.endpoint.host),
        format!("the cluster's name for this way is \"{name}\""),
        format!("set host = \"{name}\""),
    ))
}

/// What should be looked at although sessions can be had.
pub(crate) fn notes(cloud: &CloudFacts, routes: &[Route]) -> Vec<Advice> {
    let (cluster, mut notes) = (&cloud.cluster, Vec::new());
    if let Some(plan @ (Plan::Basic | Plan::Standard)) = &cluster.plan {
        notes.push(Advice::new(
            "not_advanced",
            format!("cluster \"{}\" is of plan {plan}", cluster.name),
            "crdb-proxy is made for Advanced clusters: Basic and Standard ones find regions by themselves and have public certificates",
            "it is reached as any TLS server is, without region choice; ca = \"system\" fits its certificate",
        ));
    }
    if let Some(status) = cluster.operation_status.as_deref().filter(|status| status.ends_with("RUNNING")) {
        notes.push(Advice::new(
            "operation_running",
            format!("{status} at cluster \"{}\"", cluster.name),
            "its nodes restart one after the other meanwhile",
            "nothing: crdb-proxy connects again elsewhere; applications may see 57P01 in the middle of a transaction",
        ));
    }
    notes.extend(cluster.cidr_range.as_deref().and_then(|range| route_overlap(range, routes)));
    let most = allowlist_limit(cluster);
    let entries = cloud.allowlist.as_ref().map(|allowlist| allowlist.entries.as_slice()).unwrap_or_default();
    if let Some(open) = entries.iter().find(|entry| entry.sql && entry.cidr_mask == 0) {
        notes.push(Advice::new(
            "allowlist_open",
            format!("the allowlist has {}", range(open)),
            "everybody may try passwords at the cluster",
            "replace it by the addresses that need it, or use a private endpoint",
        ));
    }
    if most.is_some_and(|most| entries.len() >= most) {
        notes.push(Advice::new(
            "allowlist_full",
            format!("the allowlist has {} entries, as many as it can hold", entries.len()),
            "one rule for each machine, where a range would do",
            "put neighbouring addresses into ranges, or use a private endpoint, which needs none",
        ));
    }
    notes
}

/// A network of this machine's own that hides the cluster's, to which VPC peering leads.
fn route_overlap(range: &str, routes: &[Route]) -> Option<Advice> {
    let cluster: Cidr = range.parse().ok()?;
    let overlaps = |route: &&Route| {
        let own = Cidr::new(route.network, route.prefix);
        own.is_some_and(|own| own.mask > 0 && (own.contains(cluster.first()) || cluster.contains(own.first())))
    };
    let route = routes.iter().find(overlaps)?;
    Some(Advice::new(
        "route_overlap",
        format!(
            "this machine routes {}/{} to {}, and the cluster's own network is {range}",
            route.network, route.prefix, route.interface
        ),
        "a bridge of containers, a VPN or a subnet uses the same addresses, so that over VPC peering the cluster is not reached",
        "move that network to other addresses; the cluster's range was chosen when it was created, and stays",
    ))
}

fn range(entry: &AllowedNetwork) -> String {
    format!("{}/{}", entry.cidr_ip, entry.cidr_mask)
}

/// The API could not be asked.
pub(crate) fn unreachable(text: &str) -> Advice {
    Advice::new(
        "cloud_api",
        format!("the Cloud API does not help: {text}"),
        "as it says; what the wire tells stands without it",
        "mend that, or take the key away (COCKROACH_API_KEY, \"api_key\") to check without the API",
    )
}
