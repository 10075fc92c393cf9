//! `status`: what is shown of a running daemon, once and again and again.

use crate::harness::{
    FakeUpstream, SettingsFile, Terminal, TestClient, TestProxy,
    process::{Finished, Lines},
    proxy::{closed_port, run_daemon},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Stdio,
};

/// Runs `status` beside the daemon, told where that is.
fn status(proxy: &TestProxy, words: &[&str]) -> Finished {
    let admin = proxy.listener("admin");
    run_daemon(&proxy.path(""), &[&["status"], words].concat(), &[("CRDB_PROXY_ADMIN", &admin)])
}

/// `status --watch` at a terminal.
fn watch(folder: &Path, admin: &str) -> Terminal {
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, folder);
    command.args(["status", "--watch"]).env("CRDB_PROXY_ADMIN", admin);
    Terminal::start(command)
}

/// `status`, once, at a terminal of eighty columns; without its colours.
fn status_at_terminal(proxy: &TestProxy) -> String {
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, &proxy.path(""));
    command.arg("status").env("CRDB_PROXY_ADMIN", proxy.listener("admin")).env("NO_COLOR", "1");
    let mut terminal = Terminal::start(command);
    assert_eq!(terminal.exit_code(), 0);
    terminal.text().replace('\r', "")
}

#[test]
fn it_shows_listeners_endpoints_and_sessions() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let startup = [("user", "anyone"), ("database", "shop"), ("application_name", "till\u{1b}[2J")];
    let _client = TestClient::log_in(proxy.connect(), &startup);

    let shown = status(&proxy, &[]).expect_success();

    let row = |begin: &str| shown.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{shown}"));
    assert!(row("crdb-proxy 0.1.0  running, ready  since 2").ends_with('Z'), "{shown}");
    assert!(row("LISTENER").contains("STMT"), "{shown}");
    assert!(row("main ").contains(&proxy.address().to_string()) && row("main ").contains("first"), "{shown}");
    assert!(row("first ").contains("test") && row("first ").contains("well"), "{shown}");
    assert!(row("CLIENT").contains("APPLICATION"), "{shown}");
    assert!(row("127.0.0.1:").contains("shop") && row("127.0.0.1:").contains("idle"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn a_terminal_gets_whole_sentences_in_its_width_and_anything_else_whole_lines() {
    let cluster = FakeUpstream::answering();
    let listener = "a-listener-with-a-name-that-leaves-little-room-for-anything-else";
    let proxy = SettingsFile::trusting(&cluster.authority)
        .endpoint("an-endpoint-with-a-name-that-is-rather-long", closed_port())
        .another_listener(&listener[..63], "")
        .global("ready_requires_upstream = true")
        .start();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    proxy.startup(&[("user", "anyone")]).refusal();
    proxy.wait_for_status(|status| status["clusters"][0]["endpoints"][0]["state"] == "down");
    let said = proxy.status();
    let reason = said["reasons"][0].as_str().unwrap();
    let sentence = format!("not ready: {reason}");
    assert!(sentence.len() > 80, "{sentence}");

    let (whole, narrow) = (status(&proxy, &[]).expect_success(), status_at_terminal(&proxy));

    assert!(whole.lines().any(|line| line == sentence), "{sentence} is not in {whole}");
    assert!(whole.lines().any(|line| line.starts_with(&listener[..63])) && !whole.contains('…'), "{whole}");
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    assert!(words(&narrow).join(" ").contains(&words(&sentence).join(" ")), "{narrow}");
}

#[test]
fn the_last_refusals_stand_below_the_tables() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::trusting(&cluster.authority).endpoint("first", closed_port()).start();
    for _ in 0..2 {
        proxy.startup(&[("user", "anyone")]).refusal();
    }
    let said = proxy.status()["refusals"][0].clone();

    let shown = status(&proxy, &[]).expect_success();

    let below = shown.split("\nLAST REFUSALS\n").nth(1).unwrap_or_else(|| panic!("{shown}"));
    let lines: Vec<_> = below.lines().collect();
    assert!(lines[0].starts_with("08001  2 times, last ") && lines[0].contains("s ago, at main: "), "{shown}");
    assert!(lines[0].ends_with(said["message"].as_str().unwrap()), "{shown}");
    assert_eq!(lines[1].trim(), said["hint"].as_str().unwrap(), "{shown}");
    assert_eq!(lines.len(), 2, "{shown}");
}

#[test]
fn an_unreadable_secret_stands_above_the_tables() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.address();
    std::fs::remove_file(proxy.path("app.pw")).unwrap();
    proxy.client();

    let shown = status(&proxy, &[]).expect_success();

    let line =
        shown.lines().find(|line| line.starts_with("secret of test: file ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("app.pw does not exist; check its name (the one read at 2"), "{shown}");
}

#[test]
fn its_help_explains_every_column() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let _client = proxy.client();
    let shown = status(&proxy, &[]).expect_success();
    let folder = tempfile::tempdir().unwrap();

    let help = run_daemon(folder.path(), &["status", "--help"], &[]).expect_success();

    let (_, explained) = help.split_once("\nColumns").expect(&help);
    let is_heading = |line: &&str| ["LISTENER ", "ENDPOINT ", "CLIENT "].iter().any(|begin| line.starts_with(begin));
    let columns: Vec<_> = shown.lines().filter(is_heading).flat_map(str::split_whitespace).collect();
    assert!(columns.len() > 20, "{shown}");
    // Those that are called after what they name need no word.
    let plain = ["ADDRESS", "CLUSTER", "HOST", "DATABASE", "APPLICATION"];
    for column in columns.iter().filter(|column| !plain.contains(column)) {
        assert!(explained.contains(column), "{column} is not in {explained}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn nothing_that_a_stranger_answers_reaches_the_terminal_as_it_is() {
    let hostile = "{\"started_at\":\"\u{9b}2J\u{7f}\u{202e}\",\n\"x\":1}";
    let broken = "{\"started_at\":\"\u{1b}]0;taken\u{7}\"}";
    let folder = tempfile::tempdir().unwrap();
    let asked = |body: &str| {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stranger.local_addr().unwrap().to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answering = std::thread::spawn(move || {
            let (mut socket, _) = stranger.accept().unwrap();
            assert!(socket.read(&mut [0; 4096]).unwrap() > 0);
            socket.write_all(answer.as_bytes()).unwrap();
        });
        let finished = run_daemon(folder.path(), &["status", "--json", "--admin", &address], &[]);
        answering.join().unwrap();
        finished
    };

    let shown = asked(hostile).expect_success();
    let failed = asked(broken);

    assert_eq!(shown, "{\"started_at\":\"\\u009b2J\\u007f\\u202e\", \"x\":1}");
    assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(1), ""));
    assert!(failed.stderr.contains("is no JSON, as no crdb-proxy would"), "{}", failed.stderr);
}

#[test]
fn json_is_what_the_daemon_says() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);

    let shown: Value = serde_json::from_str(&status(&proxy, &["--json"]).expect_success()).unwrap();

    let mut said = proxy.status();
    said["now"] = shown["now"].clone();
    said["clusters"] = shown["clusters"].clone(); // Health moves on.
    assert_eq!(shown, said);
}

#[test]
fn a_daemon_that_does_not_tell_is_an_error() {
    let folder = tempfile::tempdir().unwrap();

    let failed = run_daemon(folder.path(), &["status", "--admin", "unix:nothing.sock"], &[]);

    assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(1), ""));
    assert!(failed.stderr.contains("is it running"), "{}", failed.stderr);
}

#[test]
fn watching_goes_on_over_a_restart_and_leaves_the_terminal_as_it_was() {
    let cluster = FakeUpstream::answering();
    let folder = tempfile::tempdir().unwrap();
    let admin = format!("unix:{}", folder.path().join("watched.sock").display());
    let settings = || SettingsFile::of(&cluster).global(&format!("admin = \"{admin}\""));
    let mut proxy = settings().start();
    proxy.listener("admin");

    let mut terminal = watch(folder.path(), &admin);
    terminal.wait_for("STMT/S");
    assert_eq!(proxy.terminate(), 0);
    terminal.wait_for("no daemon is at unix:");
    let seen = terminal.lines();
    let proxy = settings().start();
    let _client = proxy.client();
    terminal.wait_for_after(seen, "running, ready");
    // A rate needs two looks at the same daemon.
    terminal.wait_for_after(terminal.lines(), "STMT/S");
    terminal.type_keys("\u{3}");

    assert_eq!(terminal.exit_code(), 0);
    let text = terminal.text();
    let count = |sequence: &str| text.matches(sequence).count();
    assert_eq!((count("\u{1b}[?1049h"), count("\u{1b}[?1049l")), (1, 1), "{text:?}");
    assert_eq!((count("\u{1b}[?25l"), count("\u{1b}[?25h")), (1, 1), "{text:?}");
    assert!(text.trim_end().ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{text:?}");
}

#[test]
fn q_and_signals_end_the_watching_too() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let admin = proxy.listener("admin");
    for end in ["q", "TERM"] {
        let mut terminal = watch(&proxy.path(""), &admin);
        terminal.wait_for("LISTENER");

        if end == "q" {
            terminal.type_keys(end)
        } else {
            terminal.signal(Signal::TERM)
        }

        assert_eq!(terminal.exit_code(), 0, "{end}");
        assert!(terminal.text().trim_end().ends_with("\u{1b}[?1049l"), "{end}: {:?}", terminal.text());
        assert!(terminal.echoes(), "{end}");
    }
}

#[test]
fn there_are_colours_on_a_terminal_only_and_not_where_they_are_declined() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let shown = |no_color: &str| {
        let mut command = TestProxy::command_behind(&Terminal::PREFIX, &proxy.path(""));
        command.arg("status").env("CRDB_PROXY_ADMIN", proxy.listener("admin")).env("NO_COLOR", no_color);
        let mut terminal = Terminal::start(command);
        assert_eq!(terminal.exit_code(), 0);
        terminal.text()
    };

    assert!(shown("").contains("\u{1b}[32mrunning"));
    assert!(!shown("1").contains('\u{1b}'));
}

#[test]
fn where_there_is_no_terminal_watching_writes_one_block_after_the_other() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let admin = proxy.listener("admin");
    for (words, text) in [(&["--watch"][..], "crdb-proxy 0.1.0"), (&["--watch", "--json"], "{\"schema\":1")] {
        let mut command = TestProxy::command(&proxy.path(""));
        command.arg("status").args(words).env("CRDB_PROXY_ADMIN", &admin);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());

        // The third one has come when this has been seen three times.
        let seen = std::cell::Cell::new(0);
        let third = lines.find(|line| {
            seen.set(seen.get() + usize::from(line.starts_with(text)));
            (seen.get() == 3).then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();

        assert!(third.is_some(), "{:?}", lines.all());
        assert!(lines.all().iter().all(|line| !line.contains('\u{1b}')), "{:?}", lines.all());
    }
}
