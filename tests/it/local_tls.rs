//! A listener with TLS, and one with a local password.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, SettingsFile, TestClient, TestProxy,
    client::{connect_direct_tls, connect_tls},
    postgres::program,
    process::{self, Finished},
    wire::{SSL_REQUEST, Wire, message, startup},
};
use std::process::Command;

#[test]
fn psql_verifies_a_listener_with_tls_in_full() {
    let (cluster, proxy) = with_tls("allow");
    std::fs::write(proxy.path("root.crt"), cluster.authority.pem()).unwrap();

    for sslmode in ["verify-full", "require", "prefer", "disable"] {
        psql(&proxy, sslmode, "").expect_success();
    }
}

#[test]
fn a_client_in_clear_is_refused_where_tls_is_required() {
    let (cluster, proxy) = with_tls("require");

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.sqlstate(), "28000");
    proxy.wait_for_refusals("tls_required", 1.0);
    TestClient::log_in(connect_tls(proxy.address(), &cluster.authority), &[("user", "anyone")]);
}

#[test]
fn direct_tls_with_the_right_alpn_is_served() {
    let (cluster, proxy) = with_tls("allow");

    let wire = connect_direct_tls(proxy.address(), &cluster.authority, &["postgresql"]).unwrap();

    TestClient::log_in(wire, &[("user", "anyone")]);
}

#[test]
fn direct_tls_for_another_protocol_is_refused_in_the_handshake() {
    let (cluster, proxy) = with_tls("allow");

    let result = connect_direct_tls(proxy.address(), &cluster.authority, &["h2"]);

    assert!(result.is_err(), "served a client that wants HTTP/2");
    proxy.wait_for_refusals("tls_failed", 1.0);
}

#[test]
fn a_second_ssl_request_under_tls_is_a_protocol_violation() {
    let (cluster, proxy) = with_tls("allow");

    let mut wire = connect_tls(proxy.address(), &cluster.authority);
    wire.send(&SSL_REQUEST);

    assert_eq!(wire.refusal().sqlstate(), "08P01");
}

#[test]
fn clear_bytes_behind_an_ssl_request_never_reach_the_session() {
    let (cluster, proxy) = with_tls("allow");

    let mut wire = proxy.connect();
    let smuggled = startup(&[("user", "anyone"), ("application_name", "smuggled")]);
    wire.send(&[SSL_REQUEST.as_slice(), &smuggled].concat());

    assert!(!wire.rest().contains(&b'Z'), "it was logged in");
    assert_eq!(cluster.seen().connections, 0);
}

#[test]
fn a_broken_handshake_costs_only_its_own_connection() {
    let (cluster, proxy) = with_tls("allow");

    let mut wire = proxy.connect();
    wire.send(&SSL_REQUEST);
    assert_eq!(wire.bytes(), [b'S']);
    wire.send(b"GET / HTTP/1.1\r\n\r\n");
    wire.rest();

    proxy.wait_for_refusals("tls_failed", 1.0);
    TestClient::log_in(connect_tls(proxy.address(), &cluster.authority), &[("user", "anyone")]);
}

#[test]
fn a_local_password_lets_in_who_knows_it_and_nobody_else() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "l0cal secret\n");
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();

    psql(&proxy, "disable", "l0cal secret").expect_success();
    let wrong = psql(&proxy, "disable", "guessed").stderr;

    assert!(wrong.contains("password authentication failed"), "{wrong}");
    proxy.wait_for_refusals("local_auth", 1.0);
    assert_eq!(cluster.seen().connections, 1, "a stranger reached the cluster");
}

#[test]
fn a_wrong_local_password_costs_a_second_and_is_logged_once_in_a_while() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "l0cal secret");
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();
    let began = std::time::Instant::now();
    let guesses: Vec<_> = (0..3).map(|_| guess(&proxy)).collect();

    for mut guess in guesses {
        assert_eq!(guess.refusal().sqlstate(), "28P01");
    }

    let took = began.elapsed();
    assert!(took >= std::time::Duration::from_secs(1), "{took:?}");
    proxy.wait_for_refusals("local_auth", 3.0);
    let line = proxy.wait_for_message("session refused");
    assert_eq!((&line["level"], &line["cause"]), (&"WARN".into(), &"wrong local password".into()), "{line}");
    assert!(line["client.addr"].as_str().is_some_and(|addr| addr.starts_with("127.0.0.1:")), "{line}");
    assert_eq!(proxy.log_text().matches("session refused").count(), 1, "{}", proxy.log_text());
}

#[test]
fn who_waits_for_a_wrong_local_password_waits_no_longer_than_a_startup_may_take() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "l0cal secret").global("startup_limit = \"300ms\"");
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();
    let mut guess = guess(&proxy);
    let began = std::time::Instant::now();

    assert_eq!(guess.refusal().sqlstate(), "28P01");

    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}

/// A client that proves nothing.
fn guess(proxy: &TestProxy) -> Wire {
    let mut wire = proxy.startup(&[("user", "anyone")]);
    assert_eq!(wire.message().tag, b'R');
    wire.send(&message(b'p', b"open"));
    wire
}

#[test]
fn a_client_too_slow_for_the_local_password_is_told_so() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "l0cal").global("startup_limit = \"300ms\"");
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();

    let mut wire = proxy.startup(&[("user", "anyone")]);
    assert_eq!(wire.message().tag, b'R');

    assert_eq!(wire.refusal().sqlstate(), "08P01");
    proxy.wait_for_refusals("startup_timeout", 1.0);
}

#[test]
fn a_local_password_may_be_a_verifier() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", VERIFIER_OF_PENCIL);
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();

    psql(&proxy, "disable", "pencil").expect_success();

    assert!(psql(&proxy, "disable", "pen").stderr.contains("password authentication failed"));
}

#[test]
fn a_client_in_clear_is_not_offered_channel_binding() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "l0cal");
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();

    let offer = proxy.startup(&[("user", "anyone")]).message();

    assert_eq!(offer.body, b"\0\0\0\x0aSCRAM-SHA-256\0\0");
}

/// A listener with a certificate of the cluster's own authority.
fn with_tls(mode: &str) -> (FakeUpstream, TestProxy) {
    let authority = Authority::new();
    let local = authority.server();
    let script = crate::harness::Script { session: crate::harness::Session::Answers, ..Default::default() };
    let cluster = FakeUpstream::signed_by(authority, script);
    let settings = SettingsFile::of(&cluster).identity("local", &local);
    let lines = format!("tls = \"{mode}\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"");
    let proxy = settings.listener(&lines).start();
    (cluster, proxy)
}

fn psql(proxy: &TestProxy, sslmode: &str, password: &str) -> Finished {
    let port = proxy.address().port();
    let connection = format!("host=127.0.0.1 port={port} user=anyone sslmode={sslmode}");
    let mut psql = Command::new(program("psql"));
    psql.args(["-XAt", "-w", "-c", "select 1", "-d", &connection]);
    psql.env("PGPASSWORD", password).env("PGSSLROOTCERT", proxy.path("root.crt"));
    process::run(&mut psql, "", DEADLINE)
}

/// Of the password `pencil`, with the salt and count of RFC 7677's example.
const VERIFIER_OF_PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
