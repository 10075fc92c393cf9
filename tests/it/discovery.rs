//! Endpoints that come and go with the regions that the Cloud API lists.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Leaf, Script, Session, SettingsFile, TestProxy,
    cloud_api::{CLUSTER_ID, CloudApi, Fault, KEY, Role},
    process,
    settings::Cluster,
};
use serde_json::{Value, json};
use std::net::TcpListener;

/// Two nodes at one port of two loopback addresses, as two regions have one port.
struct Regions {
    east: FakeUpstream,
    west: FakeUpstream,
    api: CloudApi,
}

impl Regions {
    fn start() -> Self {
        let authority = Authority::new();
        let identity = authority.sign(&Leaf { names: &["127.0.0.1", "127.0.0.2"], ..Leaf::default() });
        let script = || Script { identity: Some(identity.clone()), session: Session::Answers, ..Script::default() };
        let (east, west) = loop {
            let east = TcpListener::bind("127.0.0.1:0").unwrap();
            // The same port of the other address may be somebody else's.
            if let Ok(west) = TcpListener::bind(("127.0.0.2", east.local_addr().unwrap().port())) {
                break (east, west);
            }
        };
        let east = FakeUpstream::bound_to(east, authority.clone(), script());
        let west = FakeUpstream::bound_to(west, authority, script());
        let regions = Self { east, west, api: CloudApi::start() };
        // A key that may only read.
        regions.api.state(|state| state.keys = [(KEY.to_owned(), Role::Monitor)].into());
        regions.list(&["us-east1"]);
        regions
    }

    /// What the API says from now on.
    fn list(&self, names: &[&str]) {
        let host = |name: &str| if name == "us-east1" { "127.0.0.1" } else { "127.0.0.2" };
        let region = |name: &&str| json!({"name": name, "sql_dns": host(name), "internal_dns": ""});
        self.api.cluster("regions", Value::Array(names.iter().map(region).collect()));
    }

    /// Knows the first region, and asks every second.
    fn settings(&self) -> SettingsFile {
        SettingsFile::trusting(self.east.authority())
            .file("cloud.key", KEY)
            .cluster(&format!("cluster_id = \"{CLUSTER_ID}\"\napi_key = {{ file = \"cloud.key\" }}"))
            .cluster("discover = true\ndiscover_interval = \"1s\"")
            .endpoint_at("gcp-us-east1", "127.0.0.1", self.east.address().port(), "")
            .variable("COCKROACH_SERVER", &self.api.url())
            .global("warm_max = 0")
    }
}

fn endpoints(proxy: &TestProxy) -> Vec<String> {
    let endpoints = proxy.status()["clusters"][0]["endpoints"].as_array().unwrap().clone();
    endpoints.iter().map(|endpoint| endpoint["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_new_region_becomes_an_endpoint_that_serves() {
    let regions = Regions::start();
    let proxy = regions.settings().start();
    proxy.client();
    assert_eq!(endpoints(&proxy), ["gcp-us-east1"]);

    regions.list(&["us-east1", "us-west2"]);
    let found = proxy.wait_for_message("endpoint discovered");
    assert_eq!((&found["endpoint.name"], &found["host"]), (&json!("gcp-us-west2-public"), &json!("127.0.0.2")));
    assert_eq!(endpoints(&proxy), ["gcp-us-east1", "gcp-us-west2-public"]);
    let order = proxy.http("POST /endpoints/gcp-us-west2-public/prefer", "");
    assert_eq!(order.0, 202, "{order:?}");
    proxy.client();

    assert_eq!((regions.east.seen().logged_in, regions.west.seen().logged_in), (1, 1));
}

#[test]
fn a_discovered_host_never_brings_a_ca_of_its_own() {
    let regions = Regions::start();
    let proxy = regions.settings().start();
    proxy.client();
    // Whoever can write what the API says names a host of theirs, with a certificate of their own for that very name.
    let theirs = Authority::new().sign(&Leaf { names: &["127.0.0.2"], ..Leaf::default() });
    regions.west.change(|script| script.identity = Some(theirs));
    regions.list(&["us-east1", "us-west2"]);
    proxy.wait_for_message("endpoint discovered");
    assert_eq!(proxy.http("POST /endpoints/gcp-us-west2-public/prefer", "").0, 202);

    proxy.client().query("select 1");

    let labels = [("endpoint", "gcp-us-west2-public"), ("result", "tls_ca")];
    assert!(proxy.metric("crdb_proxy_connect_attempts_total", &labels) >= Some(1.0), "{}", proxy.metrics());
    assert_eq!((regions.east.seen().logged_in, regions.west.seen().startups.len()), (2, 0));
}

#[test]
fn a_region_that_is_gone_gets_no_new_session_and_keeps_its_old_ones() {
    let regions = Regions::start();
    regions.list(&["us-east1", "europe-west1"]);
    let port = regions.west.address().port();
    let proxy = regions.settings().endpoint_at("gcp-europe-west1", "127.0.0.2", port, "").start();
    let mut old = proxy.client();

    regions.list(&["europe-west1"]);
    assert_eq!(proxy.wait_for_message("endpoint vanished")["endpoint.name"], "gcp-us-east1");
    proxy.client();

    assert_eq!((regions.east.seen().logged_in, regions.west.seen().logged_in), (1, 1));
    assert_eq!(old.query("select 1").last().unwrap().tag, b'Z');
    assert_eq!(endpoints(&proxy), ["gcp-europe-west1"]);
}

#[test]
fn an_api_that_cannot_be_asked_changes_nothing_and_is_told_once() {
    let regions = Regions::start();
    regions.list(&["us-east1", "us-west2"]);
    let proxy = regions.settings().start();
    proxy.wait_for_message("endpoint discovered");
    let is_ok = |value| proxy.wait_for_metric("crdb_proxy_discovery_ok", &[("cluster", "test")], value);
    is_ok(1.0);

    regions.api.always(Fault::Status(500, "down"));
    is_ok(0.0);
    regions.api.state(|state| state.lasting_fault = None);
    is_ok(1.0);
    proxy.wait_for_message("regions are discovered again");

    assert_eq!(endpoints(&proxy), ["gcp-us-east1", "gcp-us-west2-public"]);
    let told = "regions could not be discovered; endpoints stay as they are";
    assert_eq!(proxy.log_lines().iter().filter(|line| line["message"] == told).count(), 1);
    assert!(!proxy.log_text().contains(KEY));
}

#[test]
fn an_answer_without_any_known_region_is_not_gone_by() {
    let regions = Regions::start();
    regions.list(&[]);

    let proxy = regions.settings().start();

    let told = proxy.wait_for_message("regions could not be discovered; endpoints stay as they are");
    assert!(told["cause"].as_str().unwrap().contains("is cluster_id right?"), "{told}");
    assert_eq!(endpoints(&proxy), ["gcp-us-east1"]);
    proxy.client();
}

#[test]
fn a_key_that_may_change_networks_is_warned_about_and_one_that_reads_is_not() {
    let regions = Regions::start();
    let warns = |line: &Value| line["message"].as_str().is_some_and(|said| said.contains("may do more than read"));
    let reads = regions.settings().start();
    regions.list(&["us-east1", "us-west2"]);
    reads.wait_for_message("endpoint discovered");
    assert!(!reads.log_lines().iter().any(warns));

    regions.api.state(|state| state.keys = [(KEY.to_owned(), Role::Operator)].into());
    let writes = regions.settings().start();

    writes.wait_for_log(warns);
}

#[test]
fn what_stands_ready_is_not_kept_for_long_while_nodes_restart() {
    let regions = Regions::start();
    regions.api.cluster("operation_status", json!("CRDB_PATCH_RUNNING"));

    let proxy = regions.settings().start();

    let line = proxy.wait_for_message("operation of the cluster changed");
    assert_eq!(line["operation.status"], "CRDB_PATCH_RUNNING");
}

#[test]
fn other_settings_bring_their_own_endpoints_and_what_is_discovered_beside_them() {
    let regions = Regions::start();
    regions.list(&["us-east1", "us-west2"]);
    let settings = regions.settings();
    let changed = settings.text().replace("name = \"gcp-us-east1\"", "name = \"east\"");
    let proxy = settings.start();
    proxy.wait_for_message("endpoint discovered");

    std::fs::write(proxy.path("crdb-proxy.toml"), changed).unwrap();
    assert_eq!(proxy.http("POST /reload", "").0, 202);

    // The first was before the reload.
    proxy.wait_for_log(|line| {
        line["message"] == "endpoint discovered" && line["endpoint.name"] == "gcp-us-west2-public"
    });
    proxy.wait_for_status(|status| {
        let names = |place: &str| status.pointer(place).and_then(|name| name.as_str()).map(str::to_owned);
        let both = ["/clusters/0/endpoints/0/name", "/clusters/0/endpoints/1/name"].map(names);
        both == [Some("east".to_owned()), Some("gcp-us-west2-public".to_owned())]
    });
}

#[test]
fn settings_that_ask_for_it_without_an_id_or_a_key_are_told() {
    let node = FakeUpstream::by_hand();
    let settings = SettingsFile::of(&node).cluster("discover = true");

    let file = settings.write();

    let finished = process::run(TestProxy::command(file.parent().unwrap()).arg("--config").arg(&file), "", DEADLINE);

    let said = finished.stderr;
    assert_eq!(finished.status.code(), Some(2), "{said}");
    assert!(said.contains("cluster_id") && said.contains("api_key") && said.contains("Cluster Monitor"), "{said}");
}

#[test]
fn an_answer_to_a_question_of_older_settings_is_not_gone_by() {
    let regions = Regions::start();
    let settings = regions.settings().cluster("# changed below");
    let proxy = settings.start();
    proxy.client();
    let before = regions.api.lines().len();
    // The next question has no answer until the settings are others.
    regions.api.hold();
    while regions.api.lines().len() == before {
        std::thread::yield_now();
    }
    proxy.rewrite_settings(|text| text.replace("127.0.0.1\"\nport", "127.0.0.2\"\nport"));
    assert_eq!(proxy.http("POST /reload", "").0, 202);
    let served_before = regions.west.seen().logged_in;

    regions.list(&["us-east1"]);
    regions.api.release();
    proxy.wait_for_metric("crdb_proxy_discovery_ok", &[("cluster", "test")], 1.0);
    proxy.client();

    assert_eq!(regions.west.seen().logged_in, served_before + 1, "{}", proxy.status());
}

#[test]
fn an_answer_with_more_regions_than_there_can_be_is_not_gone_by() {
    let regions = Regions::start();
    let names: Vec<_> = (0..40).map(|number| format!("us-east{number}")).collect();
    regions.list(&names.iter().map(String::as_str).collect::<Vec<_>>());

    let proxy = regions.settings().start();

    let told = proxy.wait_for_message("regions could not be discovered; endpoints stay as they are");
    assert!(told["cause"].as_str().unwrap().contains("lists 40 regions"), "{told}");
    assert_eq!(endpoints(&proxy), ["gcp-us-east1"]);
}
