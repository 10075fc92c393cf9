//! Real servers that are killed, stopped, continued and restarted.

use super::psql;
use crate::harness::{
    PASSWORD, Postgres, TestClient,
    client::connect_tls,
    settings::Cluster,
    wire::{message, query, startup},
};
use std::{io::ErrorKind, net::TcpStream, path::Path, time::Duration};

#[test]
fn regions_share_an_authority_and_nothing_else() {
    let regions = Postgres::regions(3);

    for (number, region) in regions.iter().enumerate() {
        region.sql(&format!("create table only_in_{number}()"));
        let tables = psql(region, "select relname from pg_class where relname like 'only_in%'").expect_success();
        assert_eq!(tables, format!("only_in_{number}"));
        assert_eq!(region.authority.pem(), regions[0].authority.pem());
    }
}

#[test]
fn a_killed_server_tells_nobody_and_comes_back_on_its_port() {
    let mut postgres = Postgres::start();
    let address = postgres.address();
    let mut client = log_in(&postgres);

    postgres.kill();
    assert_eq!(client.next_message().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);

    postgres.restart();
    assert_eq!(postgres.address(), address);
    assert_eq!(psql(&postgres, "select 1").expect_success(), "1");
    postgres.kill(); // And so it is dropped.
}

#[test]
fn a_stopped_server_answers_once_it_goes_on() {
    let postgres = Postgres::start();
    let mut open = log_in(&postgres);

    postgres.stop_process();
    open.send(&query("select 1"));
    assert!(open.stays_silent(Duration::from_millis(200)));
    TcpStream::connect(postgres.address()).unwrap();

    postgres.continue_process();
    assert_eq!(open.until(b'Z').iter().map(|message| message.tag).collect::<Vec<_>>(), b"TDCZ");
}

#[test]
fn a_stopped_server_ends_with_its_test() {
    let postgres = Postgres::start();
    let _client = log_in(&postgres);
    let processes = postgres.sql("select pid from pg_stat_activity where pid <> pg_backend_pid()");
    assert!(processes.lines().count() > 3, "{processes}");

    postgres.stop_process();
    drop(postgres);

    let left = processes.lines().filter(|process| Path::new("/proc").join(process).exists());
    assert_eq!(left.count(), 0);
}

#[test]
fn a_restart_tells_clients_that_the_server_shuts_down() {
    let mut postgres = Postgres::start();
    let mut client = log_in(&postgres);

    postgres.restart();

    assert_eq!(client.refusal().sqlstate(), "57P01");
    assert_eq!(psql(&postgres, "select 1").expect_success(), "1");
}

/// The user `plain`, whose password goes in clear under TLS.
fn log_in(postgres: &Postgres) -> TestClient {
    let mut wire = connect_tls(postgres.address(), &postgres.authority);
    wire.send(&startup(&[("user", "plain"), ("database", "defaultdb")]));
    assert_eq!(wire.message().body, [0, 0, 0, 3]);
    wire.send(&message(b'p', &[PASSWORD.as_bytes(), b"\0"].concat()));
    TestClient::ready(wire)
}
