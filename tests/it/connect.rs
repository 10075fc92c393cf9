//! The way upstream: which endpoint and address is dialled, and how.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Front, Script, Session, SettingsFile, TestProxy, proxy::closed_port,
    settings::Cluster,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn the_first_reachable_endpoint_in_the_listed_order_serves() {
    let (second, third) = (FakeUpstream::answering(), FakeUpstream::answering());
    let settings = SettingsFile::trusting(&second.authority).endpoint("first", closed_port());
    let bundle = [second.authority.pem(), third.authority.pem()].concat();
    let settings = settings.endpoint("second", second.address()).endpoint("third", third.address());
    let proxy = settings.file("ca.crt", &bundle).start();

    proxy.client();

    assert_eq!((second.seen().connections, third.seen().connections), (1, 0));
}

#[test]
fn a_cluster_that_comes_back_serves_the_first_new_client() {
    let mut cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    proxy.client();
    cluster.stop();
    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");

    let listener = TcpListener::bind(cluster.address()).unwrap();
    let authority = std::mem::replace(&mut cluster.authority, Authority::new());
    let script = Script { session: Session::Answers, ..Script::default() };
    let _back = FakeUpstream::bound_to(listener, authority, script);

    proxy.client();
}

#[test]
fn every_address_of_a_name_is_tried() {
    // The server listens on IPv4 only; localhost is ::1 as well, which refuses.
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::trusting(&cluster.authority);
    let proxy = settings.endpoint_at("first", "localhost", cluster.address().port(), "").start();

    let start = Instant::now();
    proxy.client();

    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}

#[test]
fn an_address_that_connects_and_says_nothing_does_not_keep_the_others_waiting() {
    let answering = FakeUpstream::answering();
    let port = answering.address().port();
    let silent = Script { front: Front::Silent, ..Script::default() };
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).unwrap();
    let silent = FakeUpstream::bound_to(listener, Authority::new(), silent);
    let settings = SettingsFile::trusting(&answering.authority).endpoint_at("first", "localhost", port, "");
    let Some(settings) = with_hosts(settings, "::1 localhost\n127.0.0.1 localhost\n") else { return };
    let proxy = settings.global("connect_limit = \"20s\"\nendpoint_limit = \"20s\"").start();

    let start = Instant::now();
    proxy.client();

    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    assert_eq!(silent.seen().connections, 1, "the silent address was to be the first");
}

#[test]
fn a_slow_password_command_does_not_count_as_connecting() {
    let cluster = FakeUpstream::answering();
    let command = r#"password = { command = ["sh", "-c", "sleep 2; cat app.pw"], limit = "10s" }"#;
    let proxy = SettingsFile::of(&cluster).password(command).global("connect_limit = \"1s\"").start();

    proxy.client();
}

#[test]
fn an_address_of_ipv6_is_dialled_too() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let script = Script { session: Session::Answers, ..Script::default() };
    let cluster = FakeUpstream::bound_to(listener, Authority::new(), script);
    let proxy = TestProxy::before(&cluster);

    proxy.client();
}

#[test]
fn later_handshakes_resume_an_earlier_one() {
    let cluster = FakeUpstream::answering();
    // An upstream that is made ready shakes hands, too.
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();

    proxy.client().query("select 1"); // Tickets come behind the handshake, with the first bytes read.
    proxy.client();

    assert_eq!(cluster.seen().resumed, 1);
    let kind = |kind| proxy.metric("crdb_proxy_tls_handshakes_total", &[("endpoint", "first"), ("kind", kind)]);
    assert_eq!((kind("full"), kind("resumed")), (Some(1.0), Some(1.0)));
}

#[test]
fn small_messages_wait_for_nothing_on_both_legs() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let _client = proxy.client();
    let pid = Pid::from_raw(i32::try_from(proxy.pid()).unwrap()).unwrap();
    let daemon = pidfd_open(pid, PidfdFlags::empty()).unwrap();

    let mut legs = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap() {
        let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let Ok(descriptor) = pidfd_getfd(&daemon, number, PidfdGetfdFlags::empty()) else { continue };
        let socket = socket2::Socket::from(descriptor);
        let address = |end: std::io::Result<socket2::SockAddr>| end.ok().and_then(|end| end.as_socket());
        // One end each: the listening socket has no peer.
        let (own, peer) = (address(socket.local_addr()), address(socket.peer_addr()));
        let is_client = peer.is_some() && own == Some(proxy.address());
        if is_client || peer == Some(cluster.address()) {
            legs.push((is_client, socket.tcp_nodelay().unwrap()));
        }
    }

    assert!(legs.contains(&(true, true)) && legs.contains(&(false, true)), "{legs:?}");
    assert!(legs.iter().all(|(_, has_no_delay)| *has_no_delay), "{legs:?}");
}

#[test]
fn keepalive_runs_on_both_legs() {
    let cluster = FakeUpstream::by_hand();
    let proxy = TestProxy::before(&cluster);
    let mut client = proxy.client();
    client.send(&[b'H', 0, 0, 0, 4]);
    let mut session = cluster.session();
    session.message();

    for (leg, address) in [("local", proxy.address()), ("remote", cluster.address())] {
        // While bytes are unacknowledged another timer runs; that they are no longer, nothing announces.
        let end = Instant::now() + DEADLINE;
        while !keepalive_runs(&proxy, leg, address) {
            assert!(Instant::now() < end, "no keepalive on the {leg} leg");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The daemon with a name file of its own, which takes a mount namespace; where that is not allowed, the
/// system's file if it says the same, else nothing, and the reason on the screen.
fn with_hosts(settings: SettingsFile, hosts: &str) -> Option<SettingsFile> {
    let file = settings.path("hosts");
    fs::write(&file, hosts).unwrap();
    let words =
        ["unshare", "--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\"", file.to_str().unwrap()];
    if Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        return Some(settings.behind(&words));
    }
    let found = ("localhost", 0).to_socket_addrs().unwrap().map(|address| address.ip()).collect::<Vec<_>>();
    if found == [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()] {
        return Some(settings);
    }
    println!("skipped: no mount namespace for a name file (run as root), and localhost is only {found:?} here");
    None
}

fn keepalive_runs(proxy: &TestProxy, leg: &str, address: SocketAddr) -> bool {
    let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", proxy.pid())).unwrap();
    let timer = sockets.lines().find_map(|line| keepalive_timer(line, leg, address));
    timer.expect("an established socket")
}

/// Whether a keepalive timer runs on the established socket of this line of /proc/net/tcp, if the
/// line is about the daemon's socket with this address at its local or remote end.
fn keepalive_timer(line: &str, end: &str, address: SocketAddr) -> Option<bool> {
    let columns = line.split_whitespace().collect::<Vec<_>>();
    let port = format!(":{:04X}", address.port());
    let (local, remote) = (columns[1].ends_with(&port), columns[2].ends_with(&port));
    let found = if end == "local" { local } else { remote };
    // State 01 is ESTABLISHED; timer 02 is keepalive.
    (found && columns[3] == "01").then(|| columns[5].starts_with("02:"))
}
