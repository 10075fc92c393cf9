//! Which ways to log in a server may ask for: those that the settings name, else none that is weaker than before.

use crate::harness::{
    FakeUpstream, Login, PASSWORD, Script, Session, SettingsFile, TestProxy, proxy::run_daemon, settings::write_private,
};
use rustix::process::Signal;

fn asking(login: Login) -> FakeUpstream {
    FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() })
}

fn cold(cluster: &FakeUpstream) -> SettingsFile {
    SettingsFile::of(cluster).global("warm_max = 0")
}

fn refused(proxy: &TestProxy) -> [String; 3] {
    let error = proxy.startup(&[("user", "anyone")]).refusal();
    [error.sqlstate(), error.field(b'M').unwrap(), error.field(b'H').unwrap()]
}

#[test]
fn a_server_that_asks_for_clear_text_after_scram_is_refused_and_reported() {
    let cluster = asking(Login::scram(PASSWORD));
    let proxy = cold(&cluster).start();
    proxy.client();

    cluster.change(|script| script.login = Login::Cleartext(PASSWORD.into()));
    let [sqlstate, message, hint] = refused(&proxy);

    assert_eq!(sqlstate, "08001");
    assert!(message.contains("in clear text") && message.contains("SCRAM"), "{message}");
    assert!(hint.contains("require_auth = [\"scram-sha-256\", \"password\"]"), "{hint}");
    assert!(cluster.seen().passwords.is_empty(), "the password was sent");
    proxy.wait_for_metric("crdb_proxy_connect_attempts_total", &[("result", "login_other")], 1.0);
    proxy.wait_for_log(|line| line["message"] == "session refused" && line["level"] == "WARN");
}

#[test]
fn what_a_server_has_proven_outlasts_a_rotated_secret_and_a_reload() {
    let cluster = asking(Login::scram(PASSWORD));
    let proxy = cold(&cluster).file("other.pw", "r0tated").start();
    proxy.client();
    cluster.change(|script| script.login = Login::Cleartext("r0tated".into()));

    write_private(&proxy.path("app.pw"), "r0tated");
    assert_eq!(refused(&proxy)[0], "08001");
    proxy.rewrite_settings(|text| text.replace("app.pw", "other.pw"));
    proxy.signal(Signal::HUP);
    proxy.wait_for_message("reloaded");

    assert_eq!(refused(&proxy)[0], "08001");
    assert!(cluster.seen().passwords.is_empty(), "the password was sent");
}

#[test]
fn it_outlasts_another_spelling_of_the_user_as_well() {
    let cluster = asking(Login::scram(PASSWORD));
    let proxy = cold(&cluster).start();
    proxy.client();
    cluster.change(|script| script.login = Login::Cleartext(PASSWORD.into()));

    proxy.rewrite_settings(|text| text.replace("user = \"app\"", "user = \"App\""));
    proxy.signal(Signal::HUP);
    proxy.wait_for_message("reloaded");

    assert_eq!(refused(&proxy)[0], "08001");
    assert!(cluster.seen().passwords.is_empty(), "the password was sent");
}

#[test]
fn settings_may_allow_both() {
    let cluster = asking(Login::scram(PASSWORD));
    let proxy = cold(&cluster).cluster("require_auth = [\"scram-sha-256\", \"password\"]").start();
    proxy.client();

    cluster.change(|script| script.login = Login::Cleartext(PASSWORD.into()));

    proxy.client();
    assert_eq!(cluster.seen().passwords.len(), 1);
}

#[test]
fn what_the_settings_do_not_name_is_refused_from_the_first_login_on() {
    for (login, words) in [(Login::Cleartext(PASSWORD.into()), "in clear text"), (Login::Nothing, "without asking")] {
        let cluster = asking(login);
        let proxy = cold(&cluster).cluster("require_auth = [\"scram-sha-256\"]").start();

        let [sqlstate, message, hint] = refused(&proxy);

        assert_eq!(sqlstate, "08001");
        assert!(message.contains(words) && hint.contains("\"require_auth\""), "{message} {hint}");
        assert!(cluster.seen().passwords.is_empty(), "the password was sent");
    }
}

#[test]
fn a_server_that_asks_for_nothing_is_trusted_until_it_has_asked_for_more() {
    let cluster = asking(Login::Nothing);
    let proxy = cold(&cluster).start();
    proxy.client();
    cluster.change(|script| script.login = Login::scram(PASSWORD));
    proxy.client();

    cluster.change(|script| script.login = Login::Nothing);
    let [sqlstate, message, hint] = refused(&proxy);

    assert_eq!(sqlstate, "08001");
    assert!(message.contains("without asking") && hint.contains("\"none\""), "{message} {hint}");
}

#[test]
fn a_check_says_that_a_way_to_log_in_is_not_allowed() {
    let cluster = asking(Login::Cleartext(PASSWORD.into()));
    let settings = cold(&cluster).cluster("require_auth = [\"scram-sha-256\"]");
    let file = settings.write();

    let checked = run_daemon(file.parent().unwrap(), &["check", "--json", "--config", file.to_str().unwrap()], &[]);

    let report: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(report["exit"], 15, "{report:#}");
    assert_eq!(report["clusters"][0]["endpoints"][0]["advice"]["id"], "authentication_not_allowed", "{report:#}");
}
