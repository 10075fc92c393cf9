//! Bytes both ways: what passes, what is added (nothing), and how each side's end reaches the other.

use crate::harness::{
    FakeUpstream, Postgres, SettingsFile, TestClient, TestProxy,
    wire::{Wire, command_complete, error, extended, message, notice, parameter_status, query, ready, sync, terminate},
};
use std::time::{Duration, Instant};

#[test]
fn messages_of_any_type_pass_unchanged_in_both_directions() {
    let (_cluster, _proxy, mut client, mut session) = joined();
    let sent = [message(b'F', b"\0\0\0\x2a function call"), message(b'~', &[0, 255, 7]), message(b'!', b"")];
    let answered = [message(b'V', b"\0\0\0\x01x"), message(b'@', &[255; 70_000]), message(b'5', b"")];

    client.send(&sent.concat());
    for expected in &sent {
        assert_eq!(as_bytes(&mut session), *expected);
    }

    session.send(&answered.concat());
    for expected in &answered {
        assert_eq!(as_bytes(&mut client), *expected);
    }
}

#[test]
fn one_byte_at_a_time_arrives_as_well() {
    let (_cluster, _proxy, mut client, mut session) = joined();

    for byte in query("select 1") {
        client.send(&[byte]);
    }
    assert_eq!(as_bytes(&mut session), query("select 1"));

    let answer = [command_complete("SELECT 1"), ready(b'I')].concat();
    for &byte in &answer {
        session.send(&[byte]);
    }
    assert_eq!([as_bytes(&mut client), as_bytes(&mut client)].concat(), answer);
}

#[test]
fn what_the_server_says_unasked_arrives_at_once_while_idle() {
    let (_cluster, _proxy, mut client, mut session) = joined();
    let notification = message(b'A', b"\0\0\0\x07channel\0payload\0");

    for said in [notice("hello"), parameter_status("TimeZone", "UTC"), notification] {
        session.send(&said);
        assert_eq!(as_bytes(&mut client), said);
    }
}

#[test]
fn a_terminate_is_passed_on_and_closes_both_sides() {
    let (_cluster, proxy, mut client, mut session) = joined();

    client.send(&terminate());

    assert_eq!(as_bytes(&mut session), terminate());
    session.assert_closed();
    proxy.wait_for_closed("client_terminate", 1.0);
    proxy.wait_for_active(0.0);
}

#[test]
fn a_client_that_leaves_with_nothing_owed_takes_its_upstream_along_within_a_second() {
    let (_cluster, proxy, client, mut session) = joined();

    let start = Instant::now();
    drop(client);
    session.rest();

    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    proxy.wait_for_closed("client_eof", 1.0);
}

#[test]
fn answers_still_flow_to_a_client_that_has_said_its_last() {
    let (_cluster, _proxy, mut client, mut session) = joined();
    client.send(&query("select 1"));
    client.half_close();
    assert_eq!(session.message().tag, b'Q');

    let answer = [command_complete("SELECT 1"), ready(b'I')].concat();
    session.send(&answer);

    assert_eq!(client.rest(), answer);
    session.rest();
}

#[test]
fn a_query_owed_to_a_client_that_has_left_is_cancelled_after_the_close_limit() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global("close_limit = \"300ms\"").start();
    let mut client = proxy.client();
    let mut session = cluster.session();
    client.send(&query("select pg_sleep(600)"));
    assert_eq!(session.message().tag, b'Q');

    client.half_close();

    cluster.wait_until(|seen| seen.cancels.len() == 1);
    session.rest();
    client.rest();
    proxy.wait_for_active(0.0);
}

#[test]
fn an_upstream_lost_at_a_boundary_is_told_as_08006() {
    let (_cluster, proxy, mut client, mut session) = joined();

    session.half_close();

    assert_eq!(client.refusal().sqlstate(), "08006");
    proxy.wait_for_closed("upstream_eof", 1.0);
}

#[test]
fn an_upstream_reset_at_a_boundary_is_told_as_08006() {
    let (_cluster, proxy, mut client, session) = joined();

    session.reset();

    assert_eq!(client.refusal().sqlstate(), "08006");
    proxy.wait_for_closed("upstream_reset", 1.0);
}

#[test]
fn an_upstream_lost_within_a_message_ends_in_a_plain_close() {
    let (_cluster, _proxy, mut client, mut session) = joined();
    let half = &message(b'D', &[b'x'; 1000])[..500];

    session.send(half);
    session.half_close();

    assert_eq!(client.rest(), half);
}

#[test]
fn an_upstream_that_vanishes_without_goodbye_loses_no_byte_that_it_sent() {
    let (_cluster, _proxy, mut client, mut session) = joined();
    let answer = [message(b'D', &[7; 50_000]), command_complete("SELECT 1"), ready(b'I')].concat();
    client.send(&query("select 1"));
    session.message();

    session.send(&answer);
    session.shut_without_goodbye();

    assert_eq!(client.bytes_of(answer.len()), answer);
    assert_eq!(client.refusal().sqlstate(), "08006");
}

#[test]
fn nothing_is_added_after_the_servers_own_last_word() {
    let (_cluster, proxy, mut client, mut session) = joined();
    let last = error("FATAL", "57P01", "server is shutting down");

    session.send(&last);
    session.half_close();

    assert_eq!(client.rest(), last);
    proxy.wait_for_closed("upstream_fatal", 1.0);
}

#[test]
fn a_malformed_frame_at_a_boundary_is_told_as_08p01() {
    let (_cluster, proxy, mut client, mut session) = joined();

    session.send(&[b'D', 0, 0, 0, 3]);

    assert_eq!(client.refusal().sqlstate(), "08P01");
    proxy.wait_for_closed("upstream_protocol", 1.0);
}

#[test]
fn a_malformed_frame_that_comes_in_pieces_ends_in_a_plain_close() {
    let (_cluster, proxy, mut client, mut session) = joined();

    session.send(&[b'D', 0, 0]);
    assert_eq!(client.bytes(), [b'D', 0, 0]);
    session.send(&[0, 3]);

    // What follows these three bytes is inside the server's message, whoever sends it.
    let rest = client.rest();
    assert!([0, 3].starts_with(&rest), "added {:?}", String::from_utf8_lossy(&rest));
    proxy.wait_for_closed("upstream_protocol", 1.0);
}

#[test]
fn a_malformed_frame_from_the_client_ends_its_session() {
    let (_cluster, proxy, mut client, mut session) = joined();

    client.send(&[b'Q', 0, 0, 0, 3]);

    assert_eq!(client.refusal().sqlstate(), "08P01");
    session.rest();
    proxy.wait_for_closed("client_protocol", 1.0);
}

#[test]
fn a_client_reset_frees_both_sockets() {
    let (_cluster, proxy, client, mut session) = joined();

    client.into_wire().reset();

    session.rest();
    proxy.wait_for_closed("client_reset", 1.0);
    proxy.wait_for_active(0.0);
}

#[test]
fn ten_thousand_pipelined_statements_need_no_reader_while_they_are_written() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);
    let mut client = proxy.client();
    let pipeline = extended("select 1").repeat(10_000);

    client.send(&pipeline);
    client.send(&sync());

    let answers = client.until(b'Z');
    assert_eq!(answers.iter().filter(|message| message.tag == b'C').count(), 10_000);
}

#[test]
fn a_row_of_64_mib_arrives_whole() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);

    let row = proxy.client().value("select repeat('0123456789abcdef', 4 * 1024 * 1024)");

    assert_eq!(row.len(), 64 << 20);
    assert!(row.as_bytes().chunks(16).all(|part| part == b"0123456789abcdef"));
}

#[test]
fn a_notification_reaches_the_client_that_listens() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);
    let (mut listening, mut notifying) = (proxy.client(), proxy.client());
    listening.query("listen orders");

    notifying.query("notify orders, 'number 7'");

    let notification = listening.message();
    assert_eq!(notification.tag, b'A');
    assert!(notification.body.ends_with(b"orders\0number 7\0"), "{notification:?}");
    // Drivers compare the notifying process with the key that startup gave.
    assert_eq!(notification.body[..4], notifying.key[..4]);
}

#[test]
fn statements_and_errors_are_counted_by_class() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);
    let mut client = proxy.client();

    client.query("select 1; select 2");
    client.query("");
    client.query("select 1/0");
    client.query("selct");

    let errors = |class| proxy.metric("crdb_proxy_errors_total", &[("listener", "main"), ("class", class)]);
    proxy.wait_for_metric("crdb_proxy_statements_total", &[("listener", "main")], 3.0);
    assert_eq!((errors("22"), errors("42"), errors("08")), (Some(1.0), Some(1.0), Some(0.0)));
}

#[test]
fn an_idle_limit_ends_a_session_outside_of_transactions_only() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).global("session_idle_limit = \"500ms\"").start();
    let (mut idle, mut busy) = (proxy.client(), proxy.client());
    busy.query("begin");

    assert_eq!(idle.refusal().sqlstate(), "57P05");

    assert!(busy.stays_silent(Duration::from_millis(700)), "cut within a transaction");
    busy.query("commit");
    assert_eq!(busy.refusal().sqlstate(), "57P05");
    proxy.wait_for_closed("idle_limit", 2.0);
}

#[test]
fn an_age_limit_ends_a_session_at_its_next_idle_point() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).global("session_age_limit = \"300ms\"").start();
    let mut client = proxy.client();
    client.query("begin");
    client.query("select pg_sleep(0.5)");

    client.send(&query("commit"));

    client.until(b'Z');
    assert_eq!(client.refusal().sqlstate(), "57P01");
    proxy.wait_for_closed("age_limit", 1.0);
}

/// A client joined to a session that the test plays by hand.
fn joined() -> (FakeUpstream, TestProxy, TestClient, Wire) {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let client = proxy.client();
    let session = cluster.session();
    (cluster, proxy, client, session)
}

/// The next message as it was sent.
#[track_caller]
fn as_bytes(wire: &mut Wire) -> Vec<u8> {
    let received = wire.message();
    message(received.tag, &received.body)
}
