//! PostgreSQL's own programs behind the daemon, with no TLS setting and no password.

use crate::harness::{
    Postgres, TestProxy,
    postgres::program,
    process::{self, Finished},
};
use rustix::process::Signal;
use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

#[test]
fn psql_runs_a_transaction_a_prepared_statement_and_sees_a_servers_error() {
    let (_postgres, proxy) = started();
    let script = "create table t (n int primary key);\n\
        begin; insert into t values (1), (2); rollback;\n\
        begin; insert into t values (3); commit;\n\
        prepare p (int) as select n + $1 from t; execute p (4);\n\
        \\set VERBOSITY verbose\n\
        insert into t values (3);\n";

    let finished = psql(&proxy, &["-Atq"], script);

    assert_eq!(finished.stdout, "7");
    assert!(finished.stderr.contains("ERROR:  23505"), "{}", finished.stderr);
}

#[test]
fn psql_copies_both_ways() {
    let (_postgres, proxy) = started();
    let rows = (0..20_000).map(|n| format!("{n}\trow number {n}\n")).collect::<String>();
    let script = format!("create table t (n int, s text);\ncopy t from stdin;\n{rows}\\.\ncopy t to stdout;\n");

    let copied = psql(&proxy, &["-Atq"], &script).expect_success();

    assert_eq!(copied, rows.trim_end());
}

#[test]
fn psql_cancels_on_interrupt() {
    let (_postgres, proxy) = started();
    let mut psql = Command::new(program("psql"));
    psql.args(["-X", "-d", &connection(&proxy)]).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = psql.spawn().unwrap();
    let stderr = process::Lines::of(child.stderr.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"do $$ begin raise notice 'it runs'; perform pg_sleep(60); end $$;\n").unwrap();
    stderr.find(|line| line.contains("it runs").then_some(())).expect("the statement to run");

    process::signal(&child, Signal::INT);

    assert!(stderr.find(|line| line.contains("canceling statement").then_some(())).is_some(), "{:?}", stderr.all());
    drop(stdin);
    child.wait().unwrap();
}

#[test]
fn psql_stores_and_fetches_a_large_object() {
    let (_postgres, proxy) = started();
    let folder = tempfile::tempdir().unwrap();
    let (stored, fetched) = (folder.path().join("stored"), folder.path().join("fetched"));
    let bytes = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>();
    std::fs::write(&stored, &bytes).unwrap();
    let script = format!("\\lo_import {}\n\\lo_export :LASTOID {}\n", stored.display(), fetched.display());

    psql(&proxy, &["-q"], &script).expect_success();

    assert!(std::fs::read(fetched).unwrap() == bytes, "it came back changed");
}

#[test]
fn pgbench_runs_in_every_query_mode() {
    let (_postgres, proxy) = started();
    pgbench(&proxy, &["-i", "-q", "-s", "1"]);

    for mode in ["simple", "extended", "prepared"] {
        let report = pgbench(&proxy, &["-M", mode, "-c", "4", "-j", "2", "-t", "50"]);

        assert!(report.contains("processed: 200/200"), "{mode}: {report}");
        assert!(report.contains("failed transactions: 0"), "{mode}: {report}");
    }
}

#[test]
fn pgbench_reconnects_for_every_transaction() {
    let (_postgres, proxy) = started();
    pgbench(&proxy, &["-i", "-q", "-s", "1"]);

    let report = pgbench(&proxy, &["-C", "-S", "-c", "4", "-t", "25"]);

    assert!(report.contains("processed: 100/100"), "{report}");
    proxy.wait_for_active(0.0);
}

#[test]
fn a_replication_stream_passes() {
    let (_postgres, proxy) = started();
    psql(&proxy, &["-q"], "create table t (n int);").expect_success();
    recvlogical(&proxy, &["--slot=s", "--create-slot", "--plugin=test_decoding"]);
    psql(&proxy, &["-q"], "insert into t select generate_series(1, 1000);").expect_success();
    let position = psql(&proxy, &["-Atq"], "select pg_current_wal_lsn();").expect_success();

    let end = format!("--endpos={position}");
    let changes = recvlogical(&proxy, &["--slot=s", "--start", "-f", "-", "--no-loop", &end]);

    assert_eq!(changes.lines().filter(|line| line.contains("INSERT: n[integer]:")).count(), 1000);
}

#[test]
fn a_dump_restores_to_the_same_dump() {
    let (postgres, proxy) = started();
    psql(&proxy, &["-q"], "create table t as select n, md5(n::text) from generate_series(1, 1000) n;").expect_success();
    let dump = |database: &str| {
        let mut command = Command::new(program("pg_dump"));
        let connection = connection(&proxy).replace("dbname=defaultdb", &format!("dbname={database}"));
        let dump = process::run(command.args(["-d", &connection]), "", Duration::from_secs(30)).expect_success();
        // Newer versions guard a dump with a random word in two lines.
        dump.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    };
    let dumped = dump("defaultdb");

    let mut restore = Command::new(program("psql"));
    let other = connection(&proxy).replace("dbname=defaultdb", "dbname=other");
    process::run(restore.args(["-Xq", "-d", &other]), &dumped, Duration::from_secs(30)).expect_success();

    assert_eq!(dump("other"), dumped);
    drop(postgres);
}

fn started() -> (Postgres, TestProxy) {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);
    (postgres, proxy)
}

/// Host, port and database: nothing about TLS, and no password.
fn connection(proxy: &TestProxy) -> String {
    format!("host=127.0.0.1 port={} user=anyone dbname=defaultdb", proxy.address().port())
}

fn psql(proxy: &TestProxy, arguments: &[&str], script: &str) -> Finished {
    let mut psql = Command::new(program("psql"));
    psql.arg("-X").args(arguments).args(["-d", &connection(proxy)]);
    process::run(&mut psql, script, Duration::from_secs(30))
}

fn pgbench(proxy: &TestProxy, arguments: &[&str]) -> String {
    let mut pgbench = Command::new(program("pgbench"));
    pgbench.args(arguments).arg(connection(proxy));
    process::run(&mut pgbench, "", Duration::from_secs(60)).expect_success()
}

fn recvlogical(proxy: &TestProxy, arguments: &[&str]) -> String {
    let mut recvlogical = Command::new(program("pg_recvlogical"));
    recvlogical.args(arguments).args(["-d", &connection(proxy)]);
    process::run(&mut recvlogical, "", Duration::from_secs(30)).expect_success()
}
