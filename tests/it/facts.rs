//! What a person sees who starts the daemon at a terminal, and nobody else.

use crate::harness::{
    DEADLINE, PASSWORD, Postgres, SettingsFile, Terminal, TestProxy, postgres::program, process, settings::Cluster,
};
use rustix::process::Signal;
use std::process::Command;

/// The daemon at a terminal with these settings and arguments.
fn start(settings: &SettingsFile, arguments: &[&str]) -> Terminal {
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, &settings.path(""));
    command.arg("--config").arg(settings.write()).args(arguments).env("NO_COLOR", "1");
    Terminal::start(command)
}

#[test]
fn at_a_terminal_the_daemon_says_what_it_will_do_before_it_listens() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server).global("admin = \"127.0.0.1:0\"");
    let terminal = start(&settings, &[]);
    let listening = terminal.wait_for("listening listener.name=main listener.addr=127.0.0.1:");
    terminal.wait_for("listening listener.name=admin listener.addr=127.0.0.1:");

    let text = terminal.text();

    let address = listening.split_once("listener.addr=").unwrap().1.split_whitespace().next().unwrap();
    let (block, _) = text.split_once("INFO listening listener.name=admin").unwrap();
    let endpoint = format!("\"first\" at 127.0.0.1:{}: first in order", server.address().port());
    for (title, fact) in [
        ("cluster", "\"test\" as user \"app\""),
        ("verified", "in full (verify-full): chain, validity and name, against "),
        ("CA", "valid until 2"),
        ("CA sha256", ""),
        ("secret", "from file "),
        ("listening", &format!("{address} (\"main\")")),
        ("endpoint", &endpoint),
        ("connect", &format!("psql 'postgresql://app@{address}/defaultdb?sslmode=disable'")),
        ("admin", "127.0.0.1:"),
    ] {
        let expected = format!("  {title:<12}{fact}");
        assert!(block.lines().any(|line| line.starts_with(&expected)), "{expected}\n{block}");
    }
    let sum = block.lines().find_map(|line| line.strip_prefix("  CA sha256   ")).unwrap();
    assert!(sum.trim().chars().filter(char::is_ascii_hexdigit).count() == 64, "{sum}");
    assert!(!text.contains(PASSWORD), "{text}");
    let url = block.split_once("psql '").unwrap().1.split_once('\'').unwrap().0;
    let mut psql = Command::new(program("psql"));
    let answer = process::run(psql.args(["-XAt", "-c", "select current_user", url]), "", DEADLINE).expect_success();
    assert_eq!(answer, "app");
}

#[test]
fn who_reads_json_at_a_terminal_sees_log_lines_only() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server);
    let mut terminal = start(&settings, &["--log-format", "json"]);
    terminal.wait_for("\"listener.name\":\"main\"");

    terminal.signal(Signal::TERM);

    assert_eq!(terminal.exit_code(), 0);
    for line in terminal.text().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_service_writes_log_lines_only() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server);
    let file = settings.write();
    let mut command = TestProxy::command(&settings.path(""));
    command.arg("--config").arg(file);
    let mut proxy = TestProxy::spawn(command, tempfile::tempdir().unwrap());
    proxy.wait_for_text("listener.name=main");

    assert_eq!(proxy.terminate(), 0);

    for line in proxy.log_text().lines() {
        assert!(
            line.get(4..5) == Some("-") && [Some("Z  INFO "), Some("Z  WARN ")].contains(&line.get(23..31)),
            "{line}"
        );
    }
}
