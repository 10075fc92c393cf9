//! What changes around a daemon that runs: time that was slept through, names that mean something else,
//! endpoints that come and go.

use crate::harness::{
    Authority, FakeUpstream, Script, Session, SettingsFile, TestClient,
    certificates::CLUSTER_NAME,
    in_process::{Answer, InProcess},
    settings::Cluster,
};
use crate::names::{NOTICE_OF_NEW, one_port_at_two_addresses};
use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    time::Duration,
};

#[test]
fn the_first_client_after_a_night_of_suspend_is_served_by_nothing_of_the_day_before() {
    let cluster = FakeUpstream::answering();
    let (daemon, _) = by_name(&cluster);
    make_ready(&daemon);
    let asked = daemon.names.asked();
    let misses = || claims(&daemon, "miss_dead") + claims(&daemon, "miss_empty");
    let missed = misses();

    daemon.clock.suspend(Duration::from_secs(12 * 3600));
    daemon.client().query("select 1");

    assert_eq!(misses(), missed + 1.0);
    assert_eq!(daemon.metric("crdb_proxy_warm_recycled_total", &[("cause", "settings")]), Some(1.0));
    assert!(daemon.names.asked() > asked, "the name was asked for anew");
}

#[test]
fn an_endpoint_that_was_down_before_a_suspend_is_tried_first_after_it() {
    let (mut first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let settings = crate::failover::two_regions((&first, first.address()), (&second, second.address()));
    let daemon = InProcess::start(settings.global("warm_max = 0"));
    first.stop();
    daemon.client();
    daemon.client();
    assert_eq!(second.seen().startups.len(), 2);
    let listener = TcpListener::bind(first.address()).unwrap();
    let authority = std::mem::replace(&mut first.authority, Authority::new());
    let back = FakeUpstream::bound_to(listener, authority, Script { session: Session::Answers, ..Script::default() });

    daemon.clock.suspend(Duration::from_secs(12 * 3600));
    daemon.client();

    assert_eq!(back.seen().startups.len(), 1);
}

#[test]
fn an_address_that_a_name_no_longer_has_gets_no_session_and_nothing_stands_ready_there() {
    let (old, new) = one_port_at_two_addresses();
    let (daemon, _) = by_name(&old);
    daemon.names.set("db.test", Answer::Addresses(vec![old.address().ip()]));
    make_ready(&daemon);

    daemon.names.set("db.test", Answer::Addresses(vec![new.address().ip()]));
    daemon.clock.advance(Duration::from_secs(30));
    // With other parameters, so that nothing stands ready and the name is asked for.
    TestClient::log_in(daemon.connect(), &[("user", "anyone"), ("application_name", "other")]);
    let at_old = old.seen().startups.len();
    let client = daemon.client();

    // It may be served from what stands ready by then at the new address.
    let is_at_new = client.greeting.iter().any(|message| message.field(b'M').as_deref() == Some(NOTICE_OF_NEW));
    assert!(is_at_new, "{:?}", client.greeting);
    assert_eq!(old.seen().startups.len(), at_old);
    daemon.wait_for_metric("crdb_proxy_warm_recycled_total", &[("cause", "endpoint")], 1.0);
}

#[test]
fn what_stands_ready_is_not_kept_for_long_while_nodes_restart() {
    let cluster = FakeUpstream::answering();
    let (daemon, _) = by_name(&cluster);
    daemon.names.set("db.test", Answer::Addresses(vec![cluster.address().ip()]));
    make_ready(&daemon);
    daemon.clock.advance(Duration::from_secs(61));
    daemon.client();
    assert_eq!(claims(&daemon, "hit"), 1.0, "a minute is no age");
    daemon.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);

    daemon.expect_restarts();
    daemon.clock.advance(Duration::from_secs(61));

    daemon.wait_for_metric("crdb_proxy_warm_recycled_total", &[("cause", "age")], 1.0);
}

#[test]
fn the_last_good_addresses_serve_while_a_resolver_fails_or_says_nothing() {
    for answer in [Answer::Fails, Answer::Hangs] {
        let cluster = FakeUpstream::answering();
        let (daemon, _) = by_name(&cluster);
        daemon.client();

        daemon.names.set("db.test", answer);
        daemon.clock.advance(Duration::from_secs(60));
        for _ in 0..3 {
            daemon.client();
        }
        assert_eq!(daemon.names.asked(), 2, "one question at a time, and not with every client");
        daemon.clock.advance(Duration::from_secs(60));
        daemon.client();
    }
}

#[test]
fn a_name_without_any_address_is_told_as_such_and_recovers() {
    let cluster = FakeUpstream::answering();
    let (daemon, _) = by_name(&cluster);
    daemon.names.set("db.test", Answer::Fails);
    let mut refused = daemon.connect();
    refused.send(&crate::harness::wire::startup(&[("user", "anyone")]));
    let text = refused.refusal().field(b'M').unwrap();
    assert!(text.contains("could not be resolved"), "{text}");

    daemon.names.set("db.test", Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));

    daemon.client();
}

#[test]
fn an_endpoint_that_vanishes_gets_no_new_session_and_keeps_its_open_ones() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let both = || crate::failover::two_regions((&first, first.address()), (&second, second.address()));
    let daemon = InProcess::start(both());
    make_ready(&daemon);
    let mut open = daemon.client();
    assert_eq!(claims(&daemon, "hit"), 1.0);
    daemon.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);
    let at_first = first.seen().startups.len();

    daemon.replace_endpoints(&SettingsFile::of(&second));
    daemon.wait_for_metric("crdb_proxy_warm_recycled_total", &[("cause", "endpoint")], 1.0);
    let mut new = daemon.client();

    open.query("select 1");
    new.query("select 1");
    assert_eq!(first.seen().startups.len(), at_first);
    assert!(!second.seen().startups.is_empty());
    first.wait_until(|seen| seen.ended == seen.connections - 1);
    daemon.replace_endpoints(&both());
    daemon.client();
    open.query("select 1");
}

#[test]
fn what_a_policy_could_pick_is_looked_at_now_and_then_while_there_are_clients() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let settings = || crate::failover::two_regions((&first, first.address()), (&second, second.address()));
    let daemon = InProcess::start(settings().global("warm_max = 0"));
    // The same endpoints again: then the daemon looks at its clock, which announces nothing.
    let look = || daemon.replace_endpoints(&settings());
    daemon.client();
    look();
    assert_eq!(second.seen().connections, 0, "too soon");

    daemon.clock.advance(Duration::from_secs(67));
    look();
    second.wait_until(|seen| seen.connections == 1 && seen.ended == 1);
    assert_eq!(second.seen().startups.len(), 0, "a look is no login");
    daemon.wait_for_metric("crdb_proxy_endpoint_state", &[("endpoint", "second"), ("state", "well")], 1.0);

    daemon.clock.advance(Duration::from_secs(16 * 60));
    look();
    let without_clients = (first.seen().connections, second.seen().connections);
    daemon.client();
    second.wait_until(|seen| seen.connections == 2);

    assert_eq!(without_clients.1, 1);
}

/// A daemon whose only endpoint is reached by the name `db.test`.
fn by_name(cluster: &FakeUpstream) -> (InProcess, IpAddr) {
    let name = format!("tls_server_name = \"{CLUSTER_NAME}\"");
    let settings = SettingsFile::trusting(&cluster.authority);
    let daemon = InProcess::start(settings.endpoint_at("first", "db.test", cluster.address().port(), &name));
    daemon.names.set("db.test", Answer::Addresses(vec![cluster.address().ip()]));
    (daemon, cluster.address().ip())
}

fn make_ready(daemon: &InProcess) {
    daemon.client();
    daemon.client();
    // Openings keep a distance from each other, in a clock that stands still: this one, and the next.
    daemon.clock.advance(Duration::from_millis(100));
    daemon.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);
    daemon.clock.advance(Duration::from_millis(100));
}

fn claims(daemon: &InProcess, result: &str) -> f64 {
    daemon.metric("crdb_proxy_warm_claims_total", &[("result", result)]).unwrap()
}
