//! Listening sockets that a service manager passes: who gets which, and that they outlive the daemon.

use crate::harness::{
    FakeUpstream, SettingsFile, TestClient, TestProxy,
    client::connect_unix,
    wire::{Wire, query, startup},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
};

#[test]
fn a_socket_of_a_listeners_name_is_used_instead_of_its_address() {
    let cluster = FakeUpstream::answering();
    let (socket, address) = tcp("127.0.0.1:0");
    // Binding this one would fail.
    let (_taken, elsewhere) = tcp("127.0.0.1:0");
    let settings = SettingsFile::of(&cluster).address(&elsewhere.to_string());
    let proxy = settings.start_with(&[("main", socket.as_fd())]);

    assert_eq!(proxy.address(), address);
    proxy.client();
    assert!(listening(&proxy, "main").iter().all(|line| line["listener.inherited"] == true));
    assert_eq!(proxy.status()["listeners"][0]["addresses"], serde_json::json!([address.to_string()]));
}

#[test]
fn several_sockets_of_one_name_serve_the_same_listener() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let (first, second) = (tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
    let path = settings.path("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let sockets = [("main", first.0.as_fd()), ("main", second.0.as_fd()), ("main", unix.as_fd())];
    let proxy = settings.start_with(&sockets);
    proxy.address();

    for address in [first.1, second.1] {
        TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")]);
    }
    TestClient::log_in(connect_unix(&path), &[("user", "anyone")]);
    proxy.wait_for_metric("crdb_proxy_client_connections_accepted_total", &[("listener", "main")], 3.0);
}

#[test]
fn each_listener_gets_the_socket_of_its_name_and_others_bind() {
    let cluster = FakeUpstream::answering();
    let (main, main_at) = tcp("127.0.0.1:0");
    let (other, other_at) = tcp("127.0.0.1:0");
    let settings = SettingsFile::of(&cluster).another_listener("other", "").another_listener("third", "");
    let proxy = settings.start_with(&[("other", other.as_fd()), ("main", main.as_fd())]);

    assert_eq!(proxy.listener("main"), main_at.to_string());
    assert_eq!(proxy.listener("other"), other_at.to_string());
    proxy.listener("third");
    assert_eq!(listening(&proxy, "third")[0].get("listener.inherited"), None);
}

#[test]
fn a_socket_that_nobody_named_is_the_only_listeners() {
    let cluster = FakeUpstream::answering();

    for name in ["crdb-proxy.socket", "crdb-proxy@shop.socket", "unknown"] {
        let (socket, address) = tcp("127.0.0.1:0");
        let proxy = SettingsFile::of(&cluster).start_with(&[(name, socket.as_fd())]);
        assert_eq!(proxy.address(), address, "{name}");
    }
    let (socket, address) = tcp("127.0.0.1:0");
    assert_eq!(SettingsFile::of(&cluster).start_nameless(&[socket.as_fd()]).address(), address);
}

#[test]
fn of_several_listeners_none_gets_a_socket_that_nobody_named() {
    let cluster = FakeUpstream::answering();
    let (socket, address) = tcp("127.0.0.1:0");
    let settings = SettingsFile::of(&cluster).another_listener("other", "");
    let proxy = settings.start_with(&[("crdb-proxy.socket", socket.as_fd())]);

    assert_ne!(proxy.listener("main"), address.to_string());
    assert_ne!(proxy.listener("other"), address.to_string());
    assert_eq!(unwanted(&proxy)["descriptor.name"], "crdb-proxy.socket");
}

#[test]
fn what_no_listener_names_is_told_and_closed_and_the_rest_is_served() {
    let cluster = FakeUpstream::answering();
    let (main, main_at) = tcp("127.0.0.1:0");
    let (stray, stray_at) = tcp("127.0.0.1:0");
    let proxy = SettingsFile::of(&cluster).start_with(&[("mian", stray.as_fd()), ("main", main.as_fd())]);

    assert_eq!(proxy.address(), main_at);
    proxy.client();
    let told = unwanted(&proxy);
    assert_eq!((&told["level"], &told["descriptor.number"]), (&"WARN".into(), &3.into()), "{told}");
    assert_eq!(told["descriptor.addr"], stray_at.to_string());
    drop(stray);
    assert!(TcpStream::connect(stray_at).is_err(), "the daemon still holds it");
}

#[test]
fn the_admin_address_can_be_passed_too() {
    let cluster = FakeUpstream::answering();
    let (socket, address) = tcp("127.0.0.1:0");
    let proxy = SettingsFile::of(&cluster).start_with(&[("admin", socket.as_fd())]);

    assert_eq!(proxy.listener("admin"), address.to_string());
    assert_eq!(proxy.status()["ready"], true);
}

#[test]
fn an_admin_address_that_is_off_stays_off() {
    let cluster = FakeUpstream::answering();
    let (socket, address) = tcp("127.0.0.1:0");
    let proxy = SettingsFile::of(&cluster).global("admin = \"off\"").start_with(&[("admin", socket.as_fd())]);
    proxy.client();

    assert_eq!(unwanted(&proxy)["descriptor.name"], "admin");
    drop(socket);
    assert!(TcpStream::connect(address).is_err(), "the daemon still holds it");
}

#[test]
fn a_socket_that_other_hosts_can_reach_obeys_the_rule_for_addresses() {
    let cluster = FakeUpstream::answering();
    let (socket, _) = tcp("0.0.0.0:0");
    let mut proxy = SettingsFile::of(&cluster).start_with(&[("main", socket.as_fd())]);

    assert_eq!(proxy.exit_code(), 2);

    assert!(proxy.log_text().contains("unsafe_allow_remote"), "{}", proxy.log_text());
    let settings = || SettingsFile::of(&cluster).listener("unsafe_allow_remote = true");
    let mut proxy = settings().start_with(&[("main", socket.as_fd())]);
    assert_eq!(proxy.exit_code(), 2);
    assert!(proxy.log_text().contains("a client of another host has no user here"), "{}", proxy.log_text());
    let proxy = settings().listener("local_access = \"any\"").start_with(&[("main", socket.as_fd())]);
    proxy.wait_for_message("listening");
    proxy.listener("main");
}

#[test]
fn a_unix_socket_beside_tls_is_refused_as_in_the_settings() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).identity("local", &cluster.authority.server());
    let path = settings.path("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let mut proxy = settings.listener(tls).start_with(&[("main", socket.as_fd())]);

    assert_eq!(proxy.exit_code(), 2);

    assert!(proxy.log_text().contains("a Unix socket has no TLS"), "{}", proxy.log_text());
}

#[test]
fn what_is_no_listening_stream_is_refused_with_its_number() {
    let cluster = FakeUpstream::answering();
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("file")).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (connected, _other_end) = UnixStream::pair().unwrap();

    for unfit in [file.as_fd(), datagrams.as_fd(), connected.as_fd()] {
        let mut proxy = SettingsFile::of(&cluster).start_with(&[("main", unfit)]);

        assert_eq!(proxy.exit_code(), 2);
        assert!(proxy.log_text().contains("descriptor 3"), "{}", proxy.log_text());
        assert!(proxy.log_text().contains("no listening stream socket"), "{}", proxy.log_text());
    }
}

#[test]
fn clients_wait_in_the_socket_through_a_restart() {
    let cluster = FakeUpstream::answering();
    let (socket, address) = tcp("127.0.0.1:0");
    let mut first = SettingsFile::of(&cluster).start_with(&[("main", socket.as_fd())]);
    first.client();
    assert_eq!(first.terminate(), 0);

    let mut waiting = Wire::new(TcpStream::connect(address).unwrap());
    waiting.send(&startup(&[("user", "anyone")]));
    let _second = SettingsFile::of(&cluster).start_with(&[("main", socket.as_fd())]);

    assert_eq!(waiting.message().tag, b'R');
}

#[test]
fn a_draining_daemon_leaves_new_clients_to_the_next_one() {
    let cluster = FakeUpstream::by_hand();
    let (socket, address) = tcp("127.0.0.1:0");
    let first = SettingsFile::of(&cluster).start_with(&[("main", socket.as_fd())]);
    let mut held = first.client().into_wire();
    held.send(&query("SELECT 1"));
    cluster.session().message();
    first.signal(Signal::TERM);
    first.wait_for_message("draining");

    let second = SettingsFile::of(&cluster).start_with(&[("main", socket.as_fd())]);
    second.address();

    for _ in 0..10 {
        TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")]);
    }
    second.wait_for_metric("crdb_proxy_client_connections_accepted_total", &[("listener", "main")], 10.0);
}

#[test]
fn an_inherited_unix_socket_keeps_its_file_and_mode() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).listener("mode = \"0600\"");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".s.PGSQL.26257");
    let socket = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    let mut proxy = settings.start_with(&[("main", socket.as_fd())]);
    assert_eq!(proxy.listener("main"), format!("unix:{}", path.display()));
    TestClient::log_in(connect_unix(&path), &[("user", "anyone")]);

    assert_eq!(proxy.terminate(), 0);

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
}

#[test]
fn a_reload_keeps_an_inherited_socket_wherever_the_address_points() {
    let cluster = FakeUpstream::answering();
    let (socket, address) = tcp("127.0.0.1:0");
    let (_taken, elsewhere) = tcp("127.0.0.1:0");
    let proxy = SettingsFile::of(&cluster).start_with(&[("main", socket.as_fd())]);
    proxy.address();
    let file = proxy.path("crdb-proxy.toml");
    let text = fs::read_to_string(&file).unwrap();

    let moved = text.replace("address = \"127.0.0.1:0\"", &format!("address = \"{elsewhere}\"\ndatabase = \"shop\""));
    assert_ne!(moved, text);
    fs::write(&file, moved).unwrap();
    proxy.signal(Signal::HUP);
    proxy.wait_for_message("reloaded");

    TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")]);
    assert_eq!(proxy.status()["listeners"][0]["database"], "shop");
}

#[test]
fn a_reload_cannot_open_an_inherited_socket_to_other_hosts() {
    let cluster = FakeUpstream::answering();
    let (socket, _) = tcp("0.0.0.0:0");
    let settings = SettingsFile::of(&cluster).listener("unsafe_allow_remote = true\nlocal_access = \"any\"");
    let proxy = settings.start_with(&[("main", socket.as_fd())]);
    proxy.listener("main");
    let file = proxy.path("crdb-proxy.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("unsafe_allow_remote = true", "")).unwrap();

    proxy.signal(Signal::HUP);

    let failed = proxy.wait_for_message("reload failed");
    assert!(failed["faults"].as_str().unwrap().contains("other hosts"), "{failed}");
}

#[test]
fn odd_promises_are_told_and_the_settings_addresses_are_bound() {
    let cluster = FakeUpstream::answering();

    for (pid, count, word) in [("1", "1", "process 1"), ("x", "1", "LISTEN_PID"), ("1", "x", "LISTEN_FDS")] {
        let settings = SettingsFile::of(&cluster).variable("LISTEN_PID", pid).variable("LISTEN_FDS", count);
        let proxy = settings.start();

        proxy.wait_for_log(|line| {
            line["level"] == "WARN" && line["message"].as_str().is_some_and(|message| message.contains(word))
        });
        proxy.client();
    }
}

#[test]
fn a_password_command_gets_neither_sockets_nor_their_variables() {
    let cluster = FakeUpstream::answering();
    let (socket, _) = tcp("127.0.0.1:0");
    let script = "printf '%s\\n' \"$(env)\" > seen; for fd in /proc/$$/fd/*; do readlink \"$fd\"; done >> seen; \
                  printf '%s' \"$SECRET\"";
    let settings = SettingsFile::of(&cluster)
        .password(&format!("password = {{ command = [\"sh\", \"-c\", {script:?}] }}"))
        .variable("SECRET", crate::harness::PASSWORD)
        .variable("NOTIFY_SOCKET", "/nonexistent/notify")
        .variable("WATCHDOG_USEC", "1000000");
    let proxy = settings.start_with(&[("main", socket.as_fd())]);
    proxy.client();

    let seen = fs::read_to_string(proxy.path("seen")).unwrap();
    assert!(seen.contains("SECRET=") && seen.contains("/dev/null"), "{seen}");
    for word in ["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "socket:"] {
        assert!(!seen.contains(word), "{word} in {seen}");
    }
}

fn tcp(address: &str) -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The lines that say where a listener listens, once it serves.
fn listening(proxy: &TestProxy, name: &str) -> Vec<Value> {
    proxy.listener(name);
    let is_its = |line: &Value| line["message"] == "listening" && line["listener.name"] == name;
    proxy.log_lines().into_iter().filter(is_its).collect()
}

/// The warning about a descriptor that no listener names.
#[track_caller]
fn unwanted(proxy: &TestProxy) -> Value {
    proxy.wait_for_log(|line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("a passed descriptor has no listener"))
    })
}

#[test]
fn a_reload_says_what_settings_cannot_do_to_sockets_that_were_passed() {
    let cluster = FakeUpstream::answering();
    let (socket, address) = tcp("127.0.0.1:0");
    let proxy = SettingsFile::of(&cluster).start_with(&[("main", socket.as_fd())]);
    proxy.client();
    let warnings = |text: &str| {
        proxy.rewrite_settings(|before| before.replacen("address = \"127.0.0.1:0\"", text, 1));
        let (status, _, body) = proxy.http("POST /reload", "");
        let said: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 202, "{body}");
        said["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
    };

    let moved: Vec<String> = warnings("address = \"127.0.0.2:0\" # moved");
    assert!(moved.iter().any(|warning| warning.contains("its \"address\" has no effect")), "{moved:?}");
    assert_eq!(proxy.status()["listeners"][0]["addresses"], serde_json::json!([address.to_string()]));

    proxy.rewrite_settings(|before| before.replace("name = \"main\"", "name = \"other\""));
    let renamed: Vec<String> = warnings("");
    assert!(renamed.iter().any(|warning| warning.contains("\"main\" is taken out")), "{renamed:?}");
    proxy.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.contains("are not served")));

    proxy.rewrite_settings(|before| {
        before.replace("\"other\"", "\"main\"").replace("127.0.0.2:0", &format!("127.0.0.1:{}", address.port()))
    });
    let (status, _, body) = proxy.http("POST /reload", "");
    assert!(status == 422 && body.contains("the service manager has it"), "{status}: {body}");
}
