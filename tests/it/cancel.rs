//! Cancelling: the right session, by the right key, over verified TLS.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Front, Postgres, Script, SettingsFile, TestClient, TestProxy,
    client::connect_tls,
    fake_upstream::Cancel,
    settings::Cluster,
    wire::{PROTOCOL_3_2, SSL_REQUEST, Wire, cancel_request, command_complete, parameters, query, ready, untyped},
};
use std::{
    collections::HashSet,
    net::TcpListener,
    time::{Duration, Instant},
};

/// Says that it runs before it waits, so that no test has to guess when to cancel it.
const SLOW: &str = "DO $$ BEGIN RAISE NOTICE 'it runs'; PERFORM pg_sleep(60); END $$";

#[test]
fn a_running_query_is_cancelled_and_the_session_goes_on() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);
    let mut client = proxy.client();
    client.send(&query(SLOW));
    client.until(b'N');

    cancel(&proxy, &client.key);

    assert_eq!(client.until(b'Z')[0].sqlstate(), "57014");
    assert_eq!(client.value("select 1"), "1");
    proxy.wait_for_metric("crdb_proxy_cancels_total", &[("result", "sent")], 1.0);
}

#[test]
fn only_the_session_that_the_key_belongs_to_is_cancelled() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    for client in [&mut first, &mut second] {
        client.send(&query(SLOW));
        client.until(b'N');
    }

    cancel(&proxy, &first.key);

    assert_eq!(first.until(b'Z')[0].sqlstate(), "57014");
    assert!(second.stays_silent(Duration::from_millis(300)), "the other session was cancelled too");
    cancel(&proxy, &second.key);
    assert_eq!(second.until(b'Z')[0].sqlstate(), "57014");
}

#[test]
fn the_clusters_own_key_is_sent_back_to_it_as_it_came() {
    let keys = [
        vec![0xf1, 2, 3, 4, 0x95, 6, 7, 0xf8],     // CockroachDB: one opaque number
        [vec![9, 9, 9, 9], vec![7; 256]].concat(), // the longest that 3.2 allows
    ];
    for key in keys {
        let cluster = FakeUpstream::start(Script { key: key.clone(), ..Script::default() });
        let proxy = TestProxy::before(&cluster);
        let client = proxy.client();

        cancel(&proxy, &client.key);

        assert_eq!(client.key[..4], key[..4], "drivers compare it with pg_backend_pid()");
        assert_ne!(client.key[4..], key[4..8], "the cluster's secret went to the client");
        let seen = cluster.wait_until(|seen| !seen.cancels.is_empty());
        assert_eq!(seen.cancels, [Cancel { key, over_tls: true }]);
    }
}

#[test]
fn a_cancel_goes_to_the_endpoint_that_holds_the_session_even_if_it_is_no_longer_the_first() {
    let (mut first, second) = (FakeUpstream::by_hand(), FakeUpstream::by_hand());
    let settings = SettingsFile::of(&first).endpoint("second", second.address());
    let both = [first.authority.pem(), second.authority.pem()].concat();
    let proxy = settings.file("ca.crt", &both).start();
    first.stop();
    let client = proxy.client();
    let listener = TcpListener::bind(first.address()).unwrap();
    let first = FakeUpstream::bound_to(listener, Authority::new(), Script::default());

    cancel(&proxy, &client.key);

    second.wait_until(|seen| seen.cancels.len() == 1);
    assert_eq!(first.seen().connections, 0);
}

#[test]
fn a_wrong_key_does_nothing_says_nothing_and_is_counted() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let mut client = proxy.client();
    let mut guessed = client.key.clone();
    *guessed.last_mut().unwrap() ^= 1;

    cancel(&proxy, &guessed);
    cancel(&proxy, &[0; 36]);

    client.query("select 1");
    proxy.wait_for_metric("crdb_proxy_cancels_total", &[("result", "unknown_key")], 2.0);
    assert_eq!(cluster.seen().connections, 1, "only the session reached the cluster");
}

#[test]
fn guessing_keys_takes_time_and_holds_up_nobody_who_has_one() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let client = proxy.client();
    let start = Instant::now();
    let mut guessing = send_cancel(&proxy, &[0; 8]);

    cancel(&proxy, &client.key);
    cluster.wait_until(|seen| seen.cancels.len() == 1);
    assert!(guessing.stays_silent(Duration::from_millis(1)), "closed before the right key was served");

    assert_eq!(guessing.rest(), b"");
    assert!(start.elapsed() >= Duration::from_millis(800), "took only {:?}", start.elapsed());
}

#[test]
fn the_key_of_a_closed_session_does_nothing() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let client = proxy.client();
    let key = client.key.clone();
    drop(client);
    proxy.wait_for_active(0.0);

    cancel(&proxy, &key);

    proxy.wait_for_metric("crdb_proxy_cancels_total", &[("result", "unknown_key")], 1.0);
    assert_eq!(cluster.seen().cancels, []);
}

#[test]
fn every_session_gets_a_key_of_its_own_although_the_clusters_are_all_the_same() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);

    let clients = (0..50).map(|_| proxy.client()).collect::<Vec<_>>();

    let secrets = clients.iter().map(|client| client.key[4..].to_vec()).collect::<HashSet<_>>();
    assert_eq!(secrets.len(), clients.len());
}

#[test]
fn a_3_2_client_cancels_with_its_longer_key() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let mut wire = proxy.connect();
    wire.send(&untyped(PROTOCOL_3_2, &parameters(&[(b"user", b"anyone")])));
    let client = TestClient::ready(wire);

    cancel(&proxy, &client.key);

    assert_eq!(client.key.len(), 4 + 32);
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}

#[test]
fn a_cancel_may_come_after_a_declined_ssl_request() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let client = proxy.client();

    let mut wire = proxy.connect();
    wire.send(&SSL_REQUEST);
    assert_eq!(wire.bytes(), [b'N']);
    wire.send(&cancel_request(&client.key));

    assert_eq!(wire.rest(), b"");
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}

#[test]
fn a_cancel_over_local_tls_reaches_the_session() {
    let cluster = FakeUpstream::by_hand();
    let identity = cluster.authority.server();
    let settings = SettingsFile::of(&cluster).identity("local", &identity);
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let proxy = settings.listener(tls).start();
    let client = proxy.client();

    let mut wire = connect_tls(proxy.address(), &cluster.authority);
    wire.send(&cancel_request(&client.key));

    assert_eq!(wire.rest(), b"");
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}

#[test]
fn cancels_are_not_counted_as_clients() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let client = proxy.client();

    cancel(&proxy, &client.key);

    proxy.wait_for_metric("crdb_proxy_cancels_total", &[("result", "sent")], 1.0);
    proxy.wait_for_active(1.0);
    let listener = [("listener", "main")];
    assert_eq!(proxy.metric("crdb_proxy_client_connections_accepted_total", &listener), Some(2.0));
}

#[test]
fn a_cancel_that_the_cluster_does_not_take_in_time_is_given_up() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global("cancel_limit = \"300ms\"").start();
    let mut client = proxy.client();
    let mut session = cluster.session();
    cluster.change(|script| script.front = Front::Silent);

    cancel(&proxy, &client.key);

    proxy.wait_for_metric("crdb_proxy_cancels_total", &[("result", "failed")], 1.0);
    client.send(&query("select 1"));
    session.message();
    session.send(&[command_complete("SELECT 1"), ready(b'I')].concat());
    client.until(b'Z');
}

#[test]
fn more_cancels_than_allowed_at_once_are_dropped() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global("cancels_max = 2\ncancel_limit = \"20s\"").start();
    let client = proxy.client();
    cluster.change(|script| script.front = Front::Silent);

    let held = (0..4).map(|_| send_cancel(&proxy, &client.key)).collect::<Vec<_>>();

    proxy.wait_for_metric("crdb_proxy_cancels_total", &[("result", "limited")], 2.0);
    drop(held);
}

/// Sends a cancel and waits until the daemon closes, as libpq does.
#[track_caller]
fn cancel(proxy: &TestProxy, key: &[u8]) {
    let mut wire = send_cancel(proxy, key);
    assert_eq!(wire.rest(), b"", "a cancel is never answered within {DEADLINE:?}");
}

fn send_cancel(proxy: &TestProxy, key: &[u8]) -> Wire {
    let mut wire = proxy.connect();
    wire.send(&cancel_request(key));
    wire
}

#[test]
fn what_nobody_waits_for_is_cancelled_even_if_that_takes_longer_than_the_close() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let mut client = proxy.client();
    let mut session = cluster.session();
    client.send(&query("select pg_sleep(60)"));
    session.message();
    cluster.change(|script| script.front_delay = Duration::from_millis(1500));

    client.into_wire().reset();

    cluster.wait_until(|seen| seen.cancels.len() == 1);
    proxy.wait_for_active(0.0);
}

#[test]
fn a_cancel_that_may_have_overtaken_its_query_is_sent_again_until_the_server_closes() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let mut client = proxy.client();
    let mut session = cluster.session();
    client.send(&query("select pg_sleep(60)"));
    session.message();

    client.into_wire().reset();
    cluster.wait_until(|seen| seen.cancels.len() == 2);
    drop(session);
    proxy.wait_for_closed("client_reset", 1.0);

    let key = cluster.seen().cancels.first().map(|cancel| cancel.key.clone());
    assert!(cluster.seen().cancels.iter().all(|cancel| Some(&cancel.key) == key.as_ref()));
}
