//! Secrets, users, databases, and servers that turn the login away.

use super::{Checked, cockroach};
use crate::harness::{
    FakeUpstream, Login, PASSWORD, Postgres, Script, Session, SettingsFile,
    wire::{error, message, ready, rows},
};
use std::sync::Arc;

fn of(postgres: &Postgres) -> SettingsFile {
    SettingsFile::of(postgres).listener("database = \"postgres\"")
}

#[test]
fn a_wrong_password_is_told_with_its_source_and_who_may_reset_it() {
    let postgres = Postgres::start();

    let said = Checked::of(&of(&postgres).file("app.pw", "wrong")).failed("login", 15, "wrong_password");

    assert!(said.contains("28P01") && said.contains("app.pw"), "{said}");
    assert!(said.contains("Org Administrator or Cluster Admin"), "{said}");
}

#[test]
fn a_password_that_was_spoilt_on_its_way_is_told_as_such() {
    let postgres = Postgres::start();
    for (secret, words) in [
        ("p%40ssword", "percent-encoded"),
        ("\"s3cret\"", "quotes"),
        ("s3cret ", "with a blank"),
        ("postgresql://app:pw@host/db", "connection string"),
        ("s3cret\nlines", "more than one line"),
    ] {
        let said = Checked::of(&of(&postgres).file("app.pw", secret)).failed("login", 15, "odd_password");

        assert!(said.contains(words) && !said.contains(secret), "{said}");
    }
}

#[test]
fn a_secret_that_cannot_be_read_ends_the_walk_at_once() {
    let postgres = Postgres::start();

    let checked = Checked::of(&of(&postgres).password("password = { file = \"gone.pw\" }"));

    let said = checked.failed("secret", 10, "secret_unreadable");
    assert!(said.contains("gone.pw does not exist"), "{said}");
}

#[test]
fn a_user_who_may_not_log_in_is_told_from_a_wrong_password() {
    let postgres = Postgres::start();
    postgres.sql("ALTER ROLE app NOLOGIN");

    let said = Checked::of(&of(&postgres)).failed("login", 15, "login_forbidden");

    assert!(said.contains("28000") && said.contains("ALTER USER app WITH LOGIN"), "{said}");
}

#[test]
fn a_client_certificate_of_another_user_is_told_as_the_likely_cause() {
    let refusing = Script {
        instead_of_ok: Some(error("FATAL", "28000", "certificate authentication failed")),
        ..Script::default()
    };
    let server = FakeUpstream::start(refusing);
    let settings = SettingsFile::of(&server)
        .identity("own", &server.authority.client("other"))
        .cluster("cert = \"own.crt\"\nkey = \"own.key\"");

    let said = Checked::of(&settings).failed("login", 15, "login_forbidden");

    assert!(said.contains("common name of the client certificate is not \"app\""), "{said}");
}

#[test]
fn a_full_server_is_told() {
    let postgres = Postgres::start();
    postgres.sql("ALTER ROLE app NOSUPERUSER CONNECTION LIMIT 0");

    let said = Checked::of(&of(&postgres)).failed("login", 15, "too_many_connections");

    assert!(said.contains("53300") && said.contains("server.max_connections_per_gateway"), "{said}");
}

#[test]
fn a_database_that_is_not_there_is_told_at_postgresql_and_with_the_others_at_cockroachdb() {
    let postgres = Postgres::start();
    let said =
        Checked::of(&SettingsFile::of(&postgres).listener("database = \"nope\"")).failed("database", 16, "no_database");
    assert!(said.contains("\"nope\""), "{said}");

    let node = cockroach("gcp-us-east1", &["defaultdb", "Shop", "system"]);
    let said =
        Checked::of(&SettingsFile::of(&node).listener("database = \"shop\"")).failed("database", 16, "no_database");
    assert!(
        said.contains("has no database \"shop\"") && said.contains("names mind their case: \"Shop\" is there"),
        "{said}"
    );
    assert!(said.contains("\"defaultdb\", \"Shop\", \"system\""), "{said}");
}

#[test]
fn every_listeners_database_is_looked_for() {
    let node = cockroach("gcp-us-east1", &["defaultdb", "shop"]);
    let settings =
        SettingsFile::of(&node).listener("database = \"shop\"").another_listener("other", "database = \"gone\"");

    let said = Checked::of(&settings).failed("database", 16, "no_database");

    assert!(said.contains("has no database \"gone\""), "{said}");
}

#[test]
fn a_draining_node_an_odd_method_and_a_routed_host_are_told_apart() {
    let draining = Script {
        instead_of_ok: Some(error("FATAL", "57P01", "server is not accepting clients, try another node")),
        ..Script::default()
    };
    let md5 = Script { login: Login::Asks(message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])), ..Script::default() };
    let routed = Script {
        instead_of_ok: Some(error(
            "FATAL",
            "08004",
            "codeParamsRoutingFailed: rejected by BackendConfigFromParams: Invalid cluster name",
        )),
        ..Script::default()
    };
    for (script, id, words) in [
        (draining, "node_draining", "about to restart"),
        (md5, "unsupported_authentication", "MD5"),
        (routed, "not_advanced", "Basic or Standard"),
    ] {
        let server = FakeUpstream::start(script);

        let said = Checked::of(&SettingsFile::of(&server)).failed("login", 15, id);

        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_token_that_has_expired_is_told_without_showing_it() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let token = |claims: &str| format!("{}.{}.c2lnbmF0dXJl", part("{\"alg\":\"RS256\"}"), part(claims));
    let refusing = Script { login: Login::Cleartext("another".into()), ..Script::default() };
    for (secret, words) in [
        (token("{\"exp\":1700000000}"), "has expired"),
        (token("{\"exp\":9999999999}"), "begins with sso_"),
        ("no-token".to_owned(), "is no JWT"),
    ] {
        let server = FakeUpstream::start(refusing.clone());

        let said = Checked::of(&SettingsFile::of(&server).cluster("auth = \"jwt\"").file("app.pw", &secret)).failed(
            "login",
            15,
            "token_refused",
        );

        assert!(said.contains(words) && !said.contains(&secret), "{said}");
    }
}

#[test]
fn a_server_that_lets_in_and_does_not_answer_is_told() {
    let refuses = Session::Run(Arc::new(|mut wire| {
        while let Ok(message) = wire.next_message() {
            let Some(_) = message.query() else { return };
            let answer = [error("ERROR", "58C00", "range unavailable"), ready(b'I')].concat();
            wire.try_send(&answer).ok();
        }
    }));
    let hangs_up = Session::Run(Arc::new(|mut wire| drop(wire.next_message())));
    for (session, id, words) in
        [(refuses, "query_refused", "58C00"), (hangs_up, "query_unanswered", "did not answer SELECT 1")]
    {
        let server = FakeUpstream::start(Script { session, ..Script::default() });

        let said = Checked::of(&SettingsFile::of(&server)).failed("query", 17, id);

        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_server_that_repeats_the_password_is_not_repeated() {
    let tells = Session::Run(Arc::new(|mut wire| {
        while let Ok(message) = wire.next_message() {
            let Some(sql) = message.query() else { return };
            let answer = if sql.starts_with("SELECT datname") {
                rows(&[&format!("db-{PASSWORD}"), "defaultdb"])
            } else {
                [error("ERROR", "XX000", &format!("your password is {PASSWORD}")), ready(b'I')].concat()
            };
            wire.try_send(&answer).ok();
        }
    }));
    let server =
        FakeUpstream::start(Script { session: tells, login: Login::Cleartext(PASSWORD.into()), ..Script::default() });
    for database in ["defaultdb", "gone"] {
        let checked = Checked::of(&SettingsFile::of(&server).listener(&format!("database = \"{database}\"")));

        let report = checked.report.to_string();
        assert!(report.contains("***") && !report.contains(PASSWORD), "{report}");
    }
}

#[test]
fn no_secret_is_in_what_is_said() {
    let postgres = Postgres::start();

    let report = Checked::of(&of(&postgres)).report.to_string();

    assert!(!report.contains(PASSWORD), "{report}");
}
