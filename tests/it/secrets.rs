//! Secrets never leave: a whole run at the noisiest level is searched for them.

use crate::harness::{FakeUpstream, Login, PASSWORD, Postgres, Script, Session, SettingsFile, TestProxy};

const TOKEN: &str = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl";
const LOCAL: &str = "a local secret nobody may see";
const STATEMENT: &str = "select 'a statement nobody may log'";

#[test]
fn no_secret_and_no_statement_is_in_any_output_of_a_session() {
    let postgres = Postgres::start();
    let mut proxy = SettingsFile::of(&postgres).global("log_level = \"trace\"").start();
    let mut client = proxy.client();
    client.query(STATEMENT);
    client.query("selct 'a statement nobody may log'");
    proxy.startup(&[("user", "anyone"), ("database", "missing")]).refusal();

    assert_silent(&mut proxy, &[PASSWORD, "nobody may log"]);
}

#[test]
fn no_secret_is_in_any_output_of_a_failed_login() {
    let postgres = Postgres::start();
    let settings = SettingsFile::of(&postgres).file("app.pw", "wr0ng-s3cret").global("log_level = \"trace\"");
    let mut proxy = settings.start();

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert!(!format!("{error:?}").contains("wr0ng"), "{error:?}");
    assert_silent(&mut proxy, &["wr0ng-s3cret"]);
}

#[test]
fn no_token_sent_in_clear_under_tls_is_in_any_output() {
    let login = Login::Cleartext(TOKEN.into());
    let cluster = FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() });
    let settings = SettingsFile::of(&cluster).cluster("auth = \"jwt\"").file("app.pw", TOKEN);
    let mut proxy = settings.global("log_level = \"trace\"").start();
    proxy.client();

    assert_silent(&mut proxy, &[TOKEN, "c2lnbmF0dXJl"]);
}

#[test]
fn no_local_password_is_in_any_output() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", LOCAL).global("log_level = \"trace\"");
    let mut proxy = settings.listener("local_password = { file = \"local.pw\" }").start();
    proxy.startup(&[("user", "anyone")]).message();

    assert_silent(&mut proxy, &[LOCAL, PASSWORD]);
}

#[test]
fn cancel_keys_are_in_no_output() {
    let cluster = FakeUpstream::by_hand();
    let mut proxy = SettingsFile::of(&cluster).global("log_level = \"trace\"").start();
    let client = proxy.client();
    let hexadecimal = client.key[4..].iter().map(|byte| format!("{byte:02x}")).collect::<String>();

    assert_silent(&mut proxy, &[&hexadecimal, "950607f8"]);
}

/// Ends the daemon and searches everything that it wrote or served.
#[track_caller]
fn assert_silent(proxy: &mut TestProxy, secrets: &[&str]) {
    let served = [proxy.metrics(), proxy.status().to_string()].concat();
    proxy.terminate();
    let written = [proxy.log_text(), proxy.stdout_text()].concat();
    assert!(written.lines().count() > 5, "a trace of a session is longer than this:\n{written}");
    for secret in secrets {
        assert!(!served.contains(secret), "{secret:?} is served");
        let line = written.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret:?} is logged: {line:?}");
    }
}
