//! Upstreams that stand ready before they are needed: who gets one, and what is never handed out.

use crate::harness::{
    FakeUpstream, Login, Postgres, Script, Session, SettingsFile, TestClient, TestProxy,
    settings::write_private,
    wire::{self, command_complete, parameter_status, query, ready, terminate},
};
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn the_third_client_finds_an_upstream_ready_and_is_greeted_as_by_the_server() {
    let server = Postgres::start();
    let proxy = TestProxy::before(&server);
    let cold = proxy.client();
    proxy.client();
    wait_for_ready(&proxy, 1.0);
    let logins = attempts(&proxy);

    let mut warm = proxy.client();

    assert_eq!(claims(&proxy, "hit"), 1.0);
    let texts = |client: &TestClient| {
        let messages = client.greeting.iter().filter(|message| message.tag != b'K');
        messages.map(|message| (message.tag, message.body.clone())).collect::<Vec<_>>()
    };
    assert_eq!(texts(&warm), texts(&cold));
    // The key shows the process that really serves.
    let process_id = u32::from_be_bytes(warm.key[..4].try_into().unwrap());
    assert_eq!(warm.value("select pg_backend_pid()"), process_id.to_string());
    assert_eq!(warm.value("select current_user"), "app");
    proxy.wait_for_metric("crdb_proxy_connect_attempts_total", &[("result", "ok")], logins + 1.0);
    wait_for_ready(&proxy, 1.0);
    assert_eq!(count_of(&proxy, "crdb_proxy_claim_seconds_count", &[("source", "warm")]), 1.0);
}

#[test]
fn only_exactly_the_same_parameters_are_served_from_what_stands_ready() {
    let server = Postgres::start();
    let proxy = TestProxy::before(&server);
    let named = |name: &str| TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("application_name", name)]);
    named("one");
    named("one");
    wait_for_ready(&proxy, 1.0);

    let mut other = named("two");
    assert_eq!((claims(&proxy, "hit"), other.value("show application_name")), (0.0, "two".to_owned()));
    let mut same = named("one");

    assert_eq!((claims(&proxy, "hit"), same.value("show application_name")), (1.0, "one".to_owned()));
}

#[test]
fn a_set_of_parameters_that_comes_once_is_not_kept_ready() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    for process_id in 0..20 {
        let name = format!("worker {process_id}");
        TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("application_name", &name)]);
    }

    proxy.wait_for_active(0.0);
    cluster.wait_until(|seen| seen.ended == 20);

    assert_eq!((cluster.seen().connections, claims(&proxy, "miss_first")), (20, 20.0));
}

#[test]
fn replication_and_a_listener_that_wants_none_get_none() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).another_listener("off", "warm_max = 0").start();
    for _ in 0..3 {
        TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("replication", "database")]);
        let address = proxy.listener("off").parse::<std::net::SocketAddr>().unwrap();
        let wire = wire::Wire::new(std::net::TcpStream::connect(address).unwrap());
        TestClient::log_in(wire, &[("user", "anyone")]);
    }

    cluster.wait_until(|seen| seen.ended == 6);
    let off =
        |listener| count_of(&proxy, "crdb_proxy_warm_claims_total", &[("listener", listener), ("result", "miss_off")]);
    assert_eq!((off("main"), off("off"), cluster.seen().connections), (3.0, 3.0, 6));
}

#[test]
fn what_the_server_ends_while_it_waits_is_dropped_silently_and_replaced() {
    let server = Postgres::start();
    let proxy = TestProxy::before(&server);
    make_ready(&proxy);

    server.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");

    wait_for_recycled(&proxy, "shutdown", 1.0);
    wait_for_ready(&proxy, 1.0);
    assert_eq!(proxy.client().value("select 1"), "1");
    assert_eq!(claims(&proxy, "hit"), 1.0);
}

#[test]
fn a_server_that_closes_without_a_word_is_noticed_too() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let waiting = ready_by_hand(&proxy, &cluster);

    drop(waiting);

    wait_for_recycled(&proxy, "closed", 1.0);
    let mut next = cluster.session();
    wait_for_ready(&proxy, 1.0);
    let mut client = proxy.client();
    client.send(&query("select"));
    next.message();
    next.send(&[command_complete("SELECT 1"), ready(b'I')].concat());
    client.until(b'Z');
}

#[test]
fn what_the_server_reports_meanwhile_reaches_the_client() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let mut waiting = ready_by_hand(&proxy, &cluster);

    let said = [parameter_status("TimeZone", "Mars/Olympus"), wire::notice("a notice")].concat();
    waiting.send(&said);
    let mut client = proxy.client();

    let (status, notice) = (client.message(), client.message());
    assert_eq!((status.tag, status.body), (b'S', b"TimeZone\0Mars/Olympus\0".to_vec()));
    assert_eq!(notice.field(b'M').unwrap(), "a notice");
    client.send(&query("select"));
    assert_eq!(waiting.message().tag, b'Q');
    assert_eq!(claims(&proxy, "hit"), 1.0);
}

#[test]
fn anything_else_that_a_server_says_makes_it_useless() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let mut waiting = ready_by_hand(&proxy, &cluster);

    waiting.send(&wire::message(b'A', b"\0\0\0\x01channel\0payload\0"));

    wait_for_recycled(&proxy, "closed", 1.0);
}

#[test]
fn age_replaces_what_waits_and_disuse_forgets_it() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("warm_age = \"1s\"").start();
    make_ready(&proxy);
    wait_for_recycled(&proxy, "age", 1.0);
    wait_for_ready(&proxy, 1.0);

    let short = SettingsFile::of(&cluster).global("warm_idle = \"500ms\"").start();
    make_ready(&short);
    wait_for_recycled(&short, "idle", 1.0);
    wait_for_ready(&short, 0.0);
    short.client();
    assert_eq!(claims(&short, "miss_first"), 2.0, "the very first, and the one that came later");
}

#[test]
fn another_secret_makes_what_was_logged_in_with_the_old_one_useless() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    make_ready(&proxy);

    cluster.change(|script| script.login = Login::scram("another one"));
    write_private(&proxy.path("app.pw"), "another one");

    wait_for_recycled(&proxy, "secret", 1.0);
    wait_for_ready(&proxy, 1.0);
    proxy.client();
    assert_eq!(claims(&proxy, "hit"), 1.0);
}

#[test]
fn a_refused_secret_is_not_tried_again_while_nobody_comes() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    make_ready(&proxy);
    cluster.change(|script| script.login = Login::scram("another one"));

    // It takes the one that stands ready; opening the next is refused.
    proxy.client();
    let refused = [("result", "login_password")];
    proxy.wait_for_metric("crdb_proxy_connect_attempts_total", &refused, 1.0);

    // Longer than the first pause after any other failure.
    assert!(proxy.never_says("panic", Duration::from_millis(1500)));
    assert_eq!(count_of(&proxy, "crdb_proxy_connect_attempts_total", &refused), 1.0);
}

#[test]
fn a_server_that_ends_what_was_just_opened_is_not_asked_all_the_time() {
    let closes = Session::Run(std::sync::Arc::new(|mut wire: wire::Wire| {
        wire.try_send(&wire::error("FATAL", "57P05", "no idle sessions here")).ok();
    }));
    let cluster = FakeUpstream::start(Script { session: closes, ..Script::default() });
    let proxy = TestProxy::before(&cluster);
    proxy.client();
    proxy.client();
    wait_for_recycled(&proxy, "closed", 1.0);

    // Time for sixty openings, if there were no pause between them.
    assert!(proxy.never_says("panic", Duration::from_millis(1500)));

    let opened = cluster.seen().connections;
    assert!((3..=5).contains(&opened), "{opened} connections");
}

#[test]
fn as_many_stand_ready_as_were_used_at_once_within_the_bounds() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).listener("warm_max = 3").global("warm_total_max = 4");
    let proxy = settings.another_listener("second", "warm_max = 3").start();
    make_ready(&proxy);

    let many = (0..10).map(|_| proxy.client()).collect::<Vec<_>>();
    wait_for_ready(&proxy, 3.0);
    let address = proxy.listener("second").parse::<std::net::SocketAddr>().unwrap();
    let second = || {
        let wire = wire::Wire::new(std::net::TcpStream::connect(address).unwrap());
        TestClient::log_in(wire, &[("user", "anyone")])
    };
    let others = (0..10).map(|_| second()).collect::<Vec<_>>();

    proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "second")], 1.0);
    let status = proxy.status();
    assert_eq!(status["warm"][0]["ready"], 3);
    assert_eq!(status["warm"][0]["wanted"], 3);
    assert_eq!(status["warm"][0]["endpoint"], "first");
    assert_eq!(status["warm"][0]["database"], "defaultdb");
    assert_eq!(status["clusters"][0]["endpoints"][0]["warm"], 4);
    drop((many, others));
}

#[test]
fn a_database_that_must_be_free_is_left_alone() {
    let server = Postgres::start();
    let proxy = TestProxy::before(&server);
    server.sql("create database doomed owner app");
    let doomed = || TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("database", "doomed")]);
    doomed();
    doomed();
    wait_for_ready(&proxy, 1.0);

    let mut other = proxy.client();
    let answers = other.query("drop database doomed");
    assert!(answers.iter().any(|message| message.sqlstate() == "55006"), "{answers:?}");
    wait_for_recycled(&proxy, "limit", 1.0);
    let answers = other.query("drop database doomed");

    assert!(answers.iter().all(|message| message.tag != b'E'), "{answers:?}");
}

#[test]
fn a_cancel_reaches_a_session_that_was_served_from_what_stood_ready() {
    let server = Postgres::start();
    let proxy = TestProxy::before(&server);
    make_ready(&proxy);
    let mut client = proxy.client();
    assert_eq!(claims(&proxy, "hit"), 1.0);
    // A cancel that comes before the query does cancels nothing.
    client.send(&query("DO $$ BEGIN RAISE NOTICE 'it runs'; PERFORM pg_sleep(60); END $$"));
    client.until(b'N');

    let mut cancel = proxy.connect();
    cancel.send(&wire::cancel_request(&client.key));
    cancel.assert_closed();

    assert!(client.until(b'Z').iter().any(|message| message.sqlstate() == "57014"));
}

#[test]
fn a_drain_says_goodbye_to_what_stands_ready() {
    let cluster = FakeUpstream::by_hand();
    let mut proxy = TestProxy::before(&cluster);
    let mut waiting = ready_by_hand(&proxy, &cluster);

    proxy.signal(Signal::TERM);

    assert_eq!(waiting.rest(), terminate());
    assert_eq!(proxy.exit_code(), 0);
}

/// Two clients come and go, and one upstream stands ready for the third.
fn make_ready(proxy: &TestProxy) {
    proxy.client();
    proxy.client();
    wait_for_ready(proxy, 1.0);
}

/// The same before a scripted cluster; gives the server's end of what stands ready.
fn ready_by_hand(proxy: &TestProxy, cluster: &FakeUpstream) -> wire::Wire {
    proxy.client();
    drop(cluster.session());
    proxy.client();
    let (_gone, waiting) = cluster.left_and_ready();
    wait_for_ready(proxy, 1.0);
    waiting
}

fn wait_for_ready(proxy: &TestProxy, count: f64) {
    proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], count);
}

fn wait_for_recycled(proxy: &TestProxy, cause: &str, count: f64) {
    proxy.wait_for_metric("crdb_proxy_warm_recycled_total", &[("listener", "main"), ("cause", cause)], count);
}

fn claims(proxy: &TestProxy, result: &str) -> f64 {
    count_of(proxy, "crdb_proxy_warm_claims_total", &[("listener", "main"), ("result", result)])
}

fn attempts(proxy: &TestProxy) -> f64 {
    count_of(proxy, "crdb_proxy_connect_attempts_total", &[("result", "ok")])
}

fn count_of(proxy: &TestProxy, name: &str, labels: &[(&str, &str)]) -> f64 {
    proxy.metric(name, labels).unwrap()
}
