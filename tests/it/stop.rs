//! Stopping: gently, at the limit, at once.

use crate::harness::{
    DEADLINE, FakeUpstream, SettingsFile, Terminal, TestClient, TestProxy,
    process::{Lines, mortal},
    wire::{Wire, cancel_request, command_complete, query, ready, startup},
};
use rustix::process::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

#[test]
fn without_sessions_it_ends_within_a_second_and_exits_0() {
    let cluster = FakeUpstream::answering();

    for signal in [Signal::INT, Signal::TERM] {
        let mut proxy = TestProxy::before(&cluster);
        proxy.address();

        let start = Instant::now();
        proxy.signal(signal);

        assert_eq!(proxy.exit_code(), 0);
        assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
        assert!(proxy.log_lines().iter().any(|line| line["message"] == "stopped"));
    }
}

#[test]
fn clients_amid_their_startup_do_not_hold_it_up() {
    for sent in [0, 11] {
        let (_cluster, mut proxy, _client) = amid_startup(sent);

        let start = Instant::now();
        proxy.signal(Signal::TERM);

        assert_eq!(proxy.exit_code(), 0, "{sent} bytes sent");
        assert!(start.elapsed() < Duration::from_secs(2), "{sent} bytes sent: took {:?}", start.elapsed());
    }
}

#[test]
fn a_second_signal_ends_it_at_once_although_a_client_is_amid_its_startup() {
    let (_cluster, mut proxy, _client) = amid_startup(11);
    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");

    let start = Instant::now();
    proxy.signal(Signal::TERM);

    let code = proxy.exit_code();
    assert!([0, 5].contains(&code), "exit code {code}");
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}

#[test]
fn an_idle_session_is_told_57p01_and_the_daemon_exits_0() {
    let cluster = FakeUpstream::answering();
    let mut proxy = TestProxy::before(&cluster);
    let mut client = proxy.client();

    proxy.signal(Signal::TERM);

    assert_eq!(client.refusal().sqlstate(), "57P01");
    assert_eq!(proxy.exit_code(), 0);
    assert!(proxy.log_lines().iter().any(|line| line["close.reason"] == "drain"));
}

#[test]
fn a_running_query_is_answered_before_its_session_is_told() {
    let (_cluster, mut proxy, mut client, mut session) = busy("");

    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");
    session.send(&[command_complete("SELECT 1"), ready(b'I')].concat());

    assert_eq!(client.until(b'Z').len(), 2);
    assert_eq!(client.refusal().sqlstate(), "57P01");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn a_transaction_is_given_time_to_commit() {
    let (_cluster, mut proxy, mut client, mut session) = busy("");
    session.send(&[command_complete("BEGIN"), ready(b'T')].concat());
    client.until(b'Z');

    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");
    assert!(client.stays_silent(Duration::from_millis(1500)), "cut within a transaction");
    client.send(&query("commit"));
    session.message();
    session.send(&[command_complete("COMMIT"), ready(b'I')].concat());

    client.until(b'Z');
    assert_eq!(client.refusal().sqlstate(), "57P01");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn new_clients_read_57p03_while_it_drains() {
    let (_cluster, proxy, _client, _session) = busy("");

    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");

    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "57P03");
    proxy.wait_for_refusals("draining", 1.0);
}

#[test]
fn a_drain_is_not_held_up_by_clients_that_are_refused() {
    let (_cluster, mut proxy, mut client, mut session) = busy("");
    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");
    let address = proxy.address();

    // At every moment some client is there to be refused, and stays for as long as it may. The threads
    // end with the daemon.
    let (refused, refusals) = mpsc::channel();
    for _ in 0..4 {
        let refused = refused.clone();
        thread::spawn(move || {
            while let Ok(mut socket) = TcpStream::connect(address) {
                let _ = socket.write_all(&startup(&[("user", "anyone")]));
                let _ = socket.read_to_end(&mut Vec::new());
                let _ = refused.send(());
            }
        });
    }
    for _ in 0..8 {
        refusals.recv_timeout(DEADLINE).unwrap();
    }

    session.send(&[command_complete("SELECT"), ready(b'I')].concat());

    client.until(b'Z');
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn signals_that_mean_nothing_here_change_nothing() {
    let cluster = FakeUpstream::answering();
    let mut proxy = TestProxy::before(&cluster);
    proxy.address();

    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        proxy.signal(signal);
        proxy.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.starts_with(name)));
    }

    // A log file that has grown as far as it may.
    proxy.signal(Signal::XFSZ);

    proxy.client();
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn cancels_still_work_while_it_drains() {
    let (cluster, proxy, client, _session) = busy("");

    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");
    let mut wire = proxy.connect();
    wire.send(&cancel_request(&client.key));

    assert_eq!(wire.rest(), b"");
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}

#[test]
fn it_is_alive_and_not_ready_while_it_drains() {
    let (_cluster, proxy, _client, _session) = busy("");
    assert_eq!(proxy.http("GET /readyz", "").0, 200);

    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining");

    assert_eq!(proxy.http("GET /readyz", "").0, 503);
    assert_eq!(proxy.http("GET /livez", "").0, 200);
    assert_eq!(proxy.status()["state"], "draining");
}

#[test]
fn sessions_left_at_the_drain_limit_are_told_counted_and_exit_is_4() {
    let (_cluster, mut proxy, mut client, _session) = busy("drain_limit = \"500ms\"");

    proxy.signal(Signal::TERM);

    assert_eq!(client.refusal().sqlstate(), "57P01");
    assert_eq!(proxy.exit_code(), 4);
    let lines = proxy.log_lines();
    let stopped = lines.iter().find(|line| line["message"] == "stopped").expect("a last line");
    assert!(stopped.as_object().unwrap().values().any(|value| *value == 1), "how many were cut is not in {stopped}");
    assert!(lines.iter().any(|line| line["close.reason"] == "drain_limit"));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        let (_cluster, mut proxy, _client, _session) = busy("");
        proxy.signal(first);
        proxy.wait_for_message("draining");

        let start = Instant::now();
        proxy.signal(second);

        assert_eq!(proxy.exit_code(), 5);
        assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    }
}

/// A client that has sent so many bytes of its startup message, and sends no more.
fn amid_startup(sent: usize) -> (FakeUpstream, TestProxy, Wire) {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("startup_limit = \"10s\"").start();
    let mut client = proxy.connect();
    client.send(&startup(&[("user", "anyone")])[..sent]);
    proxy.wait_for_active(1.0);
    (cluster, proxy, client)
}

/// A session in the middle of a query, which the test answers or does not.
fn busy(setting: &str) -> (FakeUpstream, TestProxy, TestClient, Wire) {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global(setting).start();
    let mut client = proxy.client();
    let mut session = cluster.session();
    client.send(&query("select"));
    session.message();
    (cluster, proxy, client, session)
}

#[test]
fn sighup_without_a_terminal_reads_settings_again_and_stops_nothing() {
    let cluster = FakeUpstream::answering();
    let mut proxy = TestProxy::before(&cluster);
    let mut client = proxy.client();

    proxy.signal(Signal::HUP);
    let reloaded = proxy.wait_for_message("reloaded");

    assert_eq!(reloaded["changes"], 0);
    client.query("select 1");
    proxy.wait_for_metric("crdb_proxy_config_reloads_total", &[("result", "ok")], 1.0);
    drop(client);
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn during_drain_delay_new_clients_are_served_and_it_is_not_ready() {
    let cluster = FakeUpstream::answering();
    let mut proxy = SettingsFile::of(&cluster).global("drain_delay = \"1500ms\"").start();
    proxy.address();

    assert_eq!(proxy.http("POST /drain", "").0, 202);
    proxy.wait_for_metric("crdb_proxy_state", &[("state", "delaying")], 1.0);

    assert_eq!(proxy.http("GET /readyz", "").0, 503);
    proxy.client().query("select 1");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn sigint_skips_drain_delay_and_a_second_signal_ends_it_at_once() {
    let cluster = FakeUpstream::answering();
    let start = || {
        let proxy = SettingsFile::of(&cluster).global("drain_delay = \"1h\"").start();
        proxy.address();
        proxy
    };

    let mut by_hand = start();
    by_hand.signal(Signal::INT);
    assert_eq!(by_hand.exit_code(), 0);

    let mut by_manager = start();
    by_manager.signal(Signal::TERM);
    by_manager.wait_for_message("stopping soon; clients are still served");
    by_manager.signal(Signal::TERM);
    assert_eq!(by_manager.exit_code(), 5);
}

#[test]
fn drain_asked_for_twice_is_one_drain() {
    let cluster = FakeUpstream::answering();
    let mut proxy = SettingsFile::of(&cluster).global("drain_delay = \"1h\"").start();
    let answers = [(); 2].map(|()| proxy.http("POST /drain", ""));

    for (status, _, body) in answers {
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &said["state"]), (202, &"delaying".into()), "{body}");
    }
    proxy.wait_for_metric("crdb_proxy_state", &[("state", "delaying")], 1.0);
    // Whoever stops it by hand does not want to wait.
    proxy.signal(Signal::INT);
    assert_eq!(proxy.exit_code(), 0);
}

/// As a service manager does behind a command that asks for the same.
#[test]
fn the_first_signal_after_post_drain_cuts_nothing_and_the_second_ends_it_at_once() {
    let (_cluster, mut proxy, mut client, mut session) = busy("");
    assert_eq!(proxy.http("POST /drain", "").0, 202);
    proxy.wait_for_message("draining");
    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining already; another signal ends it at once");
    session.send(&[command_complete("SELECT 1"), ready(b'I')].concat());
    client.until(b'Z');
    assert_eq!(client.refusal().sqlstate(), "57P01");
    assert_eq!(proxy.exit_code(), 0);

    let (_cluster, mut proxy, _client, _session) = busy("");
    assert_eq!(proxy.http("POST /drain", "").0, 202);
    proxy.wait_for_message("draining");
    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining already; another signal ends it at once");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 5);
}

/// A window that is closed must not leave the port taken.
#[test]
fn at_a_terminal_ctrl_c_tells_who_is_still_there_and_how_to_end_it() {
    let cluster = FakeUpstream::by_hand();
    let settings = SettingsFile::of(&cluster).global("admin = \"off\"");
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, &settings.path(""));
    command.arg("--config").arg(settings.write()).env("NO_COLOR", "1");
    let mut terminal = Terminal::start(command);
    let listening = terminal.wait_for("listening listener.name=main");
    let address = listening.split_once("listener.addr=").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let mut client = TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")]);
    client.send(&query("select"));
    cluster.session().message();

    terminal.type_keys("\u{3}");
    terminal.wait_for("1 session open; Ctrl-C again ends at once");
    terminal.type_keys("\u{3}");

    assert_eq!(terminal.exit_code(), 5);
}

#[test]
fn at_a_terminal_sighup_drains() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let (file, pipe) = (settings.write(), settings.path("log"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let daemon = env!("CARGO_BIN_EXE_crdb-proxy");
    let line = format!("exec {} --config {} --log-format json 2> {}", daemon, file.display(), pipe.display());
    let mut window = mortal(Path::new("script"), "KILL", None);
    window.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env_clear().env("SHELL", "/bin/sh");
    window.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut window = window.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let log = Lines::of(fs::File::open(pipe).unwrap());
    let says = |words: &'static str| move |line: &str| line.contains(words).then(|| line.to_owned());
    assert!(log.find(says("\"listening\"")).is_some(), "{:?}", log.all());

    window.kill().unwrap();
    window.wait().unwrap();

    let draining = log.find(says("\"draining\"")).expect("a drain");
    assert!(draining.contains("\"signal\":\"SIGHUP\""), "{draining}");
    assert!(log.ended_within(DEADLINE), "it still runs");
    assert!(log.all().last().unwrap().contains("\"stopped\""), "{:?}", log.all().last());
}
