//! `exec`: a command with a daemon of its own, which it finds by its environment.

mod ends;

use crate::{
    drivers::environment,
    harness::{
        DEADLINE, FakeUpstream, PASSWORD, Postgres, SettingsFile, Terminal, TestProxy,
        postgres::program,
        process::{self, Finished},
    },
};
use rustix::process::Signal;
use std::{net::TcpListener, process::Command};

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

    let own = SettingsFile::of(&server).password("credential = \"client\"");
    let mut command = exec(&own, &[psql.to_str().unwrap(), "-XAtc", WHO]);
    let printed = process::run(command.env("PGPASSWORD", PASSWORD), "", DEADLINE).expect_success();
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
    command.args(["exec", "--config", "crdb-proxy.toml", "--", "sh", "-c", ends::TRAPS]);
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
