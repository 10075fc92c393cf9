//! The admin address: metrics, probes, status.

use crate::harness::{FakeUpstream, Postgres, SettingsFile, TestProxy, proxy::series, wire::query};
use std::{
    collections::{HashMap, HashSet},
    net::{TcpListener, UdpSocket},
    process::Command,
};

#[test]
fn probes_answer_ok_and_need_no_cluster() {
    let mut cluster = FakeUpstream::answering();
    cluster.stop();
    let proxy = TestProxy::before(&cluster);

    for probe in ["/livez", "/readyz"] {
        let (status, _, body) = proxy.http(&format!("GET {probe}"), "");
        assert_eq!((status, body.trim()), (200, "ok"), "{probe}");
    }
}

#[test]
fn unknown_paths_are_404_and_other_methods_405_with_what_is_allowed() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);

    let (status, _, told) = proxy.http("GET /nothing", "");
    assert_eq!(status, 404);
    assert!(told.starts_with("there are /, /metrics"), "{told}");
    for path in ["/", "/metrics", "/livez", "/readyz", "/status"] {
        let (status, head, _) = proxy.http(&format!("POST {path}"), "Content-Length: 0\r\n");
        assert_eq!(status, 405, "{path}");
        assert!(head.to_ascii_lowercase().contains("\r\nallow: get, head"), "{head}");
        assert_eq!(proxy.http(&format!("HEAD {path}"), "").0, 200, "{path}");
    }
}

#[test]
fn status_takes_names_of_this_machine_only_and_probes_any() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("admin_hosts = [\"proxy.internal\"]").start();
    let status = |path: &str, host: &str| proxy.http(&format!("GET {path}"), &format!("Host: {host}\r\n")).0;

    for host in ["localhost:9257", "127.0.0.1", "[::1]:9257", "10.1.2.3", "proxy.internal"] {
        assert_eq!(status("/status", host), 200, "{host}");
    }
    // A page elsewhere that points its own name here must not read it.
    for path in ["/", "/status"] {
        assert_eq!(status(path, "evil.example"), 403, "{path}");
    }
    for path in ["/metrics", "/livez", "/readyz", "/startupz"] {
        assert_eq!(status(path, "evil.example"), 200, "{path}");
    }
}

#[test]
fn what_only_looks_like_a_name_of_this_machine_is_refused() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let status = |line: &str, host: &str| proxy.http(line, &format!("Host: {host}\r\n")).0;

    for host in ["evil.example/.localhost", "a@b.localhost", "a@localhost", "[localhost]", ".localhost"] {
        assert_eq!(status("GET /status", host), 403, "{host}");
        assert_eq!(status("POST /reload", host), 403, "{host}");
    }
    // The host in the request's own target is the one that counts.
    for target in ["http://evil.example", "http://localhost:9257@evil.example", "http://a@localhost:9257"] {
        for line in [format!("GET {target}/status"), format!("GET {target}/"), format!("POST {target}/reload")] {
            assert_eq!(status(&line, "localhost:9257"), 403, "{line}");
        }
    }
    assert_eq!(status("POST http://evil.example/endpoints/first/disable", "localhost"), 403);
    assert_eq!(status("GET http://LOCALHOST:9257/status", "localhost:9257"), 200);
    assert_eq!(status("POST http://localhost:9257/reload", "localhost:9257"), 202);
}

#[test]
fn status_and_the_page_are_for_other_hosts_only_where_the_settings_say_so() {
    // Nothing is sent: the kernel only says which address it would come from.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let Ok(own) = own.map(|own| own.ip()) else {
        println!("skipped: this machine has no address but loopback, so nobody looks like another host");
        return;
    };
    let cluster = FakeUpstream::answering();
    let admin = format!("admin = \"{own}:0\"");
    let careful = SettingsFile::of(&cluster).global(&admin).start();
    let open = SettingsFile::of(&cluster).global(&admin).global("admin_unsafe_allow_remote = true").start();

    for path in ["/", "/status"] {
        let (status, _, told) = careful.http(&format!("GET {path}"), "");
        assert_eq!(status, 403, "{path}");
        assert!(told.contains("admin_unsafe_allow_remote"), "{told}");
        assert_eq!(open.http(&format!("GET {path}"), "").0, 200, "{path}");
    }
    assert_eq!(careful.http("GET /metrics", "").0, 200);
}

#[test]
fn a_taken_admin_address_is_fatal_and_releases_the_listeners() {
    let cluster = FakeUpstream::answering();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut proxy = SettingsFile::of(&cluster).global(&format!("admin = \"{address}\"")).start();

    assert_eq!(proxy.exit_code(), 3);

    assert!(proxy.log_text().contains(&address), "{}", proxy.log_text());
}

#[test]
fn the_admin_address_can_be_off() {
    let cluster = FakeUpstream::answering();
    let mut proxy = SettingsFile::of(&cluster).global("admin = \"off\"").start();

    proxy.client();

    assert_eq!(proxy.terminate(), 0);
    assert!(proxy.log_lines().iter().all(|line| line["listener.name"] != "admin"));
}

#[test]
fn metrics_are_well_formed() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    proxy.client().query("select 1");

    let metrics = proxy.metrics();

    let mut types = HashMap::new();
    let mut helped = HashSet::new();
    let mut seen = HashSet::new();
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(helped.insert(name) && !help.is_empty(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} twice");
            assert!(kind != "counter" || name.ends_with("_total"), "{name}");
        } else {
            let (name_and_labels, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(name_and_labels), "{name_and_labels} twice");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name_and_labels.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(types.contains_key(name) || family.is_some_and(|name| types.contains_key(name)), "{line}");
        }
    }
    assert!(seen.len() > 100, "only {} series", seen.len());
}

#[test]
fn every_series_exists_from_the_start() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);

    let metrics = proxy.metrics();

    let listener = ("listener", "main");
    let endpoint = [("cluster", "test"), ("endpoint", "first")];
    for (name, labels, label, values) in [
        ("client_connections_closed_total", vec![listener], "reason", CLOSED),
        ("client_connections_refused_total", vec![listener], "reason", REFUSED),
        ("connect_attempts_total", endpoint.to_vec(), "result", ATTEMPTS),
        ("connect_seconds_count", endpoint.to_vec(), "stage", &["dns", "tcp", "tls", "login"]),
        ("bytes_total", vec![listener], "direction", &["to_upstream", "to_client"]),
        ("errors_total", vec![listener], "class", &["08", "22", "23", "40", "42", "53", "57", "XX", "other"]),
        ("cancels_total", vec![], "result", &["sent", "unknown_key", "limited", "failed"]),
        ("scram_cache_total", vec![("cluster", "test")], "result", &["hit", "miss"]),
        ("tls_handshakes_total", endpoint.to_vec(), "kind", &["full", "resumed"]),
    ] {
        for value in values {
            let labels = [labels.as_slice(), &[(label, *value)]].concat();
            let found = series(&metrics, &format!("crdb_proxy_{name}"), &labels);
            assert_eq!(found, Some(0.0), "{name}{labels:?}");
        }
    }
    for name in ["client_connections_accepted_total", "client_connections_active", "statements_total"] {
        assert_eq!(series(&metrics, &format!("crdb_proxy_{name}"), &[listener]), Some(0.0), "{name}");
    }
    for name in [
        "crdb_proxy_build_info",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_threads",
        "process_virtual_memory_bytes",
    ] {
        assert!(series(&metrics, name, &[]) > Some(0.0), "{name}");
    }
    assert!(series(&metrics, "process_cpu_seconds_total", &[]).is_some());
    let expiry = series(&metrics, "crdb_proxy_ca_not_after_timestamp_seconds", &[("cluster", "test")]);
    assert_eq!(expiry, Some(4_102_444_800.0), "1 January 2100");
}

#[test]
fn it_says_what_it_was_built_from() {
    let cluster = FakeUpstream::answering();
    let metrics = TestProxy::before(&cluster).metrics();
    let line = metrics.lines().find(|line| line.starts_with("crdb_proxy_build_info{")).expect("build_info");
    let label = |name: &str| line.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());

    assert_eq!(label("version"), Some(env!("CARGO_PKG_VERSION")));
    assert!(label("rustc").is_some_and(|rustc| rustc.contains("1.")), "{line}");
    let git = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    if git.is_ok_and(|output| output.status.success()) {
        assert!(label("revision").is_some_and(|revision| !["", "unknown"].contains(&revision)), "{line}");
    } else {
        println!("skipped: the revision, which is unknown where git or its checkout is missing");
    }
}

#[test]
fn the_numbers_add_up_after_a_day_in_the_life() {
    let postgres = Postgres::start();
    // An upstream that stands ready would be counted, too.
    let proxy = SettingsFile::of(&postgres).global("warm_max = 0").start();
    let (mut staying, mut leaving) = (proxy.client(), proxy.client());
    staying.query("select 1");
    leaving.query("select 1/0");
    drop(leaving);
    proxy.startup(&[("user", "anyone"), ("database", "missing")]).refusal();
    proxy.wait_for_closed("client_eof", 1.0);

    let metrics = proxy.metrics();

    let value = |name: &str, labels: &[(&str, &str)]| series(&metrics, &format!("crdb_proxy_{name}"), labels).unwrap();
    let listener = ("listener", "main");
    assert_eq!(value("client_connections_accepted_total", &[listener]), 3.0);
    assert_eq!(value("client_connections_active", &[listener]), 1.0);
    assert_eq!(value("client_connections_refused_total", &[listener, ("reason", "login")]), 1.0);
    assert_eq!(value("statements_total", &[listener]), 1.0);
    assert_eq!(value("errors_total", &[listener, ("class", "22")]), 1.0);
    assert_eq!(value("session_seconds_count", &[listener]), 1.0);
    assert_eq!(value("connect_attempts_total", &[("endpoint", "first"), ("result", "ok")]), 2.0);
    assert_eq!(value("upstreams", &[("endpoint", "first"), ("state", "session")]), 1.0);
    let sent = [query("select 1"), query("select 1/0")].concat().len();
    assert_eq!(value("bytes_total", &[listener, ("direction", "to_upstream")]), sent as f64);
}

#[test]
fn status_tells_what_is_going_on() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let parameters = [("user", "anyone"), ("database", "orders"), ("application_name", "shop")];
    let mut client = crate::harness::TestClient::log_in(proxy.connect(), &parameters);
    client.query("select 1");
    // The client may have its answer a moment before it is counted.
    proxy.wait_for_metric("crdb_proxy_statements_total", &[("listener", "main")], 1.0);

    let status = proxy.status();

    assert_eq!((&status["schema"], &status["state"], &status["ready"]), (&1.into(), &"running".into(), &true.into()));
    let listener = &status["listeners"][0];
    assert_eq!(
        (&listener["name"], &listener["sessions"], &listener["accepted"]),
        (&"main".into(), &1.into(), &1.into())
    );
    assert_eq!(listener["addresses"][0], proxy.address().to_string());
    let endpoint = &status["clusters"][0]["endpoints"][0];
    assert_eq!((&endpoint["name"], &endpoint["host"]), (&"first".into(), &"127.0.0.1".into()));
    assert!(status["clusters"][0]["secret"]["source"].as_str().unwrap().contains("app.pw"));
    let session = &status["sessions"][0];
    assert_eq!((&session["database"], &session["application_name"]), (&"orders".into(), &"shop".into()));
    assert_eq!((&session["state"], &session["statements"]), (&"idle".into(), &1.into()));
}

const CLOSED: &[&str] = &[
    "client_terminate",
    "client_eof",
    "client_reset",
    "upstream_fatal",
    "upstream_eof",
    "upstream_reset",
    "upstream_timeout",
    "client_protocol",
    "upstream_protocol",
    "idle_limit",
    "age_limit",
    "drain",
    "drain_limit",
    "internal",
];

const REFUSED: &[&str] = &[
    "silent",
    "startup_malformed",
    "startup_too_large",
    "startup_timeout",
    "protocol_version",
    "tls_failed",
    "tls_required",
    "local_auth",
    "limit_daemon",
    "limit_listener",
    "login_queue",
    "draining",
    "unreachable",
    "certificate",
    "login",
    "upstream_limit",
    "secret",
    "internal",
];

const ATTEMPTS: &[&str] = &[
    "ok",
    "dns",
    "refused",
    "timeout",
    "reset",
    "tls_declined",
    "tls_ca",
    "tls_expired",
    "tls_not_yet_valid",
    "tls_name",
    "tls_other",
    "secret",
    "login_password",
    "login_rejected",
    "login_limit",
    "login_draining",
    "login_other",
    "protocol",
];
