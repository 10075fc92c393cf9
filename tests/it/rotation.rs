//! Certificates and secrets that are replaced while the daemon serves.

use crate::harness::{
    Authority, FakeUpstream, Login, PASSWORD, Script, Session, SettingsFile, TestClient, TestProxy,
    certificates::Leaf,
    client::connect_tls,
    settings::{Cluster, write_private},
    wire::Wire,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{fs, net::TcpStream, os::unix::fs::symlink};

#[test]
fn a_ca_that_is_replaced_is_used_by_the_next_login() {
    let (old, new) = (Authority::new(), Authority::new());
    let script = Script { session: Session::Answers, ..Script::default() };
    let first = FakeUpstream::signed_by(old.clone(), script.clone());
    let proxy = SettingsFile::of(&first).start();
    let mut open = proxy.client();
    let sha256 = proxy.status()["clusters"][0]["ca"]["sha256"].clone();

    // A bundle first, as in a rotation: both servers are trusted.
    write_private(&proxy.path("ca.crt"), &format!("{}{}", old.pem(), new.pem()));
    proxy.wait_for_log(|line| line["message"] == "changed" && line["change"].to_string().contains("certificates"));
    proxy.client().query("select 1");
    first.change(|script| script.identity = Some(new.server()));
    proxy.client().query("select 1");
    first.change(|script| script.identity = Some(old.server()));
    proxy.client().query("select 1");

    // The old one goes.
    write_private(&proxy.path("ca.crt"), new.pem());
    proxy.wait_for_status(|status| status["clusters"][0]["ca"]["sha256"] != sha256);
    assert_eq!(proxy.startup(&[("user", "anyone"), ("application_name", "x")]).refusal().sqlstate(), "08001");
    first.change(|script| script.identity = Some(new.server()));
    proxy.client().query("select 1");
    open.query("select 1");
}

#[test]
fn files_behind_a_symbolic_link_that_is_swapped_are_read_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let cluster = FakeUpstream::signed_by(new.clone(), Script { session: Session::Answers, ..Script::default() });
    let settings = SettingsFile::of(&cluster);
    // As the kubelet lays a Secret out: `..data` is what moves.
    for (version, ca) in [("v1", &old), ("v2", &new)] {
        fs::create_dir(settings.path(version)).unwrap();
        write_private(&settings.path(version).join("ca.crt"), ca.pem());
    }
    symlink("v1", settings.path("..data")).unwrap();
    fs::remove_file(settings.path("ca.crt")).unwrap();
    symlink("..data/ca.crt", settings.path("ca.crt")).unwrap();
    let proxy = settings.start();
    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");

    symlink("v2", proxy.path("..next")).unwrap();
    fs::rename(proxy.path("..next"), proxy.path("..data")).unwrap();

    proxy.wait_for_message("reloaded");
    proxy.client().query("select 1");
}

#[test]
fn a_certificate_that_cannot_be_read_is_tried_until_it_can_and_told_once() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.address();
    let (other, secret) = (Authority::new(), proxy.path("app.pw"));
    let bundle = format!("{}{}", cluster.authority().pem(), other.pem());
    // The secret is away for the moment: all or nothing, so that the CA has to wait.
    fs::rename(&secret, proxy.path("away")).unwrap();
    write_private(&proxy.path("ca.crt"), &bundle);
    proxy.wait_for_message("reload failed");

    fs::rename(proxy.path("away"), &secret).unwrap();

    proxy.wait_for_message("reloaded");
    let failed = proxy.log_lines().iter().filter(|line| line["message"] == "reload failed").count();
    assert_eq!(failed, 1);
    assert_eq!(proxy.status()["config"]["last_error"], Value::Null);
}

#[test]
fn with_flags_only_sighup_reads_the_ca_again() {
    let cluster = FakeUpstream::answering();
    let folder = tempfile::tempdir().unwrap();
    write_private(&folder.path().join("ca.crt"), Authority::new().pem());
    write_private(&folder.path().join("app.pw"), PASSWORD);
    let mut command = TestProxy::command(folder.path());
    let address = cluster.address();
    command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--user", "app"]);
    command.args(["--ca-file", "ca.crt", "--password-file", "app.pw", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0", "--log-format", "json"]);
    let proxy = TestProxy::spawn(command, folder);
    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");
    write_private(&proxy.path("ca.crt"), cluster.authority().pem());

    proxy.signal(Signal::HUP);
    proxy.wait_for_message("reloaded");

    proxy.client().query("select 1");
}

#[test]
fn a_ca_of_which_nothing_is_valid_any_more_is_refused_and_one_of_which_some_is_warned_about() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.client();
    let (good, expired) = (cluster.authority().pem(), Authority::expired());

    write_private(&proxy.path("ca.crt"), expired.pem());
    let failed = proxy.wait_for_message("reload failed");
    assert!(failed["faults"].to_string().contains("expired"), "{failed}");
    proxy.startup(&[("user", "anyone"), ("application_name", "another")]).until(b'Z');

    write_private(&proxy.path("ca.crt"), &format!("{good}{}", expired.pem()));
    proxy.wait_for_message("reloaded");
    proxy.wait_for_log(|line| line["level"] == "WARN" && line["message"].to_string().contains("expired"));
    proxy.startup(&[("user", "anyone"), ("application_name", "a third")]).until(b'Z');
}

#[test]
fn a_password_command_is_run_again_at_sighup_before_anybody_has_to_wait_for_it() {
    let cluster = FakeUpstream::answering();
    let command = "password = { command = [\"cat\", \"app.pw\"], lifetime = \"1h\" }";
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").password(command).start();
    proxy.client();
    cluster.change(|script| script.login = Login::scram("another"));
    write_private(&proxy.path("app.pw"), "another");

    proxy.signal(Signal::HUP);
    proxy.wait_for_message("secret changed");

    proxy.client();
    let labels = [("cluster", "test"), ("endpoint", "first"), ("result", "login_password")];
    assert_eq!(proxy.metric("crdb_proxy_connect_attempts_total", &labels), Some(0.0));
}

#[test]
fn a_listeners_own_certificate_is_followed_and_open_sessions_live_on() {
    let cluster = FakeUpstream::answering();
    let (old, new) = (Authority::new(), Authority::new());
    let tls = "tls = \"require\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let proxy = SettingsFile::of(&cluster).identity("local", &old.server()).listener(tls).start();
    let mut open = TestClient::log_in(connect_tls(proxy.address(), &old), &[("user", "anyone")]);

    // Both files, in the wrong order: for a moment they do not fit each other.
    let identity = new.server();
    write_private(&proxy.path("local.crt"), &identity.certificate);
    write_private(&proxy.path("local.key"), &identity.key);
    proxy.wait_for_message("reloaded");

    TestClient::log_in(connect_tls(proxy.address(), &new), &[("user", "anyone")]);
    open.query("select 1");
}

#[test]
fn certificates_of_its_own_that_have_expired_are_warned_about_and_it_serves_on() {
    let cluster = FakeUpstream::answering();
    let old = Leaf { years: (2020, 2021), ..Leaf::default() };
    let (local, user) = (cluster.authority().sign(&old), cluster.authority().client("app"));
    let settings = SettingsFile::of(&cluster).identity("local", &cluster.authority().server());
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let settings = settings.identity("client", &user).cluster("cert = \"client.crt\"\nkey = \"client.key\"");
    let proxy = settings.listener(tls).start();
    proxy.client();

    for name in ["local", "client"] {
        write_private(&proxy.path(&format!("{name}.key")), &local.key);
        write_private(&proxy.path(&format!("{name}.crt")), &local.certificate);
        let words = if name == "local" { "its certificate expired on 2021" } else { "client.crt expired on 2021" };
        proxy.wait_for_log(|line| line["level"] == "WARN" && line["message"].to_string().contains(words));
    }

    proxy.startup(&[("user", "anyone"), ("application_name", "another")]).until(b'Z');
}

#[test]
fn a_client_certificate_is_followed() {
    let (authority, users) = (Authority::new(), Authority::new());
    let script =
        Script { session: Session::Answers, client_authority: Some(users.pem().to_owned()), ..Script::default() };
    let cluster = FakeUpstream::signed_by(authority, script);
    let settings = SettingsFile::of(&cluster).identity("client", &Authority::new().client("app"));
    let proxy = settings.cluster("cert = \"client.crt\"\nkey = \"client.key\"").start();
    proxy.startup(&[("user", "anyone")]).refusal();

    let identity = users.client("app");
    write_private(&proxy.path("client.key"), &identity.key);
    write_private(&proxy.path("client.crt"), &identity.certificate);
    proxy.wait_for_message("reloaded");

    proxy.client().query("select 1");
}

#[test]
fn a_secret_that_cannot_be_read_is_told_until_it_can_and_the_last_one_serves() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let is_ok = || proxy.metric("crdb_proxy_secret_ok", &[("cluster", "test")]);
    let error = || proxy.status()["clusters"][0]["secret"]["error"].clone();
    proxy.client().query("select 1");
    assert_eq!((is_ok(), error()), (Some(1.0), Value::Null));
    let (secret, away) = (proxy.path("app.pw"), proxy.path("away"));

    fs::rename(&secret, &away).unwrap();
    proxy.client().query("select 1");

    assert_eq!(is_ok(), Some(0.0));
    let told = error().as_str().unwrap().to_owned();
    assert!(told.contains("app.pw does not exist; check its name") && !told.contains(PASSWORD), "{told}");

    fs::rename(&away, &secret).unwrap();
    proxy.client().query("select 1");

    assert_eq!((is_ok(), error()), (Some(1.0), Value::Null));
}

#[test]
fn a_cluster_that_is_no_more_has_no_unreadable_secret() {
    let cluster = FakeUpstream::answering();
    let (host, port) = (cluster.address().ip(), cluster.address().port());
    let other = format!(
        "[cluster.other]\nca = \"ca.crt\"\nuser = \"app\"\npassword = {{ file = \"other.pw\" }}\n\
         [[cluster.other.endpoint]]\nname = \"there\"\nhost = \"{host}\"\nport = {port}\n\
         [[listener]]\nname = \"other\"\naddress = \"127.0.0.1:0\"\ncluster = \"other\"\n"
    );
    let settings = SettingsFile::of(&cluster).global("warm_max = 0");
    let proxy = settings.file("other.pw", PASSWORD).appendix(&other).start();
    let is_ok = || proxy.metric("crdb_proxy_secret_ok", &[("cluster", "other")]);
    let client = || {
        let socket = TcpStream::connect(proxy.listener("other")).unwrap();
        TestClient::log_in(Wire::new(socket), &[("user", "anyone")])
    };
    // While its sessions are open, its series are there.
    let _open = client();
    assert_eq!(is_ok(), Some(1.0));
    fs::remove_file(proxy.path("other.pw")).unwrap();
    client();
    assert_eq!(is_ok(), Some(0.0));

    proxy.rewrite_settings(|text| text.replace(&other, ""));
    assert_eq!(proxy.http("POST /reload", "").0, 202);

    assert_eq!(is_ok(), Some(1.0));
}
