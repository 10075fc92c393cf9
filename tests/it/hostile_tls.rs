//! TLS that is allowed and unkind: a record for every byte, and an end that is announced in the middle of a message.
//! From clients and from servers.

use crate::harness::{
    FakeUpstream, SettingsFile, TestClient, TestProxy,
    client::connect_tls,
    wire::{Wire, query, rows, startup},
};

const USER: [(&str, &str); 1] = [("user", "anyone")];

#[test]
fn a_record_for_every_byte_is_read_as_what_it_says_from_either_side_and_takes_no_memory() {
    let cluster = FakeUpstream::by_hand();
    let proxy = with_tls(&cluster);
    let mut client = log_in(&proxy, &cluster);
    let mut session = cluster.session();
    let before = proxy.resident_bytes();
    let sql = query(&"q".repeat(RECORDS));
    let answer = rows(&["a".repeat(RECORDS).as_str()]);

    sql.iter().for_each(|byte| client.send(&[*byte]));
    assert_eq!(session.bytes_of(sql.len()), sql);
    answer.iter().for_each(|byte| session.send(&[*byte]));
    assert_eq!(client.bytes_of(answer.len()), answer);

    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    log_in(&proxy, &cluster);
}

#[test]
fn a_client_that_announces_the_end_of_tls_in_the_middle_of_a_message_is_gone() {
    let cluster = FakeUpstream::by_hand();
    let proxy = with_tls(&cluster);
    let mut client = log_in(&proxy, &cluster);
    let mut session = cluster.session();
    let sql = query("select 1");

    client.send(&sql[..7]);
    client.stream().say_goodbye();

    assert!(session.rest().len() < sql.len(), "what was half is made whole");
    client.rest();
    let mut starting = connect_tls(proxy.address(), &cluster.authority);
    starting.send(&startup(&USER)[..9]);
    starting.stream().say_goodbye();
    starting.rest();
    proxy.wait_for_active(0.0);
    log_in(&proxy, &cluster);
}

#[test]
fn a_server_that_announces_the_end_of_tls_in_the_middle_of_a_message_ends_its_session_alone() {
    let cluster = FakeUpstream::by_hand();
    let proxy = with_tls(&cluster);
    let (mut client, mut session) = (log_in(&proxy, &cluster), cluster.session());
    let mut other = log_in(&proxy, &cluster);
    let mut other_session = cluster.session();
    let answer = rows(&["one"]);

    session.send(&answer[..answer.len() - 9]);
    session.stream().say_goodbye();

    let told = client.rest();
    assert!(answer.starts_with(&told), "{told:?}");
    other_session.send(&answer);
    assert_eq!(other.bytes_of(answer.len()), answer);
}

fn with_tls(cluster: &FakeUpstream) -> TestProxy {
    let settings = SettingsFile::of(cluster).identity("local", &cluster.authority.server()).global("warm_max = 0");
    settings.listener("tls = \"require\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"").start()
}

fn log_in(proxy: &TestProxy, cluster: &FakeUpstream) -> Wire {
    TestClient::log_in(connect_tls(proxy.address(), &cluster.authority), &USER).into_wire()
}

const RECORDS: usize = 10_000;
