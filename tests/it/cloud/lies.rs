//! What an API that lies, or repeats what it was sent, cannot do.

use super::{client, sentence, wait};
use crate::harness::cloud_api::{CLUSTER_ID, CloudApi, Fault};
use serde_json::json;

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
