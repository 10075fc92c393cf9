//! Settings and certificates that are read again while the daemon serves.

mod client_rules;
mod listeners;
mod on_the_way;

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Login, SettingsFile, TestClient, TestProxy,
    settings::{Cluster, write_private},
    wire::{Wire, cancel_request, command_complete, query, ready},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};

/// `POST /reload`; its status and what it says.
fn reload(proxy: &TestProxy) -> (u16, Value) {
    let (status, _, body) = proxy.http("POST /reload", "");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

#[track_caller]
fn reloads(proxy: &TestProxy) -> Value {
    let (status, said) = reload(proxy);
    assert_eq!((status, &said["state"]), (202, &"reloaded".into()), "{said}");
    said
}

fn client_of(proxy: &TestProxy, listener: &str) -> TestClient {
    let address = proxy.listener(listener);
    TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")])
}

/// What the startups that a server has seen say under `key`.
fn told(cluster: &FakeUpstream, key: &str) -> Vec<String> {
    let startups = cluster.seen().startups.into_iter();
    let values = startups.filter_map(|startup| {
        let words: Vec<_> = startup.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.chunks(2).find(|pair| pair[0] == key).map(|pair| pair[1].clone().into_owned())
    });
    values.collect()
}

#[test]
fn changed_settings_count_for_new_sessions_and_open_ones_live_on() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").listener("database = \"before\"").start();
    let mut open = proxy.client();
    proxy.rewrite_settings(|text| text.replace("\"before\"", "\"after\""));

    proxy.signal(Signal::HUP);
    let reloaded = proxy.wait_for_message("reloaded");

    assert_eq!((&reloaded["cause"], &reloaded["changes"]), (&"SIGHUP".into(), &1.into()));
    proxy.client();
    open.query("select 1");
    assert_eq!(told(&cluster, "database"), ["before", "after"]);
    assert_eq!(proxy.status()["listeners"][0]["database"], "after");
    proxy.wait_for_metric("crdb_proxy_config_reloads_total", &[("result", "ok")], 1.0);
}

#[test]
fn a_reload_with_faults_changes_nothing_and_says_what_is_wrong() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("database = \"before\"").start();
    proxy.address();
    proxy.rewrite_settings(|text| {
        format!("sessions_max = 0\nno_such_key = 1\n{}", text.replace("\"before\"", "\"after\""))
    });

    let (status, said) = reload(&proxy);

    assert_eq!((status, &said["state"]), (422, &"refused".into()), "{said}");
    let faults = said["faults"].to_string();
    assert!(faults.contains("sessions_max") && faults.contains("no_such_key"), "{faults}");
    let status = proxy.status();
    assert_eq!(status["listeners"][0]["database"], "before");
    assert!(status["config"]["last_error"].as_str().unwrap().contains("no_such_key"), "{status}");
    proxy.wait_for_message("reload failed");
    proxy.wait_for_metric("crdb_proxy_config_reloads_total", &[("result", "failed")], 1.0);
    assert_eq!(proxy.metric("crdb_proxy_config_ok", &[]), Some(0.0), "the fault stands");
    proxy.client().query("select 1");

    proxy.rewrite_settings(|text| text.lines().skip(2).collect::<Vec<_>>().join("\n"));
    reloads(&proxy);

    let status = proxy.status();
    assert_eq!((&status["config"]["last_error"], &status["listeners"][0]["database"]), (&Value::Null, &"after".into()));
    assert_eq!(proxy.metric("crdb_proxy_config_ok", &[]), Some(1.0));
}

#[test]
fn broken_toml_and_an_unreadable_ca_are_refused_and_it_serves_on() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.address();
    let good = fs::read_to_string(proxy.path("crdb-proxy.toml")).unwrap();

    for (text, expected) in [
        ("[cluster", "crdb-proxy.toml"),
        (&good.replace("ca.crt", "gone.crt"), "gone.crt"),
        ("\u{0}", "crdb-proxy.toml"),
    ] {
        proxy.rewrite_settings(|_| text.to_owned());
        let (status, said) = reload(&proxy);
        assert!(status == 422 && said.to_string().contains(expected), "{status}: {said}");
    }

    proxy.client().query("select 1");
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("database = \"before\"").start();
    proxy.address();
    proxy.rewrite_settings(|text| {
        format!("threads = 3\n{}", text.replace("\"before\"", "\"after\""))
            + "[[listener]]\nname = \"new\"\naddress = \"127.0.0.1:0\"\n"
    });

    let (status, _, body) = proxy.http("POST /reload?dry_run=true", "");

    let said: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &said["state"]), (200, &"dry_run".into()), "{said}");
    let changes = said["changes"].to_string();
    assert!(changes.contains("database: \\\"before\\\" becomes \\\"after\\\""), "{changes}");
    assert!(changes.contains("listener \\\"new\\\" is new: address = \\\"127.0.0.1:0\\\""), "{changes}");
    assert_eq!(said["changes"].as_array().unwrap().len(), 3, "{changes}");
    assert_eq!(said["needs_restart"], serde_json::json!(["threads"]));
    let status = proxy.status();
    assert_eq!(
        (&status["listeners"][0]["database"], status["listeners"].as_array().unwrap().len()),
        (&"before".into(), 1)
    );
    assert_eq!(proxy.metric("crdb_proxy_config_reloads_total", &[("result", "ok")]), Some(0.0));
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_applied() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("database = \"before\"").start();
    proxy.address();
    proxy.rewrite_settings(|text| format!("threads = 3\n{}", text.replace("\"before\"", "\"after\"")));

    let said = reloads(&proxy);

    assert_eq!(said["needs_restart"], serde_json::json!(["threads"]));
    let status = proxy.status();
    assert_eq!(status["config"]["needs_restart"], serde_json::json!(["threads"]));
    assert_eq!(status["listeners"][0]["database"], "after");
}

#[test]
fn with_watch_settings_a_changed_file_is_read_without_being_told() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("watch_settings = true").listener("database = \"before\"").start();
    proxy.address();

    proxy.rewrite_settings(|text| text.replace("\"before\"", "\"after\""));

    let reloaded = proxy.wait_for_message("reloaded");
    assert_eq!(reloaded["cause"], "the settings file has changed");
    proxy.client();
    assert_eq!(told(&cluster, "database"), ["after"]);
}

#[test]
fn a_fault_of_the_settings_stays_on_show_while_certificates_are_renewed() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.address();
    proxy.rewrite_settings(|text| format!("no_such_key = 1\n{text}"));
    assert_eq!(reload(&proxy).0, 422);

    write_private(&proxy.path("ca.crt"), &format!("{}{}", cluster.authority().pem(), Authority::new().pem()));
    proxy.wait_for_message("reloaded");

    assert!(proxy.status()["config"]["last_error"].to_string().contains("no_such_key"));
}

#[test]
fn log_level_changes_at_a_reload() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).usual_log().start();
    proxy.client();
    proxy.wait_for_message("session closed");
    assert!(proxy.log_lines().iter().all(|line| line["level"] != "DEBUG"));
    proxy.rewrite_settings(|text| text.replace("\"info\"", "\"debug\""));

    reloads(&proxy);
    proxy.client();

    proxy.wait_for_message("session opened");
}

#[test]
fn another_secret_and_user_are_used_by_the_next_login_and_nothing_ready_under_the_old_ones() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).file("other.pw", "another secret").start();
    proxy.client();
    proxy.client();
    proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);
    cluster.change(|script| script.login = Login::scram("another secret"));
    proxy.rewrite_settings(|text| text.replace("app.pw", "other.pw").replace("user = \"app\"", "user = \"other\""));

    reloads(&proxy);
    let before = cluster.seen().startups.len();
    proxy.client().query("select 1");

    let users = told(&cluster, "user").split_off(before);
    assert!(!users.is_empty() && users.iter().all(|user| *user == "other"), "{users:?}");
}

#[test]
fn a_cancel_key_of_before_a_reload_still_cancels() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("database = \"before\"").start();
    let client = proxy.client();
    proxy.rewrite_settings(|text| text.replace("\"before\"", "\"after\""));
    reloads(&proxy);

    let mut wire = proxy.connect();
    wire.send(&cancel_request(&client.key));

    assert_eq!(wire.rest(), b"");
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}

#[test]
fn sighup_twice_is_heard_twice_or_after_the_last_change() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("database = \"d0\"").start();
    proxy.address();

    for round in 0..20 {
        proxy.rewrite_settings(|text| text.replace(&format!("\"d{round}\""), &format!("\"d{}\"", round + 1)));
        proxy.signal(Signal::HUP);
    }

    proxy.wait_for_status(|status| status["listeners"][0]["database"] == "d20");
}

#[test]
fn while_it_drains_nothing_is_read_again() {
    let cluster = FakeUpstream::by_hand();
    let mut proxy = SettingsFile::of(&cluster).start();
    let mut client = proxy.client();
    let mut session = cluster.session();
    client.send(&query("select"));
    session.message();
    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");

    proxy.signal(Signal::HUP);
    proxy.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.starts_with("SIGHUP")));
    assert_eq!(proxy.http("POST /reload", "").0, 409);
    assert_eq!(proxy.http("POST /drain", "").0, 202);

    session.send(&[command_complete("SELECT"), ready(b'I')].concat());
    client.until(b'Z');
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn orders_to_the_daemon_are_taken_from_nobodys_page_and_by_post_only() {
    let cluster = FakeUpstream::answering();
    let mut proxy = TestProxy::before(&cluster);

    for path in ["/drain", "/reload"] {
        let (status, head, _) = proxy.http(&format!("GET {path}"), "");
        assert!(status == 405 && head.to_ascii_lowercase().contains("allow: post"), "{head}");
        assert_eq!(proxy.http(&format!("POST {path}"), "Origin: http://evil.example\r\n").0, 403);
        assert_eq!(proxy.http(&format!("POST {path}"), "Host: evil.example\r\n").0, 403);
        assert_eq!(proxy.http(&format!("POST {path}?what=ever"), "").0, 400);
    }
    proxy.client().query("select 1");

    let (status, _, body) = proxy.http("POST /drain", "");
    let said: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &said["state"]), (202, &"draining".into()), "{body}");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn many_reloads_under_load_disturb_no_session_and_leave_nothing_behind() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("sessions_max = 100\nwarm_max = 0").listener("# A").start();
    let mut open = proxy.client();
    let address = proxy.address();
    let is_over = AtomicBool::new(false);
    let crowd = || {
        let mut served = 0;
        while !is_over.load(Relaxed) {
            let wire = Wire::new(TcpStream::connect(address).unwrap());
            TestClient::log_in(wire, &[("user", "anyone")]).query("select 1");
            served += 1;
        }
        served
    };
    let descriptors = proxy.descriptors();

    let served: usize = thread::scope(|scope| {
        let clients = [(); 4].map(|()| scope.spawn(crowd));
        for round in 0..150_i32 {
            let limit = format!("sessions_max = {}", 100 + round % 7);
            let more = "\n[[listener]]\nname = \"more\"\ncluster = \"test\"\naddress = \"127.0.0.1:0\"\n";
            proxy.rewrite_settings(|text| {
                let text = text.replace(more, "");
                let old = text.lines().find(|line| line.starts_with("sessions_max")).unwrap().to_owned();
                let appendix = if round % 2 == 0 { more } else { "" };
                text.replace(&old, &limit)
                    .replace("# A\n", &format!("database = \"d{round}\"\n# A\n"))
                    .replace(&format!("database = \"d{}\"\n", round - 1), "")
                    + appendix
            });
            reloads(&proxy);
        }
        is_over.store(true, Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });

    assert!(served > 150, "{served} clients were served");
    open.query("select 1");
    proxy.wait_for_active(1.0);
    let end = Instant::now() + DEADLINE;
    while proxy.descriptors() > descriptors {
        assert!(Instant::now() < end, "{} descriptors, and {descriptors} before", proxy.descriptors());
    }
    assert_eq!(proxy.status()["sessions_left_out"], 0);
}
