//! How a command and its daemon end: signals, sessions that outlive the command, and kills.

use super::{exec, run};
use crate::harness::{
    DEADLINE, FakeUpstream, Postgres, SettingsFile, TestProxy,
    postgres::program,
    process::{self, Lines},
};
use rustix::process::Signal;
use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

/// A command that is still running, killed with the test.
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { stdin: child.stdin.take().unwrap(), child, stdout, stderr }
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let found = self.stdout.find(|line| (line == text).then_some(()));
        assert!(found.is_some(), "{text}: {:?} {:?}", self.stdout.all(), self.stderr.all());
    }

    /// The code, or minus the signal.
    #[track_caller]
    fn exit_code(&mut self) -> i32 {
        assert!(self.stderr.ended_within(DEADLINE), "it still runs: {:?}", self.stdout.all());
        let status = self.child.wait().unwrap();
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(super) const TRAPS: &str = "for s in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo got $s\" $s; done; \
    trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.05; done";

#[test]
fn signals_are_passed_on_and_none_of_them_ends_the_daemon() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let mut running = Running::start(exec(&settings, &["sh", "-c", TRAPS]));
    running.wait_for("ready");

    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
        (Signal::TERM, "TERM"),
    ] {
        process::signal(&running.child, signal);
        running.wait_for(&format!("got {name}"));
    }

    assert_eq!(running.exit_code(), 5);
    let got = running.stdout.all().iter().filter(|line| line.starts_with("got ")).count();
    assert_eq!(got, 7, "{:?}", running.stdout.all());
}

#[test]
fn a_command_that_a_signal_ends_is_told_by_its_number() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let mut running = Running::start(exec(&settings, &["sh", "-c", "echo ready; exec sleep 60"]));
    running.wait_for("ready");

    process::signal(&running.child, Signal::INT);

    assert_eq!(running.exit_code(), 130);
}

#[test]
fn a_signal_that_was_to_be_ignored_stays_so() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    settings.write();
    let mut command = TestProxy::command_behind(&["nohup"], &settings.path(""));
    let script = "kill -HUP $PPID; kill -HUP $$; echo alive";
    command.args(["exec", "--config", "crdb-proxy.toml", "sh", "-c", script]);

    assert_eq!(process::run(&mut command, "", DEADLINE).expect_success(), "alive");
}

#[test]
fn while_the_daemon_is_not_ready_a_signal_ends_both_before_they_begin() {
    let mut cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("startup_requires_upstream = true");
    cluster.stop();
    let mut running = Running::start(exec(&settings, &["--log-format", "json", "touch", "it-ran"]));
    let waits = |line: &str| line.contains("not started yet").then_some(());
    assert!(running.stderr.find(waits).is_some(), "{:?}", running.stderr.all());

    for signal in [Signal::WINCH, Signal::USR1, Signal::TERM] {
        process::signal(&running.child, signal);
    }

    assert_eq!(running.exit_code(), 143);
    assert!(!settings.path("it-ran").exists());
}

#[test]
fn a_command_whose_daemon_is_killed_is_told_to_end() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let mut running = Running::start(exec(&settings, &["sh", "-c", TRAPS]));
    running.wait_for("ready");

    process::signal(&running.child, Signal::KILL);

    running.wait_for("got TERM");
    assert_eq!(running.exit_code(), -9);
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_that_will_not_hear_of_it_outlives_a_daemon_that_is_killed() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let script = "trap '' TERM; echo ready; read line; echo lives";
    let mut running = Running::start(exec(&settings, &["sh", "-c", script]));
    running.wait_for("ready");

    process::signal(&running.child, Signal::KILL);
    assert_eq!(running.child.wait().unwrap().signal(), Some(9));
    // It reads only now, when SIGTERM has come.
    running.stdin.write_all(b"\n").unwrap();

    running.wait_for("lives");
}

#[test]
fn a_command_whose_daemon_stops_is_told_to_end() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let own = env!("CARGO_BIN_EXE_crdb-proxy");
    let script = format!(
        "trap 'echo told; exit 9' TERM; {own} shutdown --admin unix:a.sock; \
        while :; do sleep 0.05; done"
    );

    let finished = run(&settings, &["--admin", "unix:a.sock", "sh", "-c", &script]);

    assert_eq!(finished.status.code(), Some(9), "{}", finished.stderr);
    assert!(finished.stdout.ends_with("told"), "{}", finished.stdout);
    assert!(finished.stderr.contains("the daemon has ended, and so must the command"), "{}", finished.stderr);
}

#[test]
fn a_session_that_outlives_the_command_ends_as_in_a_drain() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server).global("drain_delay = \"1h\"");
    // The first is amid a statement when the command ends, the second idle with more to read.
    let script = "mkfifo one two; \
        { echo '\\! echo begun > one'; echo \"select pg_sleep(0.5), 'finished'\"; } | $0 -XAt > out & read line < one; \
        { echo 'select 1;'; echo '\\! echo begun > two'; exec sleep 3 2> /dev/null; } | $0 -XAt > /dev/null 2>&1 & read line < two; \
        echo left";
    let psql = program("psql");

    let finished = run(&settings, &["sh", "-c", script, psql.to_str().unwrap()]);

    assert_eq!(finished.expect_success(), "left");
    assert!(std::fs::read_to_string(settings.path("out")).unwrap().contains("finished"));
}

#[test]
fn a_signal_cuts_short_the_drain_behind_the_command() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server);
    let script = "mkfifo one; { echo '\\! echo begun > one'; echo 'select pg_sleep(60)'; } | $0 -XAtq > /dev/null 2>&1 & \
        read line < one; echo left; exit 6";
    let psql = program("psql");
    let words = ["--log-level", "info", "sh", "-c", script, psql.to_str().unwrap()];
    let mut running = Running::start(exec(&settings, &words));
    let drains = |line: &str| line.contains(" draining signal=\"the end of the command\"").then_some(());
    assert!(running.stderr.find(drains).is_some(), "{:?}", running.stderr.all());

    process::signal(&running.child, Signal::TERM);

    assert_eq!(running.exit_code(), 6);
    assert!(running.stderr.all().iter().any(|line| line.contains("stopped at once by a second signal")));
}
