//! The harness itself, proven without the daemon: what it offers is what it says.

mod fake_upstream;
mod names;
mod postgres;
mod relay;

use crate::harness::{
    DEADLINE, FakeUpstream, Login, PASSWORD, Postgres, Script,
    client::connect_tls,
    postgres::program,
    process,
    scram::Flaw,
    settings::Cluster,
    wire::{self, Wire, message, startup},
};
use std::process::Command;

#[test]
fn postgres_lets_the_user_in_over_verified_tls_and_nobody_in_clear() {
    let postgres = Postgres::start();

    let verified = psql(&postgres, "select ssl from pg_stat_ssl where pid = pg_backend_pid()");
    let clear = psql_with(&postgres, "disable", "select 1");

    assert_eq!(verified.expect_success(), "t");
    assert!(clear.stderr.contains("no encryption"), "{}", clear.stderr);
}

#[test]
fn the_scripted_cluster_lets_libpq_in_by_scram_and_answers_it() {
    let cluster = FakeUpstream::answering();

    let finished = psql(&cluster, "select 1");

    assert_eq!(finished.expect_success(), "SELECT 0");
    assert_eq!(cluster.seen().versions, [wire::PROTOCOL_3_0]);
    assert_eq!(cluster.seen().connections, 1);
}

#[test]
fn the_scripted_cluster_refuses_a_wrong_password() {
    let cluster = FakeUpstream::start(Script { login: Login::scram("another"), ..Script::default() });

    let finished = psql(&cluster, "select 1");

    assert!(finished.stderr.contains("password authentication failed"), "{}", finished.stderr);
}

#[test]
fn libpq_notices_a_scripted_cluster_that_does_not_know_the_password() {
    let login = Login::Scram { password: PASSWORD.into(), iterations: 4096, flaw: Flaw::Signature };
    let cluster = FakeUpstream::start(Script { login, ..Script::default() });

    let finished = psql(&cluster, "select 1");

    assert!(finished.stderr.contains("incorrect server signature"), "{}", finished.stderr);
}

fn psql(cluster: &impl Cluster, sql: &str) -> process::Finished {
    psql_with(cluster, "verify-full", sql)
}

fn psql_with(cluster: &impl Cluster, sslmode: &str, sql: &str) -> process::Finished {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, cluster.authority().pem()).unwrap();
    let port = cluster.address().port();
    let connection = format!("host=127.0.0.1 port={port} user=app dbname=defaultdb sslmode={sslmode}");
    let mut psql = Command::new(program("psql"));
    psql.args(["-XAt", "-c", sql, "-d", &connection]);
    psql.env("PGPASSWORD", PASSWORD).env("PGSSLROOTCERT", &ca);
    process::run(&mut psql, "", DEADLINE)
}

/// Sends the password in clear under TLS, as PostgreSQL's user `plain` does; what comes then is to be read.
fn log_in_in_clear(cluster: &impl Cluster) -> Wire {
    let mut wire = connect_tls(cluster.address(), cluster.authority());
    wire.send(&startup(&[("user", "plain"), ("database", "defaultdb")]));
    assert_eq!(wire.message().body, [0, 0, 0, 3]);
    wire.send(&message(b'p', &[PASSWORD.as_bytes(), b"\0"].concat()));
    wire
}
