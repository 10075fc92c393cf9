//! What an API that lies, or repeats what it was sent, cannot do.

use super::{client, limits, sentence, wait};
use crate::harness::cloud_api::{CLUSTER_ID, CloudApi, Fault, KEY};
use crdb_proxy::{
    cloud::{Cloud, Limits, Server},
    secret::Secret,
};
use serde_json::json;
use std::time::Duration;

const OTHER_ID: &str = "99999999-89ab-cdef-0123-456789abcdef";

fn body(value: &serde_json::Value) -> Fault {
    Fault::Body(value.to_string().leak())
}

#[test]
fn an_answer_about_another_cluster_is_none() {
    let api = CloudApi::start();
    let cloud = client(&api);
    let answered = |id: &str| {
        api.next(body(&json!({"id": id, "name": "prod", "plan": "ADVANCED"})));
        wait(cloud.cluster(CLUSTER_ID))
    };

    assert_eq!(
        sentence(answered(OTHER_ID)),
        format!(
            "{} answers what the Cloud API would not: cluster {OTHER_ID} where {CLUSTER_ID} was asked for; see whether \
             COCKROACH_SERVER or HTTPS_PROXY leads to something else",
            api.url()
        )
    );
    assert!(sentence(answered("\u{1b}[2J")).contains("cluster \\u{1b}[2J where"));
    assert!(answered(&CLUSTER_ID.to_uppercase()).is_ok());
    api.next(body(&json!({"id": "NAME", "name": "prod"})));
    assert!(wait(cloud.cluster("name")).is_err());
}

#[test]
fn an_answer_that_repeats_the_key_is_refused_wherever_it_stands() {
    let api = CloudApi::start();
    let cloud = client(&api);
    let escaped = KEY.replace('C', "\\u0043");
    let told = |body: &str| {
        api.next(Fault::Body(body.to_owned().leak()));
        sentence(wait(cloud.cluster(CLUSTER_ID)))
    };

    let whole = told(&json!({"id": CLUSTER_ID, "name": "prod", "cockroach_version": format!("v {KEY}")}).to_string());

    assert_eq!(
        whole,
        format!(
            "{} answers what the Cloud API would not: the API key, which is sent to it and never back (it is not shown); \
             see whether COCKROACH_SERVER or HTTPS_PROXY leads to something else",
            api.url()
        )
    );
    for body in [
        format!("{{\"id\":\"{CLUSTER_ID}\",\"name\":\"{escaped}\"}}"),
        json!({"id": CLUSTER_ID, "name": "prod", "state": KEY.to_uppercase()}).to_string(),
        json!({"id": KEY, "name": "prod"}).to_string(),
        format!("{{\"id\":\"{CLUSTER_ID}\",\"name\":\"prod\",\"regions\":[{{\"name\":[{{\"{escaped}\":7}}]}}]}}"),
        format!("no JSON {KEY}"),
    ] {
        assert_eq!(told(&body), whole, "{body}");
    }
    api.state(|state| state.ca = format!("-----BEGIN CERTIFICATE-----\n{KEY}\n"));
    assert_eq!(sentence(wait(cloud.ca(CLUSTER_ID))), whole);
    api.next(Fault::Body(format!("{{\"endpoint_id\":\"{KEY}\"}}").leak()));
    let changed = sentence(wait(cloud.connect_privately(CLUSTER_ID, "7")));
    assert!(changed.contains("never back (it is not shown); whether the change was made is not known"), "{changed}");
}

#[test]
fn a_question_has_an_end_however_many_pages_and_tries_it_takes() {
    let api = CloudApi::start();
    let (question, minute) = (Duration::from_millis(300), Duration::from_secs(60));
    let limits = Limits { question, retry_pause: minute, retry_after_max: 2 * minute, ..limits() };
    let key = Some(Secret::new(KEY.as_bytes().to_vec()));
    let cloud = Cloud::with_limits(Server::new(&api.url()).unwrap(), key, limits).unwrap();
    let advice = "try again in some minutes, and see https://status.cockroachlabs.cloud if it lasts";
    let told = format!("{} has not answered in whole within 300ms, all pages and tries together; {advice}", api.url());

    api.next(Fault::Body("{\"clusters\":[],\"pagination\":{\"next_page\":\"2\"}}"));
    api.next(Fault::Hang);
    assert_eq!(sentence(wait(cloud.clusters())), told);
    assert_eq!(api.lines(), ["GET /api/v1/clusters", "GET /api/v1/clusters?pagination.page=2"]);

    api.next(Fault::Status(503, "x"));
    assert_eq!(sentence(wait(cloud.cluster(CLUSTER_ID))), told);
    assert_eq!(api.asked().len(), 3);
}

#[test]
fn a_list_has_a_bound_in_entries_and_in_bytes() {
    let api = CloudApi::start();
    let cloud = client(&api);
    api.state(|state| {
        state.users = vec!["u".to_owned(); 10_000];
        state.page_size = 2500;
    });
    assert_eq!(wait(cloud.users(CLUSTER_ID)).unwrap().len(), 10_000);
    api.state(|state| state.users.push("u".to_owned()));
    assert!(sentence(wait(cloud.users(CLUSTER_ID))).contains("not: a list of more than 10000 entries; see"));

    let page = |number: usize| {
        let next = format!("\"pagination\":{{\"next_page\":\"{number}\"}}");
        Fault::Body(format!("{{\"clusters\":[],{next}{}}}", " ".repeat(3 << 20)).leak())
    };
    (0..6).for_each(|number| api.next(page(number)));
    let before = api.asked().len();
    let text = sentence(wait(cloud.clusters()));
    assert!(text.contains("answers with more than 16 MiB, which the Cloud API would not"), "{text}");
    assert_eq!(api.asked().len(), before + 6);
}

/// JSON takes up to a hundred times its length in memory.
#[test]
fn an_answer_has_a_bound_in_values_and_so_have_all_pages_of_a_list() {
    let api = CloudApi::start();
    let cloud = client(&api);
    let many = |count: usize| vec!["{\"a\":0}"; count].join(",");
    let told = "not: more than 100000 values; see";
    let peak = peak_memory();

    api.next(Fault::Body(format!("{{\"id\":\"x\",\"name\":\"y\",\"regions\":[{}]}}", many(500_000)).leak()));
    let text = sentence(wait(cloud.cluster(CLUSTER_ID)));
    assert!(text.contains(told), "{text}");
    for page in 0..2 {
        let next = format!("\"pagination\":{{\"next_page\":\"{page}\"}}");
        api.next(Fault::Body(format!("{{\"clusters\":[],\"x\":[{}],{next}}}", many(30_000)).leak()));
    }
    let text = sentence(wait(cloud.clusters()));
    assert!(text.contains(told), "{text}");
    let grown = peak_memory() - peak;
    assert!(grown < 64 << 10, "{grown} KiB");
}

/// Of this process, which has this test alone, in KiB; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}
