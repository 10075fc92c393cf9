//! `allowlist list`, `allowlist add`, `allowlist remove`.

use super::{at_terminal, changes, command, refusal, told};
use crate::harness::{
    DEADLINE, Postgres, SettingsFile, TestProxy,
    cloud_api::{CLUSTER_ID, CloudApi, Fault, KEY, cluster},
    process,
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    thread,
};

fn entry(address: &str, mask: u8, name: &str, sql: bool, ui: bool) -> Value {
    json!({"cidr_ip": address, "cidr_mask": mask, "name": name, "sql": sql, "ui": ui})
}

/// Answers one request with this text; where.
fn answering(body: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/ip", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = socket.read(&mut request).unwrap();
        assert!(!String::from_utf8_lossy(&request[..length]).contains("secret"));
        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    url
}

#[test]
fn list_prints_the_entries_and_what_is_odd_about_them() {
    let api = CloudApi::start();
    api.state(|state| {
        state.allowlist = vec![
            entry("192.0.2.0", 24, "office", true, true),
            entry("198.51.100.7", 32, "", false, true),
            json!({"cidr_ip": "0.0.0.0", "sql": true}),
        ];
        state.propagating = true;
    });

    let (list, notes) = told(&api, "allowlist list");

    let expected = "RANGE            FOR                 NAME\n\
                    192.0.2.0/24     SQL and DB Console  office\n\
                    198.51.100.7/32  DB Console\n\
                    0.0.0.0/0        SQL";
    assert_eq!(list, expected);
    let expected = "crdb-proxy: the last change is not in force everywhere yet: wait some seconds, then connect again\n\
        crdb-proxy: 198.51.100.7/32 is for the DB Console only: SQL clients from there time out; remove it and add it \
        again with --sql-only or without a flag\n\
        crdb-proxy: 0.0.0.0/0 lets every address of the internet try to log in: allow only the networks that need it";
    assert_eq!(notes, expected);
}

#[test]
fn an_empty_list_says_that_nothing_can_connect() {
    let api = CloudApi::start();

    let (list, notes) = told(&api, "allowlist list");

    assert_eq!(list, "");
    let expected = "crdb-proxy: the allowlist is empty: nothing can connect over the public path; crdb-proxy allowlist add \
                    --help, or a private endpoint (crdb-proxy private-endpoint services)";
    assert_eq!(notes, expected);
}

#[test]
fn json_has_documented_fields_and_nothing_that_a_terminal_obeys() {
    let api = CloudApi::start();
    api.state(|state| state.allowlist = vec![entry("192.0.2.0", 24, "b\u{fc}ro \u{9b}31m", true, false)]);

    let (list, notes) = told(&api, "allowlist list --json");

    assert!(list.is_ascii() && notes.is_empty(), "{list}\n{notes}");
    let expected = json!({
        "schema": 1,
        "cluster": {
            "id": CLUSTER_ID, "name": "prod", "plan": "ADVANCED", "cloud_provider": "GCP", "state": "CREATED",
        },
        "allowlist": [entry("192.0.2.0", 24, "b\u{fc}ro \u{9b}31m", true, false)],
        "propagating": false,
        "limit": 200,
        "warnings": [],
    });
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap(), expected);
}

#[test]
fn add_asks_once_for_one_range_and_says_when_it_is_in_force() {
    let api = CloudApi::start();

    let (said, notes) = told(&api, "allowlist add 192.0.2.7/24 --name office --sql-only --yes");

    assert_eq!(said, "192.0.2.0/24 is allowed, for SQL; that is in force everywhere in some seconds");
    assert_eq!(notes, "crdb-proxy: 192.0.2.7/24 is taken as 192.0.2.0/24, the range that it lies in");
    let asked = api.asked().pop().unwrap();
    assert_eq!(asked.line(), format!("POST /api/v1/clusters/{CLUSTER_ID}/networking/allowlist"));
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body, json!({"cidr_ip": "192.0.2.0", "cidr_mask": 24, "name": "office", "sql": true, "ui": false}));
}

#[test]
fn add_warns_before_it_opens_the_cluster_to_everybody_or_to_addresses_that_never_arrive() {
    let api = CloudApi::start();

    let (_, everybody) = told(&api, "allowlist add 0.0.0.0/0 --yes");
    let (_, private) = told(&api, "allowlist add 10.1.0.0/16 --yes");

    assert!(
        everybody.starts_with("crdb-proxy: 0.0.0.0/0 lets every address of the internet try to log in"),
        "{everybody}"
    );
    assert!(private.contains("0.0.0.0/0 allows these addresses already"), "{private}");
    assert!(private.contains("10.1.0.0/16 is a range of private addresses, which never arrive"), "{private}");
}

#[test]
fn add_changes_nothing_where_that_is_no_use() {
    let api = CloudApi::start();
    api.cluster("cloud_provider", json!("AWS"));
    let numbered = |number: u8| entry(&format!("192.0.2.{number}"), 32, "", number > 0, true);
    api.state(|state| state.allowlist = (0..20).map(numbered).collect());

    let (same, _) = told(&api, "allowlist add 192.0.2.1 --sql-only --yes");
    let (code, other) = refusal(&api, "allowlist add 192.0.2.0/32 --yes");
    let (full_code, full) = refusal(&api, "allowlist add 198.51.100.1 --yes");

    assert_eq!(same, "192.0.2.1/32 is allowed already, for SQL and DB Console");
    let expected = "crdb-proxy: 192.0.2.0/32 is on the allowlist already, for DB Console; to change that, run `crdb-proxy \
                    allowlist remove 192.0.2.0/32` first";
    assert_eq!((code, other.as_str()), (1, expected));
    let expected = "crdb-proxy: the allowlist of cluster \"prod\" is full (20 of 20 entries): join networks that lie side by \
                    side in one entry, remove what nobody needs, or connect privately";
    assert_eq!((full_code, full.as_str()), (1, expected));
    assert_eq!(changes(&api), 0);
}

#[test]
fn a_range_that_cannot_be_is_refused_before_anything_is_asked() {
    let api = CloudApi::start();
    let ipv6 = "this is an IPv6 range, and allowlists of CockroachDB Cloud hold IPv4 only, since its public hosts have IPv4 \
                addresses only: allow the IPv4 address behind which this network goes out";
    let no_range = "this is no range of IPv4 addresses; write it as 192.0.2.0/24, or as 192.0.2.7 for one address";
    let cases = [
        ("allowlist add 2001:db8::/32", ipv6),
        ("allowlist add --me --address ::1", ipv6),
        ("allowlist add office", no_range),
        ("allowlist add 192.0.2.0/33", no_range),
        ("allowlist add 192.0.2.0/+8", no_range),
        ("allowlist remove 192.0.2.0/", no_range),
        ("allowlist add", "name the range to allow, as 192.0.2.0/24, or say --me"),
        ("allowlist add 192.0.2.1 --me", "--me and a range exclude each other"),
        (
            "allowlist add --me --address 192.0.2.1 --address-from https://x",
            "--address and --address-from exclude each other",
        ),
        ("allowlist add --address 192.0.2.1", "--address and --address-from go with --me"),
        ("allowlist add --me --address 192.0.2.0/24", "--address must be one address, as 192.0.2.7"),
        (
            "allowlist add --me --address-from http://ip.example",
            "--address-from must be an address that begins with https://",
        ),
    ];
    for (words, sentence) in cases {
        let expected = if words.contains("http://") { 1 } else { 2 };
        assert_eq!(refusal(&api, words), (expected, format!("crdb-proxy: {sentence}")), "{words}");
    }
    assert!(api.asked().is_empty());
}

#[test]
fn add_me_asks_nobody_who_was_not_named() {
    let api = CloudApi::start();

    let (code, text) = refusal(&api, "allowlist add --me --yes");

    let expected = "crdb-proxy: no public endpoint of the settings lets this machine in, so the cluster cannot be asked \
                    for its address; the Cloud API does not tell it, and crdb-proxy asks no third party of its own accord: give this machine's public IPv4 address with --address, or a service of your \
                    choice that answers with it with --address-from https://…";
    assert_eq!((code, text.as_str()), (2, expected));
    assert!(api.asked().is_empty());
}

#[test]
fn add_me_allows_one_address_that_was_given_or_asked_for() {
    let api = CloudApi::start();
    let url = answering(" 198.51.100.7\n");

    let (given, _) = told(&api, "allowlist add --me --address 198.51.100.6 --yes");
    let (asked, _) = told(&api, &format!("allowlist add --me --address-from {url} --yes"));

    let allowed = "is allowed, for SQL and DB Console; that is in force everywhere in some seconds";
    assert_eq!(given, format!("198.51.100.6/32 {allowed}"));
    assert_eq!(asked, format!("198.51.100.7/32 {allowed}"));
}

#[test]
fn an_address_that_is_none_is_not_allowed() {
    let api = CloudApi::start();
    let otherwise = "name another one, or give the address itself with --address";
    for (body, why) in [
        ("2001:db8::7", "it answers with an IPv6 address, and allowlists hold IPv4 only"),
        ("<html>192.0.2.1</html>", "its answer is no address alone"),
    ] {
        let words = format!("allowlist add --me --address-from {} --yes", answering(body));
        let expected = format!("crdb-proxy: 127.0.0.1 does not tell this machine's address ({why}); {otherwise}");
        assert_eq!(refusal(&api, &words), (1, expected));
    }
    assert!(api.asked().is_empty());
}

#[test]
fn a_change_needs_yes_where_nobody_can_be_asked() {
    let api = CloudApi::start();
    api.state(|state| state.allowlist = vec![entry("192.0.2.0", 24, "", true, true)]);

    let add = refusal(&api, "allowlist add 198.51.100.7");
    let remove = refusal(&api, "allowlist remove 192.0.2.0/24");

    let expected = "crdb-proxy: nobody can be asked here whether to allow 198.51.100.7/32 to connect to cluster \"prod\", for \
                    SQL and DB Console; say --yes if it is to be done";
    assert_eq!(add, (2, expected.to_owned()));
    let expected = "crdb-proxy: nobody can be asked here whether to remove 192.0.2.0/24, for SQL and DB Console, from the \
                    allowlist of cluster \"prod\"; say --yes if it is to be done";
    assert_eq!(remove, (2, expected.to_owned()));
    assert_eq!(changes(&api), 0);
}

#[test]
fn at_a_terminal_only_yes_is_yes() {
    for (keys, code, count) in [("y\n", 0, 1), ("YES\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0), ("\u{4}", 1, 0)] {
        let (api, folder) = (CloudApi::start(), tempfile::tempdir().unwrap());
        let mut terminal = at_terminal(&folder, &api, "allowlist add 198.51.100.7");
        terminal.wait_for("allow 198.51.100.7/32 to connect to cluster \"prod\", for SQL and DB Console? [y/N]");

        terminal.type_keys(keys);

        assert_eq!(terminal.exit_code(), code, "{keys:?}: {}", terminal.text());
        assert_eq!(changes(&api), count, "{keys:?}");
        let end = if count == 1 { "is allowed, for SQL" } else { "nothing was changed" };
        terminal.wait_for(end);
    }
}

#[test]
fn remove_takes_out_what_is_there_and_says_what_is_not() {
    let api = CloudApi::start();
    api.state(|state| state.allowlist = vec![entry("192.0.2.0", 24, "", true, true)]);

    let (said, _) = told(&api, "allowlist remove 192.0.2.0/24 --yes");
    let again = refusal(&api, "allowlist remove 192.0.2.0/24 --yes");

    assert_eq!(said, "192.0.2.0/24 is removed; that is in force everywhere in some seconds");
    let expected =
        "crdb-proxy: 192.0.2.0/24 is not on the allowlist of cluster \"prod\"; see `crdb-proxy allowlist list`";
    assert_eq!(again, (1, expected.to_owned()));
    let path = format!("DELETE /api/v1/clusters/{CLUSTER_ID}/networking/allowlist/192.0.2.0/24");
    assert!(api.lines().contains(&path), "{:?}", api.lines());
}

#[test]
fn a_change_that_may_have_been_made_is_said_so() {
    let api = CloudApi::start();
    api.state(|state| state.clusters = vec![cluster(CLUSTER_ID, "prod", "GCP", &["us-east1"])]);
    // The cluster and the list are read before.
    api.next(Fault::TooFast("0"));
    let done = command(&api, "allowlist add 192.0.2.1 --yes --cluster 01234567-89ab-cdef-0123-456789abcdef");
    assert!(done.status.success(), "{}", done.stderr);

    let before = api.asked().len();
    api.state(|state| state.faults.extend([Fault::TooFast("0"), Fault::TooFast("0"), Fault::Status(500, "oops")]));
    let (code, text) = refusal(&api, "allowlist add 192.0.2.2 --yes");

    // Two tries, then a fault, all of the same question.
    assert_eq!(api.asked().len() - before, 3);
    assert_eq!(code, 1);
    assert!(text.ends_with("has a fault of its own (500: oops); try again in some minutes, and see https://status.cockroachlabs.cloud if it lasts"), "{text}");
}

#[test]
fn add_me_asks_the_cluster_itself_where_it_lets_this_machine_in() {
    let (api, postgres) = (CloudApi::start(), Postgres::start());
    let settings = SettingsFile::of(&postgres)
        .cluster(&format!("cluster_id = \"{CLUSTER_ID}\""))
        .listener("database = \"postgres\"");
    let file = settings.write();
    let mut command = TestProxy::command(file.parent().unwrap());
    command.args(["allowlist", "add", "--me", "--yes", "--config"]).arg(&file);
    command.env("COCKROACH_SERVER", api.url()).env("COCKROACH_API_KEY", KEY);

    let told = process::run(&mut command, "", DEADLINE);

    assert!(told.stderr.contains("the cluster sees this machine as 127.0.0.1"), "{}", told.stderr);
    assert!(told.stdout.starts_with("127.0.0.1/32 is allowed"), "{}", told.stdout);
}
