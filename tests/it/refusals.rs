//! What a client reads when it gets no session: a sentence, a SQLSTATE, a hint, an orderly end.

use crate::harness::{
    DEADLINE, FakeUpstream, Front, Postgres, Script, SettingsFile, TestProxy,
    postgres::program,
    process::{self, Finished},
    proxy::closed_port,
    wire::{Message, SSL_REQUEST, startup},
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn a_refused_endpoint_is_named_with_its_cause() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::trusting(&cluster.authority).endpoint("first", closed_port()).start();

    let error = unreachable(&proxy);

    assert!(text(&error).contains("refused"), "{error:?}");
    wait_for_attempts(&proxy, "refused");
}

#[test]
fn an_endpoint_that_does_not_resolve_is_named_with_its_cause() {
    let cluster = FakeUpstream::by_hand();
    let settings = SettingsFile::trusting(&cluster.authority);
    let proxy = settings.endpoint_at("first", "no-such-host.invalid", 26257, "").start();

    let error = unreachable(&proxy);

    assert!(text(&error).contains("no-such-host.invalid"), "{error:?}");
    wait_for_attempts(&proxy, "dns");
}

#[test]
fn a_silent_endpoint_ends_at_the_connect_limit_and_names_the_stage() {
    for front in [Front::Silent, Front::SilentInTls] {
        let cluster = FakeUpstream::start(Script { front, ..Script::default() });
        let proxy = SettingsFile::of(&cluster).global("connect_limit = \"500ms\"").start();

        let start = Instant::now();
        let error = unreachable(&proxy);

        assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
        assert!(text(&error).contains("TLS"), "{error:?}");
        wait_for_attempts(&proxy, "timeout");
    }
}

#[test]
fn an_endpoint_that_closes_or_resets_is_refused_as_unreachable() {
    for front in [Front::Closes, Front::Resets] {
        let cluster = FakeUpstream::start(Script { front, ..Script::default() });
        let proxy = TestProxy::before(&cluster);

        unreachable(&proxy);
    }
}

#[test]
fn each_endpoint_is_named_when_none_can_be_reached() {
    let cluster = FakeUpstream::by_hand();
    let settings = SettingsFile::trusting(&cluster.authority).endpoint("east", closed_port());
    let proxy = settings.endpoint("west", closed_port()).start();

    let error = unreachable(&proxy);

    assert!(text(&error).contains("east") && text(&error).contains("west"), "{error:?}");
}

#[test]
fn psql_prints_the_sentence_and_the_hint() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::trusting(&cluster.authority).endpoint("first", closed_port()).start();

    for sslmode in ["disable", "allow", "prefer"] {
        let stderr = psql(&proxy, sslmode).stderr;
        assert!(stderr.contains("FATAL:") && stderr.contains("HINT:"), "{sslmode}: {stderr}");
        assert!(!stderr.contains("unexpectedly"), "{sslmode}: {stderr}");
    }
}

#[test]
fn psql_says_that_tls_is_off_when_it_requires_it() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);

    let stderr = psql(&proxy, "require").stderr;

    assert!(stderr.contains("server does not support SSL"), "{stderr}");
    proxy.wait_for_refusals("tls_failed", 1.0);
}

#[test]
fn a_refusal_waits_for_the_startup_message() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global("sessions_max = 1").start();
    let _first = proxy.client();

    let mut second = proxy.connect();
    second.send(&SSL_REQUEST);
    assert_eq!(second.bytes(), [b'N'], "libpq hides an error here");
    second.send(&startup(&[("user", "anyone")]));

    assert_eq!(second.refusal().sqlstate(), "53300");
}

#[test]
fn the_text_of_a_refusal_arrives_although_the_client_has_written_on() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::trusting(&cluster.authority).endpoint("first", closed_port()).start();
    let mut wire = proxy.connect();

    // A close over unread bytes would be an RST that eats the text.
    let eager = [startup(&[("user", "anyone")]), crate::harness::wire::query("select 1").repeat(1000)].concat();
    wire.send(&eager);

    assert_eq!(wire.refusal().sqlstate(), "08001");
}

/// The refusal of a client for which no endpoint can be reached.
#[track_caller]
fn unreachable(proxy: &TestProxy) -> Message {
    let error = proxy.startup(&[("user", "anyone")]).refusal();
    assert_eq!(error.sqlstate(), "08001", "{error:?}");
    assert!(error.field(b'H').is_some(), "no hint: {error:?}");
    let logged = proxy.wait_for_message("session refused");
    assert_eq!((&logged["sqlstate"], &logged["level"]), (&"08001".into(), &"WARN".into()), "{logged}");
    error
}

/// Message and detail.
fn text(error: &Message) -> String {
    format!("{} {}", error.field(b'M').unwrap(), error.field(b'D').unwrap_or_default())
}

#[track_caller]
fn wait_for_attempts(proxy: &TestProxy, result: &str) {
    let labels = [("cluster", "test"), ("endpoint", "first"), ("result", result)];
    proxy.wait_for_metric("crdb_proxy_connect_attempts_total", &labels, 1.0);
}

fn psql(proxy: &TestProxy, sslmode: &str) -> Finished {
    let port = proxy.address().port();
    let mut psql = Command::new(program("psql"));
    let connection = format!("host=127.0.0.1 port={port} user=anyone sslmode={sslmode}");
    psql.args(["-XAt", "-c", "select 1", "-d", &connection]);
    process::run(&mut psql, "", DEADLINE)
}
