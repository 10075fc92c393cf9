//! Starting: what it listens on, what stops it, and what does not.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, PASSWORD, Script, Session, SettingsFile, TestClient, TestProxy,
    postgres::program,
    process,
    proxy::run_daemon,
    settings::{Cluster, write_private},
};
use socket2::{Domain, Socket, Type};
use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Command,
};

#[test]
fn it_accepts_while_the_cluster_is_down_and_recovers_unaided() {
    let mut cluster = FakeUpstream::answering();
    cluster.stop();
    let proxy = TestProxy::before(&cluster);

    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");

    let listener = TcpListener::bind(cluster.address()).unwrap();
    let authority = std::mem::replace(&mut cluster.authority, Authority::new());
    let script = Script { session: Session::Answers, ..Script::default() };
    let _up = FakeUpstream::bound_to(listener, authority, script);
    proxy.client();
}

#[test]
fn no_other_process_can_share_the_port_of_a_listener() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    let own = proxy.address();

    for address in [own, (Ipv4Addr::UNSPECIFIED, own.port()).into()] {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        let taken = socket.bind(&address.into()).and_then(|()| socket.listen(1)).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse, "{address}");
    }
}

#[test]
fn localhost_means_both_families_on_one_port() {
    let cluster = FakeUpstream::answering();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = SettingsFile::of(&cluster).address(&format!("localhost:{port}")).start();
    proxy.address();

    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
        proxy.wait_for_log(|line| line["message"] == "listening" && line["listener.addr"] == address.to_string());
        let socket = TcpStream::connect(address).unwrap();
        TestClient::log_in(crate::harness::wire::Wire::new(socket), &[("user", "anyone")]);
    }
}

#[test]
fn a_port_in_use_on_either_family_is_fatal_and_named() {
    let cluster = FakeUpstream::answering();

    for taken in ["127.0.0.1:0", "[::1]:0"] {
        let taken = TcpListener::bind(taken).unwrap();
        let address = taken.local_addr().unwrap();
        let mut proxy = SettingsFile::of(&cluster).address(&format!("localhost:{}", address.port())).start();

        assert_eq!(proxy.exit_code(), 3);
        assert!(proxy.log_text().contains(&address.to_string()), "{}", proxy.log_text());
    }
}

#[test]
fn the_connection_string_of_the_cloud_console_serves() {
    let cluster = FakeUpstream::answering();
    let folder = folder_of(&cluster);
    let url = format!(
        "postgresql://app@{}/defaultdb?sslmode=verify-full&sslrootcert=ca.crt&application_name=console",
        cluster.address()
    );
    let mut command = TestProxy::command(folder.path());
    command.args([url.as_str(), "--password-file", "app.pw"]);
    let proxy = TestProxy::spawn(with_free_ports(command), folder);

    proxy.client();

    let startup = String::from_utf8(cluster.seen().startups.pop().unwrap()).unwrap();
    assert!(startup.contains("application_name\0console\0"), "{startup:?}");
}

#[test]
fn the_five_connection_parameters_serve_as_flags_or_variables() {
    let cluster = FakeUpstream::answering();
    let port = cluster.address().port().to_string();
    let parameters = [
        ("host", "127.0.0.1"),
        ("port", &port),
        ("user", "app"),
        ("database", "orders"),
        ("password-file", "app.pw"),
        ("ca-file", "ca.crt"),
    ];
    for by_flag in [true, false] {
        let folder = folder_of(&cluster);
        let mut command = TestProxy::command(folder.path());
        for (name, value) in parameters {
            let variable = format!("CRDB_PROXY_{}", name.to_uppercase().replace('-', "_"));
            if by_flag {
                command.arg(format!("--{name}")).arg(value)
            } else {
                command.env(variable, value)
            };
        }
        let proxy = TestProxy::spawn(with_free_ports(command), folder);

        proxy.client();

        let startup = String::from_utf8(cluster.seen().startups.pop().unwrap()).unwrap();
        assert!(startup.contains("database\0orders\0"), "{startup:?}");
    }
}

#[test]
fn every_spelling_of_a_password_in_the_connection_string_is_understood_and_warned_about() {
    let cluster = FakeUpstream::answering();
    let address = cluster.address();
    // PASSWORD is Tq8#vR2!kZ0w/Ym5@xL.
    let encoded = "Tq8%23vR2%21kZ0w%2FYm5%40xL";
    let options = "sslmode=verify-full&sslrootcert=ca.crt";
    for url in [
        format!("postgresql://app:{encoded}@{address}/defaultdb?{options}"),
        format!("postgres://app@{address}/defaultdb?{options}&password={encoded}"),
        format!("postgresql://app:{PASSWORD}@{address}/defaultdb?{options}"),
    ] {
        let folder = folder_of(&cluster);
        let mut command = TestProxy::command(folder.path());
        command.arg(&url);
        let proxy = TestProxy::spawn(with_free_ports(command), folder);

        proxy.client();

        proxy.wait_for_log(|line| line["level"] == "WARN" && line.to_string().contains("password"));
        let log = proxy.log_text();
        assert!(!log.contains(PASSWORD) && !log.contains(encoded), "{log}");
    }
}

#[test]
fn several_listeners_and_clusters_live_in_one_daemon() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let address = second.address();
    let cluster = format!(
        "[cluster.second]\nca = \"second.crt\"\nuser = \"app\"\npassword = {{ file = \"app.pw\" }}\n\
         [[cluster.second.endpoint]]\nname = \"only\"\nhost = \"127.0.0.1\"\nport = {}\n\
         [[listener]]\nname = \"to-second\"\naddress = \"127.0.0.1:0\"\ncluster = \"second\"\n",
        address.port()
    );
    let settings = SettingsFile::of(&first).file("second.crt", second.authority.pem());
    let proxy = settings.appendix(&cluster).start();

    for (name, cluster) in [("main", &first), ("to-second", &second)] {
        let socket = TcpStream::connect(proxy.listener(name)).unwrap();
        TestClient::log_in(crate::harness::wire::Wire::new(socket), &[("user", "anyone")]);
        assert_eq!(cluster.seen().startups.len(), 1, "{name}");
    }
}

#[test]
fn an_authority_that_cannot_be_used_is_fatal_in_one_readable_line() {
    let cluster = FakeUpstream::answering();
    let expired = Authority::expired();

    for (text, word) in [("", "ca.crt"), ("no certificate", "ca.crt"), (expired.pem(), "expired")] {
        let mut proxy = SettingsFile::of(&cluster).file("ca.crt", text).start();

        assert_eq!(proxy.exit_code(), 2);
        let log = proxy.log_text();
        assert!(log.contains(word) && !log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_fatal_at_the_start_and_to_the_check() {
    let cluster = FakeUpstream::answering();
    for (text, word) in [(None, "does not exist"), (Some(""), "is empty"), (Some("a\0b"), "NUL")] {
        let settings = SettingsFile::of(&cluster);
        fs::remove_file(settings.path("app.pw")).unwrap();
        if let Some(text) = text {
            write_private(&settings.path("app.pw"), text);
        }
        let file = settings.write();

        let checked = run_daemon(file.parent().unwrap(), &["config", "check", "--config", file.to_str().unwrap()], &[]);
        assert!(checked.status.code() == Some(2) && checked.stderr.contains(word), "{}", checked.stderr);
        let mut proxy = settings.start();
        assert_eq!(proxy.exit_code(), 2);
        assert!(proxy.log_text().contains(word), "{}", proxy.log_text());
    }
}

#[test]
fn a_secret_file_that_others_can_read_is_warned_about_or_refused() {
    let cluster = FakeUpstream::answering();
    let lax = |settings: SettingsFile| {
        fs::set_permissions(settings.path("app.pw"), Permissions::from_mode(0o644)).unwrap();
        settings
    };

    let proxy = lax(SettingsFile::of(&cluster)).start();
    proxy.client();
    proxy.wait_for_log(|line| line["level"] == "WARN" && line.to_string().contains("app.pw"));

    let mut strict = lax(SettingsFile::of(&cluster).global("strict_secrets = true")).start();
    assert_eq!(strict.exit_code(), 2);
    assert!(strict.log_text().contains("app.pw"), "{}", strict.log_text());
}

#[test]
fn the_log_goes_to_standard_error_and_nothing_to_standard_output() {
    let cluster = FakeUpstream::answering();
    let mut proxy = TestProxy::before(&cluster);
    proxy.client();

    assert_eq!(proxy.terminate(), 0);

    assert_eq!(proxy.stdout_text(), "");
    assert!(!proxy.log_lines().is_empty());
}

#[test]
fn without_anything_to_serve_it_helps_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();

    let finished = run_daemon(folder.path(), &[], &[]);

    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("Usage"), "{}", finished.stderr);
}

#[test]
fn a_user_with_a_root_certificate_of_another_cluster_can_connect() {
    // libpq turns sslmode=prefer into a verified one when ~/.postgresql/root.crt exists, over TLS only.
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".postgresql")).unwrap();
    fs::write(home.path().join(".postgresql/root.crt"), Authority::new().pem()).unwrap();

    let mut psql = Command::new(program("psql"));
    let url = format!("postgresql://anyone@{}/defaultdb", proxy.address());
    let finished = process::run(psql.args(["-Xc", "select 1", &url]).env("HOME", home.path()), "", DEADLINE);

    finished.expect_success();
}

/// A folder with the authority and the password of a cluster.
fn folder_of(cluster: &impl Cluster) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_private(&folder.path().join("ca.crt"), cluster.authority().pem());
    write_private(&folder.path().join("app.pw"), PASSWORD);
    folder
}

fn with_free_ports(mut command: Command) -> Command {
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    command
}
