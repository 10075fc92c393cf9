//! What is said when there is no answer, and what is asked again.

use super::{client, client_of, limits, sentence, wait};
use crate::harness::{
    cloud_api::{CLUSTER_ID, CloudApi, Fault, KEY, Role},
    proxy::closed_port,
};
use crdb_proxy::{
    cloud::{AllowedNetwork, Cidr, Cloud, CloudError, Limits, Server, Stage},
    secret::Secret,
};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    thread,
    time::{Duration, Instant},
};

fn network() -> AllowedNetwork {
    AllowedNetwork { cidr_ip: "192.0.2.0".to_owned(), cidr_mask: 24, name: None, sql: true, ui: true }
}

#[test]
fn every_refusal_is_a_sentence_with_the_next_step() {
    let api = CloudApi::start();
    let (url, cloud) = (api.url(), client(&api));
    let of_status = |status, message| {
        api.next(Fault::Status(status, message));
        sentence(wait(cloud.allow(CLUSTER_ID, &network())))
    };

    assert_eq!(
        of_status(401, "bad key"),
        format!(
            "{url} does not know the API key (401: bad key); is it whole, and of this server? If it was deleted, make \
             another in the Cloud Console under Access Management, Service Accounts"
        )
    );
    assert_eq!(
        of_status(403, "no"),
        "the API key's service account may not change the allowlist (403: no); give it the role Cluster Operator for this \
         cluster in the Cloud Console under Access Management"
    );
    assert_eq!(
        of_status(404, "cluster not found"),
        format!(
            "the Cloud API has no cluster {CLUSTER_ID} (404: cluster not found); check the ID, and, where a key is \
             used, whether its service account is of the same organization"
        )
    );
    assert_eq!(
        of_status(400, "a\n\u{1b}[2J"),
        "the Cloud API does not change the allowlist (400: a\\n\\u{1b}[2J); correct what it names, and try \
         again"
    );
    assert_eq!(
        of_status(503, ""),
        format!(
            "{url} has a fault of its own (503); whether the change was made is not known, so look before you repeat it, \
             and try again in some minutes, and see https://status.cockroachlabs.cloud if it lasts"
        )
    );
    api.next(Fault::TooFast("3"));
    let too_fast = "the Cloud API takes no more requests of this API key for now (429); try again in 3 s";
    assert_eq!(sentence(wait(cloud.allow(CLUSTER_ID, &network()))), too_fast);
    assert_eq!(api.asked().len(), 6, "a change was asked for twice");
}

#[test]
fn each_question_names_the_least_role_that_may_ask_it() {
    let api = CloudApi::start();
    let cloud = client(&api);
    api.state(|state| state.keys.insert(KEY.to_owned(), Role::Monitor));
    let cidr: Cidr = "192.0.2.0/24".parse().unwrap();

    for (sentence, role) in [
        (sentence(wait(cloud.users(CLUSTER_ID))), "Cluster Developer"),
        (sentence(wait(cloud.databases(CLUSTER_ID))), "Cluster Developer"),
        (sentence(wait(cloud.allowlist(CLUSTER_ID))), "Cluster Developer"),
        (sentence(wait(cloud.disallow(CLUSTER_ID, cidr))), "Cluster Operator"),
        (sentence(wait(cloud.private_services(CLUSTER_ID))), "Cluster Operator"),
        (sentence(wait(cloud.private_connections(CLUSTER_ID))), "Cluster Operator"),
        (sentence(wait(cloud.connect_privately(CLUSTER_ID, "x"))), "Cluster Operator"),
    ] {
        assert!(sentence.contains(&format!("give it the role {role} for")), "{sentence}");
    }
    api.always(Fault::Status(403, "no"));
    assert!(
        sentence(wait(cloud.clusters())).contains("may not list clusters (403: no); give it the role Cluster Monitor")
    );
}

#[test]
fn only_questions_are_asked_again_and_no_more_than_twice() {
    let api = CloudApi::start();
    let cloud = client(&api);
    for fault in [Fault::Status(500, "x"), Fault::HangUp, Fault::TooFast("0"), Fault::HalfWay, Fault::Status(503, "x")]
    {
        api.next(fault);
    }

    assert_eq!(wait(cloud.clusters()).unwrap_err().to_string().split(' ').next(), Some("the"));
    assert_eq!(wait(cloud.clusters()).unwrap().len(), 1);
    assert_eq!(api.lines(), ["GET /api/v1/clusters"; 6]);

    for fault in [Fault::Status(500, "x"), Fault::HangUp, Fault::HalfWay] {
        api.next(fault);
        assert!(wait(cloud.allow(CLUSTER_ID, &network())).is_err());
    }
    assert_eq!(api.asked().len(), 9);
    for status in [400, 401, 403, 404] {
        api.next(Fault::Status(status, "x"));
        assert!(wait(cloud.clusters()).is_err());
    }
    assert_eq!(api.asked().len(), 13);
}

#[test]
fn a_wait_that_the_server_asks_for_is_kept_if_it_is_short_and_told_if_it_is_not() {
    let api = CloudApi::start();
    let cloud = client(&api);
    let begin = Instant::now();
    api.next(Fault::TooFast("1"));

    wait(cloud.clusters()).unwrap();

    assert!(begin.elapsed() >= Duration::from_secs(1));
    api.next(Fault::TooFast("3600"));
    let text = sentence(wait(cloud.clusters()));
    assert!(text.ends_with("(429); try again in 3600 s"), "{text}");
    assert_eq!(api.asked().len(), 3);
}

#[test]
fn a_server_that_hangs_is_given_up_and_asked_once() {
    let api = CloudApi::start();
    api.always(Fault::Hang);
    let limits = Limits { request: Duration::from_millis(200), ..limits() };
    let key = || Some(Secret::new(KEY.as_bytes().to_vec()));
    let cloud = Cloud::with_limits(Server::new(&api.url()).unwrap(), key(), limits).unwrap();

    let text = sentence(wait(cloud.clusters()));

    let advice = "try again, and look for a firewall or a proxy on the way if it lasts";
    assert_eq!(text, format!("{} has not answered within 200ms; {advice}", api.url()));
    assert!(sentence(wait(cloud.allow(CLUSTER_ID, &network()))).contains("whether the change was made is not known"));
    assert_eq!(api.asked().len(), 2);
}

#[test]
fn what_the_api_would_not_say_is_refused_without_being_repeated() {
    let api = CloudApi::start();
    let cloud = client(&api);
    let told = |fault| {
        api.next(fault);
        sentence(wait(cloud.clusters()))
    };
    let elsewhere = "see whether COCKROACH_SERVER or HTTPS_PROXY leads to something else";

    assert_eq!(
        told(Fault::Body("{\n  \"hunter2")),
        format!("{} answers what the Cloud API would not: no JSON from line 2, column 10 on; {elsewhere}", api.url())
    );
    assert!(told(Fault::Body("[\"hunter2\"]")).contains("not: no object where one was due; see"));
    assert!(
        told(Fault::Body("{\"clusters\":[{\"name\":\"hunter2\"}]}")).contains("an entry of \"clusters\" without what")
    );
    assert_eq!(
        told(Fault::Long),
        format!("{} answers with more than 4 MiB, which the Cloud API would not; {elsewhere}", api.url())
    );
    let deep: &'static str = "[".repeat(100_000).leak();
    assert!(told(Fault::Body(deep)).contains("no JSON from line 1"));
}

#[test]
fn an_answer_that_ends_half_way_is_none() {
    let api = CloudApi::start();
    api.always(Fault::HalfWay);

    let text = sentence(wait(client(&api).clusters()));

    assert!(text.starts_with(&format!("the answer of {} ended half-way (", api.url())), "{text}");
    assert!(text.ends_with("); try again"), "{text}");
}

#[test]
fn a_list_that_does_not_end_is_given_up() {
    let api = CloudApi::start();
    api.always(Fault::Body("{\"clusters\":[],\"pagination\":{\"next_page\":\"again\"}}"));

    let text = sentence(wait(client(&api).clusters()));

    assert!(text.contains("a list that does not end"), "{text}");
    assert_eq!(api.asked().len(), 2);
}

#[test]
fn a_redirect_is_not_followed() {
    let (api, other) = (CloudApi::start(), CloudApi::start());
    api.next(Fault::Redirect(format!("{}/api/v1/clusters", other.url())));

    let text = sentence(wait(client(&api).clusters()));

    assert!(
        text.starts_with(&format!("{} points to another address, where the API key is not sent", api.url())),
        "{text}"
    );
    assert!(other.asked().is_empty());
}

#[test]
fn a_server_that_is_not_there_is_told_by_stage() {
    let told = |url: &str| {
        let error = wait(client_of(url, Some(KEY)).clusters()).unwrap_err();
        let CloudError::Unreachable { stage, .. } = &error else { panic!("{error:?}") };
        (*stage, error.to_string())
    };

    let (stage, text) = told(&format!("http://{}", closed_port()));
    assert_eq!(stage, Stage::Tcp);
    assert!(text.contains("cannot be reached: no connection (") && text.contains("refused"), "{text}");
    assert!(text.ends_with(
        "; check the network and its firewall (TCP 443 out), and HTTPS_PROXY: whether a proxy is the way out, and runs"
    ));

    let (stage, text) = told("https://nowhere.invalid");
    assert_eq!(stage, Stage::Dns);
    assert!(text.starts_with("https://nowhere.invalid cannot be reached: its name has no address ("), "{text}");

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let clear = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut hello = [0; 4096];
        let length = socket.read(&mut hello).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        length + socket.read(&mut hello).unwrap_or(0)
    });
    let (stage, text) = told(&format!("https://{address}"));
    clear.join().unwrap();
    assert_eq!(stage, Stage::Tls);
    assert!(text.contains("its certificate is not accepted, or it speaks no TLS ("), "{text}");
}

#[test]
fn a_server_that_takes_no_tls_in_time_is_given_up() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = Server::new(&format!("https://{}", silent.local_addr().unwrap())).unwrap();
    let limits = Limits { connect: Duration::from_millis(100), ..limits() };
    let cloud = Cloud::with_limits(server, Some(Secret::new(KEY.as_bytes().to_vec())), limits).unwrap();

    let text = sentence(wait(cloud.clusters()));

    assert!(text.contains("cannot be reached: no connection (no answer within 100ms); check the network"), "{text}");
}

#[test]
fn a_change_with_an_answer_that_cannot_be_read_may_have_been_made() {
    let api = CloudApi::start();
    let cloud = client(&api);
    for fault in [Fault::Body("{"), Fault::Body("[]"), Fault::Long] {
        api.next(fault);

        let text = sentence(wait(cloud.allow(CLUSTER_ID, &network())));

        assert!(
            text.contains("; whether the change was made is not known, so look before you repeat it, and see"),
            "{text}"
        );
    }
    assert_eq!(api.asked().len(), 3);
}

#[test]
fn without_a_key_or_with_none_that_can_be_nothing_is_asked() {
    let api = CloudApi::start();
    let text = sentence(wait(client_of(&api.url(), None).clusters()));
    assert!(text.starts_with("there is no Cloud API key; set the variable COCKROACH_API_KEY, or api_key = "), "{text}");

    for bad in ["", "a b-secret", "a\nb-secret", "ü-secret", "\"secret\u{7f}"] {
        let key = Some(Secret::new(bad.as_bytes().to_vec()));
        let text = sentence(Cloud::new(Server::new(&api.url()).unwrap(), key));
        assert!(text.starts_with("the Cloud API key holds what no key has"), "{bad}: {text}");
    }
    assert!(api.asked().is_empty());
}

#[test]
fn an_id_that_would_lead_elsewhere_is_not_asked_for() {
    let api = CloudApi::start();
    for id in ["", ".", ".."] {
        assert!(sentence(wait(client(&api).cluster(id))).contains("has no cluster"), "{id}");
    }
    assert!(api.asked().is_empty());
    wait(client(&api).cluster("../../x?y#z")).unwrap_err();
    assert_eq!(api.lines(), ["GET /api/v1/clusters/..%2F..%2Fx%3Fy%23z"]);
}
