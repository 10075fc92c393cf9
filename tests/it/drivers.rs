//! Drivers of other languages at their default settings: no TLS setting, no password.
//!
//! Each script under `tests/drivers` gets host and port, and does what `expect` names, in this order;
//! it prints the name of each step that went well, and ends with an error message otherwise.

use crate::harness::{Postgres, SettingsFile, TestProxy, process};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio_postgres::{NoTls, SimpleQueryMessage};

const STEPS: [&str; 4] = ["transaction", "prepared", "cancel", "error"];

#[test]
fn psycopg_3() {
    let (_postgres, proxy) = started();

    let steps = python(&proxy, "psycopg_3.py", &[]);

    assert_eq!(steps, ["transaction", "prepared", "copy", "cancel", "error", "pipeline"]);
}

#[test]
fn psycopg_3_with_protocol_3_2() {
    let (_postgres, proxy) = started();

    let steps = python(&proxy, "psycopg_3.py", &["max_protocol_version=latest"]);

    assert_eq!(steps, ["transaction", "prepared", "copy", "cancel", "error", "pipeline"]);
}

#[test]
fn psycopg_3_with_direct_tls() {
    let postgres = Postgres::start();
    let settings = SettingsFile::of(&postgres).identity("local", &postgres.authority.server());
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let proxy = settings.listener(tls).start();
    let root = format!("sslrootcert={}", proxy.path("ca.crt").display());

    let steps = python(&proxy, "psycopg_3.py", &["sslmode=verify-full", "sslnegotiation=direct", &root]);

    assert_eq!(steps, ["transaction", "prepared", "copy", "cancel", "error", "pipeline"]);
}

#[test]
fn django() {
    let (_postgres, proxy) = started();

    let steps = python(&proxy, "django_test.py", &[]);

    assert_eq!(steps, ["connection", "transaction", "error", "test database"]);
}

#[test]
fn node_postgres() {
    let (_postgres, proxy) = started();
    let mut node = Command::new("node");
    node.arg(script("node_postgres.js")).env("NODE_PATH", environment("node/node_modules"));

    assert_eq!(run(&proxy, &mut node), STEPS);
}

#[test]
fn jdbc() {
    let (_postgres, proxy) = started();
    let mut java = Command::new("java");
    java.args(["-cp", "/usr/share/java/postgresql.jar"]).arg(script("Jdbc.java"));

    assert_eq!(run(&proxy, &mut java), ["transaction", "prepared", "copy", "cancel", "error"]);
}

#[test]
fn tokio_postgres_does_it_all() {
    let (_postgres, proxy) = started();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    runtime.block_on(async {
        let port = proxy.address().port();
        let settings = format!("host=127.0.0.1 port={port} user=anyone dbname=defaultdb");
        let (mut client, connection) = tokio_postgres::connect(&settings, NoTls).await.unwrap();
        let driving = tokio::spawn(connection);

        client.batch_execute("create table t (n int primary key)").await.unwrap();
        let transaction = client.transaction().await.unwrap();
        transaction.execute("insert into t values (1)", &[]).await.unwrap();
        transaction.commit().await.unwrap();
        let statement = client.prepare("select n + $1 from t").await.unwrap();
        let row = client.query_one(&statement, &[&41_i32]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 42);

        let error = client.execute("insert into t values (1)", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23505");

        let token = client.cancel_token();
        let (slow, cancelled) = tokio::join!(client.simple_query("select pg_sleep(60)"), async {
            // The statement is on its way before this request is, and the server may still be earlier:
            // a cancel that comes too soon does nothing, so the server is asked until it runs.
            wait_until_sleeping(&settings).await;
            token.cancel_query(NoTls).await
        });
        cancelled.unwrap();
        assert_eq!(slow.unwrap_err().code().unwrap().code(), "57014");

        drop(client);
        driving.await.unwrap().unwrap();
    });
}

async fn wait_until_sleeping(settings: &str) {
    let (client, connection) = tokio_postgres::connect(settings, NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let running = "select 1 from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
    let mut found = false;
    for _ in 0..1000 {
        let rows = client.simple_query(running).await.unwrap();
        found = rows.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_)));
        if found {
            break;
        }
        client.simple_query("select pg_sleep(0.01)").await.unwrap();
    }
    assert!(found, "the statement never ran");
    drop(client);
    driving.await.unwrap().unwrap();
}

fn started() -> (Postgres, TestProxy) {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);
    (postgres, proxy)
}

/// Runs a Python script with connection parameters; gives the steps it printed.
#[track_caller]
fn python(proxy: &TestProxy, name: &str, parameters: &[&str]) -> Vec<String> {
    let mut python = Command::new(environment("python/bin/python"));
    python.arg(script(name));
    python.args(["--"]).args(parameters);
    run(proxy, &mut python)
}

/// Runs a driver's script, which finds the daemon as any application would: by host and port.
#[track_caller]
fn run(proxy: &TestProxy, command: &mut Command) -> Vec<String> {
    let home = proxy.path(".");
    command.env("HOST", "localhost").env("PORT", proxy.address().port().to_string()).env("HOME", home);
    for variable in ["PGPASSWORD", "PGSSLMODE", "PGUSER", "PGDATABASE", "PGHOST", "PGPORT"] {
        command.env_remove(variable);
    }
    let printed = process::run(command, "", Duration::from_secs(60)).expect_success();
    printed.lines().map(str::to_owned).collect()
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(name)
}

/// Where `tests/run` installs drivers.
pub(crate) fn environment(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-env").join(path)
}
