//! Names, addresses, ports, and what answers there.

use super::{Advice, Case};
use crate::{settings::EndpointKind, upstream::EndpointError};
use std::{io, net::IpAddr};

/// The name gave no address.
pub(super) fn dns(case: &Case<'_>, error: &EndpointError) -> Advice {
    let host = &case.endpoint.host;
    if matches!(error, EndpointError::ResolveTimedOut) {
        return Advice::new(
            "dns_timeout",
            format!("the resolver did not answer for \"{host}\" in time"),
            "this machine's name server is not reachable, or a VPN has changed it",
            format!("try `getent hosts {host}`; look at /etc/resolv.conf, the VPN, and the network itself"),
        );
    }
    let symptom = match error {
        EndpointError::NotResolved(error) => format!("no address for \"{host}\" ({error})"),
        error => format!("no address for \"{host}\" ({error})"),
    };
    match case.endpoint.kind {
        EndpointKind::Psc => Advice::new(
            "psc_name_not_found",
            symptom,
            "the name of a Private Service Connect endpoint is there only inside its own network, once Service Directory has \
             registered it; or \"endpoint_name\" is not the endpoint's name",
            "in the Google project of the endpoint: is the Service Directory API on, has the endpoint a namespace in this \
             region, and is its name the first part of the host? From another region it needs global access",
        ),
        EndpointKind::Internal => match case.cloud_of_region() {
            Some("aws") => Advice::new(
                "private_name_not_found",
                symptom,
                "private DNS of the PrivateLink endpoint is off, or this machine is outside its VPC",
                "turn private DNS names on for the endpoint (possible once the connection is accepted), or set \"host\" to \
                 the endpoint's vpce- name with \"tls_server_name\" the internal name",
            ),
            Some("azure") => Advice::new(
                "private_name_not_found",
                symptom,
                "the private DNS zone is missing or not linked to this virtual network",
                "make a private DNS zone with exactly this name, give it an A record \"@\" with the private address of the \
                 endpoint, and link the zone to this network (without auto-registration: one zone per network may have it)",
            ),
            _ => Advice::new(
                "private_name_not_found",
                symptom,
                "an internal name resolves only inside the peered or linked network",
                "run this inside that network; for peering the connection must be accepted and active on both sides",
            ),
        },
        EndpointKind::Public | EndpointKind::Custom => Advice::new(
            "name_not_found",
            symptom,
            "a typing error, a host of a deleted cluster, or a resolver that does not know the outside",
            format!(
                "compare \"host\" with the Cloud Console's Connect dialog (it ends in .cockroachlabs.cloud); does \
                 `getent hosts {host}` know it here?"
            ),
        ),
    }
}

/// No address took the connection.
pub(super) fn tcp(case: &Case<'_>, error: &EndpointError) -> Advice {
    if case.is_private()
        && let Some(address) = case.seen.exposed()
    {
        return exposed(case, address);
    }
    match error {
        EndpointError::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused(case),
        EndpointError::Tcp(error) if error.kind() != io::ErrorKind::TimedOut => Advice::new(
            "unreachable",
            format!("{} cannot be reached ({error})", case.target()),
            "this machine has no route there: it is offline, the VPN is down, or a firewall answers for the network",
            "look at this machine's network; for a private endpoint, at its routes",
        ),
        _ if case.is_private() => silent_private(case),
        _ => silent_public(case),
    }
}

fn refused(case: &Case<'_>) -> Advice {
    let target = case.target();
    if case.endpoint.port != crate::settings::DEFAULT_PORT {
        return Advice::new(
            "refused",
            format!("{target} refuses connections"),
            format!("nothing listens at port {}; CockroachDB Cloud's is 26257", case.endpoint.port),
            "correct \"port\" (--port), or leave it out",
        );
    }
    Advice::new(
        "refused",
        format!("{target} refuses connections"),
        "a node that restarts or drains refuses for a moment; else \"host\" is another machine's, or a firewall answers",
        "try again in a minute; then compare \"host\" with the Connect dialog, and look at the cluster's state in the Cloud Console",
    )
}

fn silent_public(case: &Case<'_>) -> Advice {
    Advice::new(
        "silent_public",
        format!("{} does not answer at all", case.target()),
        "this network's public address is not on the cluster's IP allowlist, or a firewall here lets port 26257 not out: the \
         cluster does not refuse, it stays silent",
        "in the Cloud Console, Networking: add this network's public IPv4 address with SQL client access (a change takes some \
         seconds); after a VPN or a move the address is another one. `crdb-proxy allowlist list` shows what is there",
    )
}

fn silent_private(case: &Case<'_>) -> Advice {
    let fix = match (case.endpoint.kind, case.cloud_of_region()) {
        (EndpointKind::Psc, _) => {
            "is the endpoint accepted (status Available), in this region or with global access, and does no egress rule of \
             this network forbid its address?"
        }
        (_, Some("aws")) => {
            "the endpoint's security group must allow inbound TCP 26257 from here, and the endpoint needs a subnet in this \
             availability zone"
        }
        (_, Some("azure")) => {
            "look at the network security groups of the endpoint's subnet, and whether the networks are peered"
        }
        _ => {
            "for VPC peering: is it active on both sides, are the cluster's routes imported, and do GKE pods use alias \
             addresses or exported routes?"
        }
    };
    Advice::new(
        "silent_private",
        format!("{} does not answer at all", case.target()),
        "the private endpoint or what stands before it drops the packets",
        format!("{fix}. `crdb-proxy private-endpoint status` shows what the cluster says of it"),
    )
}

/// A private name that leads into public space.
pub(crate) fn exposed(case: &Case<'_>, address: IpAddr) -> Advice {
    let fix = match case.cloud_of_region() {
        Some("aws") => "turn private DNS names on for the PrivateLink endpoint, in this VPC",
        Some("azure") => {
            "link the private DNS zone to this virtual network, with an A record \"@\" of the endpoint's private address"
        }
        Some("gcp") => "is this machine inside the peered network, and does it ask that network's resolver?",
        _ => {
            "turn private DNS on for the endpoint (AWS), link its zone to this network (Azure), or ask the peered network's resolver (Google Cloud)"
        }
    };
    Advice::new(
        "private_name_is_public",
        format!("\"{}\" should be private, but leads to {address}, which is in public space", case.endpoint.host),
        "this machine asks a resolver that does not know the private zone",
        fix,
    )
}

/// What answers there is not a CockroachDB node that takes TLS.
pub(super) fn tls(case: &Case<'_>, error: &EndpointError) -> Advice {
    let target = case.target();
    match error {
        EndpointError::TlsDeclined => Advice::new(
            "tls_declined",
            format!("{target} speaks the protocol, but offers no TLS"),
            "it is a pooler, a tunnel's end or a local database, not the cluster itself",
            "point \"host\" and \"port\" at the cluster; no password is ever sent in clear",
        ),
        EndpointError::ErrorBeforeTls | EndpointError::NotPostgres(_) | EndpointError::BytesBeforeTls => Advice::new(
            "not_postgres",
            format!("{target}: {error}"),
            "something else listens there: a web server (the DB Console is at 8080), an SSH tunnel, another proxy",
            "correct \"host\" and \"port\": the SQL port is 26257",
        ),
        EndpointError::NoAnswer => Advice::new(
            "connected_and_silent",
            format!("{target} takes the connection and then says nothing"),
            "a sidecar, load balancer or VPN agent accepts before it reaches the cluster, and does not reach it",
            "look at that component; without one, treat it as an address that is not on the allowlist",
        ),
        EndpointError::ClosedBeforeTls(_) => Advice::new(
            "closed_before_tls",
            format!("{target} closes the connection before TLS"),
            "a node that restarts, a load balancer without a node behind it, or a firewall that looks inside",
            "try again in a minute; then look at the cluster's state in the Cloud Console",
        ),
        EndpointError::TlsAlert(_) => Advice::new(
            "client_certificate_refused",
            format!("{target}: {error}"),
            "the cluster does not accept the client certificate: it is of a CA that was not uploaded there, or has expired",
            "compare its issuer with the client CA of the cluster; its common name must be the SQL user",
        ),
        _ => Advice::new(
            "tls_failed",
            format!("{target}: {error}"),
            "something between here and the cluster changes or cuts TLS connections",
            "try from another network; exempt the cluster's hosts from any inspecting firewall",
        ),
    }
}
