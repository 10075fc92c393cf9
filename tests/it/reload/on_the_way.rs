//! Clients that are on their way in, and sessions that are open, when what they came by is replaced.

use super::{client_of, reload, reloads, told};
use crate::harness::{
    FakeUpstream, Login, SettingsFile, TestClient, TestProxy,
    settings::Cluster,
    wire::{Wire, cancel_request, startup},
};
use std::{fs, net::TcpStream};

/// A daemon before `old`, whose settings can be changed by [`move_to`] to lead to `new` instead.
fn between(old: &FakeUpstream, new: &FakeUpstream) -> TestProxy {
    let settings = SettingsFile::of(old).global("warm_max = 0");
    settings.file("other.crt", new.authority().pem()).file("other.pw", "another secret").start()
}

/// Another host, CA and secret, all at once. The user stays: another one is another rule about clients (`client_rules`).
fn move_to(new: &FakeUpstream, old: &FakeUpstream, proxy: &TestProxy) {
    proxy.rewrite_settings(|text| {
        text.replace(&format!("port = {}", old.address().port()), &format!("port = {}", new.address().port()))
            .replace("ca.crt", "other.crt")
            .replace("app.pw", "other.pw")
    });
    reloads(proxy);
}

fn two_clusters() -> (FakeUpstream, FakeUpstream) {
    let (old, new) = (FakeUpstream::answering(), FakeUpstream::answering());
    new.change(|script| script.login = Login::scram("another secret"));
    (old, new)
}

#[test]
fn a_client_goes_by_the_settings_that_it_came_under_whole() {
    let (old, new) = two_clusters();
    let proxy = between(&old, &new);
    let mut waiting = proxy.connect();
    proxy.wait_for_active(1.0);

    move_to(&new, &old, &proxy);
    waiting.send(&startup(&[("user", "anyone")]));

    TestClient::ready(waiting).query("select 1");
    assert_eq!((told(&old, "user"), told(&new, "user")), (vec!["app".to_owned()], vec![]));
    proxy.client().query("select 1");
    assert_eq!(told(&new, "user"), ["app"]);
}

#[test]
fn what_becomes_of_such_a_client_says_nothing_of_the_endpoint_that_is_there_now() {
    let (mut old, new) = two_clusters();
    let proxy = between(&old, &new);
    let mut waiting = proxy.connect();
    proxy.wait_for_active(1.0);
    move_to(&new, &old, &proxy);
    old.stop();

    waiting.send(&startup(&[("user", "anyone")]));

    assert_eq!(waiting.refusal().sqlstate(), "08001");
    let endpoint = proxy.status()["clusters"][0]["endpoints"][0].clone();
    assert!(["unknown", "well"].contains(&endpoint["state"].as_str().unwrap()), "{endpoint}");
}

#[test]
fn a_client_of_a_cluster_that_is_renamed_meanwhile_is_served() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let mut waiting = proxy.connect();
    proxy.wait_for_active(1.0);
    proxy.rewrite_settings(|text| text.replace("cluster.test", "cluster.renamed").replace("\"test\"", "\"renamed\""));
    reloads(&proxy);

    waiting.send(&startup(&[("user", "anyone")]));

    TestClient::ready(waiting).query("select 1");
}

#[test]
fn clients_of_a_listener_that_is_taken_out_are_told_so() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).another_listener("old", "").start();
    let mut open = client_of(&proxy, "old");
    let mut waiting = Wire::new(TcpStream::connect(proxy.listener("old")).unwrap());
    proxy.wait_for_metric("crdb_proxy_client_connections_active", &[("listener", "old")], 2.0);
    proxy.rewrite_settings(|text| text.rsplit_once("[[listener]]\nname = \"old\"").unwrap().0.to_owned());
    reloads(&proxy);

    waiting.send(&startup(&[("user", "anyone")]));

    for (refusal, sqlstate) in [(waiting.refusal(), "57P03"), (open.refusal(), "57P01")] {
        assert_eq!(refusal.sqlstate(), sqlstate);
        let text = refusal.field(b'M').unwrap();
        assert!(text.starts_with("this listener was taken out of crdb-proxy's settings"), "{text}");
    }
    proxy.client().query("select 1");
}

#[test]
fn a_session_whose_endpoint_is_gone_is_cancelled_there_with_what_it_was_opened_with() {
    let (old, new) = two_clusters();
    let proxy = between(&old, &new);
    let client = proxy.client();
    move_to(&new, &old, &proxy);

    let mut wire = proxy.connect();
    wire.send(&cancel_request(&client.key));

    assert_eq!(wire.rest(), b"");
    old.wait_until(|seen| seen.cancels.len() == 1);
    proxy.wait_for_metric("crdb_proxy_cancels_total", &[("result", "sent")], 1.0);
}

#[test]
fn a_session_whose_endpoint_is_gone_is_not_counted_at_the_one_that_has_its_name() {
    let (old, new) = two_clusters();
    let proxy = between(&old, &new);
    let _open = proxy.client();
    let sessions = || proxy.status()["clusters"][0]["endpoints"][0]["sessions"].clone();
    assert_eq!(sessions(), 1);

    move_to(&new, &old, &proxy);

    assert_eq!(sessions(), 0);
}

#[test]
fn a_pipe_instead_of_the_settings_is_refused_and_the_next_reload_works() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    proxy.address();
    let (path, good) = (proxy.path("crdb-proxy.toml"), proxy.path("good.toml"));
    fs::rename(&path, &good).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();

    let (status, said) = reload(&proxy);

    assert!(status == 422 && said["faults"].to_string().contains("a pipe or a device"), "{status}: {said}");
    fs::rename(good, path).unwrap();
    reloads(&proxy);
}

#[test]
fn a_server_that_refused_somebody_is_not_heard_once_settings_lead_to_another() {
    let (old, new) = (FakeUpstream::answering(), FakeUpstream::answering());
    old.change(|script| script.login = Login::scram("what it was before"));
    let proxy = between(&old, &new);
    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "28P01");

    proxy.rewrite_settings(|text| {
        text.replace(&format!("port = {}", old.address().port()), &format!("port = {}", new.address().port()))
            .replace("ca.crt", "other.crt")
    });
    reloads(&proxy);

    proxy.client().query("select 1");
}
