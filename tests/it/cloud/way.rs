//! What goes along with a question, and which way it takes.

use super::{client, client_of, wait};
use crate::harness::{
    Authority, DEADLINE,
    cloud_api::{CLUSTER_ID, CloudApi, KEY},
};
use crdb_proxy::cloud::{CloudError, Stage};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    thread,
};

#[test]
fn every_question_says_who_asks_with_which_key_and_for_which_version() {
    let api = CloudApi::start();
    let cloud = client(&api);

    wait(cloud.users(CLUSTER_ID)).unwrap();
    wait(cloud.connect_privately(CLUSTER_ID, "7")).unwrap();

    let asked = api.asked();
    for asked in &asked {
        assert!(asked.target.starts_with("/api/v1/"), "{}", asked.target);
        assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
        assert_eq!(asked.headers["cc-version"], "2024-09-16");
        assert_eq!(asked.headers["user-agent"], concat!("crdb-proxy/", env!("CARGO_PKG_VERSION")));
    }
    assert_eq!(asked[1].headers["content-type"], "application/json");
    assert_eq!(asked[1].body, "{\"endpoint_id\":\"7\"}");
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_before_the_key_is_sent() {
    let identity = Authority::new().server();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(identity.chain(), identity.private_key()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
        let mut read = [0; 1024];
        stream.read(&mut read).unwrap_or(0)
    });

    let error = wait(client_of(&url, Some(KEY)).clusters()).unwrap_err();

    assert!(matches!(error, CloudError::Unreachable { stage: Stage::Tls, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("UnknownIssuer") && text.contains("a proxy that opens TLS may stand between"), "{text}");
    assert_eq!(server.join().unwrap(), 0, "something was sent");
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_and_told_apart_when_it_refuses() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut read = [0; 1024];
        let length = socket.read(&mut read).unwrap();
        socket.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&read[..length]).into_owned()
    });
    let folder = tempfile::tempdir().unwrap();
    let variables = [("HTTPS_PROXY", proxy.as_str()), ("COCKROACH_API_KEY", KEY)];

    let done = crate::harness::proxy::run_daemon(folder.path(), &["users", "list", "--cluster", "prod"], &variables);

    let asked = server.join().unwrap();
    assert!(asked.starts_with("CONNECT cockroachlabs.cloud:443 HTTP/1.1\r\n"), "{asked}");
    assert!(!asked.contains("secret"), "{asked}");
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stderr.contains("the proxy of HTTPS_PROXY does not let it through"), "{}", done.stderr);
}

#[test]
fn plain_http_passes_a_proxy_by() {
    let api = CloudApi::start();
    let folder = tempfile::tempdir().unwrap();
    let url = api.url();
    let nobody = "http://127.0.0.1:9";
    let variables = [("HTTP_PROXY", nobody), ("http_proxy", nobody), ("ALL_PROXY", nobody)];
    let variables = [&variables[..], &[("COCKROACH_API_KEY", KEY), ("COCKROACH_SERVER", &url)]].concat();

    let done = crate::harness::proxy::run_daemon(folder.path(), &["users", "list", "--cluster", "prod"], &variables);

    assert_eq!(done.expect_success(), "app\nmaintenance");
}
