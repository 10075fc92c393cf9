//! `exec`: a command with a daemon of its own, which it finds by its environment.

use crate::{
    drivers::environment,
    harness::{
        DEADLINE, FakeUpstream, PASSWORD, Postgres, SettingsFile, Terminal, TestProxy,
        postgres::program,
        process::{self, Finished, Lines},
    },
};
use rustix::process::Signal;
use std::{
    io::Write,
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

/// `crdb-proxy exec` with these words, beside the settings file.
fn exec(settings: &SettingsFile, words: &[&str]) -> Command {
    settings.write();
    let mut command = TestProxy::command(&settings.path(""));
    command.args(["exec", "--config", "crdb-proxy.toml"]).args(words);
    command
}

fn run(settings: &SettingsFile, words: &[&str]) -> Finished {
    process::run(&mut exec(settings, words), "", DEADLINE)
}

/// Settings that say neither where to listen nor the admin address, written.
fn silent(settings: &SettingsFile) -> Command {
    let mut command = exec(settings, &[]);
    let text = settings.text().replace("admin = \"127.0.0.1:0\"", "").replace("address = \"127.0.0.1:0\"", "");
    std::fs::write(settings.path("crdb-proxy.toml"), text).unwrap();
    command.env("PSQL", program("psql"));
    command
}

const WHO: &str = "select current_user || ' at ' || current_database()";

#[test]
fn psql_finds_the_daemon_whatever_its_user_has_set_for_other_databases() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server).file("root.crt", "no certificate");
    let psql = program("psql");
    let mut command = exec(&settings, &[psql.to_str().unwrap(), "-XAtc", WHO]);
    for (name, value) in [
        ("PGHOST", "192.0.2.1"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGSERVICE", "other"),
        ("PGSSLROOTCERT", "system"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGCHANNELBINDING", "require"),
        ("PGSSLMODE", "verify-full"),
    ] {
        command.env(name, value);
    }

    let finished = process::run(&mut command, "", DEADLINE);

    assert_eq!(finished.stderr, "");
    assert_eq!(finished.expect_success(), "app at defaultdb");
}

#[test]
fn the_command_reads_our_input_and_its_connection_string_is_one() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server);
    let mut command = silent(&settings);
    command.args(["sh", "-c", "$PSQL -XAt \"$DATABASE_URL\"; cat"]);

    let finished = process::run(&mut command, &format!("{WHO};\n\\q\n"), DEADLINE);

    assert_eq!(finished.expect_success(), "app at defaultdb");
}

#[test]
fn a_daemon_that_runs_already_is_in_nobodys_way() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server);
    let mut command = silent(&settings);
    let own = env!("CARGO_BIN_EXE_crdb-proxy");
    let inner = format!("{own} exec --config crdb-proxy.toml -- sh -c '$PSQL -XAtc \"select 1\"; echo $PGPORT'");
    command.args(["--", "sh", "-c", &format!("{inner}; echo $PGPORT")]);

    let printed = process::run(&mut command, "", DEADLINE).expect_success();

    let lines = printed.lines().collect::<Vec<_>>();
    assert!(lines.len() == 3 && lines[0] == "1" && lines[1] != lines[2], "{printed}");
}

#[test]
fn an_address_of_the_command_line_must_be_free() {
    let cluster = FakeUpstream::answering();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = SettingsFile::of(&cluster);

    let failed = run(&settings, &["--listen", &address, "touch", "it-ran"]);

    assert_eq!(failed.status.code(), Some(3), "{}", failed.stderr);
    assert!(failed.stderr.contains(&address), "{}", failed.stderr);
    assert!(!settings.path("it-ran").exists());
    let both = run(&settings, &["--free-port", "--listen", &address, "true"]);
    assert_eq!(both.status.code(), Some(2), "{}", both.stderr);
}

#[test]
fn an_address_of_the_file_is_taken_where_it_is_free() {
    let cluster = FakeUpstream::answering();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let settings = SettingsFile::of(&cluster).address(&address.to_string());
    let port = |words: &[&str]| run(&settings, &[words, &["sh", "-c", "echo $PGPORT"]].concat());

    let beside = port(&[]);
    let free = port(&["--free-port"]);
    drop(held);
    let alone = port(&[]);

    let told = "the address is taken; the command is led to a free port listener.name=main";
    assert!(beside.stderr.contains(told) && beside.stderr.contains(&address.to_string()), "{}", beside.stderr);
    assert_eq!((free.stderr.as_str(), alone.stderr.as_str()), ("", ""));
    let own = address.port().to_string();
    assert!(beside.expect_success() != own && free.expect_success() != own);
    assert_eq!(alone.expect_success(), own);
}

#[test]
fn the_admin_address_is_that_of_the_flag_alone() {
    let cluster = FakeUpstream::answering();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = SettingsFile::of(&cluster).global(&format!("admin = \"{address}\""));
    let mut command = exec(&settings, &["true"]);

    process::run(command.env("CRDB_PROXY_ADMIN", &address), "", DEADLINE).expect_success();

    assert_eq!(run(&settings, &["--admin", &address, "true"]).status.code(), Some(3));
}

#[test]
fn no_secret_of_ours_and_nothing_that_misleads_is_in_the_commands_environment() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).password("password = { env = \"APP_SECRET\" }");
    let settings = settings.cluster("api_key = { env = \"CLOUD_KEY\" }");
    let mut command = exec(&settings, &["env"]);
    let withheld = [
        "APP_SECRET",
        "COCKROACH_API_KEY",
        "PGPASSWORD",
        "PGHOSTADDR",
        "COCKROACH_CERTS_DIR",
        "CRDB_PROXY_LOG_REPEAT",
        "CLOUD_KEY",
        "PGSYSCONFDIR",
        "PGLOADBALANCEHOSTS",
        "PGMINPROTOCOLVERSION",
        "PGMAXPROTOCOLVERSION",
    ];
    // The command's own wishes for its session.
    let kept = ["PGAPPNAME", "PGOPTIONS", "PGTZ", "PGDATESTYLE", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT", "LC_ALL"];
    command.envs(withheld.into_iter().chain(kept).map(|name| (name, "10s")));
    command.env("APP_SECRET", PASSWORD);

    let printed = process::run(&mut command, "", DEADLINE).expect_success();

    let names = printed.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect::<Vec<_>>();
    for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "DATABASE_URL", "COCKROACH_URL"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert!(kept.iter().all(|name| names.contains(name)) && names.contains(&"HOME"), "{names:?}");
    assert!(withheld.iter().all(|name| !names.contains(name)), "{names:?}");
    assert!(!printed.contains(PASSWORD));
}

#[test]
fn a_password_that_the_listener_asks_for_is_the_commands_to_know() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server).file("l.pw", "local word");
    let settings = settings.listener("local_password = { file = \"l.pw\" }");
    let psql = program("psql");
    let mut command = exec(&settings, &[psql.to_str().unwrap(), "-XAtc", WHO]);

    let printed = process::run(command.env("PGPASSWORD", "local word"), "", DEADLINE).expect_success();

    assert_eq!(printed, "app at defaultdb");
}

#[test]
fn the_exit_code_is_the_commands_as_a_shell_gives_it() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("no-program", "text");
    for (words, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["no-such-command"], 127),
        (&["./no-such-command"], 127),
        (&["./no-program"], 126),
        (&["."], 126),
    ] {
        let finished = run(&settings, words);

        assert_eq!(finished.status.code(), Some(code), "{words:?}: {}", finished.stderr);
        let is_told = finished.stderr.contains("the command");
        assert_eq!(is_told, [126, 127].contains(&code), "{words:?}: {}", finished.stderr);
    }
    let strange = run(&settings, &["app:hunter2@host/d"]);
    assert_eq!(strange.status.code(), Some(127));
    assert!(!strange.stderr.contains("hunter2"), "{}", strange.stderr);
}

#[test]
fn a_start_that_fails_is_told_and_the_command_is_not_run() {
    let cluster = FakeUpstream::answering();
    for (settings, words, code, told) in [
        (SettingsFile::of(&cluster).global("frobnicate = 1"), &[][..], 2, "frobnicate"),
        (SettingsFile::of(&cluster).password("password = { file = \"none.pw\" }"), &[], 2, "none.pw"),
        (SettingsFile::of(&cluster), &["--listener", "other"], 2, "but there are: \"main\""),
        (SettingsFile::of(&cluster), &["--limit", "soon"], 2, "flag --limit"),
    ] {
        let failed = run(&settings, &[words, &["touch", "it-ran"]].concat());

        assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(code), ""), "{}", failed.stderr);
        assert!(failed.stderr.contains(told), "{}", failed.stderr);
        assert!(!settings.path("it-ran").exists());
    }
}

#[test]
fn the_command_waits_until_the_daemon_is_ready() {
    let mut cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("startup_requires_upstream = true");
    assert_eq!(run(&settings, &["echo", "it ran"]).expect_success(), "it ran");

    cluster.stop();
    let failed = run(&settings, &["--limit", "1s", "touch", "it-ran"]);

    assert_eq!(failed.status.code(), Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("waited 1s in vain"), "{}", failed.stderr);
    assert!(!settings.path("it-ran").exists());
}

#[test]
fn the_command_is_led_to_the_first_listener_or_to_the_one_that_is_named() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).another_listener("second", "database = \"other\"");

    assert_eq!(run(&settings, &["sh", "-c", "echo $PGDATABASE"]).expect_success(), "defaultdb");
    let words = ["--listener", "second", "sh", "-c", "echo $PGDATABASE"];
    assert_eq!(run(&settings, &words).expect_success(), "other");
}

#[test]
fn a_unix_socket_is_found_as_well() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server).address("unix:s");
    std::fs::create_dir(settings.path("s")).unwrap();
    let psql = program("psql");
    let script = "$0 -XAtc \"select 1\" && $0 -XAt -c \"select 2\" \"$DATABASE_URL\"";

    let printed = run(&settings, &["sh", "-c", script, psql.to_str().unwrap()]).expect_success();

    assert_eq!(printed, "1\n2");
    assert!(!settings.path("s/.s.PGSQL.26257").exists());
}

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

const TRAPS: &str = "for s in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo got $s\" $s; done; \
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

#[test]
fn node_postgres_takes_the_connection_string() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server);
    let script = "const { Client } = require('pg'); const c = new Client(process.env.DATABASE_URL); c.connect()\
        .then(() => c.query('select current_user as u')).then((r) => { console.log(r.rows[0].u); return c.end(); });";
    let mut command = exec(&settings, &["node", "-e", script]);
    command.env("NODE_PATH", environment("node/node_modules"));

    assert_eq!(process::run(&mut command, "", DEADLINE).expect_success(), "app");
}

#[test]
fn at_a_terminal_the_keyboard_reaches_the_command_once() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    settings.write();
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, &settings.path(""));
    command.args(["exec", "--config", "crdb-proxy.toml", "--", "sh", "-c", TRAPS]);
    let mut terminal = Terminal::start(command);
    terminal.wait_for("ready");

    terminal.type_keys("\u{3}");
    terminal.wait_for("got INT");
    terminal.signal(Signal::USR1);
    terminal.wait_for("got USR1");
    terminal.signal(Signal::TERM);

    assert_eq!(terminal.exit_code(), 5);
    assert_eq!(terminal.text().matches("got INT").count(), 1, "{}", terminal.text());
}

#[test]
fn as_the_first_process_of_a_container_it_lets_orphans_go() {
    if !rustix::process::getuid().is_root() {
        eprintln!("a process namespace is root's to make");
        return;
    }
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    settings.write();
    // The orphan's number is there as long as nobody has waited for it.
    let script = "orphan=$(sh -c 'sleep 0.05 >/dev/null & echo $!'); for i in 1 2 3 4 5 6 7 8 9; do \
        test -e /proc/$orphan || { echo gone; exit 4; }; sleep 0.$i; done; echo left";
    let as_init = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut command = TestProxy::command_behind(&as_init, &settings.path(""));
    command.args(["exec", "--config", "crdb-proxy.toml", "sh", "-c", script]);

    let finished = process::run(&mut command, "", DEADLINE);

    assert_eq!((finished.stdout.as_str(), finished.status.code()), ("gone", Some(4)), "{}", finished.stderr);
}
