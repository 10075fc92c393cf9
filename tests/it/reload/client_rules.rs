//! Clients that are on their way in when the rules about them change: they are not let in by rules that are gone.

use super::reloads;
use crate::harness::{
    FakeUpstream, PASSWORD, SettingsFile, TestClient, TestProxy,
    settings::Cluster,
    wire::{Wire, message, startup},
};
use std::{
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A client that has connected and said nothing, or only what `said` has it say, once the daemon has noticed.
fn on_its_way(proxy: &TestProxy) -> Wire {
    let wire = proxy.connect();
    proxy.wait_for_active(1.0);
    wire
}

fn change(proxy: &TestProxy, from: &str, to: &str) {
    proxy.rewrite_settings(|text| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    });
    reloads(proxy);
}

#[track_caller]
fn is_sent_back(wire: &mut Wire) {
    let refusal = wire.refusal();
    assert_eq!(refusal.sqlstate(), "57P03");
    let text = refusal.field(b'M').unwrap();
    assert!(text.contains("rules have changed"), "{text}");
    assert!(refusal.field(b'H').unwrap().contains("Connect again"), "{refusal:?}");
}

#[test]
fn a_client_on_its_way_in_is_sent_back_when_the_rules_about_clients_change() {
    let cluster = FakeUpstream::answering();
    let own = rustix::process::getuid().as_raw();
    let certificate = "tls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    for (from, to) in [
        ("local_access = \"any\"".to_owned(), "local_access = \"same-user\"".to_owned()),
        (
            format!("local_access = \"uids\"\nallowed_uids = [{own}, 4711]"),
            format!("local_access = \"uids\"\nallowed_uids = [{own}]"),
        ),
        (
            "local_access = \"any\" # password".to_owned(),
            "local_access = \"any\"\nlocal_password = { file = \"app.pw\" }".to_owned(),
        ),
        (format!("tls = \"allow\"\n{certificate}"), format!("tls = \"require\"\n{certificate}")),
        ("user_mode = \"replace\"".to_owned(), "user_mode = \"must-match\"".to_owned()),
        ("database_locked = false".to_owned(), "database_locked = true".to_owned()),
        ("allow_cluster_option = true".to_owned(), "allow_cluster_option = false".to_owned()),
    ] {
        let identity = cluster.authority().server();
        let proxy = SettingsFile::of(&cluster).identity("local", &identity).listener(&from).start();
        let mut waiting = on_its_way(&proxy);

        change(&proxy, &from, &to);
        waiting.send(&startup(&[("user", "app")]));

        is_sent_back(&mut waiting);
        proxy.wait_for_refusals("draining", 1.0);
    }
    assert!(cluster.seen().startups.is_empty());
}

#[test]
fn a_client_on_its_way_in_is_sent_back_when_the_user_is_another_one_or_holds_its_password_itself() {
    let cluster = FakeUpstream::answering();
    for (from, to) in [
        ("user = \"app\"\nuser_mode", "user = \"reader\"\nuser_mode"),
        (
            "[cluster.test.user.app]\npassword = { file = \"app.pw\" }",
            "[cluster.test.user.app]\ncredential = \"client\"",
        ),
    ] {
        let proxy = SettingsFile::of(&cluster)
            .sql_user("app", "password = { file = \"app.pw\" }")
            .sql_user("reader", "password = { file = \"app.pw\" }")
            .listener("user = \"app\"\nuser_mode = \"replace\"")
            .start();
        let mut waiting = on_its_way(&proxy);

        change(&proxy, from, to);
        waiting.send(&startup(&[("user", "app")]));

        is_sent_back(&mut waiting);
    }
    let mapped = SettingsFile::of(&cluster)
        .sql_user("app", "password = { file = \"app.pw\" }")
        .sql_user("reader", "password = { file = \"app.pw\" }")
        .listener("user_mode = \"map\"")
        .start();
    let mut waiting = on_its_way(&mapped);
    change(&mapped, "user.reader]", "user.other]");
    waiting.send(&startup(&[("user", "reader")]));
    is_sent_back(&mut waiting);
    assert!(cluster.seen().startups.is_empty());
}

#[test]
fn it_is_sent_back_after_its_password_too_and_whatever_else_changed_before_and_after() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).password("credential = \"client\"");
    let proxy = settings.listener("database = \"one\"\ndatabase_locked = false").start();
    let mut waiting = proxy.startup(&[("user", "app")]);
    assert_eq!(waiting.next_message().unwrap().tag, b'R');

    change(&proxy, "\"one\"", "\"two\"");
    change(&proxy, "database_locked = false", "database_locked = true");
    change(&proxy, "database_locked = true", "database_locked = false");
    waiting.send(&message(b'p', format!("{PASSWORD}\0").as_bytes()));

    is_sent_back(&mut waiting);
    assert!(cluster.seen().startups.is_empty());
}

#[test]
fn a_client_of_an_address_that_its_listener_left_goes_by_the_listeners_rules_too() {
    let cluster = FakeUpstream::answering();
    let next = AtomicUsize::new(3);
    for tightens_at_once in [true, false] {
        let proxy = SettingsFile::of(&cluster).listener("database_locked = false").start();
        let mut waiting = on_its_way(&proxy);
        let tighten = |text: String| text.replace("database_locked = false", "database_locked = true");
        let moved = format!("127.0.0.{}:0\"", next.fetch_add(1, Relaxed));

        proxy.rewrite_settings(|text| {
            let text = text.replace("address = \"127.0.0.1:0\"", &format!("address = \"{moved}"));
            if tightens_at_once { tighten(text) } else { text }
        });
        reloads(&proxy);
        if !tightens_at_once {
            proxy.rewrite_settings(|text| tighten(text.to_owned()));
            reloads(&proxy);
        }
        waiting.send(&startup(&[("user", "app")]));

        is_sent_back(&mut waiting);
    }
}

#[test]
fn a_client_on_its_way_in_is_served_when_other_settings_change() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).another_listener("second", "database_locked = false");
    let proxy = settings.listener("database = \"one\"\nsession_idle_limit = \"1h\"").start();
    let mut waiting = on_its_way(&proxy);

    change(&proxy, "\"one\"", "\"two\"");
    change(&proxy, "\"1h\"", "\"2h\"");
    change(&proxy, "database_locked = false", "database_locked = true");
    waiting.send(&startup(&[("user", "app")]));

    TestClient::ready(waiting).query("select 1");
    drop(TcpStream::connect(proxy.listener("second")).unwrap());
}
