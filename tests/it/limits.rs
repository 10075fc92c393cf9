//! Limits: what is refused at each, and that a place is free again at once.

use crate::harness::{
    FakeUpstream, Front, Login, Script, Session, SettingsFile, TestClient, TestProxy,
    proxy::series,
    wire::{Wire, startup},
};
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn at_the_daemons_limit_a_client_reads_53300_and_a_place_is_free_again_at_once() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("sessions_max = 2").start();
    let (first, _second) = (proxy.client(), proxy.client());

    let error = proxy.startup(&[("user", "anyone")]).refusal();
    assert_eq!(error.sqlstate(), "53300");
    assert!(format!("{error:?}").contains("sessions_max"), "{error:?}");
    proxy.wait_for_refusals("limit_daemon", 1.0);

    drop(first);
    proxy.wait_for_active(1.0);
    proxy.client();
}

#[test]
fn a_listeners_own_limit_leaves_the_others_alone() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).listener("sessions_max = 1");
    let proxy = settings.another_listener("other", "").start();
    let _only = TestClient::log_in(connect(&proxy, "main"), &[("user", "anyone")]);

    let mut refused = connect(&proxy, "main");
    refused.send(&startup(&[("user", "anyone")]));
    assert_eq!(refused.refusal().sqlstate(), "53300");
    proxy.wait_for_refusals("limit_listener", 1.0);

    TestClient::log_in(connect(&proxy, "other"), &[("user", "anyone")]);
}

#[test]
fn clients_beyond_the_login_slots_wait_their_turn() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("logins_max = 1").start();

    let mut waiting = (0..20).map(|_| proxy.startup(&[("user", "anyone")])).collect::<Vec<_>>();

    for wire in &mut waiting {
        wire.until(b'Z');
    }
}

#[test]
fn a_thousand_clients_at_once_are_all_served_with_so_many_logins_in_flight_and_no_more() {
    let script = Script {
        login: Login::Cleartext(crate::harness::PASSWORD.into()),
        session: Session::Answers,
        ..Script::default()
    };
    let cluster = FakeUpstream::start(script);
    let proxy = SettingsFile::of(&cluster).global("logins_max = 16").start();

    let mut clients = (0..1000).map(|_| proxy.startup(&[("user", "anyone")])).collect::<Vec<_>>();
    for wire in &mut clients {
        wire.until(b'Z');
    }

    let most = cluster.seen().most_in_login;
    assert!((2..=16).contains(&most), "{most} logins at once");
}

#[test]
fn a_client_that_gets_no_login_slot_in_time_reads_53300() {
    let cluster = FakeUpstream::start(Script { front: Front::Silent, ..Script::default() });
    let settings = SettingsFile::of(&cluster).global("logins_max = 1\nlogin_queue_limit = \"300ms\"");
    let proxy = settings.start();
    let _holding = proxy.startup(&[("user", "anyone")]);
    cluster.wait_until(|seen| seen.connections == 1);

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.sqlstate(), "53300");
    proxy.wait_for_refusals("login_queue", 1.0);
}

#[test]
fn silent_sockets_beyond_the_startup_places_wait_and_are_served_later() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("startups_max = 4\nstartup_limit = \"500ms\"");
    let proxy = settings.start();

    let silent = (0..4).map(|_| proxy.connect()).collect::<Vec<_>>();
    let client = proxy.client();

    drop((silent, client));
    proxy.wait_for_refusals("silent", 4.0);
}

#[test]
fn a_single_startup_place_serves_both_families_of_localhost() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("startups_max = 1").address("localhost:0").start();
    let port = proxy.address().port();
    let (v4, v6) = (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    proxy.wait_for_log(|line| line["message"] == "listening" && line["listener.addr"] == v6.to_string());

    // Twice each: whichever family's socket took the place first, another client of the other comes then.
    for address in [v4, v4, v6, v6] {
        TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")]);
    }
}

#[test]
fn running_out_of_descriptors_pauses_accepting_and_recovers() {
    let cluster = FakeUpstream::start(Script { session: Session::Answers, ..Script::default() });
    let proxy = SettingsFile::of(&cluster).start();
    proxy.client();
    proxy.wait_for_active(0.0);
    let baseline = proxy.descriptors();

    limit_descriptors(&proxy, baseline + 2);
    let silent = (0..20).map(|_| proxy.connect()).collect::<Vec<_>>();
    let paused = proxy.wait_for_log(|line| line["level"] == "WARN" && line.to_string().contains("accept"));
    limit_descriptors(&proxy, 1000);
    proxy.client();
    drop(silent);

    let warnings = proxy.log_lines().iter().filter(|line| line["message"] == paused["message"]).count();
    assert_eq!(warnings, 1);
    proxy.wait_for_active(0.0);
    let left = proxy.descriptors();
    assert!(left <= baseline + 4, "{left} descriptors, {baseline} before");
}

#[test]
fn silent_clients_alone_cannot_use_up_the_descriptors() {
    let cluster = FakeUpstream::start(Script { session: Session::Answers, ..Script::default() });
    let proxy = SettingsFile::of(&cluster).descriptors(100).start();
    let mut client = proxy.client();

    let _silent = (0..150).map(|_| proxy.connect()).collect::<Vec<_>>();

    // Well before `startup_limit` ends the silence and frees what it held.
    let start = Instant::now();
    assert_eq!(proxy.http("GET /livez", "").0, 200);
    client.query("select 1");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(proxy.descriptors() < 60, "{} descriptors", proxy.descriptors());
}

#[test]
fn silent_connections_to_the_admin_address_keep_no_probe_out() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let address = proxy.listener("admin");

    let _silent = (0..300).map(|_| TcpStream::connect(&address).unwrap()).collect::<Vec<_>>();

    let start = Instant::now();
    assert_eq!(proxy.http("GET /livez", "").0, 200);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// Changes the limit of a daemon that runs.
fn limit_descriptors(proxy: &TestProxy, limit: usize) {
    let pid = format!("--pid={}", proxy.pid());
    let limit = format!("--nofile={limit}:");
    assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success());
}

#[test]
fn a_low_descriptor_limit_lowers_the_session_limit_with_a_warning() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).descriptors(264).start();

    proxy.wait_for_log(|line| line["level"] == "WARN" && line.to_string().contains("sessions_max"));

    // Two descriptors for each session, 64 for the daemon itself, and one in sixteen stands ready.
    assert_eq!(series(&proxy.metrics(), "crdb_proxy_sessions_max", &[("listener", "main")]), Some(92.0));
}

fn connect(proxy: &TestProxy, listener: &str) -> Wire {
    Wire::new(TcpStream::connect(proxy.listener(listener)).unwrap())
}
