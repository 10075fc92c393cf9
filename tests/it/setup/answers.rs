//! Answers of the Cloud API that no settings can be made of, and odd ones that they can.

use super::{FLAGS, Scene};
use crate::harness::{
    cloud_api::{self, CLUSTER_ID, Fault, KEY},
    proxy::closed_port,
};
use serde_json::json;
use std::fs;

#[test]
fn a_cluster_that_is_none_of_those_that_there_are_is_told_with_their_names() {
    let scene = Scene::new();
    let unknown = "setup --no-check --cluster pord --user app --password-file app.pw";

    scene.assert_refused(&scene.run(unknown), 2, "is called \"pord\" (did you mean \"prod\"?); there are \"prod\"");

    let other = "11111111-89ab-cdef-0123-456789abcdef";
    scene.api.state(|state| state.clusters.push(cloud_api::cluster(other, "prod", "AWS", &["us-east-1"])));
    let told = scene.run(FLAGS);
    scene.assert_refused(&told, 2, "2 clusters are called \"prod\"; name one by its ID: ");
    assert!(told.stderr.contains(CLUSTER_ID) && told.stderr.contains(other), "{}", told.stderr);
}

#[test]
fn what_cannot_be_connected_to_is_told_with_what_to_do_and_nothing_is_written() {
    for (key, word, code, said) in [
        ("plan", "BASIC", 2, "the cluster's plan is BASIC, and crdb-proxy is made for ADVANCED"),
        ("plan", "STANDARD", 2, "the cluster's plan is STANDARD"),
        ("state", "CREATING", 1, "the cluster is still being created"),
        ("state", "CREATION_FAILED", 1, "the cluster could not be created"),
        ("state", "DELETED", 1, "the cluster is deleted: name another one"),
    ] {
        let scene = Scene::new();
        scene.api.cluster(key, json!(word));

        let told = scene.run(FLAGS);

        scene.assert_refused(&told, code, &format!("crdb-proxy: cluster \"prod\": {said}"));
        assert!(told.stderr.ends_with("; nothing was written"), "{}", told.stderr);
    }
    let scene = Scene::new();
    scene.api.cluster("regions", json!([]));
    scene.assert_refused(&scene.run(FLAGS), 1, "cluster \"prod\": it has no region yet");
}

#[test]
fn what_is_odd_about_a_cluster_that_serves_is_told_and_setup_goes_on() {
    for (key, word, said) in [
        ("state", "LOCKED", "the cluster is locked"),
        ("state", "SLEEPING", "the cluster's state is SLEEPING, which this version does not know"),
        ("plan", "PREMIUM", "the cluster's plan is PREMIUM"),
        ("operation_status", "CRDB_PATCH_RUNNING", "CRDB_PATCH_RUNNING: nodes restart one after another"),
    ] {
        let scene = Scene::new();
        scene.api.cluster(key, json!(word));

        let told = scene.run(&format!("{FLAGS} --config prod.toml"));

        assert!(told.stderr.contains(said), "{said}: {}", told.stderr);
        told.expect_success();
    }
}

#[test]
fn an_api_that_does_not_tell_leaves_nothing_behind() {
    let scene = Scene::new();
    let server = scene.api.url();
    let (none, wrong) = ([("COCKROACH_SERVER", server.as_str())], [("COCKROACH_API_KEY", "CCDB1_wrong")]);
    scene.assert_refused(
        &scene.run_with(FLAGS, &none),
        2,
        "there is no Cloud API key; set the variable COCKROACH_API_KEY",
    );
    let told = scene.run_with(FLAGS, &[none[0], wrong[0]]);
    scene.assert_refused(&told, 1, "does not know the API key (401");
    assert!(!told.stderr.contains("CCDB1_wrong"), "{}", told.stderr);
    let nowhere = format!("http://{}", closed_port());
    let told = scene.run_with(FLAGS, &[("COCKROACH_SERVER", &nowhere), ("COCKROACH_API_KEY", KEY)]);
    scene.assert_refused(&told, 1, "cannot be reached: no connection");

    for (fault, said) in [
        (Fault::Body("{\"clusters\": [{]"), "answers what the Cloud API would not"),
        (Fault::Body("[]"), "answers what the Cloud API would not"),
        (Fault::Status(403, "no"), "may not"),
        (Fault::Status(500, "oops"), "has a fault of its own (500"),
        (Fault::TooFast("60"), "takes no more requests"),
        (Fault::HalfWay, "ended half-way"),
        (Fault::Long, "answers with more than"),
    ] {
        let scene = Scene::new();
        scene.api.always(fault);

        scene.assert_refused(&scene.run(FLAGS), 1, said);
    }
}

#[test]
fn an_api_that_hangs_is_given_up_and_nothing_is_written() {
    let scene = Scene::new();
    scene.api.always(Fault::Hang);

    scene.assert_refused(&scene.run(FLAGS), 1, "has not answered within 10s");
}

#[test]
fn hosts_that_are_none_make_no_settings() {
    let scene = Scene::new();
    scene.api.state(|state| state.clusters[0]["regions"][0]["sql_dns"] = json!("x\u{1b}[2J\"\n[cluster.evil]"));

    let told = scene.run(FLAGS);

    scene.assert_refused(&told, 2, "what the Cloud says makes no sound settings, so nothing was written:");
    assert!(!told.stdout.contains('\u{1b}') && !told.stderr.contains('\u{1b}'), "{}{}", told.stdout, told.stderr);
}

#[test]
fn of_more_regions_than_any_cloud_has_the_first_hundred_are_taken() {
    let scene = Scene::new();
    let region = |index| json!({"name": format!("r{index}"), "sql_dns": format!("r{index}.cockroachlabs.example")});
    scene.api.cluster("regions", (0..5000).map(region).collect());

    let told = scene.run(&format!("{FLAGS} --config prod.toml"));

    let note = "the Cloud names 5000 regions of this cluster; only the first 100 are taken";
    assert!(told.stderr.contains(note), "{}", told.stderr);
    told.expect_success();
    let text = fs::read_to_string(scene.path("prod.toml")).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("host = ")).count(), 100);
}
