//! What the log says, and how much of it.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Postgres, SettingsFile, TestClient, TestProxy, client::connect_unix,
    process::Lines, proxy::run_daemon, wire::Wire,
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::Stdio,
    time::Instant,
};

#[test]
fn a_reader_that_takes_no_log_stalls_nothing() {
    // A pipe that nobody ever reads, and that holds 64 KiB.
    let (unread, log) = std::io::pipe().unwrap();

    serves_with_its_log_at(log.into());
    drop(unread);
}

#[test]
fn a_full_disk_under_the_log_stalls_nothing() {
    serves_with_its_log_at(fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
}

/// Sessions, a reload and a gentle end.
#[track_caller]
fn serves_with_its_log_at(log: Stdio) {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("log_level = \"trace\"");
    let folder = settings.path("").to_path_buf();
    let (path, admin) = (settings.path(".s.PGSQL.26257"), settings.path("admin"));
    let settings = settings.address(&format!("unix:{}", path.display()));
    let settings = settings.global(&format!("admin = \"unix:{}\"", admin.display()));
    let mut command = TestProxy::command(&folder);
    command.arg("--config").arg(settings.write()).args(["--log-format", "json"]);
    let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let begun = Instant::now();
    while !path.exists() || !admin.exists() {
        assert!(begun.elapsed() < DEADLINE, "it never listened");
        std::thread::yield_now();
    }

    for _ in 0..400 {
        TestClient::log_in(connect_unix(&path), &[("user", "anyone")]).query("select 1");
    }
    let reload = "POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut asking = UnixStream::connect(admin).unwrap();
    asking.set_read_timeout(Some(DEADLINE)).unwrap();
    asking.write_all(reload.as_bytes()).unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    TestClient::log_in(connect_unix(&path), &[("user", "anyone")]).query("select 1");

    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM).unwrap();
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = daemon.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < DEADLINE, "it never ended");
        std::thread::yield_now();
    };
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_session_leaves_one_line_with_everything_about_it() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).usual_log().start();
    let mut client = proxy.client();
    client.query("select 1");
    client.send(&crate::harness::wire::terminate());
    client.rest();

    let line = proxy.wait_for_message("session closed");

    assert_eq!(line["level"], "INFO");
    for (field, value) in [
        ("cluster.name", "test"),
        ("endpoint.name", "first"),
        ("client.database", "defaultdb"),
        ("close.by", "client"),
        ("close.reason", "client_terminate"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(line["endpoint.addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["client.addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    for field in ["session.id", "bytes.to_upstream", "bytes.to_client", "duration_ms"] {
        assert!(line[field].is_u64(), "{field} of {line}");
    }
    assert_eq!(line["bytes.to_upstream"], "select 1\0".len() + 5 + 5);
    assert!(proxy.log_lines().iter().all(|line| line["message"] != "session opened"), "opened is for debug");
}

#[test]
fn the_line_at_a_sessions_opening_identifies_it_as_the_one_at_its_close_does() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("log_level = \"debug\"").start();
    drop(TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("database", "orders")]));

    let closed = proxy.wait_for_message("session closed");
    let opened = proxy.wait_for_message("session opened");

    for field in [
        "session.id",
        "listener.name",
        "client.addr",
        "client.database",
        "cluster.name",
        "endpoint.name",
        "endpoint.addr",
    ] {
        assert!(!closed[field].is_null(), "{field} of {closed}");
        assert_eq!(opened[field], closed[field], "{field} of {opened}");
    }
}

#[test]
fn every_line_is_an_object_at_every_level() {
    let cluster = FakeUpstream::answering();

    for level in ["info", "debug", "trace"] {
        let mut proxy = SettingsFile::of(&cluster).argument("--log-level").argument(level).start();
        proxy.client();
        proxy.terminate();

        for line in proxy.log_text().lines() {
            assert!(line.starts_with("{\"timestamp\":\""), "{line}");
        }
        for line in proxy.log_lines() {
            for field in ["timestamp", "level", "message", "target"] {
                assert!(line[field].is_string(), "{field} of {line}");
            }
            assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        }
    }
}

#[test]
fn a_start_that_fails_is_logged_as_an_object_too() {
    let cluster = FakeUpstream::answering();
    let mut proxy = SettingsFile::of(&cluster).file("ca.crt", Authority::expired().pem()).start();

    assert_eq!(proxy.exit_code(), 2);

    assert!(proxy.log_lines().iter().any(|line| line["level"] == "ERROR"), "{}", proxy.log_text());
}

#[test]
fn equal_failures_are_logged_once_with_a_count() {
    let mut cluster = FakeUpstream::answering();
    cluster.stop();
    let proxy = SettingsFile::of(&cluster).global("log_repeat = \"1s\"").start();

    for _ in 0..20 {
        proxy.startup(&[("user", "anyone")]).refusal();
    }

    proxy.wait_for_refusals("unreachable", 20.0);
    let lines = proxy.log_lines();
    let refused = lines.iter().filter(|line| line["message"] == "session refused").count();
    assert!(refused < 10, "{refused} equal lines for 20 equal failures");
}

#[test]
fn text_is_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let url = "postgresql://app@db.example/defaultdb?sslmode=require";

    let stderr = run_daemon(folder.path(), &[url, "--password-file", "pw"], &[]).stderr;

    assert!(!stderr.contains('{') && !stderr.contains("\u{1b}["), "{stderr}");
}

#[test]
fn text_values_are_bare_or_quoted_and_a_hostile_database_does_not_reach_the_terminal() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("log_format = \"text\"");
    let file = settings.write();
    let mut command = TestProxy::command(file.parent().unwrap());
    let mut daemon = command.arg("--config").arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let log = Lines::of(daemon.stderr.take().unwrap());
    let address_in = |line: &str| {
        let rest = line.split_once(" INFO listening listener.name=main listener.addr=")?.1;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let address = log.find(address_in).expect("the address");

    let database = ("database", "x\u{1b}[2J\ny z");
    let client = TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone"), database]);
    drop(client);

    let closed = log.find(|line| line.contains("session closed").then(|| line.to_owned()));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let closed = closed.expect("the session's line");
    assert!(closed.contains(r#" client.database="x\u{1b}[2J\ny z" cluster.name=test "#), "{closed}");
    for line in log.all() {
        assert_eq!(line.find("Z "), Some("2026-01-31T09:00:00.000".len()), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}
