//! Several SQL users of one cluster: whom a session logs in as, who may choose, and that nothing of one user is ever
//! handed to another.

use crate::harness::{
    FakeUpstream, Login, PASSWORD, Postgres, Script, SettingsFile, TestClient, TestProxy, proxy::run_daemon,
    settings::write_private,
};

/// `app` and `reader`, each with a password of its own.
fn two_users(postgres: &Postgres) -> SettingsFile {
    postgres.sql("create role \"reader\" login password 'r3ader-secret'");
    SettingsFile::of(postgres)
        .file("reader.pw", "r3ader-secret")
        .sql_user("app", "password = { file = \"app.pw\" }")
        .sql_user("reader", "password = { file = \"reader.pw\" }")
}

fn as_user(proxy: &TestProxy, name: &str) -> TestClient {
    TestClient::log_in(proxy.connect(), &[("user", name), ("database", "postgres")])
}

#[test]
fn a_listener_says_which_of_several_users_its_sessions_are() {
    let postgres = Postgres::start();
    let settings = two_users(&postgres).listener("user = \"READER\"");
    let proxy = settings.another_listener("admin-like", "user = \"app\"").start();

    let mut client = as_user(&proxy, "app");

    assert_eq!(client.value("select current_user"), "reader");
    let status = proxy.status();
    assert_eq!(status["listeners"][0]["user"], "reader");
    assert_eq!(status["listeners"][1]["user"], "app");
    let users = status["clusters"][0]["users"].as_array().unwrap().clone();
    assert_eq!(users.iter().map(|user| user["name"].as_str().unwrap()).collect::<Vec<_>>(), ["app", "reader"]);
    assert!(users[1]["secret"]["source"].as_str().unwrap().contains("reader.pw"), "{users:?}");
}

#[test]
fn the_clients_name_picks_the_credential_where_the_listener_maps_it() {
    let postgres = Postgres::start();
    let proxy = two_users(&postgres).listener("user_mode = \"map\"").start();

    assert_eq!(as_user(&proxy, "reader").value("select current_user"), "reader");
    assert_eq!(as_user(&proxy, "App").value("select current_user"), "app");
    let unknown = proxy.startup(&[("user", "postgres"), ("database", "postgres")]).refusal();
    assert_eq!(unknown.sqlstate(), "28000");
    proxy.wait_for_refusals("local_auth", 1.0);
}

#[test]
fn a_name_must_be_the_very_one_where_the_listener_wants_that_and_the_refusal_tells_no_other() {
    let postgres = Postgres::start();
    let proxy = two_users(&postgres).listener("user = \"reader\"\nuser_mode = \"must-match\"").start();

    assert_eq!(as_user(&proxy, "Reader").value("select current_user"), "reader");
    let told = |name| {
        let refusal = proxy.startup(&[("user", name), ("database", "postgres")]).refusal();
        (refusal.sqlstate(), refusal.field(b'M'), refusal.field(b'H'))
    };
    let (of_another, of_nobody) = (told("app"), told("nobody"));
    assert_eq!(of_another.0, "28000");
    assert_eq!(of_another, of_nobody);
}

#[test]
fn nothing_that_is_logged_in_as_one_user_is_handed_to_another() {
    let postgres = Postgres::start();
    let proxy = two_users(&postgres).listener("user_mode = \"map\"\nreuse = true").start();

    for round in 0..12 {
        let name = if round % 3 == 0 { "reader" } else { "app" };
        let mut client = as_user(&proxy, name);
        assert_eq!(client.value("select current_user"), name, "round {round}");
        client.send(&crate::harness::wire::terminate());
    }

    let used_again = proxy.metric("crdb_proxy_claim_seconds_count", &[("source", "reused")]).unwrap();
    assert!(used_again >= 2.0, "{used_again}: nothing was used again, so nothing was proven");
}

#[test]
fn each_users_secret_is_rotated_by_itself() {
    let postgres = Postgres::start();
    let settings = two_users(&postgres).listener("user_mode = \"map\"");
    let secret = settings.path("reader.pw");
    let proxy = settings.start();
    as_user(&proxy, "reader");

    postgres.sql("alter role reader password 'r0tated'");
    write_private(&secret, "r0tated");

    assert_eq!(as_user(&proxy, "reader").value("select current_user"), "reader");
    assert_eq!(as_user(&proxy, "app").value("select current_user"), "app");
}

#[test]
fn a_wrong_secret_of_one_user_is_told_by_its_own_source_and_shuts_out_nobody_else() {
    let postgres = Postgres::start();
    let proxy = two_users(&postgres).file("reader.pw", "wrong").listener("user_mode = \"map\"").start();

    let refusal = proxy.startup(&[("user", "reader"), ("database", "postgres")]).refusal();

    assert_eq!(refusal.sqlstate(), "28P01");
    let hint = refusal.field(b'H').unwrap();
    assert!(hint.contains("reader.pw") && !hint.contains("app.pw"), "{hint}");
    assert!(hint.contains("[cluster.test.user.reader]") && !hint.contains("\"user\" setting"), "{hint}");
    assert_eq!(as_user(&proxy, "app").value("select current_user"), "app");
}

#[test]
fn a_user_may_have_a_certificate_of_its_own() {
    let postgres = Postgres::start();
    let identity = postgres.authority.client("certified");
    let proxy = SettingsFile::of(&postgres)
        .identity("own", &identity)
        .sql_user("app", "password = { file = \"app.pw\" }")
        .sql_user("certified", "cert = \"own.crt\"\nkey = \"own.key\"")
        .listener("user_mode = \"map\"")
        .start();

    assert_eq!(as_user(&proxy, "certified").value("select current_user"), "certified");
    assert_eq!(as_user(&proxy, "app").value("select current_user"), "app");
    let users = proxy.status()["clusters"][0]["users"].clone();
    assert!(users[0]["certificate"].is_null() && users[1]["certificate"]["not_after"].is_string(), "{users:#}");
}

#[test]
fn only_the_user_of_a_token_sends_the_option_of_one() {
    let cluster = FakeUpstream::start(Script { login: Login::Cleartext(PASSWORD.into()), ..Script::default() });
    let proxy = SettingsFile::of(&cluster)
        .sql_user("app", "password = { file = \"app.pw\" }")
        .sql_user("bot", "password = { file = \"app.pw\" }\nauth = \"jwt\"")
        .listener("user_mode = \"map\"")
        .start();
    let options_of = |name: &str| {
        drop(proxy.startup(&[("user", name)]).until(b'Z'));
        let startup = cluster.seen().startups.pop().unwrap();
        startup.windows(21).any(|part| part == b"crdb:jwt_auth_enabled")
    };

    assert!(options_of("bot"));
    assert!(!options_of("app"));
}

#[test]
fn a_reload_adds_and_takes_away_users_and_sessions_of_others_stay() {
    let postgres = Postgres::start();
    let proxy = two_users(&postgres).listener("user_mode = \"map\"").start();
    let mut open = as_user(&proxy, "reader");

    proxy.rewrite_settings(|text| text.replace("user.reader]", "user.plain]").replace("reader.pw", "app.pw"));
    proxy.signal(rustix::process::Signal::HUP);
    proxy.wait_for_message("reloaded");

    assert_eq!(as_user(&proxy, "plain").value("select current_user"), "plain");
    assert_eq!(proxy.startup(&[("user", "reader"), ("database", "postgres")]).refusal().sqlstate(), "28000");
    assert_eq!(open.value("select current_user"), "reader");
}

#[test]
fn a_check_logs_every_user_in_and_tells_of_the_one_who_is_turned_away() {
    let postgres = Postgres::start();
    let settings = two_users(&postgres).listener("user_mode = \"map\"\ndatabase = \"postgres\"");
    let check = |settings: &SettingsFile| {
        let file = settings.write();
        let run = run_daemon(file.parent().unwrap(), &["check", "--json", "--config", file.to_str().unwrap()], &[]);
        serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap()
    };

    let well = check(&settings);
    let wrong = check(&settings.file("reader.pw", "wrong"));

    assert_eq!((&well["exit"], &well["clusters"][0]["users"]), (&0.into(), &serde_json::json!(["app", "reader"])));
    let stages = well["clusters"][0]["endpoints"][0]["stages"].as_array().unwrap().clone();
    let logins: Vec<_> = stages.iter().filter(|stage| stage["stage"] == "login").collect();
    assert!(logins[0]["found"].as_str().unwrap().starts_with("as app"), "{logins:?}");
    assert!(logins[1]["found"].as_str().unwrap().starts_with("as reader with the secret from file"), "{logins:?}");
    let (endpoint, exit) = (&wrong["clusters"][0]["endpoints"][0], &wrong["exit"]);
    assert_eq!((exit, &endpoint["failed_at"]), (&15.into(), &"login".into()), "{endpoint:#}");
    let advice = endpoint["advice"].to_string();
    assert!(advice.contains("reader.pw") && !advice.contains("app.pw"), "{advice}");
}

#[test]
fn a_check_goes_by_the_first_user_that_it_can_log_in() {
    let postgres = Postgres::start();
    postgres.sql("create role \"reader\" login password 'r3ader-secret'");
    let settings = SettingsFile::of(&postgres)
        .file("reader.pw", "r3ader-secret")
        .sql_user("app", "credential = \"client\"")
        .sql_user("reader", "password = { file = \"reader.pw\" }")
        .listener("user_mode = \"map\"\ndatabase = \"postgres\"");
    let file = settings.write();

    let run = run_daemon(file.parent().unwrap(), &["check", "--json", "--config", file.to_str().unwrap()], &[]);

    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let stages = report["clusters"][0]["endpoints"][0]["stages"].as_array().unwrap().clone();
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["secret", "dns", "tcp", "tls", "certificate", "login", "database", "query"], "{report:#}");
    assert_eq!((&report["exit"], &stages[5]["found"]), (&0.into(), &"as reader".into()), "{report:#}");
    let secret = stages[0]["found"].as_str().unwrap();
    assert!(secret.contains("reader.pw") && !secret.contains("nobody"), "{secret}");
    assert!(secret.contains("clients of app bring their own password"), "{secret}");
}

#[test]
fn the_connection_string_names_the_listeners_user() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster)
        .sql_user("app", "password = { file = \"app.pw\" }")
        .sql_user("reader", "password = { file = \"app.pw\" }")
        .address("127.0.0.1:7")
        .listener("user = \"reader\"\nuser_mode = \"must-match\"");
    let file = settings.write();

    let said = run_daemon(file.parent().unwrap(), &["url", "--config", file.to_str().unwrap()], &[]).expect_success();

    assert!(said.starts_with("postgresql://reader@127.0.0.1:7/"), "{said}");
}
