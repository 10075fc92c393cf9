//! Every way in which a cluster's certificate can be wrong, each refused with its own words.

use crate::harness::{
    Authority, FakeUpstream, Front, Leaf, Script, Session, SettingsFile, TestProxy, certificates::Identity,
    settings::Cluster, wire::error,
};

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let identity = Authority::new().server();

    refused_with("tls_ca", &["CA"], Authority::new(), identity);
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let identity = authority.sign(&Leaf { years: (2020, 2021), ..Leaf::default() });

    refused_with("tls_expired", &["expired"], authority, identity);
}

#[test]
fn a_certificate_that_is_not_yet_valid_is_refused() {
    let authority = Authority::new();
    let identity = authority.sign(&Leaf { years: (2090, 2099), ..Leaf::default() });

    refused_with("tls_not_yet_valid", &["not valid before 2090-01-01"], authority, identity);
}

#[test]
fn a_certificate_for_another_name_is_refused_with_both_names() {
    let authority = Authority::new();
    let identity = authority.sign(&Leaf { names: &["other.test"], ..Leaf::default() });

    refused_with("tls_name", &["127.0.0.1", "other.test"], authority, identity);
}

#[test]
fn the_name_verified_is_the_configured_one_and_not_the_address_dialled() {
    let authority = Authority::new();
    let identity = authority.sign(&Leaf { names: &["node.example.test"], ..Leaf::default() });
    let script = Script { identity: Some(identity), session: Session::Answers, ..Script::default() };
    let cluster = FakeUpstream::signed_by(authority, script);
    let port = cluster.address().port();
    let settings = SettingsFile::trusting(&cluster.authority);
    let name = "tls_server_name = \"node.example.test\"";
    let proxy = settings.endpoint_at("first", "127.0.0.1", port, name).start();

    proxy.client();

    assert_eq!(cluster.seen().server_names, [Some("node.example.test".to_owned())]);
}

#[test]
fn a_server_that_declines_tls_is_refused_and_told_nothing() {
    let error = refused_by_front(Front::Says(b"N".to_vec()), "tls_declined");

    assert!(error.contains("TLS"), "{error}");
}

#[test]
fn a_server_that_answers_the_ssl_request_with_an_error_or_garbage_is_refused() {
    let refusal = error("FATAL", "53300", "too many connections for this load balancer");

    for front in [refusal, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), vec![0]] {
        refused_by_front(Front::Says(front), "protocol");
    }
}

#[test]
fn clear_bytes_behind_the_servers_s_are_refused() {
    // Whoever sits between could otherwise put words into the session before TLS begins.
    let record_of_tls = b"S\x16\x03\x03\0\x01\x02".to_vec();
    for front in
        [b"SZ\0\0\0\x05I".to_vec(), record_of_tls, b"S\x15\x03\x03\0\x02\x01\0".to_vec(), [b'S'; 4096].to_vec()]
    {
        let error = refused_by_front(Front::Says(front), "protocol");
        assert!(error.contains("behind the answer"), "{error}");
    }
}

#[test]
fn an_authority_is_trusted_only_if_the_settings_name_it() {
    // A second cluster's authority beside the right one is no help to a third.
    let (right, other) = (Authority::new(), Authority::new());
    let script = Script { session: Session::Answers, ..Script::default() };
    let cluster = FakeUpstream::signed_by(right, script);
    let bundle = [other.pem(), cluster.authority.pem()].concat();

    let trusting_both = SettingsFile::of(&cluster).file("ca.crt", &bundle).start();
    let trusting_other = SettingsFile::of(&cluster).file("ca.crt", other.pem()).start();

    trusting_both.client();
    assert_eq!(trusting_other.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");
}

/// Asserts what a client reads when the cluster shows `identity`, and how the attempt is counted.
#[track_caller]
fn refused_with(result: &str, words: &[&str], authority: Authority, identity: Identity) {
    let cluster = FakeUpstream::signed_by(authority, Script { identity: Some(identity), ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.sqlstate(), "08001");
    let text = format!("{} {}", error.field(b'M').unwrap(), error.field(b'D').unwrap_or_default());
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert!(error.field(b'H').is_some(), "no hint: {error:?}");
    assert_eq!(cluster.seen().startups, [] as [Vec<u8>; 0], "the startup was sent all the same");
    proxy.wait_for_metric("crdb_proxy_connect_attempts_total", &[("endpoint", "first"), ("result", result)], 1.0);
    proxy.wait_for_refusals("certificate", 1.0);
}

/// Asserts that a cluster with this front is refused after SSLRequest, in clear words; gives them.
#[track_caller]
fn refused_by_front(front: Front, result: &str) -> String {
    let cluster = FakeUpstream::start(Script { front: front.clone(), ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert!(error.sqlstate().starts_with("08"), "{front:?}: {error:?}");
    let labels = [("endpoint", "first"), ("result", result)];
    proxy.wait_for_metric("crdb_proxy_connect_attempts_total", &labels, 1.0);
    let sent = cluster.wait_until(|seen| seen.ended == 1).after_request;
    assert!(!sent.windows(4).any(|part| part == b"user"), "the startup was sent in clear");
    error.field(b'M').unwrap()
}
