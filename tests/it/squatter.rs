//! Somebody else at the port: then there is no daemon, rather than one that some clients do not reach.

use crate::harness::{DEADLINE, FakeUpstream, SettingsFile, TestProxy, process};
use socket2::{Domain, Socket, Type};
use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixListener},
};

/// A socket that listens there, as somebody would have it who wants to share the port.
fn squat(address: SocketAddr, v6_only: bool) -> Option<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(v6_only).unwrap();
    }
    socket.bind(&address.into()).ok()?;
    socket.listen(1).unwrap();
    Some(socket)
}

#[test]
fn both_families_of_localhost_are_taken_or_the_start_fails() {
    let cluster = FakeUpstream::answering();
    let mut tried = 0;
    for (address, v6_only) in
        [("127.0.0.1:0", true), ("[::1]:0", true), ("0.0.0.0:0", true), ("[::]:0", true), ("[::]:0", false)]
    {
        let Some(squatter) = squat(address.parse().unwrap(), v6_only) else {
            println!("skipped: {address}, which this machine does not have");
            continue;
        };
        let port = squatter.local_addr().unwrap().as_socket().unwrap().port();
        let mut proxy = SettingsFile::of(&cluster).address(&format!("localhost:{port}")).start();

        assert_eq!(proxy.exit_code(), 3, "{address}");

        let log = proxy.log_text();
        assert!(log.contains(&format!(":{port}: Address already in use")), "{address}: {log}");
        assert!(!log.contains("\"message\":\"listening\",\"listener.name\":\"main\""), "{log}");
        tried += 1;
    }
    assert!(tried >= 2);
}

#[test]
fn nobody_can_share_the_port_of_a_running_daemon() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).address("localhost:0").start();
    let port = proxy.address().port();

    for address in ["127.0.0.1", "[::1]", "0.0.0.0", "[::]"] {
        let address: SocketAddr = format!("{address}:{port}").parse().unwrap();
        if address.is_ipv6() && TcpListener::bind("[::1]:0").is_err() {
            println!("skipped: {address}, which this machine does not have");
            continue;
        }
        assert!(squat(address, true).is_none(), "{address}");
    }
}

#[test]
fn a_listener_with_sockets_of_both_kinds_is_shown_by_its_unix_socket() {
    let cluster = FakeUpstream::answering();
    let folder = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(folder.path().join(".s.PGSQL.5433")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = SettingsFile::of(&cluster).global("admin = \"unix:admin.sock\"");
    let proxy = proxy.start_with(&[("main", tcp.as_fd()), ("main", unix.as_fd())]);
    let is_its = |line: &serde_json::Value| line["listener.name"] == "main";
    proxy.wait_for_log(|line| is_its(line) && line["listener.addr"].as_str().unwrap().starts_with("unix:"));
    proxy.listener("admin");

    let file = proxy.path("crdb-proxy.toml");
    let mut url = TestProxy::command(file.parent().unwrap());
    let url = process::run(url.arg("url").arg("--config").arg(&file), "", DEADLINE).expect_success();

    assert!(url.contains("host=%2F") && url.contains("port=5433"), "{url}");
}
