use super::*;
use crate::metrics::labels::{AttemptResult, RefuseReason};
use crate::upstream::error::Loss;
use std::io;

fn endpoint(kind: EndpointKind) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        name: Name::new("gcp-us-east1-psc").unwrap(),
        region: None,
        kind,
        host: "10.1.2.3".into(),
        endpoint_name: None,
        port: 26257,
        tls_server_name: "db.example".try_into().unwrap(),
    })
}

fn told(error: &ClaimError, audience: Audience) -> String {
    let cluster = Name::new("prod").unwrap();
    let facts = Facts { cluster: &cluster, user: "app", secret_source: Some("file prod.pw"), has_own_table: false };
    String::from_utf8_lossy(&error.to_client(&facts, audience).encode()).replace('\0', "|")
}

fn refused(code: &str) -> ClaimError {
    let error = LoginError::Server(ServerError::parse(format!("SFATAL\0C{code}\0Mserver's words\0\0").as_bytes()));
    ClaimError::Login { endpoint: endpoint(EndpointKind::Public), error }
}

/// One of each, so that none is forgotten below.
fn every_endpoint_error() -> Vec<EndpointError> {
    let io = || io::Error::from(io::ErrorKind::ConnectionReset);
    let name = CertificateProblem::Name { expected: "db.example".into(), presented: vec!["10.9.9.9".into()] };
    vec![
        EndpointError::NotResolved(io()),
        EndpointError::ResolveTimedOut,
        EndpointError::TcpTimedOut,
        EndpointError::Tcp(io::ErrorKind::ConnectionRefused.into()),
        EndpointError::Tcp(io::ErrorKind::HostUnreachable.into()),
        EndpointError::NoAnswer,
        EndpointError::ClosedBeforeTls(io()),
        EndpointError::TlsDeclined,
        EndpointError::ErrorBeforeTls,
        EndpointError::NotPostgres(b'H'),
        EndpointError::BytesBeforeTls,
        EndpointError::Certificate(CertificateProblem::UnknownCa),
        EndpointError::Certificate(CertificateProblem::UnknownToSystem),
        EndpointError::Certificate(CertificateProblem::Expired { not_after: None }),
        EndpointError::Certificate(CertificateProblem::NotYetValid { not_before: None }),
        EndpointError::Certificate(name),
        EndpointError::Tls(io()),
        EndpointError::TlsTimedOut,
        EndpointError::LoginLost(io()),
        EndpointError::LoginTimedOut,
        EndpointError::Protocol("why"),
        EndpointError::TlsAlert("CertificateExpired".into()),
        EndpointError::NotTried,
        EndpointError::Overtaken(std::time::Duration::from_secs(1)),
    ]
}

#[test]
fn every_way_to_fail_is_told_apart_and_ends_in_something_to_do() {
    let mut texts = Vec::new();
    for error in every_endpoint_error() {
        let text = told(
            &ClaimError::NoEndpoint(vec![(endpoint(EndpointKind::Public), LoginError::Endpoint(error))]),
            Audience::Local,
        );

        assert!(text.contains("|C08001|") && text.contains("|H") && text.contains("cluster \"prod\""), "{text}");
        texts.push(text);
    }
    let all = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), all);
}

#[test]
fn private_addresses_are_hidden_from_remote_clients_only() {
    for error in every_endpoint_error() {
        let error = ClaimError::NoEndpoint(vec![(endpoint(EndpointKind::Psc), LoginError::Endpoint(error))]);

        assert!(told(&error, Audience::Local).contains("10.1.2.3"));
        let remote = told(&error, Audience::Remote);
        assert!(!remote.contains("10.1.2.3") && !remote.contains("10.9.9.9"), "{remote}");
        assert!(remote.contains("gcp-us-east1-psc"), "{remote}");
    }
}

#[test]
fn every_endpoint_that_was_tried_is_named() {
    let failed = |error| (endpoint(EndpointKind::Custom), LoginError::Endpoint(error));
    let failures = every_endpoint_error().into_iter().map(failed).collect();

    let text = told(&ClaimError::NoEndpoint(failures), Audience::Local);

    assert_eq!(text.matches("gcp-us-east1-psc").count(), every_endpoint_error().len());
}

#[test]
fn a_rejected_secret_is_named_by_its_source_to_local_clients() {
    for code in ["28P01", "28000"] {
        let local = told(&refused(code), Audience::Local);
        assert!(
            local.contains("server's words") && local.contains("as \"app\" with the secret from file prod.pw"),
            "{local}"
        );

        let remote = told(&refused(code), Audience::Remote);
        assert!(remote.contains("server's words") && !remote.contains("prod.pw"), "{remote}");
    }
}

#[test]
fn other_errors_of_the_server_pass_unchanged() {
    for code in ["53300", "57P01", "57P03", "3D000", "XX000"] {
        let text = told(&refused(code), Audience::Local);

        assert!(text.ends_with(&format!("SFATAL|C{code}|Mserver's words||")), "{text}");
    }
}

#[test]
fn what_the_server_means_is_counted_apart() {
    let result = |code: &str| match refused(code) {
        ClaimError::Login { error, .. } => error.result(),
        _ => unreachable!(),
    };

    assert_eq!(result("28P01"), AttemptResult::LoginPassword);
    assert_eq!(result("28000"), AttemptResult::LoginRejected);
    assert_eq!(result("53300"), AttemptResult::LoginLimit);
    assert_eq!(result("57P01"), AttemptResult::LoginDraining);
    assert_eq!(result("57P03"), AttemptResult::LoginDraining);
    assert_eq!(result("42501"), AttemptResult::LoginOther);
    assert_eq!(refused("53300").reason(), RefuseReason::UpstreamLimit);
}

#[test]
fn certificates_alone_are_counted_as_such() {
    let certificate = || EndpointError::Certificate(CertificateProblem::UnknownCa);
    let reason = |errors: Vec<EndpointError>| {
        let failed = |error| (endpoint(EndpointKind::Public), LoginError::Endpoint(error));
        let failures = errors.into_iter().map(failed).collect();
        ClaimError::NoEndpoint(failures).reason()
    };

    assert_eq!(reason(vec![certificate(), certificate()]), RefuseReason::Certificate);
    assert_eq!(reason(vec![certificate(), EndpointError::TcpTimedOut]), RefuseReason::Unreachable);
    assert_eq!(reason(vec![]), RefuseReason::Unreachable);
}

#[test]
fn a_lost_node_is_told_from_a_lost_endpoint_and_from_a_servers_no() {
    let loss = |error| LoginError::Endpoint(error).loss();
    for node in [
        EndpointError::ClosedBeforeTls(io::ErrorKind::UnexpectedEof.into()),
        EndpointError::Tls(io::ErrorKind::ConnectionReset.into()),
        EndpointError::LoginLost(io::ErrorKind::ConnectionReset.into()),
    ] {
        assert_eq!(loss(node), Loss::Node);
    }
    for endpoint in [
        EndpointError::Tcp(io::ErrorKind::ConnectionRefused.into()),
        EndpointError::TcpTimedOut,
        EndpointError::NoAnswer,
        EndpointError::Tls(io::Error::other("bad record")),
        EndpointError::ResolveTimedOut,
        EndpointError::Certificate(CertificateProblem::UnknownCa),
    ] {
        assert_eq!(loss(endpoint), Loss::Endpoint);
    }
    let servers = |code: &str| match refused(code) {
        ClaimError::Login { error, .. } => error.loss(),
        _ => unreachable!(),
    };
    assert_eq!([servers("57P01"), servers("57P03")], [Loss::Node; 2]);
    assert_eq!((servers("53300"), servers("28P01"), servers("3D000")), (Loss::Full, Loss::Nothing, Loss::Nothing));
}
