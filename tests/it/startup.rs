//! The client's first messages: what is answered, what is passed on, what is refused.

use crate::harness::{
    Authority, FakeUpstream, Script, Session, SettingsFile, TestClient, TestProxy,
    wire::{
        GSSENC_REQUEST, Message, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, Wire, message, parameters, startup, untyped,
    },
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::sync::{Arc, Mutex, mpsc};

#[test]
fn an_ssl_request_is_answered_n_and_the_session_goes_on() {
    let (_cluster, proxy) = answering();

    let mut wire = proxy.connect();
    wire.send(&SSL_REQUEST);

    assert_eq!(wire.bytes(), [b'N']);
    TestClient::log_in(wire, &[("user", "anyone")]);
}

#[test]
fn a_gss_request_is_answered_n_and_an_ssl_request_may_follow_it() {
    let (_cluster, proxy) = answering();

    let mut wire = proxy.connect();
    for request in [GSSENC_REQUEST, SSL_REQUEST] {
        wire.send(&request);
        assert_eq!(wire.bytes(), [b'N']);
    }

    TestClient::log_in(wire, &[("user", "anyone")]);
}

#[test]
fn a_gss_request_may_follow_an_ssl_request() {
    let (_cluster, proxy) = answering();

    let mut wire = proxy.connect();
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        wire.send(&request);
        assert_eq!(wire.bytes(), [b'N']);
    }

    TestClient::log_in(wire, &[("user", "anyone")]);
}

#[test]
fn a_repeated_request_is_a_protocol_violation() {
    let (_cluster, proxy) = answering();

    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut wire = proxy.connect();
        wire.send(&request);
        assert_eq!(wire.bytes(), [b'N']);
        wire.send(&request);
        assert_eq!(wire.refusal().sqlstate(), "08P01");
    }
}

#[test]
fn a_client_hello_on_a_listener_without_tls_is_closed_cleanly_and_logged() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("log_level = \"debug\"").start();

    let mut wire = proxy.connect();
    wire.send(&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]);

    assert_eq!(wire.rest(), b"");
    proxy.wait_for_message("session refused");
}

#[test]
fn a_client_hello_of_any_size_ends_in_the_end_of_file_and_not_in_a_reset() {
    let (cluster, proxy) = answering();
    let hello = client_hello(&cluster.authority);
    assert!(hello.len() > 500, "only {} bytes", hello.len());

    let mut wire = proxy.connect();
    wire.send(&hello);

    wire.assert_closed();
    proxy.wait_for_refusals("tls_failed", 1.0);
}

#[test]
fn garbage_costs_only_its_own_connection() {
    let (_cluster, proxy) = answering();
    let mut innocent = proxy.client();

    let mut wire = proxy.connect();
    wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");

    assert_eq!(wire.refusal().sqlstate(), "08P01");
    innocent.query("select 1");
    proxy.wait_for_refusals("startup_too_large", 1.0);
}

#[test]
fn a_startup_message_that_is_too_large_is_refused_before_it_is_read() {
    let (_cluster, proxy) = answering();

    let mut wire = proxy.connect();
    wire.send(&10_001_u32.to_be_bytes());

    assert_eq!(wire.refusal().sqlstate(), "08P01");
    proxy.wait_for_refusals("startup_too_large", 1.0);
}

#[test]
fn the_largest_allowed_startup_message_is_served() {
    let (cluster, proxy) = answering();
    let value = "x".repeat(10_000 - startup(&[("user", "anyone"), ("application_name", "")]).len());

    let mut wire = proxy.connect();
    wire.send(&startup(&[("user", "anyone"), ("application_name", &value)]));

    TestClient::ready(wire);
    let received = cluster.seen().startups.pop().unwrap();
    assert!(received.windows(value.len()).any(|part| part == value.as_bytes()));
}

#[test]
fn malformed_startup_messages_are_protocol_violations() {
    let (_cluster, proxy) = answering();
    let malformed: [&[u8]; 6] = [
        &[0, 0, 0, 7, 0, 3, 0],                                              // shorter than a version
        &[0, 0, 0, 0, 0, 3, 0, 0],                                           // a length that does not count itself
        &untyped(PROTOCOL_3_0, b"user\0anyone"),                             // no zero byte at the end
        &untyped(PROTOCOL_3_0, b"user\0anyone\0"),                           // no closing zero byte
        &untyped(PROTOCOL_3_0, b"user\0anyone\0database\0\0"),               // a key without a value
        &untyped(PROTOCOL_3_0, &parameters(&[(b"database", b"defaultdb")])), // nobody
    ];

    for message in malformed {
        let mut wire = proxy.connect();
        wire.send(message);
        assert_eq!(wire.refusal().sqlstate(), "08P01");
    }

    proxy.wait_for_refusals("startup_malformed", malformed.len() as f64);
}

#[test]
fn half_a_startup_message_ends_at_the_startup_limit() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("startup_limit = \"300ms\"").start();

    let mut wire = proxy.connect();
    wire.send(&startup(&[("user", "anyone")])[..11]);

    assert_eq!(wire.refusal().sqlstate(), "08P01");
    proxy.wait_for_refusals("startup_timeout", 1.0);
}

#[test]
fn a_client_that_says_nothing_is_closed_without_a_word_and_counted_apart() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("startup_limit = \"300ms\"").start();

    let silent = proxy.connect().rest();
    drop(proxy.connect()); // A port scan: connects and leaves.

    assert_eq!(silent, b"");
    proxy.wait_for_refusals("silent", 2.0);
    assert_eq!(cluster.seen().connections, 0);
}

#[test]
fn a_reset_before_the_first_byte_counts_as_silence_too() {
    let (cluster, proxy) = answering();

    proxy.connect().reset();

    proxy.wait_for_refusals("silent", 1.0);
    assert_eq!(cluster.seen().connections, 0);
}

#[test]
fn a_password_sent_behind_the_startup_message_is_refused_and_never_passed_on() {
    let (sender, tags) = mpsc::channel();
    let sender = Mutex::new(sender);
    let listen = move |mut wire: Wire| {
        while let Ok(message) = wire.next_message() {
            sender.lock().unwrap().send(message.tag).unwrap();
        }
    };
    let cluster = FakeUpstream::start(Script { session: Session::Run(Arc::new(listen)), ..Script::default() });
    let proxy = TestProxy::before(&cluster);

    let mut wire = proxy.connect();
    wire.send(&[startup(&[("user", "anyone")]), message(b'p', b"not asked for\0")].concat());

    let refused = wire.until(b'E');
    assert_eq!(refused.last().unwrap().sqlstate(), "08P01");
    wire.assert_closed();
    cluster.wait_until(|seen| seen.ended == seen.connections);
    assert!(!tags.try_iter().any(|tag| tag == b'p'), "the cluster got the client's password");
}

#[test]
fn protocol_3_0_is_served_without_negotiation_and_with_an_eight_byte_key() {
    let (cluster, proxy) = answering();

    let client = proxy.client();

    assert!(client.greeting.iter().all(|message| message.tag != b'v'), "{:?}", client.greeting);
    assert_eq!(client.key.len(), 8);
    assert_eq!(cluster.seen().versions, [PROTOCOL_3_0]);
}

#[test]
fn protocol_3_2_is_served_with_a_longer_key_and_stays_3_0_upstream() {
    let (cluster, proxy) = answering();

    let client = with_version(&proxy, PROTOCOL_3_2, &[]);

    assert!(client.greeting.iter().all(|message| message.tag != b'v'), "{:?}", client.greeting);
    assert_eq!(client.key.len(), 36);
    assert_eq!(cluster.seen().versions, [PROTOCOL_3_0]);
}

#[test]
fn other_minor_versions_are_negotiated_down_and_unknown_options_listed() {
    let (cluster, proxy) = answering();

    for (asked, answered) in [(PROTOCOL_3_0 + 1, PROTOCOL_3_0), (PROTOCOL_3_0 + 9999, PROTOCOL_3_2)] {
        let client = with_version(&proxy, asked, &[(b"_pq_.first", b"1"), (b"_pq_.second", b"2")]);

        let expected = [&answered.to_be_bytes()[..], &2_u32.to_be_bytes(), b"_pq_.first\0_pq_.second\0"].concat();
        assert_eq!(negotiated(&client).expect("a NegotiateProtocolVersion").body, expected);
    }

    assert_eq!(cluster.seen().versions, [PROTOCOL_3_0, PROTOCOL_3_0]);
    assert!(cluster.seen().startups.iter().all(|startup| !startup.windows(5).any(|part| part == b"_pq_.")));
}

#[test]
fn an_unknown_protocol_option_is_listed_even_in_3_0() {
    let (_cluster, proxy) = answering();

    let client = with_version(&proxy, PROTOCOL_3_0, &[(b"_pq_.report_parameters", b"x")]);

    let expected = [&PROTOCOL_3_0.to_be_bytes()[..], &1_u32.to_be_bytes(), b"_pq_.report_parameters\0"].concat();
    assert_eq!(negotiated(&client).expect("a NegotiateProtocolVersion").body, expected);
}

#[test]
fn an_unknown_major_version_is_refused_in_a_frame_that_old_clients_can_read() {
    let (cluster, proxy) = answering();

    for version in [2 << 16, 4 << 16, u32::MAX] {
        let mut wire = proxy.connect();
        wire.send(&untyped(version, &parameters(&[(b"user", b"anyone")])));
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(answer.starts_with('E') && answer.contains("protocol"), "{version:#x}: {answer:?}");
        assert!(version == 2 << 16 || answer.contains("C0A000"), "{version:#x}: {answer:?}");
    }

    proxy.wait_for_refusals("protocol_version", 3.0);
    assert_eq!(cluster.seen().connections, 0);
}

/// What a client sends first that begins with TLS, as long as browsers and newer drivers make it.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec(), vec![b'x'; 250], vec![b'y'; 250]];
    let mut connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

fn answering() -> (FakeUpstream, TestProxy) {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    (cluster, proxy)
}

/// Logs in with a version and parameters, `user` in front unless they bring one.
#[track_caller]
fn with_version(proxy: &TestProxy, version: u32, sent: &[(&[u8], &[u8])]) -> TestClient {
    let mut all: Vec<(&[u8], &[u8])> = Vec::new();
    if !sent.iter().any(|(key, _)| *key == b"user") {
        all.push((b"user", b"anyone"));
    }
    all.extend(sent);
    let mut wire = proxy.connect();
    wire.send(&untyped(version, &parameters(&all)));
    TestClient::ready(wire)
}

fn negotiated(client: &TestClient) -> Option<&Message> {
    client.greeting.iter().find(|message| message.tag == b'v')
}
