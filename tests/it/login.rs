//! Logging in upstream with the injected credential, whatever the server asks for.

use crate::harness::{
    Authority, FakeUpstream, Leaf, Login, PASSWORD, Postgres, Script, Session, SettingsFile, TestClient, TestProxy,
    certificates::Identity,
    scram::Flaw,
    wire::{error, message, notice, parameter_status},
};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA512, SignatureAlgorithm};
use std::time::Instant;

#[test]
fn the_client_needs_no_password_and_becomes_the_clusters_user() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);

    let mut client = proxy.client();

    assert_eq!(client.value("select current_user"), "app");
    assert_eq!(client.value("select current_database()"), "defaultdb");
    assert_eq!(client.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "t");
}

#[test]
fn a_server_that_asks_for_the_password_in_clear_gets_it_under_tls() {
    let postgres = Postgres::start();
    let proxy = SettingsFile::of(&postgres).user("plain").start();

    assert_eq!(proxy.client().value("select current_user"), "plain");
}

#[test]
fn a_client_certificate_logs_in_alone_or_beside_a_password() {
    let postgres = Postgres::start();

    for (user, password) in [("certified", ""), ("double", "password = { file = \"app.pw\" }")] {
        let settings = SettingsFile::of(&postgres).user(user).password(password);
        let proxy = with_certificate(settings, &postgres.authority.client(user));

        assert_eq!(proxy.client().value("select current_user"), user);
    }
}

#[test]
fn a_client_certificate_that_the_server_refuses_is_told_as_such() {
    let authority = Authority::new();
    let script = Script { client_authority: Some(authority.pem().into()), ..Script::default() };
    let (expired, foreign) = unwelcome(&authority, "app");
    let cluster = FakeUpstream::signed_by(authority, script);

    for identity in [expired, foreign] {
        assert_certificate_is_blamed(&with_certificate(SettingsFile::of(&cluster), &identity));
    }
}

#[test]
fn a_client_certificate_that_postgres_refuses_is_told_as_such() {
    let postgres = Postgres::start();
    let (expired, foreign) = unwelcome(&postgres.authority, "certified");

    for identity in [expired, foreign] {
        let settings = SettingsFile::of(&postgres).user("certified").password("");
        assert_certificate_is_blamed(&with_certificate(settings, &identity));
    }
}

#[test]
fn every_kind_of_certificate_binds_scram_to_its_channel_as_postgres_wants_it() {
    let kinds: [&'static SignatureAlgorithm; 4] =
        [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA512, &PKCS_ED25519];

    for algorithm in kinds {
        let postgres = Postgres::configured(Authority::signing_with(algorithm), &[]);
        let proxy = TestProxy::before(&postgres);

        assert_eq!(proxy.client().value("select current_user"), "app", "{algorithm:?}");
    }
}

#[test]
fn channel_binding_is_used_where_the_server_offers_it_and_the_certificate_allows_it() {
    for (algorithm, binds) in [(&PKCS_ECDSA_P256_SHA256, true), (&PKCS_ECDSA_P384_SHA384, true), (&PKCS_ED25519, false)]
    {
        let login = Login::ScramPlus { password: PASSWORD.into() };
        let script = Script { login, session: Session::Answers, ..Script::default() };
        let cluster = FakeUpstream::signed_by(Authority::signing_with(algorithm), script);
        let proxy = TestProxy::before(&cluster);

        proxy.client();

        let expected = if binds { "SCRAM-SHA-256-PLUS p=tls-server-end-point,," } else { "SCRAM-SHA-256 n,," };
        assert_eq!(cluster.seen().scram, [expected], "{algorithm:?}");
    }
}

#[test]
fn a_jwt_goes_as_a_cleartext_password_with_its_option_appended() {
    let login = Login::Cleartext("header.payload.signature".into());
    let cluster = FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() });
    let proxy =
        SettingsFile::of(&cluster).cluster("auth = \"jwt\"").file("app.pw", "header.payload.signature\n").start();

    TestClient::log_in(proxy.connect(), &[("user", "anyone")]);
    TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("options", r"-c a=b\ c")]);

    let startups = cluster.seen().startups;
    assert!(contains(&startups[0], b"options\0--crdb:jwt_auth_enabled=true\0"));
    assert!(contains(&startups[1], b"options\0-c a=b\\ c --crdb:jwt_auth_enabled=true\0"));
    assert_eq!(cluster.seen().passwords[0], b"header.payload.signature\0");
}

#[test]
fn a_server_that_cannot_prove_that_it_knows_the_password_is_refused() {
    for flaw in [Flaw::Signature, Flaw::Nonce, Flaw::NoProof] {
        let login = Login::Scram { password: PASSWORD.into(), iterations: 4096, flaw };
        let cluster = FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() });
        let proxy = TestProxy::before(&cluster);

        let error = proxy.startup(&[("user", "anyone")]).refusal();

        assert!(error.sqlstate().starts_with("08") || error.sqlstate().starts_with("28"), "{flaw:?}: {error:?}");
    }
}

#[test]
fn iteration_counts_outside_of_4096_to_a_million_are_refused() {
    for iterations in [0, 4095, 1_000_001] {
        let login = Login::Scram { password: PASSWORD.into(), iterations, flaw: Flaw::None };
        let cluster = FakeUpstream::start(Script { login, session: Session::Answers, ..Script::default() });
        let proxy = TestProxy::before(&cluster);

        let error = proxy.startup(&[("user", "anyone")]).refusal();

        assert!(error.field(b'M').unwrap().contains("iteration"), "{iterations}: {error:?}");
    }
}

#[test]
fn md5_is_never_answered() {
    let login = Login::Asks(message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]));
    let cluster = FakeUpstream::start(Script { login, ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert!(format!("{error:?}").contains("MD5"), "{error:?}");
    assert_eq!(cluster.wait_until(|seen| seen.ended == 1).after_request, b"", "the request was answered");
}

#[test]
fn a_server_that_asks_for_a_second_proof_gets_none() {
    let asks = message(b'R', &[0, 0, 0, 3]);
    let login = Login::Asks([asks.clone(), asks].concat());
    let cluster = FakeUpstream::start(Script { login, ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");

    let seen = cluster.wait_until(|seen| seen.ended == 1);
    assert_eq!(seen.after_request, message(b'p', format!("{PASSWORD}\0").as_bytes()), "one password, once");
}

#[test]
fn derived_keys_are_computed_once() {
    let cluster = FakeUpstream::answering();
    // An upstream that is made ready logs in, too.
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();

    for _ in 0..3 {
        proxy.client();
    }

    let counted = |result| proxy.metric("crdb_proxy_scram_cache_total", &[("cluster", "test"), ("result", result)]);
    assert_eq!((counted("miss"), counted("hit")), (Some(1.0), Some(2.0)));
}

#[test]
fn the_servers_own_refusals_pass_with_all_their_fields() {
    let fields = b"SFATAL\0VFATAL\0C28000\0Mno entry\0Dfor this host\0Hask them\0Fauth.go\0L42\0Rcheck\0\0";
    let refusal = message(b'E', fields);
    let cluster = FakeUpstream::start(Script { instead_of_ok: Some(refusal), ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.body, fields);
}

#[test]
fn a_server_that_repeats_the_password_tells_it_to_nobody() {
    let echo = message(b'E', format!("SFATAL\0VFATAL\0C28P01\0M{PASSWORD} is wrong\0\0").as_bytes());
    let login = Login::Cleartext(PASSWORD.into());
    let cluster = FakeUpstream::start(Script { login, instead_of_ok: Some(echo), ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.field(b'M').unwrap(), "*** is wrong");
    proxy.wait_for_message("session refused");
    assert!(!proxy.log_text().contains(PASSWORD) && !proxy.status().to_string().contains(PASSWORD));
}

#[test]
fn a_full_or_leaving_node_is_told_apart_from_a_failed_login() {
    let full = error("FATAL", "53300", "sorry, too many clients already");
    let leaving = error("FATAL", "57P01", "server is not accepting clients, try another node");
    let after_ok = Script { instead_of_ready: Some(leaving.clone()), ..Script::default() };
    for (script, sqlstate, result) in [
        (Script { instead_of_ok: Some(full), ..Script::default() }, "53300", "login_limit"),
        (Script { instead_of_ok: Some(leaving), ..Script::default() }, "57P01", "login_draining"),
        (after_ok, "57P01", "login_draining"),
    ] {
        let cluster = FakeUpstream::start(script);
        let proxy = TestProxy::before(&cluster);

        let error = proxy.startup(&[("user", "anyone")]).refusal();

        assert_eq!(error.sqlstate(), sqlstate);
        let labels = [("cluster", "test"), ("endpoint", "first"), ("result", result)];
        assert!(proxy.metric("crdb_proxy_connect_attempts_total", &labels) >= Some(1.0), "{result}");
    }
}

#[test]
fn a_server_that_leaves_or_talks_nonsense_while_logging_in_is_refused_in_a_sentence() {
    let endless = vec![b'S', 0x40, 0, 0, 0]; // a gigabyte of ParameterStatus
    let http = b"HTTP/1.1 400\r\n".to_vec();
    let (empty, endless_error) = (message(b'E', b""), message(b'E', b"C28P01\0Mno"));
    for nonsense in [vec![], message(b'R', &[0]), vec![b'R', 0, 0, 0, 3], endless, http, empty, endless_error] {
        let cluster = FakeUpstream::start(Script { instead_of_ok: Some(nonsense.clone()), ..Script::default() });
        let proxy = TestProxy::before(&cluster);

        let error = proxy.startup(&[("user", "anyone")]).refusal();

        assert!(error.sqlstate().starts_with("08"), "{nonsense:?}: {error:?}");
    }
}

#[test]
fn what_the_server_reports_before_it_is_ready_reaches_the_client() {
    let before_key = [notice("welcome"), parameter_status("TimeZone", "UTC")].concat();
    let cluster = FakeUpstream::start(Script { before_key: before_key.clone(), ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let greeting = proxy.client().greeting;

    let bytes = greeting.iter().flat_map(|sent| message(sent.tag, &sent.body)).collect::<Vec<_>>();
    assert!(contains(&bytes, &before_key), "{greeting:?}");
    assert!(contains(&bytes, &parameter_status("crdb_version", "CockroachDB CCL v26.1.0")), "{greeting:?}");
}

#[test]
fn a_missing_database_named_like_the_clients_user_gets_a_hint() {
    let postgres = Postgres::start();
    let proxy = TestProxy::before(&postgres);

    let error = proxy.startup(&[("user", "alice"), ("database", "alice")]).refusal();

    assert_eq!(error.sqlstate(), "3D000");
    assert_eq!(error.field(b'M').unwrap(), "database \"alice\" does not exist");
    assert!(error.field(b'H').expect("a hint").contains("database"), "{error:?}");
}

/// Client certificates for `user` of which one has expired and one is of another authority.
fn unwelcome(authority: &Authority, user: &str) -> (Identity, Identity) {
    let expired = authority.sign(&Leaf { names: &[], years: (2000, 2010), common_name: user });
    (expired, Authority::new().client(user))
}

fn with_certificate(settings: SettingsFile, identity: &Identity) -> TestProxy {
    settings.identity("client", identity).cluster("cert = \"client.crt\"\nkey = \"client.key\"").start()
}

#[track_caller]
fn assert_certificate_is_blamed(proxy: &TestProxy) {
    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.sqlstate(), "08001", "{error:?}");
    assert!(error.field(b'M').unwrap().contains("TLS"), "{error:?}");
    let hint = error.field(b'H').expect("a hint");
    assert!(hint.contains("\"cert\"") && hint.contains("\"key\""), "{hint}");
    let labels = [("cluster", "test"), ("endpoint", "first"), ("result", "tls_other")];
    assert_eq!(proxy.metric("crdb_proxy_connect_attempts_total", &labels), Some(1.0));
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

#[test]
fn a_wrong_secret_is_tried_once_a_second_whatever_else_clients_send() {
    let cluster = FakeUpstream::start(Script { login: Login::scram("another"), ..Script::default() });
    let proxy = TestProxy::before(&cluster);
    let began = Instant::now();

    for name in ["a", "b", "c", "d", "e", "f"] {
        let refusal = proxy.startup(&[("user", "anyone"), ("application_name", name)]).refusal();
        assert_eq!(refusal.sqlstate(), "28P01");
    }

    let tried = cluster.seen().startups.len();
    assert!(tried as u64 <= 1 + began.elapsed().as_secs(), "{tried} logins");
}
