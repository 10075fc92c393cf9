//! `users list`.

use super::{command_in, told};
use crate::harness::cloud_api::CloudApi;
use serde_json::{Value, json};
use std::fs;

const FORGOTTEN: &str = "crdb-proxy: a forgotten password cannot be looked up: an Org Admin or a Cluster Admin sets a new one \
    in the Cloud Console (the cluster's SQL Users page, the user's menu), which then goes where `password` of the settings says";

#[test]
fn list_prints_names_and_who_may_set_a_forgotten_password() {
    let api = CloudApi::start();
    api.state(|state| state.users.push("odd\u{1b}[2J".to_owned()));

    let (names, notes) = told(&api, "users list");

    assert_eq!(names, "app\nmaintenance\nodd\\u{1b}[2J");
    assert_eq!(notes, FORGOTTEN);
    let json: Value = serde_json::from_str(&told(&api, "users list --json").0).unwrap();
    assert_eq!(json["users"], json!([{"name": "app"}, {"name": "maintenance"}, {"name": "odd\u{1b}[2J"}]));
}

#[test]
fn the_settings_user_is_missed_where_the_cluster_has_none_of_that_name() {
    let (api, folder) = (CloudApi::start(), tempfile::tempdir().unwrap());
    let settings = |user: &str| {
        let text = format!(
            "[cluster.local]\nca = \"system\"\nuser = \"{user}\"\npassword = {{ file = \"pw\" }}\n\
             [[cluster.local.endpoint]]\nhost = \"prod-abc.gcp-us-east1.cockroachlabs.example\"\n"
        );
        fs::write(folder.path().join("s.toml"), text).unwrap();
    };

    settings("APP");
    let known = command_in(&folder, &api, "users list --config s.toml");
    settings("ap");
    let unknown = command_in(&folder, &api, "users list --config s.toml");

    assert_eq!(known.stderr, FORGOTTEN);
    let missing = "crdb-proxy: the settings' user \"ap\" is not among the users of cluster \"prod\": correct `user`, or make \
                   the user in the Cloud Console (SQL Users)";
    assert_eq!(unknown.stderr, format!("{missing}\n{FORGOTTEN}"));
    let json = command_in(&folder, &api, "users list --config s.toml --json").expect_success();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["warnings"][0].as_str().map(|warning| format!("crdb-proxy: {warning}")), Some(missing.to_owned()));
}
