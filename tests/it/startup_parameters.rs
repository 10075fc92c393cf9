//! What of the client's startup message the cluster gets to see.

use crate::harness::{
    FakeUpstream, SettingsFile, TestClient, TestProxy,
    wire::{PROTOCOL_3_0, parameters, untyped},
};

#[test]
fn startup_parameters_reach_the_cluster_byte_for_byte_and_in_order() {
    let (cluster, proxy) = answering();
    let sent: [(&[u8], &[u8]); 6] = [
        (b"application_name", b"caf\xe9 \xff\xfe"), // not UTF-8
        (b"options", br"-c a=b\ c  -c d=%41 --e=f"),
        (b"Database", b"Mixed Case"),
        (b"extra_float_digits", b"2"),
        (b"replication", b"database"),
        (b"a.b", b""),
    ];

    log_in(&proxy, &sent);

    let mut received = upstream_parameters(&cluster);
    received.retain(|(key, _)| key != b"user");
    assert_eq!(received, sent.map(|(key, value)| (key.to_vec(), value.to_vec())));
}

#[test]
fn every_user_is_replaced_by_the_clusters_own() {
    let (cluster, proxy) = answering();

    log_in(&proxy, &[(b"USER", b"root".as_slice()), (b"user", b"admin")]);

    let mut received = upstream_parameters(&cluster);
    received.retain(|(key, _)| key.eq_ignore_ascii_case(b"user"));
    assert_eq!(received, [(b"user".to_vec(), b"app".to_vec())]);
}

#[test]
fn parameters_that_speak_to_the_cluster_itself_are_removed() {
    let (cluster, proxy) = answering();

    let spoofed: [(&[u8], &[u8]); 2] =
        [(b"crdb:remote_addr", b"10.0.0.1:1"), (b"CRDB:session_revival_token_base64", b"x")];
    log_in(&proxy, &spoofed);

    let received = upstream_parameters(&cluster);
    assert!(received.iter().all(|(key, _)| !key.to_ascii_lowercase().starts_with(b"crdb:")), "{received:?}");
}

#[test]
fn an_absent_or_empty_database_becomes_the_listeners() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("database = \"orders\"").global("warm_max = 0").start();

    TestClient::log_in(proxy.connect(), &[("user", "anyone")]);
    assert_eq!(upstream_value(&cluster, b"database"), b"orders");

    TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("database", "")]);
    assert_eq!(upstream_value(&cluster, b"database"), b"orders");

    TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("database", "own")]);
    assert_eq!(upstream_value(&cluster, b"database"), b"own");
}

#[test]
fn a_listeners_session_parameters_are_added_unless_the_client_has_its_own() {
    let cluster = FakeUpstream::answering();
    let parameters = "session_parameters = { statement_timeout = \"5s\", application_name = \"listener\" }";
    let proxy = SettingsFile::of(&cluster).listener(parameters).start();

    TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("Application_Name", "mine")]);

    assert_eq!(upstream_value(&cluster, b"statement_timeout"), b"5s");
    let received = upstream_parameters(&cluster);
    let names = received.iter().filter(|(key, _)| key.eq_ignore_ascii_case(b"application_name"));
    assert_eq!(names.map(|(_, value)| value.as_slice()).collect::<Vec<_>>(), [b"mine"]);
}

#[test]
fn options_that_speak_to_the_cluster_itself_are_refused_with_a_way_out() {
    let (cluster, proxy) = answering();

    for options in
        ["--crdb:jwt_auth_enabled=true", "-c a=b -cCRDB:jwt-auth-enabled=true", "-c+crdb%3ajwt_auth_enabled=1"]
    {
        let error = proxy.startup(&[("user", "anyone"), ("options", options)]).refusal();

        assert_eq!((error.field(b'S').unwrap().as_str(), error.sqlstate()), ("FATAL", "28000".to_owned()), "{options}");
        assert!(error.field(b'M').unwrap().contains("crdb:jwt_auth_enabled"), "{options}");
        assert!(error.field(b'H').unwrap().contains("PGOPTIONS"), "{options}");
    }
    proxy.wait_for_refusals("startup_malformed", 3.0);
    assert!(cluster.seen().startups.is_empty(), "a refused client reached the cluster");
}

#[test]
fn a_virtual_cluster_is_chosen_only_where_the_listener_lets_clients() {
    let cluster = FakeUpstream::answering();
    let asked = [("options", "-ccluster=system"), ("database", "cluster:system/defaultdb")];
    let proxy = SettingsFile::of(&cluster).start();
    for asked in asked {
        let error = proxy.startup(&[("user", "anyone"), asked]).refusal();
        assert_eq!(error.sqlstate(), "28000", "{asked:?}");
        assert!(error.field(b'H').unwrap().contains("allow_cluster_option"), "{asked:?}");
    }

    let proxy = SettingsFile::of(&cluster).listener("allow_cluster_option = true").start();
    for (name, value) in asked {
        TestClient::log_in(proxy.connect(), &[("user", "anyone"), (name, value)]);
        assert_eq!(upstream_value(&cluster, name.as_bytes()), value.as_bytes());
    }
}

#[test]
fn an_operators_own_options_choose_what_they_like() {
    let cluster = FakeUpstream::answering();
    let parameters = "session_parameters = { options = \"-ccluster=system\" }";
    let proxy = SettingsFile::of(&cluster).listener(parameters).start();

    TestClient::log_in(proxy.connect(), &[("user", "anyone")]);

    assert_eq!(upstream_value(&cluster, b"options"), b"-ccluster=system");
}

#[test]
fn a_locked_database_is_every_clients_and_the_one_that_status_tells() {
    let cluster = FakeUpstream::answering();
    let locked = "database = \"orders\"\ndatabase_locked = true";
    let proxy = SettingsFile::of(&cluster).listener(locked).global("warm_max = 0").start();

    let client = log_in(&proxy, &[(b"DataBase".as_slice(), b"theirs".as_slice()), (b"database", b"cluster:x/theirs")]);

    let received = upstream_parameters(&cluster);
    assert!(received.iter().all(|(_, value)| !value.ends_with(b"theirs")), "{received:?}");
    assert_eq!(upstream_value(&cluster, b"database"), b"orders");
    assert_eq!(proxy.status()["sessions"][0]["database"], "orders");
    drop(client);
    let error = proxy.startup(&[("user", "anyone"), ("options", "-c database=theirs")]).refusal();
    assert_eq!(error.sqlstate(), "28000");
    assert!(error.field(b'H').unwrap().contains("database_locked"));
}

fn answering() -> (FakeUpstream, TestProxy) {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    (cluster, proxy)
}

/// Logs in with these parameters, `user` in front unless they bring one.
#[track_caller]
fn log_in(proxy: &TestProxy, sent: &[(&[u8], &[u8])]) -> TestClient {
    let mut all: Vec<(&[u8], &[u8])> = Vec::new();
    if !sent.iter().any(|(key, _)| *key == b"user") {
        all.push((b"user", b"anyone"));
    }
    all.extend(sent);
    let mut wire = proxy.connect();
    wire.send(&untyped(PROTOCOL_3_0, &parameters(&all)));
    TestClient::ready(wire)
}

/// The parameters of the latest startup that the cluster received.
fn upstream_parameters(cluster: &FakeUpstream) -> Vec<(Vec<u8>, Vec<u8>)> {
    let startup = cluster.seen().startups.pop().expect("a startup");
    let body = startup.strip_suffix(b"\0\0").expect("two closing zero bytes");
    let parts = body.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>();
    parts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn upstream_value(cluster: &FakeUpstream, name: &[u8]) -> Vec<u8> {
    let mut found = upstream_parameters(cluster).into_iter().filter(|(key, _)| key == name);
    let value = found.next().expect("the parameter").1;
    assert!(found.next().is_none(), "sent twice");
    value
}
