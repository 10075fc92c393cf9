//! Names that change, fail and are not answered while the daemon runs, through the system's own resolver.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Script, Session, SettingsFile, TestProxy,
    certificates::CLUSTER_NAME,
    names::{Answer, Names},
    settings::Cluster,
    wire::notice,
};
use std::{
    net::{Ipv4Addr, TcpListener},
    time::Instant,
};

const NEW_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[test]
fn new_sessions_follow_a_name_to_its_new_address_and_open_ones_stay() {
    let Some(names) = Names::start() else { return };
    let (old, new) = one_port_at_two_addresses();
    names.set("db.test", Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));
    let proxy = daemon(&names, &old, "dns_refresh = \"300ms\"");
    let mut open = proxy.client();
    proxy.client();
    proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);

    names.set("db.test", Answer::Addresses(vec![NEW_ADDRESS.into()]));
    // An old answer serves for as long as it may; that it no longer does, nothing announces.
    let end = Instant::now() + DEADLINE;
    while new.seen().startups.is_empty() {
        assert!(Instant::now() < end, "no session reached the new address");
        proxy.client();
    }
    let at_old = old.seen().startups.len();
    proxy.client();

    assert_eq!(old.seen().startups.len(), at_old);
    assert_eq!(proxy.status()["clusters"][0]["endpoints"][0]["addresses"], serde_json::json!(["127.0.0.2"]));
    open.query("select 1");
}

#[test]
fn the_last_good_addresses_serve_whatever_becomes_of_the_resolver() {
    let Some(names) = Names::start() else { return };
    let cluster = FakeUpstream::answering();
    names.set("db.test", Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));
    let proxy = daemon(&names, &cluster, "dns_refresh = \"1ms\"\nwarm_max = 0");
    proxy.client();

    for answer in [Answer::ServerFails, Answer::NoSuchName, Answer::Silence] {
        let before = names.lookups("db.test");
        names.set("db.test", answer);
        for _ in 0..3 {
            proxy.client();
        }
        names.wait_for_lookups("db.test", before + 1);
    }
}

fn daemon(names: &Names, cluster: &FakeUpstream, settings: &str) -> TestProxy {
    let server_name = format!("tls_server_name = \"{CLUSTER_NAME}\"");
    let file = SettingsFile::trusting(&cluster.authority).global(settings);
    let file = file.endpoint_at("first", "db.test", cluster.address().port(), &server_name);
    names.resolving(file).start()
}

/// By which a session of the second server is known.
pub(crate) const NOTICE_OF_NEW: &str = "greetings from the new address";

/// Two servers on one port, at the usual address of loopback and at another one, with one certificate. The second greets
/// with a [`NOTICE_OF_NEW`].
pub(crate) fn one_port_at_two_addresses() -> (FakeUpstream, FakeUpstream) {
    let authority = Authority::new();
    let script = Script { session: Session::Answers, identity: Some(authority.server()), ..Script::default() };
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        // Whoever has the port at the other address keeps it; another one is drawn then.
        let Ok(second) = TcpListener::bind((NEW_ADDRESS, port)) else { continue };
        let greeting = Script { before_key: notice(NOTICE_OF_NEW), ..script.clone() };
        let new = FakeUpstream::bound_to(second, authority.clone(), greeting);
        return (FakeUpstream::bound_to(first, authority, script), new);
    }
}
