//! Listeners on Unix sockets.

use crate::harness::{
    DEADLINE, FakeUpstream, Postgres, SettingsFile, TestClient, client::connect_unix, postgres::program, process,
    wire::cancel_request,
};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Command,
};

#[test]
fn psql_finds_the_socket_by_its_folder_and_port() {
    let postgres = Postgres::start();
    let settings = SettingsFile::of(&postgres);
    let folder = settings.path("run");
    fs::create_dir(&folder).unwrap();
    let proxy = settings.address(&format!("unix:{}", folder.display())).start();
    proxy.wait_for_message("listening");
    proxy.listener("main");

    let mut psql = Command::new(program("psql"));
    psql.args(["-XAt", "-p", "26257", "-U", "anyone", "-d", "defaultdb", "-c", "select current_user", "-h"]);
    let answer = process::run(psql.arg(&folder), "", DEADLINE).expect_success();

    assert_eq!(answer, "app");
}

#[test]
fn the_socket_has_the_mode_that_the_listener_says() {
    let cluster = FakeUpstream::answering();

    for (line, mode) in [("", 0o600), ("mode = \"0660\"", 0o660)] {
        let settings = SettingsFile::of(&cluster).listener(line);
        let path = settings.path(".s.PGSQL.5433");
        let proxy = settings.address(&format!("unix:{}", path.display())).start();

        assert_eq!(proxy.listener("main"), format!("unix:{}", path.display()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_stale_socket_file_is_replaced_and_removed_in_the_end() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let path = settings.path(".s.PGSQL.26257");
    drop(UnixListener::bind(&path).unwrap()); // Closing leaves the file behind.
    let mut proxy = settings.address(&format!("unix:{}", path.display())).start();
    proxy.listener("main");

    TestClient::log_in(connect_unix(&path), &[("user", "anyone")]);

    assert_eq!(proxy.terminate(), 0);
    assert!(!path.exists(), "the socket file is still there");
}

#[test]
fn a_socket_that_someone_listens_on_is_left_alone() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let path = settings.path(".s.PGSQL.26257");
    let taken = UnixListener::bind(&path).unwrap();
    let mut proxy = settings.address(&format!("unix:{}", path.display())).start();

    assert_eq!(proxy.exit_code(), 3);

    assert!(proxy.log_text().contains(path.to_str().unwrap()), "{}", proxy.log_text());
    assert!(path.exists());
    drop(taken);
}

#[test]
fn a_file_that_is_no_socket_is_never_replaced() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file(".s.PGSQL.26257", "precious");
    let path = settings.path(".s.PGSQL.26257");
    let mut proxy = settings.address(&format!("unix:{}", path.display())).start();

    assert_eq!(proxy.exit_code(), 3);

    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_by_the_settings() {
    let cluster = FakeUpstream::answering();
    let long = format!("unix:/tmp/{}/.s.PGSQL.26257", "x".repeat(100));
    let mut proxy = SettingsFile::of(&cluster).address(&long).start();

    assert_eq!(proxy.exit_code(), 2);
}

#[test]
fn a_cancel_over_the_socket_reaches_the_session() {
    let cluster = FakeUpstream::by_hand();
    let settings = SettingsFile::of(&cluster);
    let path = settings.path(".s.PGSQL.26257");
    let proxy = settings.address(&format!("unix:{}", path.display())).start();
    proxy.listener("main");
    let client = TestClient::log_in(connect_unix(&path), &[("user", "anyone")]);

    let mut wire = connect_unix(&path);
    wire.send(&cancel_request(&client.key));

    assert_eq!(wire.rest(), b"");
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}
