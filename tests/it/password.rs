//! The injected password: where it comes from, when it is read again, who never sees it.

use crate::harness::{
    FakeUpstream, Login, PASSWORD, Postgres, Script, Session, SettingsFile, TestProxy, settings::write_private,
};

#[test]
fn a_rejected_password_reaches_the_client_with_the_servers_text_and_our_hint() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).file("app.pw", "wr0ng-pass").start();

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.sqlstate(), "28P01");
    assert_eq!(error.field(b'M').unwrap(), "password authentication failed for user \"app\"");
    let hint = error.field(b'H').expect("a hint");
    assert!(hint.contains("app") && hint.contains("app.pw") && !hint.contains("wr0ng-pass"), "{hint}");
}

#[test]
fn a_rejected_password_is_tried_once_a_second_at_most_while_it_is_unchanged() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("app.pw", "wrong");
    let password = settings.path("app.pw");
    let proxy = settings.start();

    for _ in 0..5 {
        assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "28P01");
    }
    let tried = cluster.seen().startups.len();
    write_private(&password, PASSWORD);

    proxy.client();
    assert!(tried <= 2, "tried {tried} times for five clients within a second");
}

#[test]
fn a_rotated_password_is_used_by_the_next_client() {
    let postgres = Postgres::start();
    let settings = SettingsFile::of(&postgres);
    let password = settings.path("app.pw");
    let proxy = settings.start();
    let mut before = proxy.client();

    postgres.sql("alter role app password 'r0tated'");
    write_private(&password, "r0tated");
    let mut after = proxy.client();

    assert_eq!(after.value("select 1"), "1");
    assert_eq!(before.value("select 1"), "1");
}

#[test]
fn the_password_comes_from_a_variable_a_credential_or_a_command() {
    let cluster = FakeUpstream::answering();
    let credentials = tempfile::tempdir().unwrap();
    write_private(&credentials.path().join("db"), &format!("{PASSWORD}\n"));
    let folder = credentials.path().to_str().unwrap();
    let command = r#"password = { command = ["cat", "app.pw"], limit = "10s", lifetime = "15min" }"#;

    for line in ["password = { env = \"DB_PASSWORD\" }", "password = { credential = \"db\" }", command] {
        let settings = SettingsFile::of(&cluster).password(line).variable("DB_PASSWORD", PASSWORD);
        let mut proxy = settings.variable("CREDENTIALS_DIRECTORY", folder).start();

        proxy.client();
        assert_eq!(proxy.terminate(), 0, "{line}");
    }
}

#[test]
fn a_password_command_runs_once_more_when_the_server_refuses_what_it_gave() {
    let cluster = FakeUpstream::answering();
    let command = r#"password = { command = ["cat", "app.pw"], lifetime = "15min" }"#;
    let settings = SettingsFile::of(&cluster).password(command).file("app.pw", "before").global("warm_max = 0");
    cluster.change(|script| script.login = Login::scram("before"));
    let password = settings.path("app.pw");
    let proxy = settings.start();
    proxy.client();

    cluster.change(|script| script.login = Login::scram("after"));
    write_private(&password, "after");
    proxy.client();

    assert_eq!(cluster.seen().startups.len(), 3, "one login before, one refused, one after");
}

#[test]
fn a_password_command_is_not_run_again_and_again() {
    let cluster = FakeUpstream::answering();
    let command = r#"password = { command = ["sh", "-c", "date +%s%N | tee -a runs"], lifetime = "15min" }"#;
    let proxy = SettingsFile::of(&cluster).password(command).start();

    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "28P01");

    assert_eq!(cluster.seen().startups.len(), 2);
    let runs = std::fs::read_to_string(proxy.path("runs")).unwrap();
    assert_eq!(runs.lines().count(), 2, "{runs}");
}

#[test]
fn a_password_command_does_not_find_the_other_secrets_in_its_environment() {
    let cluster = FakeUpstream::answering();
    let command = r#"password = { command = ["sh", "-c", "tr '\\0' '\\n' < /proc/$$/environ > seen; cat app.pw"] }"#;
    let settings = SettingsFile::of(&cluster)
        .password(command)
        .another_listener("guarded", "local_password = { env = \"LOCAL\" }");
    let settings =
        settings.variable("LOCAL", "l0cal-pass").variable("COCKROACH_API_KEY", "ap1-key").variable("OTHER", "it");
    let proxy = settings.start();

    proxy.client();

    let seen = std::fs::read_to_string(proxy.path("seen")).unwrap();
    assert!(seen.contains("OTHER=it"), "{seen}");
    assert!(!seen.contains("l0cal-pass") && !seen.contains("ap1-key"), "{seen}");
}

#[test]
fn a_password_command_that_hangs_ends_at_its_limit() {
    let cluster = FakeUpstream::answering();
    let command = r#"password = { command = ["sleep", "600"], limit = "300ms" }"#;
    let proxy = SettingsFile::of(&cluster).password(command).start();

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert!(format!("{error:?}").contains("sleep"), "{error:?}");
    proxy.wait_for_refusals("secret", 1.0);
}

#[test]
fn a_password_that_a_client_sends_is_neither_asked_for_nor_passed_on() {
    let login = Login::Cleartext(PASSWORD.into());
    let cluster = FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let client = proxy.client();

    let requests = client.greeting.iter().filter(|message| message.tag == b'R').collect::<Vec<_>>();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body, [0, 0, 0, 0], "only AuthenticationOk");
    assert_eq!(cluster.seen().passwords, [[PASSWORD.as_bytes(), b"\0"].concat()]);
}
