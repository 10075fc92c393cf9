//! Rules between keys, and the sentence that each has.

use super::tests::{ONE_CLUSTER, World};
use crate::settings::{AuthKind, Flag, LocalTls};

/// The only fault of a file that consists of [`ONE_CLUSTER`] and more.
fn fault_of(more: &str) -> String {
    let faults = World::of_file(&format!("{ONE_CLUSTER}{more}")).faults();
    assert_eq!(faults.len(), 1, "{more}: {faults:#?}");
    faults[0].clone()
}

#[test]
fn each_rule_between_keys_has_its_sentence() {
    let endpoint = |text: &str| fault_of(&format!("[[cluster.prod.endpoint]]\n{text}\n"));
    let listener = |text: &str| fault_of(&format!("[[listener]]\n{text}\n"));
    let second = |text: &str| listener(&format!("address = \"localhost:5\"\n[[listener]]\n{text}"));
    let cases = [
        (endpoint("host = \"x\"\nname = \"default\""), "another endpoint of this cluster has the same name"),
        (endpoint("host = \"H\"\nname = \"b\""), "the same host and port as endpoint \"default\""),
        (endpoint("name = \"b\""), "host: missing"),
        (endpoint("host = \"x\"\nname = \"b c\""), "must be 1 to 63 of"),
        (endpoint("host = \"x\"\nname = \"b\"\nkind = \"vpn\""), "\"custom\""),
        (endpoint("host = \"x\"\nname = \"b\"\ntls_server_name = \"a b\""), "must be a host name or an IP"),
        (endpoint("host = \"x\"\nregion = \"\""), "region"),
        (endpoint("host = \"x\"\nregion = \"nearest\""), "is no region"),
        (listener("cluster = \"prd\""), "no cluster of this name; did you mean \"prod\"?"),
        (listener("regions = [\"gcp-us-east1\"]"), "no endpoint of cluster \"prod\" has the region"),
        (listener("tls = \"allow\""), "needs tls_cert and tls_key"),
        (listener("tls_cert = \"c\""), "tls_key: missing; tls_cert and tls_key go together"),
        (listener("address = \"unix:x\"\ntls = \"allow\"\ntls_cert = \"c\"\ntls_key = \"k\""), "Unix socket"),
        (listener("address = \"0.0.0.0:5\""), "unsafe_allow_remote = true (--unsafe-allow-remote)"),
        (listener("mode = \"0999\"\naddress = \"unix:x\""), "permission bits"),
        (listener("address = \"localhost:9257\""), "taken by the admin address"),
        (listener("session_parameters = { USER = \"x\" }"), "set by the cluster's user"),
        (listener("session_parameters = { \"crdb:remote_addr\" = \"x\" }"), "never sent"),
        (listener("session_parameters = { a = \"1\", A = \"2\" }"), "set twice"),
        (listener("session_parameters = { a = \"\\u0000\" }"), "NUL"),
        (listener("database = \"a\\u0000\""), "NUL"),
        (second("address = \"127.0.0.1:5\""), "taken by listener \"listener-1\""),
        (second("name = \"listener-1\""), "another listener has the same name"),
        (fault_of("[listener]\nname = \"x\"\n"), "[[listener]], once for each"),
        (
            fault_of(
                "[cluster.two]\nca = \"c\"\nuser = \"u\"\ncert = \"c\"\nkey = \"k\"\n\
                   [[cluster.two.endpoint]]\nhost = \"h\"\n",
            ),
            "there are several clusters",
        ),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "{said} does not say: {expected}");
    }
}

#[test]
fn each_rule_of_a_cluster_has_its_sentence() {
    let fault = |from: &str, to: &str| {
        assert!(ONE_CLUSTER.contains(from));
        let faults = World::of_file(&ONE_CLUSTER.replace(from, to)).faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    };
    let (ca, password) = ("ca = \"ca.crt\"\n", "password = { file = \"p\" }\n");
    let cases = [
        (fault(ca, ""), "crdb-proxy ca fetch --cluster-id ID (no key needed)"),
        (fault(password, ""), "--password-file, --password-command or CRDB_PROXY_PASSWORD"),
        (fault(password, "cert = \"c\"\n"), "key: missing; cert and key go together"),
        (fault(password, "auth = \"jwt\"\ncert = \"c\"\nkey = \"k\"\n"), "sends the secret as a token"),
        (fault(password, "auth = \"md5\"\npassword = { env = \"E\" }\n"), "must be \"password\" or \"jwt\""),
        (fault("user = \"app\"\n", ""), "user: missing"),
        (fault("[[cluster.prod.endpoint]]\nhost = \"h\"\n", ""), "no endpoint to dial"),
        (fault("[[cluster.prod.endpoint]]", "[cluster.prod.endpoint]"), "must be a list"),
        (fault("host = \"h\"", "host = \"h1,h2\""), "must be one host"),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "{said} does not say: {expected}");
    }
}

#[test]
fn numbers_and_spans_of_the_first_block_have_their_bounds() {
    let load = |line: &str| World::of_file(&format!("{line}\n{ONE_CLUSTER}"));
    let cases = [
        ("warm_max", "0", "1001", "from 0 to 1000"),
        ("warm_max", "1000", "-1", "from 0 to 1000"),
        ("warm_total_max", "0", "100001", "from 0 to 100000"),
        ("probe_interval", "\"1s\"", "\"999ms\"", "from 1s to 8760h"),
        ("probe_down_interval", "\"100ms\"", "\"99ms\"", "from 100ms to 8760h"),
        ("dns_refresh", "\"1ms\"", "\"off\"", "whole number and a unit"),
        ("failback_after", "\"1ms\"", "\"0s\"", "from 1ms to 8760h"),
        ("warm_idle", "\"1ms\"", "300", "needs a unit"),
        ("warm_age", "\"1s\"", "\"999ms\"", "from 1s to 8760h"),
    ];
    for (key, taken, refused, rule) in cases {
        load(&format!("{key} = {taken}")).loaded();
        let faults = load(&format!("{key} = {refused}")).faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(faults[0].contains(key) && faults[0].contains(rule), "{} does not say: {rule}", faults[0]);
    }
}

#[test]
fn a_broken_cluster_gives_its_listeners_no_second_fault() {
    let text = ONE_CLUSTER.replace("user = \"app\"\n", "") + "[[listener]]\ncluster = \"prod\"\n";

    assert_eq!(World::of_file(&text).faults().len(), 1);
}

#[test]
fn a_broken_connection_string_is_one_fault() {
    let faults = World::default().url("postgresql://app:hunter2@h@").faults();

    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(!faults[0].contains("hunter2"), "{faults:#?}");
}

#[test]
fn an_ip_may_be_dialled_without_a_server_name() {
    for host in ["10.0.0.1", "::1"] {
        let text = ONE_CLUSTER.replace("\"h\"", &format!("\"{host}\""));

        let endpoint = World::of_file(&text).loaded().settings.clusters[0].endpoints[0].clone();

        assert_eq!(endpoint.tls_server_name.to_str(), host);
    }
}

#[test]
fn a_client_certificate_may_stand_instead_of_a_password_and_a_jwt_beside_it() {
    let read = |to| World::of_file(&ONE_CLUSTER.replace("password = { file = \"p\" }", to)).loaded();

    let cluster = read("cert = \"c\"\nkey = \"k\"").settings.clusters[0].clone();
    assert!(cluster.user.password.is_none() && cluster.user.client_certificate.is_some());
    let cluster = read("auth = \"jwt\"\npassword = { env = \"TOKEN\" }").settings.clusters[0].clone();
    assert_eq!(cluster.user.auth, AuthKind::Jwt);
}

#[test]
fn a_remote_listener_needs_tls_and_a_password_or_is_warned_about() {
    let listener = |text: &str| World::of_file(&format!("{ONE_CLUSTER}[[listener]]\naddress = \"0.0.0.0:5\"\n{text}"));
    let tls = "tls = \"require\"\ntls_cert = \"c\"\ntls_key = \"k\"\n";

    let safe = listener(&format!("{tls}local_password = {{ file = \"l\" }}\n")).loaded();
    assert_eq!(safe.warnings, Vec::<String>::new());
    assert!(matches!(safe.settings.listeners[0].tls, LocalTls::Require(_)));
    let unsafely = listener("unsafe_allow_remote = true\n").loaded();
    assert!(unsafely.warnings[0].contains("every host that can reach 0.0.0.0:5"), "{:?}", unsafely.warnings);
    assert_eq!(listener(tls).faults().len(), 1);
    let by_flag = listener("").flag(Flag::UnsafeAllowRemote, "true").loaded();
    assert_eq!(by_flag.warnings.len(), 1);
}
