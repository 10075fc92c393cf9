//! The connection strings that `url` prints, given to psql as they are.

use crate::harness::{
    DEADLINE, FakeUpstream, PASSWORD, Postgres, SettingsFile, TestProxy,
    postgres::program,
    process::{self, Finished},
    proxy::run_daemon,
    settings::Cluster,
};
use std::process::Command;

/// Runs `url` beside the daemon, told where that is and with its settings file.
fn url(proxy: &TestProxy, words: &[&str]) -> Finished {
    let admin = proxy.listener("admin");
    let words = [&["url", "--config", "crdb-proxy.toml"], words].concat();
    run_daemon(&proxy.path(""), &words, &[("CRDB_PROXY_ADMIN", &admin)])
}

/// Without the names of the listeners.
fn urls_of(printed: &str) -> Vec<&str> {
    printed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// What psql reads at this connection string.
fn psql(url: &str) -> String {
    let mut psql = Command::new(program("psql"));
    psql.args(["-XAt", "-c", "select current_user || ' at ' || current_database()", url]).env("PGPASSWORD", PASSWORD);
    process::run(&mut psql, "", DEADLINE).expect_success()
}

#[test]
fn each_listener_has_one_that_psql_takes() {
    let server = Postgres::start();
    let settings = SettingsFile::of(&server).listener("database = \"postgres\"");
    let folder = settings.path("a b&c");
    std::fs::create_dir(&folder).unwrap();
    let identity = server.authority().server();
    let proxy = settings
        .identity("local", &identity)
        .another_listener("secure", "tls = \"require\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"")
        .appendix("[[listener]]\nname = \"unix\"\ncluster = \"test\"\naddress = \"unix:a b&c\"\n")
        .start();
    proxy.listener("unix");

    let printed = url(&proxy, &[]).expect_success();

    let names = printed.lines().filter(|line| line.starts_with('#')).collect::<Vec<_>>();
    assert_eq!(names, ["# listener \"main\"", "# listener \"secure\"", "# listener \"unix\""]);
    let urls = urls_of(&printed);
    assert_eq!(urls.len(), 3, "{urls:?}");
    let address = proxy.address();
    assert_eq!(urls[0], format!("postgresql://app@{address}/postgres?sslmode=disable"));
    assert!(urls[1].ends_with("/defaultdb?sslmode=require"), "{urls:?}");
    assert!(urls[2].starts_with("postgresql://app@/defaultdb?host=%2F"), "{urls:?}");
    assert!(urls[2].contains("a%20b%26c&port=26257"), "{urls:?}");
    assert_eq!(psql(urls[0]), "app at postgres");
    for url in &urls[1..] {
        assert_eq!(psql(url), "app at defaultdb", "{url}");
    }
    assert_eq!(url(&proxy, &["unix"]).expect_success(), urls[2]);
}

#[test]
fn it_needs_no_daemon_where_the_settings_say_the_port() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).address("localhost:26257");
    settings.write();
    let folder = settings.path("");
    let url = |words: &[&str]| run_daemon(&folder, &[&["url", "--config", "crdb-proxy.toml"], words].concat(), &[]);

    let told = url(&[]);
    assert!(told.stderr.starts_with("crdb-proxy: ") && told.stderr.contains("daemon"), "{}", told.stderr);
    assert!(told.stderr.ends_with("; what follows is what the settings say"), "{}", told.stderr);
    assert_eq!(told.expect_success(), "postgresql://app@localhost:26257/defaultdb?sslmode=disable");
    let unknown = url(&["other"]);
    assert_eq!((unknown.status.code(), unknown.stdout.as_str()), (Some(2), ""));
    assert_eq!(unknown.stderr, "crdb-proxy: there is no such listener, but there are: \"main\"");
}

#[test]
fn where_the_daemon_listens_goes_before_what_its_file_says() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("admin = \"unix:admin.sock\"").start();
    let address = proxy.address();
    proxy.listener("admin");
    // An edit that does not count yet, and one that would be refused.
    for change in ["127.0.0.1:7", "nowhere"] {
        proxy.rewrite_settings(|text| text.replace("127.0.0.1:0", change));

        let told = run_daemon(&proxy.path(""), &["url", "--config", "crdb-proxy.toml"], &[]);

        assert_eq!(told.stderr, "", "{change}");
        assert_eq!(told.expect_success(), format!("postgresql://app@{address}/defaultdb?sslmode=disable"));
        proxy.rewrite_settings(|text| text.replace(change, "127.0.0.1:0"));
    }
}

#[test]
fn a_daemon_of_other_settings_is_not_asked_unless_it_is_named() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let admin = proxy.listener("admin");
    let ours = SettingsFile::of(&cluster).global(&format!("admin = \"{admin}\"")).address("localhost:26257");
    ours.write();
    let url =
        |words: &[&str]| run_daemon(&ours.path(""), &[&["url", "--config", "crdb-proxy.toml"], words].concat(), &[]);

    let by_file = url(&[]);
    let by_name = url(&["--admin", &admin]).expect_success();

    let reason = format!("crdb-proxy: the daemon at {admin} was started with other settings");
    assert!(by_file.stderr.starts_with(&reason), "{}", by_file.stderr);
    assert!(by_file.expect_success().contains("@localhost:26257/"));
    assert!(by_name.contains(&format!("@{}/", proxy.address())), "{by_name}");
}

#[test]
fn where_only_the_daemon_knows_the_port_it_must_be_there() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("admin = \"unix:admin.sock\"");
    settings.write();

    let failed = run_daemon(&settings.path(""), &["url", "--config", "crdb-proxy.toml"], &[]);

    assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(1), ""));
    assert!(failed.stderr.contains("is it running"), "{}", failed.stderr);
}

#[test]
fn where_there_are_no_settings_the_daemon_tells() {
    let server = Postgres::start();
    let proxy = SettingsFile::of(&server)
        .identity("local", &server.authority().server())
        .another_listener("secure", "tls = \"require\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"")
        .start();
    let elsewhere = tempfile::tempdir().unwrap();
    let admin = proxy.listener("admin");
    let url = |words: &[&str]| run_daemon(elsewhere.path(), &[&["url", "--admin", &admin], words].concat(), &[]);

    let printed = url(&[]).expect_success();

    let urls = urls_of(&printed);
    assert_eq!(urls.len(), 2, "{urls:?}");
    for url in &urls {
        assert_eq!(psql(url), "app at defaultdb", "{url}");
    }
    assert_eq!(url(&["secure"]).expect_success(), urls[1]);
    assert_eq!(url(&["other"]).status.code(), Some(2));
}

#[test]
fn settings_that_break_a_rule_are_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f.toml"), "[cluster.c]\nuser = 7\n").unwrap();

    let failed = run_daemon(folder.path(), &["url", "--config", "f.toml"], &[]);

    assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(2), ""));
    assert!(failed.stderr.contains("user"), "{}", failed.stderr);
}
