//! What probes are answered: alive, ready, started; and what the settings make them wait for.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, SettingsFile, TestProxy,
    fake_upstream::{Front, Script, Session},
    port::Port,
};
use rustix::process::Signal;
use std::time::Instant;

#[test]
fn without_being_told_to_wait_it_has_started_and_is_ready_whatever_the_cluster_does() {
    let proxy = TestProxy::before(&unreachable());

    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(probe(&proxy, path), (200, "ok\n".to_owned()), "{path}");
    }
    refuses(&proxy);
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(probe(&proxy, path).0, 200, "{path}");
    }
}

#[test]
fn startup_requires_upstream_waits_for_a_login_that_the_daemon_tries_itself() {
    let cluster = unreachable();
    let proxy = SettingsFile::of(&cluster).global("startup_requires_upstream = true").start();
    let says = |words: &'static str| move |(status, body): &(u16, String)| *status == 503 && body.contains(words);
    wait_for_probe(&proxy, "/startupz", says("cluster \"test\": "));
    assert_eq!(probe(&proxy, "/livez").0, 200);
    assert_eq!(probe(&proxy, "/readyz").0, 200);

    cluster.change(|script| script.front = Front::Tls);

    wait_for_probe(&proxy, "/startupz", |(status, _)| *status == 200);
    // Its own login holds no session, and leaves nothing behind.
    cluster.wait_until(|seen| seen.logged_in == 1 && seen.open == 0);
}

#[test]
fn what_has_started_stays_started() {
    let cluster = FakeUpstream::answering();
    let mut started = SettingsFile::of(&cluster).global("startup_requires_upstream = true").start();
    wait_for_probe(&started, "/startupz", |(status, _)| *status == 200);
    cluster.change(|script| script.front = Front::Resets);
    refuses(&started);
    assert_eq!(probe(&started, "/startupz").0, 200);
    assert_eq!(started.terminate(), 0);

    // Nor is it undone by settings that ask for it later.
    let proxy = TestProxy::before(&cluster);
    assert_eq!(probe(&proxy, "/startupz").0, 200);
    reload_with(&proxy, "startup_requires_upstream = true");
    assert_eq!(probe(&proxy, "/startupz").0, 200);
}

#[test]
fn settings_that_no_longer_ask_for_it_end_the_wait() {
    let proxy = SettingsFile::of(&unreachable()).global("startup_requires_upstream = true").start();
    wait_for_probe(&proxy, "/startupz", |(status, _)| *status == 503);
    proxy.rewrite_settings(|text| text.replace("startup_requires_upstream = true", ""));

    proxy.signal(Signal::HUP);

    wait_for_probe(&proxy, "/startupz", |(status, _)| *status == 200);
}

#[test]
fn ready_requires_upstream_follows_the_endpoints_although_no_client_comes() {
    let (port, authority) = (Port::reserve(), Authority::new());
    let serve = || FakeUpstream::bound_to(port.listen(), authority.clone(), Script::default());
    let cluster = serve();
    let settings = SettingsFile::of(&cluster).global("ready_requires_upstream = true");
    let proxy = settings.global("probe_interval = \"1s\"\nprobe_down_interval = \"1s\"").start();
    wait_for_probe(&proxy, "/readyz", |(status, _)| *status == 200);

    drop(cluster);
    wait_for_probe(&proxy, "/readyz", |(status, body)| {
        *status == 503 && body.starts_with("no endpoint of cluster \"test\" is reachable: first is down")
    });
    assert_eq!(proxy.status()["ready"], false);
    assert!(proxy.status()["reasons"][0].as_str().unwrap().contains("first is down"));
    assert_eq!(probe(&proxy, "/livez").0, 200);

    let _back = serve();
    wait_for_probe(&proxy, "/readyz", |(status, _)| *status == 200);
}

#[test]
fn ready_requires_upstream_can_be_asked_for_later() {
    let proxy = TestProxy::before(&unreachable());
    assert_eq!(probe(&proxy, "/readyz").0, 200);

    reload_with(&proxy, "ready_requires_upstream = true");

    wait_for_probe(&proxy, "/readyz", |(status, _)| *status == 503);
}

/// A cluster that answers connections with an RST.
fn unreachable() -> FakeUpstream {
    FakeUpstream::start(Script { front: Front::Resets, session: Session::Answers, ..Script::default() })
}

fn reload_with(proxy: &TestProxy, line: &str) {
    proxy.rewrite_settings(|text| format!("{line}\n{text}"));
    assert_eq!(proxy.http("POST /reload", "").0, 202);
}

fn probe(proxy: &TestProxy, path: &str) -> (u16, String) {
    let (status, _, body) = proxy.http(&format!("GET {path}"), "");
    (status, body)
}

/// Asks until the answer is so: nothing announces that it has changed.
#[track_caller]
fn wait_for_probe(proxy: &TestProxy, path: &str, is_so: impl Fn(&(u16, String)) -> bool) {
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = probe(proxy, path);
        if is_so(&answer) {
            return;
        }
        assert!(Instant::now() < end, "{path} answers {answer:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[track_caller]
fn refuses(proxy: &TestProxy) {
    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");
}
