//! The DNS server, asked by the daemon through the system's own resolver.

use crate::harness::{
    FakeUpstream, SettingsFile, TestProxy,
    certificates::CLUSTER_NAME,
    names::{Answer, Names},
    settings::Cluster,
};
use std::net::{Ipv4Addr, Ipv6Addr};

#[test]
fn the_daemon_reaches_a_cluster_by_a_name_of_the_test() {
    let Some(names) = Names::start() else { return };
    let cluster = FakeUpstream::answering();
    // On ::1 nobody listens at this port.
    names.set("db.test", Answer::Addresses(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]));
    let proxy = daemon(&names, &cluster);

    proxy.client();

    names.wait_for_lookups("db.test", 1);
}

#[test]
fn each_kind_of_failure_is_told_as_one_of_names() {
    let Some(names) = Names::start() else { return };
    let cluster = FakeUpstream::answering();

    for answer in [Answer::NoSuchName, Answer::ServerFails, Answer::Silence, Answer::Addresses(Vec::new())] {
        names.set("db.test", answer.clone());
        let before = names.lookups("db.test");
        let proxy = daemon(&names, &cluster);

        let refusal = proxy.startup(&[("user", "anyone")]).refusal();

        let text = format!("{:?} {:?}", refusal.field(b'M'), refusal.field(b'D'));
        assert!(text.contains("resolv"), "{answer:?}: {text}");
        assert!(names.lookups("db.test") > before, "{answer:?}: the daemon did not ask");
    }
}

fn daemon(names: &Names, cluster: &FakeUpstream) -> TestProxy {
    let settings = SettingsFile::trusting(&cluster.authority);
    let server_name = format!("tls_server_name = \"{CLUSTER_NAME}\"");
    let settings = settings.endpoint_at("first", "db.test", cluster.address().port(), &server_name);
    names.resolving(settings).start()
}
