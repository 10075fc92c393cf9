//! Listeners that come, go, move and change while the daemon serves.

use super::{client_of, reload, reloads};
use crate::harness::{DEADLINE, FakeUpstream, SettingsFile, TestClient, TestProxy, port::Port, wire::Wire};
use rustix::process::Signal;
use serde_json::Value;
use std::{fs, net::TcpStream, time::Instant};

#[test]
fn a_new_listener_is_served_and_one_that_is_gone_ends_its_sessions_gently() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).another_listener("old", "").start();
    let (mut main, mut old) = (proxy.client(), client_of(&proxy, "old"));
    let gone = proxy.listener("old");
    // The other address is asked for in other words, or it would be the same one.
    proxy.rewrite_settings(|text| {
        let (before, _) = text.rsplit_once("[[listener]]\nname = \"old\"").unwrap();
        format!("{before}[[listener]]\nname = \"new\"\naddress = \"127.0.0.2:0\"\n")
    });

    reloads(&proxy);

    client_of(&proxy, "new").query("select 1");
    main.query("select 1");
    assert_eq!(old.refusal().sqlstate(), "57P01");
    let end = Instant::now() + DEADLINE;
    while TcpStream::connect(&gone).is_ok() {
        assert!(Instant::now() < end, "{gone} still accepts");
    }
}

#[test]
fn sessions_of_a_listener_that_moves_live_on() {
    let cluster = FakeUpstream::answering();
    let mut proxy = SettingsFile::of(&cluster).start();
    let mut open = proxy.client();
    proxy.rewrite_settings(|text| text.replace("127.0.0.1:0\"\n\n", "127.0.0.2:0\"\n\n"));

    reloads(&proxy);

    let moved = proxy.status()["listeners"][0]["addresses"][0].as_str().unwrap().to_owned();
    assert!(moved.starts_with("127.0.0.2:"), "{moved}");
    TestClient::log_in(Wire::new(TcpStream::connect(moved).unwrap()), &[("user", "anyone")]).query("select 1");
    open.query("select 1");
    // A drain reaches them nonetheless.
    proxy.signal(Signal::TERM);
    assert_eq!(open.refusal().sqlstate(), "57P01");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn listeners_on_any_free_port_keep_theirs_whatever_their_order() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).another_listener("second", "").another_listener("third", "").start();
    let ports = |proxy: &TestProxy| {
        let listeners = proxy.status()["listeners"].as_array().unwrap().clone();
        let mut ports: Vec<_> = listeners
            .iter()
            .map(|listener| (listener["name"].to_string(), listener["addresses"].to_string()))
            .collect();
        ports.sort();
        ports
    };
    let before = ports(&proxy);
    proxy.rewrite_settings(|text| {
        let (head, listeners) = text.split_once("[[listener]]").unwrap();
        let mut blocks: Vec<_> = listeners.split("[[listener]]").map(str::trim).collect();
        blocks.rotate_left(1);
        blocks.iter().fold(head.to_owned(), |text, block| format!("{text}\n[[listener]]\n{block}\n"))
    });

    reloads(&proxy);

    assert_eq!(ports(&proxy), before);
}

#[test]
fn an_address_that_is_taken_refuses_all_of_it() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("database = \"before\"").start();
    proxy.address();
    let port = Port::reserve();
    let taken = port.listen();
    proxy.rewrite_settings(|text| {
        text.replace("\"before\"", "\"after\"")
            + &format!("[[listener]]\nname = \"new\"\naddress = \"{}\"\n", taken.local_addr().unwrap())
    });

    let (status, said) = reload(&proxy);

    assert!(status == 422 && said["faults"].to_string().contains("\\\"new\\\" cannot listen on"), "{status}: {said}");
    assert_eq!(proxy.status()["listeners"][0]["database"], "before");
    proxy.client().query("select 1");
}

#[test]
fn a_changed_limit_of_sessions_counts_those_that_are_open() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("sessions_max = 3").start();
    let (mut first, second) = (proxy.client(), proxy.client());
    proxy.rewrite_settings(|text| text.replace("sessions_max = 3", "sessions_max = 1"));
    reloads(&proxy);

    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "53300");
    first.query("select 1");
    drop(second);
    proxy.wait_for_active(1.0);
    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "53300");
    drop(first);
    proxy.wait_for_active(0.0);

    proxy.client().query("select 1");
}

#[test]
fn what_a_dry_run_promises_a_reload_keeps_to() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.address();
    let good = fs::read_to_string(proxy.path("crdb-proxy.toml")).unwrap();
    let port = Port::reserve();
    let taken = port.listen();
    let gone = format!("unix:{}", proxy.path("no-such-folder/.s.PGSQL.1").display());
    let mine = proxy.address();

    for (address, expected) in [
        (taken.local_addr().unwrap().to_string(), "does another crdb-proxy"),
        (gone, "does its folder exist?"),
        (format!("unix:{}", proxy.path("ca.crt").display()), "Not a directory"),
        (format!("0.0.0.0:{}\"\nunsafe_allow_remote = true # \"", mine.port()), "listener \\\"main\\\" of this daemon"),
    ] {
        let new = format!("[[listener]]\nname = \"new\"\ncluster = \"test\"\naddress = \"{address}\"\n");
        proxy.rewrite_settings(|_| good.clone() + &new);
        let (status, _, rehearsed) = proxy.http("POST /reload?dry_run=true", "");
        let (also, said) = reload(&proxy);
        let rehearsed: Value = serde_json::from_str(&rehearsed).unwrap();

        assert_eq!((status, also), (422, 422), "{rehearsed} {said}");
        assert_eq!(rehearsed["faults"], said["faults"]);
        assert!(said["faults"].to_string().contains(expected), "{said}");
    }
    proxy.client().query("select 1");
}

#[test]
fn an_address_that_overlaps_the_listeners_own_is_refused_and_says_whose_it_is() {
    let cluster = FakeUpstream::answering();
    let port = Port::reserve();
    let address = format!("localhost:{}", port.address().port());
    let proxy = SettingsFile::of(&cluster).address(&address).start();
    proxy.client();
    proxy.rewrite_settings(|text| text.replace("localhost:", "127.0.0.1:"));

    let (status, said) = reload(&proxy);

    let faults = said["faults"].to_string();
    assert!(status == 422 && faults.contains("listener \\\"main\\\" of this daemon has that port"), "{status}: {said}");
    assert!(!faults.contains("another crdb-proxy"), "{faults}");
}

#[test]
fn series_of_listeners_and_clusters_that_are_gone_go_with_their_last_session() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).another_listener("old", "").start();
    let old = client_of(&proxy, "old");
    proxy.rewrite_settings(|text| {
        let (before, _) = text.rsplit_once("[[listener]]\nname = \"old\"").unwrap();
        before.replace("cluster.test", "cluster.renamed").replace("\"test\"", "\"renamed\"")
    });
    reloads(&proxy);
    drop(old);

    let end = Instant::now() + DEADLINE;
    while ["listener=\"old\"", "cluster=\"test\""].iter().any(|label| proxy.metrics().contains(label)) {
        assert!(Instant::now() < end, "{}", proxy.metrics());
    }
    assert!(proxy.metrics().contains("cluster=\"renamed\""));
    proxy.client();
    assert_eq!(proxy.metric("crdb_proxy_client_connections_accepted_total", &[("listener", "main")]), Some(1.0));
}

#[test]
fn a_session_that_came_in_where_its_listener_was_before_ends_with_the_listener() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).another_listener("old", "").start();
    let mut first = client_of(&proxy, "old");
    proxy.rewrite_settings(|text| {
        let (before, after) = text.rsplit_once("127.0.0.1:0").unwrap();
        format!("{before}127.0.0.2:0{after}")
    });
    reloads(&proxy);
    first.query("select 1");
    proxy.rewrite_settings(|text| text.rsplit_once("[[listener]]\nname = \"old\"").unwrap().0.to_owned());

    let said = reloads(&proxy);

    assert!(said["warnings"].to_string().contains("\\\"old\\\" is taken out"), "{said}");
    assert_eq!(first.refusal().sqlstate(), "57P01");
}

#[test]
fn a_listener_that_gets_another_name_keeps_its_sessions_and_leaves_no_series() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).another_listener("old", "").start();
    let (mut open, address) = (client_of(&proxy, "old"), proxy.listener("old"));
    proxy.rewrite_settings(|text| text.replace("\"old\"", "\"renamed\""));

    let said = reloads(&proxy);

    assert!(said["warnings"].to_string().contains("becomes \\\"renamed\\\" at the same address"), "{said}");
    open.query("select 1");
    assert_eq!(proxy.status()["clusters"][0]["endpoints"][0]["sessions"], 1);
    drop(open);
    let end = Instant::now() + DEADLINE;
    while proxy.metrics().contains("listener=\"old\"") {
        assert!(Instant::now() < end, "{}", proxy.metrics());
    }
    let wire = Wire::new(TcpStream::connect(address).unwrap());
    TestClient::log_in(wire, &[("user", "anyone")]).query("select 1");
}

#[test]
fn what_only_a_restart_changes_and_is_changed_back_has_not_changed() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("threads = 2").start();
    proxy.address();
    proxy.rewrite_settings(|text| text.replace("threads = 2", "threads = 3"));
    let there = reloads(&proxy);
    assert_eq!(proxy.wait_for_message("reloaded")["changes"], 0);
    proxy.rewrite_settings(|text| text.replace("threads = 3", "threads = 2"));

    let back = reloads(&proxy);

    assert_eq!(there["needs_restart"], serde_json::json!(["threads"]));
    assert_eq!((&back["needs_restart"], &back["changes"]), (&serde_json::json!([]), &serde_json::json!([])));
}

#[test]
fn the_end_of_a_certificate_that_is_not_shown_any_more_is_told_no_more() {
    let cluster = FakeUpstream::answering();
    let identity = cluster.authority.server();
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let proxy = SettingsFile::of(&cluster).identity("local", &identity).listener(tls).start();
    proxy.address();
    let is_told = || proxy.metrics().contains("kind=\"local\"");
    assert!(is_told());
    proxy.rewrite_settings(|text| text.replace(tls, ""));

    reloads(&proxy);

    assert!(!is_told(), "{}", proxy.metrics());
}
