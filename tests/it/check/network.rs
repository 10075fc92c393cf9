//! Names, addresses, and what answers there.

use super::{Checked, cockroach};
use crate::harness::{Authority, FakeUpstream, Front, Script, SettingsFile, settings::Cluster};
use std::net::{Ipv4Addr, TcpListener};

/// An endpoint of this kind and region at this host.
fn at(kind: &str, region: &str, host: &str, port: u16) -> SettingsFile {
    let settings = SettingsFile::trusting(&Authority::new()).global("endpoint_limit = \"1s\"");
    let more = if kind == "psc" { "endpoint_name = \"mine\"" } else { "" };
    let lines = format!("tls_server_name = \"cluster.test\"\n{more}");
    let text = settings.endpoint_at(region, host, port, &lines);
    if kind == "public" { text } else { text.listener(&format!("path = [\"{kind}\"]")).kind(kind) }
}

#[test]
fn a_name_without_an_address_is_told_with_what_is_likely_for_its_kind() {
    let host = "internal-prod.invalid";
    for (kind, region, id, words) in [
        ("public", "gcp-us-east1", "name_not_found", "Connect dialog"),
        ("internal", "aws-us-east-1", "private_name_not_found", "private DNS names on for the endpoint"),
        ("internal", "azure-eastus", "private_name_not_found", "A record \"@\""),
        ("internal", "gcp-us-east1", "private_name_not_found", "peering"),
        ("psc", "gcp-us-east1", "psc_name_not_found", "Service Directory"),
    ] {
        let checked = Checked::of(&at(kind, region, host, 26257));

        let said = checked.failed("dns", 11, id);
        assert!(said.contains(words) && said.contains(host), "{said}");
    }
}

#[test]
fn a_port_that_refuses_is_told_from_one_that_is_wrong() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();

    let checked = Checked::of(&at("public", "gcp-us-east1", "127.0.0.1", port));

    let said = checked.failed("tcp", 12, "refused");
    assert!(said.contains(&format!("nothing listens at port {port}; CockroachDB Cloud's is 26257")), "{said}");
    let address = &checked.endpoint()["addresses"][0];
    assert_eq!((address["public"].as_bool(), address["ms"].is_null()), (Some(false), true), "{address}");
}

#[test]
fn silence_means_the_allowlist_for_a_public_endpoint_and_the_way_for_a_private_one() {
    let full = Full::start();
    for (kind, region, id, words) in [
        ("public", "gcp-us-east1", "silent_public", "IP allowlist"),
        ("internal", "aws-us-east-1", "silent_private", "security group must allow inbound TCP 26257"),
        ("internal", "azure-eastus", "silent_private", "network security groups"),
        ("internal", "gcp-us-east1", "silent_private", "VPC peering"),
        ("psc", "gcp-us-east1", "silent_private", "global access"),
    ] {
        let checked = Checked::of(&at(kind, region, "127.0.0.1", full.port));

        let said = checked.failed("tcp", 12, id);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_private_name_in_public_space_is_told_as_the_cause() {
    // In public space, and nobody's.
    let checked = Checked::of(&at("internal", "aws-us-east-1", "2600::dead:beef", 9));

    let said = checked.failed("tcp", 12, "private_name_is_public");
    assert!(said.contains("2600::dead:beef") && said.contains("private DNS names on"), "{said}");
}

#[test]
fn what_answers_and_is_no_cluster_is_told_apart() {
    let cases = [
        (Front::Says(b"N".to_vec()), "tls_declined", "pooler"),
        (Front::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "not_postgres", "8080"),
        (Front::Silent, "connected_and_silent", "sidecar"),
        (Front::Closes, "closed_before_tls", "restarts"),
        (Front::SilentInTls, "tls_failed", "inspecting"),
    ];
    for (front, id, words) in cases {
        let server = FakeUpstream::start(Script { front, ..Script::default() });

        let checked = Checked::of(&SettingsFile::of(&server).global("endpoint_limit = \"1s\""));

        let said = checked.failed("tls", 13, id);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_gateway_in_another_region_and_an_endpoint_that_nobody_uses_are_noted() {
    let node = cockroach("gcp-us-west2", &["defaultdb"]);
    let port = node.address().port();
    let settings = SettingsFile::trusting(node.authority())
        .endpoint_at("gcp-us-east1", "127.0.0.1", port, "")
        .endpoint_at("spare", "127.0.0.2", port, "tls_server_name = \"cluster.test\"")
        .listener("regions = [\"gcp-us-east1\"]");

    let checked = Checked::of(&settings);

    let [elsewhere] = checked.notes("other_region").try_into().unwrap();
    assert!(elsewhere.contains("should be in gcp-us-east1, but its gateway is in gcp-us-west2"), "{elsewhere}");
    let [unused] = checked.notes("unused").try_into().unwrap();
    assert!(unused.contains("no listener uses \"spare\""), "{unused}");
    assert_eq!(checked.endpoint()["server"]["region"], "gcp-us-west2");
}

/// A port at which connections are never accepted: its queue is full, so the kernel drops what asks for more.
pub(super) struct Full {
    pub(super) port: u16,
    _listener: socket2::Socket,
    _waiting: Vec<socket2::Socket>,
}

impl Full {
    pub(super) fn start() -> Self {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // Some are queued; the rest wait for an answer that never comes.
            let _ = socket.connect(&address);
            socket
        };
        let waiting = (0..4).map(|_| connect()).collect();
        Self { port: address.as_socket().unwrap().port(), _listener: listener, _waiting: waiting }
    }
}
