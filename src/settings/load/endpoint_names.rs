//! How a Private Service Connect endpoint is dialled, and what is said where it cannot be.

use super::tests::World;
use crate::settings::{Endpoint, EndpointKind, Flag, show};
use std::sync::Arc;

/// A file whose only endpoint has these lines.
fn world(lines: &str) -> World {
    World::of_file(&format!(
        "[cluster.prod]\nca = \"ca.crt\"\nuser = \"app\"\npassword = {{ file = \"p\" }}\n\
         [[cluster.prod.endpoint]]\n{lines}\n"
    ))
}

fn endpoint(world: World) -> Arc<Endpoint> {
    world.loaded().settings.clusters[0].endpoints[0].clone()
}

fn fault(lines: &str) -> String {
    let faults = world(lines).faults();
    assert_eq!(faults.len(), 1, "{lines}: {faults:#?}");
    faults[0].clone()
}

const PSC: &str = "kind = \"psc\"\nhost = \"db.example\"\nendpoint_name = \"my-psc\"";

#[test]
fn the_endpoints_name_goes_in_front_of_the_host_and_the_certificate_must_carry_both() {
    let read = endpoint(world(PSC));

    assert_eq!((read.kind, read.host.as_str()), (EndpointKind::Psc, "my-psc.db.example"));
    assert_eq!(read.endpoint_name.as_deref(), Some("my-psc"));
    assert_eq!(read.tls_server_name.to_str(), "my-psc.db.example");
}

#[test]
fn a_server_name_of_its_own_is_kept() {
    let read = endpoint(world(&format!("{PSC}\ntls_server_name = \"cert.example\"")));

    assert_eq!((read.host.as_str(), read.tls_server_name.to_str().as_ref()), ("my-psc.db.example", "cert.example"));
}

#[test]
fn a_host_that_has_the_name_in_front_already_is_dialled_as_it_is() {
    for host in ["my-psc.db.example", "MY-PSC.db.example"] {
        assert_eq!(endpoint(world(&PSC.replace("db.example", host))).host, host);
    }
    for host in ["my-psc2.db.example", "my-psc"] {
        assert_eq!(endpoint(world(&PSC.replace("db.example", host))).host, format!("my-psc.{host}"));
    }
}

#[test]
fn the_host_of_a_flag_gets_the_name_of_the_file() {
    assert_eq!(endpoint(world(PSC).flag(Flag::Host, "other.example")).host, "my-psc.other.example");
}

#[test]
fn an_ip_address_is_dialled_as_it_is_and_needs_no_name() {
    for ip in ["10.0.0.7", "fd00::7"] {
        let read = endpoint(world(&format!("kind = \"psc\"\nhost = \"{ip}\"")));

        assert_eq!((read.host.as_str(), read.endpoint_name.as_deref()), (ip, None));
        assert_eq!(read.tls_server_name.to_str(), ip);
    }
    let named = world(&PSC.replace("db.example", "10.0.0.7")).loaded();
    assert_eq!(named.settings.clusters[0].endpoints[0].host, "10.0.0.7");
    assert_eq!(named.warnings.len(), 1, "{:?}", named.warnings);
    assert!(named.warnings[0].contains("endpoint_name: the host is an IP address"), "{:?}", named.warnings);
}

#[test]
fn without_a_name_nothing_can_be_dialled_and_the_ways_out_are_told() {
    let told = fault("kind = \"psc\"\nhost = \"db.example\"");

    assert!(told.contains("endpoint \"default\": endpoint_name: missing; "), "{told}");
    assert!(told.contains("ENDPOINT_NAME.HOST") && told.contains("IP address with tls_server_name"), "{told}");
    assert!(told.contains("kind = \"custom\""), "{told}");
}

#[test]
fn a_name_on_another_kind_is_refused() {
    for kind in ["public", "internal", "custom"] {
        let told = fault(&PSC.replace("\"psc\"", &format!("\"{kind}\"")));

        assert!(told.contains("endpoint_name: only an endpoint of kind \"psc\" has one"), "{told}");
    }
    let told = fault("host = \"db.example\"\nendpoint_name = \"my-psc\"");
    assert!(told.contains("only an endpoint of kind \"psc\""), "{told}");
}

#[test]
fn a_kind_that_cannot_be_read_is_the_only_fault_of_its_endpoint() {
    assert!(fault(&PSC.replace("\"psc\"", "\"pcs\"")).contains("kind = \"pcs\": must be"));
}

#[test]
fn a_name_is_one_dns_label_in_lower_case() {
    let longest = "a".repeat(63);
    for name in ["a", "psc1", &longest] {
        assert_eq!(endpoint(world(&PSC.replace("my-psc", name))).host, format!("{name}.db.example"));
    }
    for name in ["", "My-psc", "a.b", "a_b", "-a", "a-", "1a", "a b", "é", &"a".repeat(64)] {
        let told = fault(&PSC.replace("my-psc", name));

        assert!(told.contains("1 to 63 of a-z, 0-9 and \"-\", beginning with a letter"), "{name}: {told}");
    }
}

#[test]
fn a_name_that_makes_the_host_too_long_is_refused() {
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(60)].join(".");

    let told = fault(&PSC.replace("db.example", &long));

    assert!(told.contains("endpoint_name: together with the host"), "{told}");
}

#[test]
fn a_host_that_is_missing_or_empty_is_told_with_where_it_is_found() {
    let missing = fault("name = \"b\"");
    let empty = fault("name = \"b\"\nhost = \"\"");

    assert!(missing.contains("endpoint \"b\": host: missing; the host name of the connection string"), "{missing}");
    assert!(empty.contains("endpoint \"b\": host = \"\": must not be empty; give the host name of"), "{empty}");
}

#[test]
fn nearest_is_no_region_of_an_endpoint() {
    let told = fault("name = \"b\"\nhost = \"h\"\nregion = \"nearest\"");

    assert!(told.contains("region = \"nearest\": is no region"), "{told}");
}

#[test]
fn a_named_endpoint_is_shown_as_it_is_dialled_and_means_the_same_again() {
    let first = world(PSC).loaded();

    let shown = show(&first);

    assert!(shown.contains("host = \"my-psc.db.example\"  # ../f"), "{shown}");
    assert!(shown.contains("endpoint_name = \"my-psc\"  # ../f"), "{shown}");
    assert_eq!(World::of_file(&shown).loaded().settings.clusters, first.settings.clusters);
}
