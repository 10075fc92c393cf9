//! Which users of this machine may come in to a listener, what the others read, and what the operator does.

mod namespaces;
mod unix;

use crate::harness::{
    DEADLINE, FakeUpstream, SettingsFile, TestClient, TestProxy,
    client::{connect_tls, connect_unix},
    other_user::{as_user, can_be_others, connect_as, connect_unix_as, open_folder},
    postgres::program,
    process,
    wire::{Message, Wire, cancel_request, startup},
};
use serde_json::Value;
use socket2::{Domain, SockFilter, Socket, Type};
use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Command,
};

/// Users that no machine has.
const OTHER: u32 = 41_001;
const ANOTHER: u32 = 41_002;

fn refused(mut wire: Wire) -> Message {
    wire.send(&startup(&[("user", "anyone")]));
    wire.refusal()
}

fn enters(wire: Wire) {
    TestClient::log_in(wire, &[("user", "anyone")]);
}

fn refusal_line(proxy: &TestProxy) -> Value {
    proxy.wait_for_log(|line| line["message"] == "session refused" && line["refuse.reason"] == "local_uid")
}

#[test]
fn by_default_only_the_daemons_own_user_and_root_come_in() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    for address in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
        let proxy = SettingsFile::of(&cluster).address(address).start();
        enters(proxy.connect());

        let error = refused(connect_as(OTHER, proxy.address()));

        assert_eq!(error.sqlstate(), "28000", "{address}");
        let told = format!("{} {}", error.field(b'M').unwrap(), error.field(b'H').unwrap());
        for word in ["uid", "user", "same", "local_access", "41001", "root"] {
            assert!(!told.contains(word), "{told}");
        }
        assert!(told.contains("whoever runs crdb-proxy"), "{told}");
        proxy.wait_for_refusals("local_uid", 1.0);
        let line = refusal_line(&proxy);
        assert_eq!((&line["level"], &line["peer_uid"]), (&Value::from("WARN"), &Value::from(OTHER)));
        let cause = line["cause"].as_str().unwrap();
        assert!(cause.contains("\"same-user\"") && cause.contains("local_access = \"any\""), "{cause}");
        assert!(cluster.seen().startups.len() <= 3, "it went upstream");
    }
}

#[test]
fn a_daemon_of_another_user_lets_in_that_user_and_root() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let as_other =
        format!("chown -R {OTHER} . && exec setpriv --reuid {OTHER} --regid {OTHER} --clear-groups -- \"$@\"");
    let settings = SettingsFile::of(&cluster).behind(&["sh", "-c", &as_other, "sh"]);
    let proxy = settings.start();

    enters(connect_as(OTHER, proxy.address()));
    enters(proxy.connect());
    let error = refused(connect_as(ANOTHER, proxy.address()));

    assert_eq!(error.sqlstate(), "28000");
}

#[test]
fn users_that_are_listed_come_in_and_nobody_else() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let rule = format!("local_access = \"uids\"\nallowed_uids = [{OTHER}]");
    let proxy = SettingsFile::of(&cluster).listener(&rule).start();
    assert_eq!(proxy.wait_for_message("listening")["listener.access"], format!("uids {OTHER}"));

    enters(connect_as(OTHER, proxy.address()));
    let root = refused(proxy.connect());
    let other = refused(connect_as(ANOTHER, proxy.address()));

    assert_eq!((root.sqlstate(), root.body), (other.sqlstate(), other.body));
    assert!(refusal_line(&proxy)["cause"].as_str().unwrap().contains("\"allowed_uids\""));
}

#[test]
fn a_listener_for_any_user_asks_nobody() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").start();
    assert_eq!(proxy.wait_for_log(|line| line["listener.name"] == "main")["listener.access"], "any");
    if can_be_others() {
        enters(connect_as(OTHER, proxy.address()));
    }

    let _client = proxy.client();

    assert_eq!(proxy.status()["sessions"][0]["peer_uid"], Value::Null);
}

#[test]
fn the_user_stands_in_log_and_status() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("log_level = \"debug\"").start();
    let own = rustix::process::geteuid().as_raw();

    let client = proxy.client();

    assert_eq!(proxy.status()["sessions"][0]["peer_uid"], own);
    assert_eq!(proxy.wait_for_message("session opened")["peer_uid"], own);
    drop(client);
    assert_eq!(proxy.wait_for_message("session closed")["peer_uid"], own);
}

#[test]
fn a_rule_of_users_and_the_password_must_both_hold_where_both_are_named() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "sesame");
    let password = "local_password = { file = \"local.pw\" }";
    let both = settings.listener(password).listener("local_access = \"same-user\"").start();
    assert_eq!(both.wait_for_log(|line| line["listener.name"] == "main")["listener.access"], "same-user and password");

    assert_eq!(refused(connect_as(OTHER, both.address())).sqlstate(), "28000");
    let asked = both.startup(&[("user", "anyone")]).message();

    assert_eq!(asked.tag, b'R', "{asked:?}");
    let alone = SettingsFile::of(&cluster).file("local.pw", "sesame").listener(password).start();
    let mut other = connect_as(OTHER, alone.address());
    other.send(&startup(&[("user", "anyone")]));
    assert_eq!(other.message().tag, b'R', "whoever knows the password may come in");
}

#[test]
fn a_client_under_tls_is_judged_too() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).identity("local", &cluster.authority.server());
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let proxy = settings.listener(tls).start();
    let (address, authority) = (proxy.address(), cluster.authority.clone());
    enters(connect_tls(address, &cluster.authority));

    let error = refused(as_user(OTHER, move || connect_tls(address, &authority)));

    assert_eq!(error.sqlstate(), "28000");
}

#[test]
fn a_cancel_request_of_a_user_that_may_not_come_in_does_nothing() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).start();
    let client = proxy.client();

    let mut other = connect_as(OTHER, proxy.address());
    other.send(&cancel_request(&client.key));
    assert_eq!(other.rest(), b"");
    proxy.wait_for_refusals("local_uid", 1.0);
    assert_eq!(refusal_line(&proxy)["peer_uid"], OTHER);
    assert_eq!(cluster.seen().cancels.len(), 0);

    let mut own = proxy.connect();
    own.send(&cancel_request(&client.key));
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}

#[test]
fn a_cancel_request_of_a_client_that_closes_at_once_counts_by_its_key() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).start();
    let client = proxy.client();

    for count in 1..=20 {
        let mut socket = TcpStream::connect(proxy.address()).unwrap();
        socket.write_all(&cancel_request(&client.key)).unwrap();
        drop(socket);
        cluster.wait_until(|seen| seen.cancels.len() == count);
    }
}

#[test]
fn a_reload_changes_who_may_come_in_and_open_sessions_go_on() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").start();
    let mut open = TestClient::log_in(connect_as(OTHER, proxy.address()), &[("user", "anyone")]);

    proxy.rewrite_settings(|text| text.replace("\"any\"", "\"same-user\""));
    proxy.signal(rustix::process::Signal::HUP);
    proxy.wait_for_message("reloaded");

    assert_eq!(refused(connect_as(OTHER, proxy.address())).sqlstate(), "28000");
    open.query("select 1");
    enters(proxy.connect());
}

#[test]
fn psql_of_another_user_is_told_whom_to_ask() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();

    let mut psql = Command::new(program("psql"));
    let port = proxy.address().port().to_string();
    psql.args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "anyone", "-d", "defaultdb", "-c", "select 1"]);
    psql.uid(OTHER).gid(OTHER).env("HOME", "/").current_dir("/");
    let ended = process::run(&mut psql, "", DEADLINE);

    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("crdb-proxy does not let this client in"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Ask whoever runs crdb-proxy"), "{}", ended.stderr);
}

#[test]
fn a_client_that_may_not_come_in_learns_nothing_of_what_clients_may_choose() {
    let cluster = FakeUpstream::answering();
    let others_only = "local_access = \"uids\"\nallowed_uids = [4711]\ndatabase_locked = true";
    let proxy = SettingsFile::of(&cluster).listener(others_only).start();
    let told = |options| {
        let refusal = proxy.startup(&[("user", "anyone"), ("options", options)]).refusal();
        (refusal.sqlstate(), refusal.field(b'M'), refusal.field(b'H'))
    };

    let plain = told("-c a=b");

    assert_eq!(plain.0, "28000");
    for options in ["-ccluster=x", "-cdatabase=x", "-ccrdb:x=y"] {
        assert_eq!(told(options), plain, "{options}");
    }
}

#[test]
fn neither_does_one_that_does_not_know_the_local_password() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "l0cal-secret");
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();

    let mut wire = proxy.startup(&[("user", "anyone"), ("options", "-ccluster=x")]);

    assert_eq!(wire.next_message().unwrap().tag, b'R');
}

#[test]
fn a_client_is_not_taken_for_root_whose_socket_tries_to_connect_from_the_same_port() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    let address = proxy.address();
    let tcp = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket
    };
    // What is bound to an interface leaves its port to others.
    let mut client = as_user(OTHER, move || {
        let socket = tcp();
        socket.bind_device(Some(b"lo")).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket
    });
    let of_root = tcp();
    // It takes no answer, so that it goes on trying.
    of_root.attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
    of_root.bind(&client.local_addr().unwrap()).unwrap();
    of_root.set_nonblocking(true).unwrap();
    of_root.connect(&address.into()).unwrap_err();

    client.write_all(&startup(&[("user", "anyone")])).unwrap();

    proxy.wait_for_refusals("local_uid", 1.0);
    assert_ne!(refusal_line(&proxy)["peer_uid"], 0);
    assert!(of_root.peer_addr().is_err(), "it has connected");
}

#[test]
fn every_user_that_is_refused_has_a_line_in_the_log_and_in_the_status() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();

    for _ in 0..2 {
        refused(connect_as(OTHER, proxy.address()));
        refused(connect_as(ANOTHER, proxy.address()));
    }

    for uid in [OTHER, ANOTHER] {
        let line = proxy.wait_for_log(|line| line["message"] == "session refused" && line["peer_uid"] == uid);
        assert_eq!(line["level"], "WARN");
    }
    proxy.wait_for_refusals("local_uid", 4.0);
    let status = proxy.status();
    let mut noted: Vec<_> = status["refusals"].as_array().unwrap().iter().collect();
    noted.sort_by_key(|noted| noted["peer_uid"].as_u64());
    let noted: Vec<_> = noted.iter().map(|noted| (noted["peer_uid"].clone(), noted["count"].clone())).collect();
    assert_eq!(noted, [(OTHER.into(), 2.into()), (ANOTHER.into(), 2.into())]);
}

#[test]
fn who_may_come_in_stands_in_the_status() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "sesame");
    let guarded = "local_password = { file = \"local.pw\" }\nlocal_access = \"same-user\"";
    let proxy = settings.another_listener("guarded", guarded).start();

    let status = proxy.status();

    assert_eq!(status["listeners"][0]["access"], "same-user");
    assert_eq!(status["listeners"][1]["access"], "same-user and password");
}
