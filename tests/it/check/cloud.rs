//! What the Cloud API adds to it.

use super::{Checked, cockroach};
use crate::harness::{
    Authority, SettingsFile,
    cloud_api::{CLUSTER_ID, CloudApi, Fault, KEY, Role},
};
use serde_json::json;

/// The API's cluster, at a host of its own that has no address here.
fn settings(api: &CloudApi, kind: &str) -> SettingsFile {
    let host = match kind {
        "internal" => "internal-prod-abc.gcp-us-east1.cockroachlabs.example",
        "psc" => "private-prod-abc.gcp-us-east1.cockroachlabs.example",
        _ => "prod-abc.gcp-us-east1.cockroachlabs.example",
    };
    with_key(SettingsFile::trusting(&Authority::new()), api)
        .endpoint_at("gcp-us-east1", host, 26257, if kind == "psc" { "endpoint_name = \"mine\"" } else { "" })
        .kind(kind)
        .listener(&format!("path = [\"{kind}\"]"))
}

fn with_key(settings: SettingsFile, api: &CloudApi) -> SettingsFile {
    settings.variable("COCKROACH_API_KEY", KEY).variable("COCKROACH_SERVER", &api.url())
}

/// As [`settings`], at an address that never answers.
fn silent(api: &CloudApi) -> SettingsFile {
    let settings = with_key(SettingsFile::trusting(&Authority::new()), api)
        .cluster(&format!("cluster_id = \"{CLUSTER_ID}\""))
        .global("endpoint_limit = \"1s\"");
    let full = Box::leak(Box::new(super::network::Full::start()));
    settings.endpoint_at("gcp-us-east1", "127.0.0.1", full.port, "tls_server_name = \"cluster.test\"")
}

fn entry(range: &str, sql: bool) -> serde_json::Value {
    let (ip, mask) = range.split_once('/').unwrap();
    json!({"cidr_ip": ip, "cidr_mask": mask.parse::<u8>().unwrap(), "sql": sql, "ui": true})
}

#[test]
fn a_silent_public_endpoint_is_explained_by_the_allowlist() {
    let cases = [
        (vec![], false, "allowlist_empty", "nobody can connect"),
        (vec![entry("192.0.2.0/24", false)], false, "allowlist_without_sql", "DB Console only"),
        (vec![entry("192.0.2.0/24", true)], true, "allowlist_propagating", "wait some seconds"),
        (vec![entry("192.0.2.0/24", true)], false, "not_allowlisted", "\"192.0.2.0/24\""),
        (vec![entry("0.0.0.0/0", true)], false, "silent_public", "IPv6 only"),
    ];
    for (entries, propagating, id, words) in cases {
        let api = CloudApi::start();
        api.state(|state| (state.allowlist, state.propagating) = (entries, propagating));

        let said = Checked::of(&silent(&api)).failed("tcp", 12, id);

        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_private_endpoint_that_is_not_there_or_waits_is_told() {
    let connection = |status: &str| json!({"endpoint_id": "102512345678", "region_name": "us-east1", "status": status, "cloud_provider": "GCP"});
    for (connections, id, words) in [
        (vec![], "private_endpoint_unknown", "private-endpoint add"),
        (vec![connection("STATUS_REJECTED")], "private_endpoint_status", "REJECTED"),
        (vec![connection("STATUS_AVAILABLE")], "psc_name_not_found", "Service Directory"),
    ] {
        let api = CloudApi::start();
        api.state(|state| state.connections = connections);

        let said = Checked::of(&settings(&api, "psc")).failed("dns", 11, id);

        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_psc_name_that_is_not_made_yet_is_told() {
    let api = CloudApi::start();
    api.state(|state| state.clusters[0]["regions"][0]["private_endpoint_dns"] = json!(""));
    let settings = settings(&api, "psc").cluster(&format!("cluster_id = \"{CLUSTER_ID}\""));

    let said = Checked::of(&settings).failed("dns", 11, "psc_no_service");

    assert!(said.contains("no private endpoint service in this region yet"), "{said}");
}

#[test]
fn a_host_that_is_another_is_told_by_the_clusters_own() {
    let api = CloudApi::start();
    let settings = with_key(SettingsFile::trusting(&Authority::new()), &api)
        .cluster(&format!("cluster_id = \"{CLUSTER_ID}\""))
        .endpoint_at("gcp-us-east1", "prod-abd.gcp-us-east1.cockroachlabs.example", 26257, "");

    let said = Checked::of(&settings).failed("dns", 11, "name_not_found");

    assert!(said.contains("set host = \"prod-abc.gcp-us-east1.cockroachlabs.example\""), "{said}");
}

#[test]
fn a_cluster_that_does_not_serve_explains_every_failure() {
    for state in ["CREATING", "LOCKED", "CREATION_FAILED", "DELETED"] {
        let api = CloudApi::start();
        api.cluster("state", json!(state));

        let said = Checked::of(&settings(&api, "public")).failed("dns", 11, "cluster_state");

        assert!(said.contains(&format!("is {state}")), "{said}");
    }
}

#[test]
fn a_user_or_database_that_is_not_there_is_told_by_the_api() {
    let api = CloudApi::start();
    let postgres = crate::harness::Postgres::start();
    let settings = with_key(SettingsFile::of(&postgres), &api)
        .cluster(&format!("cluster_id = \"{CLUSTER_ID}\""))
        .user("nobody")
        .listener("database = \"postgres\"");

    let said = Checked::of(&settings).failed("login", 15, "no_such_user");

    assert!(said.contains("lists no SQL user \"nobody\"") && said.contains("users list"), "{said}");
}

#[test]
fn what_should_be_looked_at_is_noted_although_all_is_well() {
    let (api, node) = (CloudApi::start(), cockroach("gcp-us-east1", &["defaultdb"]));
    api.cluster("operation_status", json!("CRDB_PATCH_RUNNING"));
    api.cluster("cloud_provider", json!("AWS"));
    api.state(|state| {
        state.allowlist = (1..20).map(|number| entry(&format!("192.0.2.{number}/32"), true)).collect();
        state.allowlist.push(entry("0.0.0.0/0", true));
    });
    let settings = with_key(SettingsFile::of(&node), &api).cluster(&format!("cluster_id = \"{CLUSTER_ID}\""));

    let checked = Checked::of(&settings);

    assert_eq!(checked.exit, 0, "{:#}", checked.report);
    for id in ["operation_running", "allowlist_open", "allowlist_full"] {
        assert_eq!(checked.notes(id).len(), 1, "{id}: {:#}", checked.report);
    }
    assert_eq!(checked.cluster()["cloud"]["cockroach_version"], "v25.4.1");
}

#[test]
fn what_the_keys_role_may_not_read_is_unknown_and_no_failure() {
    let (api, node) = (CloudApi::start(), cockroach("gcp-us-east1", &["defaultdb"]));
    api.state(|state| state.keys = [(KEY.to_owned(), Role::Monitor)].into());
    let settings = with_key(SettingsFile::of(&node), &api).cluster(&format!("cluster_id = \"{CLUSTER_ID}\""));

    let checked = Checked::of(&settings);

    assert_eq!(checked.exit, 0, "{:#}", checked.report);
    let unknown = checked.cluster()["cloud"]["unknown"].as_array().unwrap();
    assert!(unknown.contains(&json!("allowlist")) && unknown.contains(&json!("SQL users")), "{unknown:?}");
}

#[test]
fn an_api_that_cannot_be_asked_is_told_and_takes_nothing_away() {
    let cases: [(Fault, &str); 3] =
        [(Fault::Status(401, "invalid key"), "key"), (Fault::Body("<html>"), "JSON"), (Fault::HangUp, "")];
    for (fault, words) in cases {
        let (api, node) = (CloudApi::start(), cockroach("gcp-us-east1", &["defaultdb"]));
        api.always(fault);

        let checked = Checked::of(&with_key(SettingsFile::of(&node), &api));

        assert_eq!((checked.exit, checked.endpoint()["ok"].as_bool()), (18, Some(true)), "{:#}", checked.report);
        let [said] = checked.notes("cloud_api").try_into().unwrap();
        assert!(said.contains(words) && !said.contains(KEY), "{said}");
    }
}

#[test]
fn a_clock_that_is_off_is_told_by_the_apis_date() {
    let (api, authority) = (CloudApi::start(), Authority::new());
    api.state(|state| state.date = Some("Sat, 01 Jan 2000 00:00:00 GMT".to_owned()));
    let leaf = crate::harness::Leaf { years: (2020, 2021), ..crate::harness::Leaf::default() };
    let identity = authority.sign(&leaf);
    let script = crate::harness::Script { identity: Some(identity), ..crate::harness::Script::default() };
    let server = crate::harness::FakeUpstream::signed_by(authority, script);
    let settings = with_key(SettingsFile::of(&server), &api).cluster(&format!("cluster_id = \"{CLUSTER_ID}\""));

    let said = Checked::of(&settings).failed("certificate", 14, "certificate_expired");

    assert!(said.contains("this machine's clock is") && said.contains("s ahead"), "{said}");
}
