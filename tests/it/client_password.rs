//! Clients that bring the user's password themselves: it opens the upstream of that client and of nobody else, and is kept
//! nowhere.

use crate::harness::{
    FakeUpstream, Login, PASSWORD, Postgres, Script, Session, SettingsFile, TestClient, TestProxy,
    proxy::run_daemon,
    wire::{Wire, message, terminate},
};

const OF_CLIENT: &str = "credential = \"client\"";

/// Has sent its startup, and was asked for the password.
#[track_caller]
fn asked(proxy: &TestProxy) -> Wire {
    let mut wire = proxy.startup(&[("user", "anyone"), ("database", "postgres")]);
    let question = wire.next_message().unwrap();
    assert_eq!((question.tag, question.body.as_slice()), (b'R', [0, 0, 0, 3].as_slice()));
    wire
}

#[track_caller]
fn with_password(proxy: &TestProxy, password: &str) -> Wire {
    let mut wire = asked(proxy);
    wire.send(&message(b'p', format!("{password}\0").as_bytes()));
    wire
}

#[test]
fn a_clients_own_password_logs_in_by_scram_and_is_never_logged() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).password(OF_CLIENT).global("log_level = \"trace\"").start();

    let mut client = TestClient::ready(with_password(&proxy, PASSWORD));

    assert_eq!(client.value("select current_user"), "app");
    client.send(&terminate());
    proxy.wait_for_message("session closed");
    assert!(!proxy.log_text().contains(PASSWORD), "it is in the log");
    assert!(proxy.status()["clusters"][0]["secret"].is_null());
}

#[test]
fn a_wrong_password_reads_the_servers_own_words_and_refuses_nobody_else() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).password(OF_CLIENT).start();

    for _ in 0..2 {
        let error = with_password(&proxy, "wr0ng-pass").refusal();
        assert_eq!(error.sqlstate(), "28P01");
        assert_eq!(error.field(b'M').unwrap(), "password authentication failed for user \"app\"");
        TestClient::ready(with_password(&proxy, PASSWORD));
    }
}

#[test]
fn what_one_clients_password_opened_or_derived_serves_nobody_else() {
    let cluster =
        FakeUpstream::start(Script { login: Login::scram(PASSWORD), session: Session::Answers, ..Script::default() });
    let proxy = SettingsFile::of(&cluster).password(OF_CLIENT).start();

    for _ in 0..4 {
        TestClient::ready(with_password(&proxy, PASSWORD));
    }

    assert_eq!(cluster.seen().startups.len(), 4);
    assert_eq!(proxy.metric("crdb_proxy_scram_cache_total", &[("result", "hit")]), Some(0.0));
    assert_eq!(proxy.metric("crdb_proxy_warm_claims_total", &[("result", "miss_off")]), Some(4.0));
    assert_eq!(with_password(&proxy, "wr0ng-pass").refusal().sqlstate(), "28P01");
}

#[test]
fn a_server_that_wants_it_in_clear_gets_it_under_tls() {
    let login = Login::Cleartext(PASSWORD.into());
    let cluster = FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() });
    let proxy = SettingsFile::of(&cluster).password(OF_CLIENT).start();

    TestClient::ready(with_password(&proxy, PASSWORD));

    assert_eq!(cluster.seen().passwords, [format!("{PASSWORD}\0").into_bytes()]);
}

#[test]
fn what_is_no_password_is_refused_before_anything_goes_upstream() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).password(OF_CLIENT).start();
    let long = [&[b'x'; 1100][..], b"\0"].concat();

    for answer in [
        message(b'p', b"\0"),
        message(b'p', b"a\0b\0"),
        message(b'p', b"a"),
        message(b'p', &long),
        message(b'Q', b"select 1\0"),
    ] {
        let mut wire = asked(&proxy);
        wire.send(&answer);
        assert_eq!(wire.refusal().sqlstate(), "08P01", "{}", answer.escape_ascii());
    }

    assert!(cluster.seen().startups.is_empty());
}

#[test]
fn a_client_that_does_not_answer_is_sent_away_at_the_startup_limit() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).password(OF_CLIENT).global("startup_limit = \"200ms\"").start();

    let mut wire = asked(&proxy);

    assert_eq!(wire.refusal().sqlstate(), "08P01");
    proxy.wait_for_refusals("startup_timeout", 1.0);
}

#[test]
fn where_names_are_mapped_an_unknown_one_is_asked_as_well_and_others_are_not() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres)
        .sql_user("app", OF_CLIENT)
        .sql_user("plain", "password = { file = \"app.pw\" }")
        .listener("user_mode = \"map\"")
        .start();

    let mut unknown = with_password(&proxy, PASSWORD);
    assert_eq!(unknown.refusal().sqlstate(), "28P01");
    let mut plain = TestClient::log_in(proxy.connect(), &[("user", "plain"), ("database", "postgres")]);
    assert_eq!(plain.value("select current_user"), "plain");
}

#[test]
fn a_check_stops_where_the_client_would_bring_its_password() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).password(OF_CLIENT);
    let file = settings.write();

    let run = run_daemon(file.parent().unwrap(), &["check", "--json", "--config", file.to_str().unwrap()], &[]);

    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let stages = report["clusters"][0]["endpoints"][0]["stages"].as_array().unwrap();
    assert_eq!((&report["exit"], &stages.last().unwrap()["stage"]), (&0.into(), &"certificate".into()), "{report:#}");
    assert!(stages[0]["found"].as_str().unwrap().contains("brings its own password"), "{report:#}");
    assert!(cluster.seen().startups.is_empty());
}

/// The user `app` brings its own password, and `plain` has one here; the client's name picks.
fn mapped(cluster: &impl crate::harness::settings::Cluster) -> SettingsFile {
    SettingsFile::of(cluster)
        .sql_user("app", OF_CLIENT)
        .sql_user("plain", "password = { file = \"app.pw\" }")
        .listener("user_mode = \"map\"")
}

/// Asks to be `user`, and gives the password that it is asked for.
#[track_caller]
fn brings(proxy: &TestProxy, user: &str, password: &str) -> Wire {
    let mut wire = proxy.startup(&[("user", user), ("database", "postgres")]);
    assert_eq!(wire.next_message().unwrap().tag, b'R');
    wire.send(&message(b'p', format!("{password}\0").as_bytes()));
    wire
}

#[test]
fn logins_with_clients_passwords_leave_half_of_the_slots_to_others() {
    // It asks for the password, and says nothing any more.
    let login = Login::Asks(message(b'R', &3_u32.to_be_bytes()));
    let cluster = FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() });
    let proxy = mapped(&cluster).global("logins_max = 4\nconnect_limit = \"1h\"").start();
    let _held: Vec<_> = (0..4).map(|_| brings(&proxy, "app", "wr0ng-pass")).collect();
    cluster.wait_until(|seen| seen.startups.len() >= 2);
    cluster.change(|script| script.login = Login::scram(PASSWORD));

    for _ in 0..2 {
        TestClient::log_in(proxy.connect(), &[("user", "plain"), ("database", "postgres")]);
    }

    assert_eq!(cluster.seen().startups.len(), 4);
}

#[test]
fn the_wait_for_such_a_slot_has_the_limit_of_all_and_is_told() {
    let login = Login::Asks(message(b'R', &3_u32.to_be_bytes()));
    let cluster = FakeUpstream::start(Script { login, ..Script::default() });
    let limits = "logins_max = 1\nlogin_queue_limit = \"100ms\"\nconnect_limit = \"1h\"";
    let proxy = SettingsFile::of(&cluster).password(OF_CLIENT).global(limits).start();
    let _held = with_password(&proxy, PASSWORD);
    cluster.wait_until(|seen| seen.startups.len() == 1);

    let refusal = with_password(&proxy, PASSWORD).refusal();

    assert_eq!(refusal.sqlstate(), "53300");
    let text = refusal.field(b'M').unwrap();
    assert!(text.contains("clients' own passwords"), "{text}");
    proxy.wait_for_refusals("login_queue", 1.0);
}

#[test]
fn a_name_that_is_none_reads_what_a_wrong_password_reads() {
    let postgres = Postgres::start();
    let proxy = mapped(&postgres).start();

    let told = |user: &str| {
        let refusal = brings(&proxy, user, "wr0ng-pass").refusal();
        let text = refusal.field(b'M').unwrap().replace(user, "NAME");
        (refusal.sqlstate(), text, refusal.field(b'H'), refusal.field(b'D'))
    };

    let (known, unknown) = (told("app"), told("nobody"));
    assert_eq!((known.0.as_str(), known.1.as_str()), ("28P01", "password authentication failed for user NAME"));
    assert_eq!(known, unknown);
}

#[test]
fn nobody_is_asked_for_a_password_that_could_not_be_a_users() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).sql_user("app", OF_CLIENT);
    let settings = settings.sql_user("plain", "password = { file = \"app.pw\" }");
    let proxy = settings.listener("user = \"plain\"\nuser_mode = \"must-match\"").start();

    assert_eq!(proxy.startup(&[("user", "nobody")]).refusal().sqlstate(), "28000");
}

#[test]
fn a_wrong_password_of_a_client_is_not_told_as_if_it_were_the_daemons() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).password(OF_CLIENT).start();

    let hint = with_password(&proxy, "wr0ng-pass").refusal().field(b'H').unwrap();

    assert!(hint.contains("the client brought") && !hint.contains("secret"), "{hint}");
    let line = proxy.wait_for_message("session refused");
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("the client brought") && cause.contains("password authentication failed"), "{cause}");
}

#[test]
fn a_password_that_is_too_long_is_told_as_that() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).password(OF_CLIENT).start();

    let text = with_password(&proxy, &"x".repeat(1025)).refusal().field(b'M').unwrap();
    assert!(text.contains("1024 bytes") && text.contains("longer"), "{text}");

    let text = with_password(&proxy, "").refusal().field(b'M').unwrap();
    assert!(text.contains("got none"), "{text}");
}
