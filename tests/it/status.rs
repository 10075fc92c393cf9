//! `status`: what is shown of a running daemon, once and again and again.

use crate::harness::{
    FakeUpstream, SettingsFile, Terminal, TestClient, TestProxy,
    process::{Finished, Lines},
    proxy::run_daemon,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{path::Path, process::Stdio};

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

#[test]
fn it_shows_listeners_endpoints_and_sessions_in_eighty_columns() {
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
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
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
