//! What a service manager is told: a real datagram socket stands for systemd's.

use crate::harness::{
    DEADLINE, FakeUpstream, SettingsFile, TestClient, TestProxy, client::connect_unix, wire::startup,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{fs, net::TcpListener, os::unix::net::UnixDatagram, path::Path, time::Instant};
use tempfile::TempDir;

#[test]
fn it_is_ready_once_its_sockets_are_bound_and_says_what_it_serves() {
    let manager = Manager::new();
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).variable("NOTIFY_SOCKET", &manager.path());
    let folder = settings.path("").display().to_string();
    let socket = settings.path(".s.PGSQL.26257");
    let _proxy = settings.address(&format!("unix:{folder}")).start();

    let ready = manager.wait_for("READY=1");
    // There is nothing to wait for any more.
    let mut client = connect_unix(&socket);
    assert!(ready.contains("STATUS=serving 0 sessions; 0 of 1 endpoint well"), "{ready}");

    client.send(&startup(&[("user", "anyone")]));
    let _client = TestClient::ready(client);
    manager.wait_for("STATUS=serving 1 session; 1 of 1 endpoint well");
}

#[test]
fn it_is_not_ready_where_it_cannot_start() {
    let cluster = FakeUpstream::answering();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = || SettingsFile::of(&cluster);
    for (settings, code) in [
        (settings().file("ca.crt", "no certificate"), 2),
        (settings().address(&address), 3),
        (settings().global(&format!("admin = \"{address}\"")), 3),
    ] {
        let manager = Manager::new();
        let mut proxy = settings.variable("NOTIFY_SOCKET", &manager.path()).start();

        assert_eq!(proxy.exit_code(), code);

        assert_eq!(manager.rest(), Vec::<String>::new());
    }
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end() {
    let (manager, proxy) = told("");

    proxy.signal(Signal::HUP);

    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");
}

#[test]
fn a_reload_that_fails_ends_too_and_shows_in_the_status_until_one_succeeds() {
    let (manager, proxy) = told("");
    let file = proxy.path("crdb-proxy.toml");
    let good = fs::read_to_string(&file).unwrap();

    fs::write(&file, "nonsense").unwrap();
    proxy.signal(Signal::HUP);
    manager.wait_for("RELOADING=1");
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("; the last reload failed: "), "{ready}");

    fs::write(&file, good).unwrap();
    proxy.signal(Signal::HUP);
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=serving") && !ready.contains("failed"), "{ready}");
}

#[test]
fn a_reload_by_request_is_told_and_one_that_only_looks_is_not() {
    let (manager, proxy) = told("");

    assert_eq!(proxy.http("POST /reload?dry_run=true", "").0, 200);
    assert_eq!(proxy.http("POST /reload", "").0, 202);

    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    assert!(!manager.rest().iter().any(|message| message.contains("RELOADING")), "told twice");
}

#[test]
fn stopping_is_told_with_the_time_it_may_take() {
    let (manager, mut proxy) = told("drain_delay = \"200ms\"\ndrain_limit = \"50s\"");

    assert_eq!(proxy.terminate(), 0);

    let stopping = manager.wait_for("STOPPING=1");
    // Both limits, and ten seconds to close what is left.
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=60200000"), "{stopping}");
    assert!(stopping.contains("STATUS=stopping: 0 sessions are open"), "{stopping}");
}

#[test]
fn the_watchdog_is_answered_while_it_serves_and_while_it_stops() {
    let manager = Manager::new();
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).variable("NOTIFY_SOCKET", &manager.path());
    let proxy = settings.variable("WATCHDOG_USEC", "200000").global("idle_close = \"1min\"").start();
    manager.wait_for("READY=1");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }

    let _client = proxy.client();
    proxy.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");

    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
}

#[test]
fn a_watchdog_of_another_process_is_not_answered() {
    let manager = Manager::new();
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).variable("NOTIFY_SOCKET", &manager.path());
    let mut proxy = settings.variable("WATCHDOG_USEC", "1000").variable("WATCHDOG_PID", "1").start();
    manager.wait_for("READY=1");

    // Had it been answered, then often: the beat of a watchdog of a millisecond is half of that.
    proxy.client();
    assert_eq!(proxy.terminate(), 0);

    assert!(!manager.rest().iter().any(|message| message == "WATCHDOG=1"), "answered");
}

#[test]
fn what_is_wrong_with_the_socket_is_warned_about_and_clients_are_served() {
    let cluster = FakeUpstream::answering();
    for (variables, warning) in [
        (&[("NOTIFY_SOCKET", "/nonexistent/notify")][..], "the service manager was not told"),
        (&[("NOTIFY_SOCKET", "relative")], "the service manager cannot be told anything"),
        (&[("WATCHDOG_USEC", "1000000")], "there is a watchdog (WATCHDOG_USEC) and no socket"),
    ] {
        let settings = SettingsFile::of(&cluster);
        let settings = variables.iter().fold(settings, |settings, (name, value)| settings.variable(name, value));
        let mut proxy = settings.start();

        proxy.wait_for_log(|line| {
            line["level"] == "WARN" && line["message"].as_str().is_some_and(|message| message.contains(warning))
        });
        proxy.client();
        assert_eq!(proxy.terminate(), 0);
        let is_warning =
            |line: &Value| line["level"] == "WARN" && line["target"].to_string().contains("service_manager");
        assert_eq!(proxy.log_lines().into_iter().filter(is_warning).count(), 1, "{variables:?}");
    }
}

/// A daemon that has said that it is ready.
fn told(global: &str) -> (Manager, TestProxy) {
    let manager = Manager::new();
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global(global).variable("NOTIFY_SOCKET", &manager.path()).start();
    manager.wait_for("READY=1");
    (manager, proxy)
}

/// Stands for systemd.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, folder }
    }

    fn path(&self) -> String {
        Path::to_str(&self.folder.path().join("notify")).unwrap().to_owned()
    }

    /// The next message that contains `words`; those before it are passed over.
    #[track_caller]
    fn wait_for(&self, words: &str) -> String {
        let end = Instant::now() + DEADLINE;
        let mut passed = Vec::new();
        while Instant::now() < end {
            let Some(message) = self.next() else { break };
            if message.contains(words) {
                return message;
            }
            passed.push(message);
        }
        panic!("it was never told {words}, but {passed:?}");
    }

    /// What was said and not read yet, by a daemon that has ended or whose answer is here.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }

    fn next(&self) -> Option<String> {
        let mut space = [0; 4096];
        let length = self.socket.recv(&mut space).ok()?;
        Some(String::from_utf8(space[..length].to_vec()).unwrap())
    }
}
