//! Which cluster is meant, with which key, and what is said of it or of none.

use super::{command, command_in, refusal, told};
use crate::harness::{
    cloud_api::{CLUSTER_ID, CloudApi, Fault, KEY, Role, cluster},
    markdown,
    proxy::run_daemon,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

const OTHER_ID: &str = "11111111-89ab-cdef-0123-456789abcdef";

fn with_two() -> CloudApi {
    let api = CloudApi::start();
    api.state(|state| state.clusters.push(cluster(OTHER_ID, "other", "AWS", &["us-east-1"])));
    api
}

fn settings(lines: &str, host: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[cluster.local]\nca = \"system\"\nuser = \"app\"\npassword = {{ file = \"pw\" }}\n{lines}\n\
         [[cluster.local.endpoint]]\nhost = \"{host}\"\n"
    );
    fs::write(folder.path().join("s.toml"), text).unwrap();
    folder
}

#[test]
fn a_cluster_is_named_by_its_name_or_id_and_need_not_be_where_there_is_one() {
    let (one, two) = (CloudApi::start(), with_two());

    told(&one, "users list");
    told(&two, "users list --cluster other");
    told(&two, &format!("users list --cluster {OTHER_ID}"));

    let path = |id: &str| format!("GET /api/v1/clusters/{id}/sql-users");
    assert_eq!(one.lines().last(), Some(&path(CLUSTER_ID)));
    assert_eq!(two.lines().iter().filter(|line| **line == path(OTHER_ID)).count(), 2, "{:?}", two.lines());
    let several = "crdb-proxy: name one of the API key's clusters with --cluster: \"prod\", \"other\"";
    assert_eq!(refusal(&two, "users list"), (2, several.to_owned()));
    one.state(|state| state.clusters.clear());
    assert_eq!(
        refusal(&one, "users list").1,
        "crdb-proxy: name one of the API key's clusters with --cluster: it may see none"
    );
}

#[test]
fn the_settings_say_which_cluster_by_id_or_by_its_hosts() {
    let api = with_two();
    let by_id = settings(&format!("cluster_id = \"{OTHER_ID}\""), "any.example");
    let by_host = settings("", "prod-abc.gcp-us-east1.cockroachlabs.example");
    let by_psc = settings("", "mine.private-prod-abc.gcp-us-east1.cockroachlabs.example");
    let unknown = settings("", "evilprod-abc.gcp-us-east1.cockroachlabs.example");

    command_in(&by_id, &api, "users list --config s.toml").expect_success();
    command_in(&by_id, &api, "users list --config s.toml --cluster local").expect_success();
    command_in(&by_host, &api, "users list --config s.toml").expect_success();
    command_in(&by_psc, &api, "users list --config s.toml").expect_success();
    let none = command_in(&unknown, &api, "users list --config s.toml");

    let users: Vec<_> = api.lines().into_iter().filter(|line| line.ends_with("sql-users")).collect();
    let path = |id: &str| format!("GET /api/v1/clusters/{id}/sql-users");
    assert_eq!(users, [path(OTHER_ID), path(OTHER_ID), path(CLUSTER_ID), path(CLUSTER_ID)]);
    assert_eq!(none.status.code(), Some(2));
    let expected = "crdb-proxy: no cluster that the API key may see has the hosts of cluster \"local\" in the settings; set \
                    its cluster_id there, or name one with --cluster";
    assert_eq!(none.stderr, expected);
}

#[test]
fn a_clusters_own_key_goes_before_the_variable() {
    let api = CloudApi::start();
    let folder = settings(&format!("cluster_id = \"{CLUSTER_ID}\"\napi_key = {{ file = \"api.key\" }}"), "any.example");
    let file = folder.path().join("api.key");
    fs::write(&file, "CCDB1_own\n").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    api.state(|state| state.keys.insert("CCDB1_own".to_owned(), Role::Developer));

    command_in(&folder, &api, "users list --config s.toml").expect_success();
    fs::remove_file(&file).unwrap();
    let missing = command_in(&folder, &api, "users list --config s.toml");

    assert_eq!(api.asked()[0].headers["authorization"], "Bearer CCDB1_own");
    assert_eq!(missing.status.code(), Some(2));
    let expected =
        format!("crdb-proxy: there is no Cloud API key: file {} does not exist; check its name", file.display());
    assert_eq!(missing.stderr, expected);
    let plain = settings("api_key = \"CCDB1_secret\"", "any.example");
    let refused = command_in(&plain, &api, "users list --config s.toml");
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("api_key: a secret must not stand in the settings file"), "{}", refused.stderr);
}

#[test]
fn the_daemons_own_variables_are_no_settings_and_odd_keys_are_refused() {
    let api = CloudApi::start();
    let folder = settings("cluster_id = \"../x\"", "any.example");
    let url = api.url();
    let cloud = [("COCKROACH_SERVER", url.as_str()), ("COCKROACH_API_KEY", KEY)];
    let daemon =
        [("CRDB_PROXY_LISTEN", "127.0.0.1:0"), ("CRDB_PROXY_ADMIN", "127.0.0.1:0"), ("CRDB_PROXY_LOG_FORMAT", "json")];

    let with = run_daemon(folder.path(), &["users", "list"], &[&cloud[..], &daemon[..]].concat());
    let odd = command_in(&folder, &api, "users list --config s.toml");

    assert_eq!(with.expect_success(), "app\nmaintenance");
    assert_eq!(odd.status.code(), Some(2));
    assert!(odd.stderr.contains("cluster_id = \"../x\": must be the cluster's ID, as 0123"), "{}", odd.stderr);
}

#[test]
fn shown_settings_have_the_id_and_the_keys_place() {
    let api = CloudApi::start();
    let lines = format!("cluster_id = \"{CLUSTER_ID}\"\napi_key = {{ env = \"CRDB_PROXY_API_KEY\" }}");
    let folder = settings(&lines, "any.example");
    let url = api.url();
    let variables = [("COCKROACH_SERVER", url.as_str()), ("CRDB_PROXY_API_KEY", KEY)];

    let shown = run_daemon(folder.path(), &["config", "show", "--config", "s.toml"], &variables).expect_success();
    let users = run_daemon(folder.path(), &["users", "list", "--config", "s.toml"], &variables).expect_success();

    assert!(shown.contains(&format!("cluster_id = \"{CLUSTER_ID}\"")), "{shown}");
    assert!(shown.contains("api_key = { env = \"CRDB_PROXY_API_KEY\" }") && !shown.contains(KEY), "{shown}");
    assert_eq!(users, "app\nmaintenance");
}

#[test]
fn without_a_key_or_with_a_server_in_clear_nothing_is_asked() {
    let api = CloudApi::start();
    let folder = tempfile::tempdir().unwrap();
    let run = |variables: &[(&str, &str)]| run_daemon(folder.path(), &["users", "list"], variables);
    let url = api.url();

    let keyless = run(&[("COCKROACH_SERVER", &url), ("COCKROACH_API_KEY", "\n")]);
    let clear = run(&[("COCKROACH_SERVER", "http://cockroachlabs.cloud"), ("COCKROACH_API_KEY", KEY)]);

    assert_eq!((keyless.status.code(), clear.status.code()), (Some(2), Some(2)));
    let expected = "crdb-proxy: there is no Cloud API key; set the variable COCKROACH_API_KEY, or api_key = { file = \"…\" } \
        of the cluster in the settings file, to a key of a service account, which the Cloud Console makes under Access \
        Management";
    assert_eq!(keyless.stderr, expected);
    let expected = "crdb-proxy: variable COCKROACH_SERVER must begin with https:// for another machine: over plain http the \
                    API key would travel in clear";
    assert_eq!(clear.stderr, expected);
    assert!(api.asked().is_empty());
}

#[test]
fn another_plan_a_lock_and_an_operation_are_told_beside_the_answer() {
    let api = CloudApi::start();
    api.cluster("plan", json!("STANDARD"));
    api.cluster("state", json!("LOCKED"));
    api.cluster("operation_status", json!("CRDB_PATCH_RUNNING"));

    let (_, notes) = told(&api, "users list");

    let lines: Vec<_> = notes.lines().collect();
    assert!(
        lines[0].starts_with("crdb-proxy: the cluster's plan is STANDARD, and crdb-proxy is made for ADVANCED: "),
        "{notes}"
    );
    assert!(
        lines[1].starts_with("crdb-proxy: the cluster is locked: an operation is under way that allows no other"),
        "{notes}"
    );
    assert!(
        lines[2].starts_with("crdb-proxy: CRDB_PATCH_RUNNING: nodes restart one after another until it has ended"),
        "{notes}"
    );
}

#[test]
fn a_missing_role_a_wrong_key_and_a_fault_are_a_sentence_and_exit_code_1() {
    let api = CloudApi::start();
    api.state(|state| state.keys.insert(KEY.to_owned(), Role::Developer));
    let (code, role) = refusal(&api, "private-endpoint list");
    assert_eq!(code, 1);
    assert!(
        role.starts_with("crdb-proxy: the API key's service account may not read private endpoint connections (403")
    );
    assert!(role.contains("give it the role Cluster Operator for this cluster"), "{role}");

    api.state(|state| state.keys.clear());
    let (code, key) = refusal(&api, "allowlist list");
    assert_eq!(code, 1);
    assert!(key.contains("does not know the API key (401: invalid API key); is it whole"), "{key}");

    api.always(Fault::Body("not JSON"));
    let done = command(&api, "allowlist list");
    assert_eq!((done.status.code(), done.stdout.as_str()), (Some(1), ""));
    assert!(done.stderr.contains("answers what the Cloud API would not: no JSON from line 1"), "{}", done.stderr);
}

#[test]
fn a_group_without_a_command_says_which_there_are() {
    let api = CloudApi::start();
    let see = "(see crdb-proxy --help)";
    for (words, sentence) in [
        ("allowlist", "`allowlist` needs a command: `allowlist list`, `allowlist add` or `allowlist remove`"),
        ("users", "`users` needs a command: `users list`"),
        ("allowlist add 192.0.2.1 --ui --sql-only", "`--ui` and `--sql-only` exclude each other"),
        ("allowlist remove", "the range is missing: see `allowlist list`"),
        ("private-endpoint add", "the private endpoint's ID is missing"),
        (
            "privte-endpoint",
            "`privte-endpoint` is neither a command nor a connection string, which begins with \
                             postgresql://; did you mean `private-endpoint list`?",
        ),
    ] {
        assert_eq!(refusal(&api, words), (2, format!("crdb-proxy: {sentence} {see}")), "{words}");
    }
    let groups = refusal(&api, "private-endpoint").1;
    assert!(
        groups.starts_with("crdb-proxy: `private-endpoint` needs a command: `private-endpoint list`, "),
        "{groups}"
    );
}

#[test]
fn every_field_of_json_is_documented_and_no_other() {
    let api = CloudApi::start();
    api.state(|state| {
        state.allowlist = vec![json!({"cidr_ip": "192.0.2.0", "cidr_mask": 24})];
        state.services = vec![json!({"name": "s"})];
        state.connections = vec![json!({"endpoint_id": "1"})];
    });
    let mut fields = BTreeSet::new();
    for words in ["allowlist list", "private-endpoint services", "private-endpoint list", "users list"] {
        let json: Value = serde_json::from_str(&told(&api, &format!("{words} --json")).0).unwrap();
        collect(&json, &mut fields);
    }

    let tables = markdown::tables(&markdown::read("docs/cloud.md"));
    let table = tables.iter().find(|table| table.header[0] == "field").unwrap();
    let documented = table.rows.iter().flat_map(|row| [markdown::code(&row[0]), markdown::code(&row[2])].concat());
    let documented: BTreeSet<_> = documented.filter(|name| name != "STATUS_" && name != "null").collect();
    assert_eq!(documented, fields);
}

fn collect(json: &Value, fields: &mut BTreeSet<String>) {
    match json {
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            fields.insert(key.clone());
            collect(value, fields);
        }),
        Value::Array(list) => list.iter().for_each(|value| collect(value, fields)),
        _ => {}
    }
}
