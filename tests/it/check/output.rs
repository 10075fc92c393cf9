//! How it is told: lines, a table on a terminal, JSON by its schema, and failover.

use super::{Checked, cockroach};
use crate::{
    harness::{
        Authority, DEADLINE, FakeUpstream, SettingsFile, Terminal, TestProxy,
        cloud_api::{CLUSTER_ID, CloudApi, KEY},
        markdown::root,
        process,
        relay::Relay,
        settings::Cluster,
    },
    status_schema::{described, judge_by},
};
use std::{net::TcpListener, process::Command, time::Duration};

fn command(settings: &SettingsFile, arguments: &[&str]) -> Command {
    let file = settings.write();
    let mut command = TestProxy::command(file.parent().unwrap());
    command.args(arguments).arg("--config").arg(&file);
    command
}

#[test]
fn people_read_each_stage_what_to_do_and_a_verdict() {
    let node = cockroach("gcp-us-east1", &["defaultdb"]);
    let settings = SettingsFile::of(&node).endpoint_at("dead", "dead.invalid", 26257, "");

    let finished = process::run(&mut command(&settings, &["check"]), "", DEADLINE);

    let said = &finished.stdout;
    assert_eq!(finished.status.code(), Some(11), "{said}\n{}", finished.stderr);
    for words in ["cluster test, as app with the secret from file", "ok    first  127.0.0.1:", "SELECT 1 in", "gateway"]
    {
        assert!(said.contains(words), "no {words}: {said}");
    }
    for words in [
        "FAIL  dead  dead.invalid:26257",
        "what    no address for \"dead.invalid\"",
        "likely  a typing error",
        "do      compare",
    ] {
        assert!(said.contains(words), "no {words}: {said}");
    }
    assert!(said.ends_with("FAIL  1 of 2 endpoints well (exit 11)"), "{said}");
    assert!(
        finished.stderr.contains("test, first: login …") && finished.stderr.contains("test, first: ok"),
        "{}",
        finished.stderr
    );
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_terminal_shows_a_table_that_keeps_up_and_then_what_was_found() {
    let node = cockroach("gcp-us-east1", &["defaultdb"]);
    let settings = SettingsFile::of(&node);
    let file = settings.write();
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, file.parent().unwrap());
    command.args(["check", "--config"]).arg(&file);
    let mut terminal = Terminal::start(command);

    terminal.wait_for("the only endpoint is well");

    assert_eq!(terminal.exit_code(), 0);
    let text = terminal.text();
    assert!(text.contains("first  login …") && text.contains("first  ok"), "{text}");
}

#[test]
fn a_url_or_flags_do_in_place_of_a_file() {
    let node = cockroach("gcp-us-east1", &["defaultdb"]);
    let settings = SettingsFile::trusting(node.authority());
    let port = node.address().port().to_string();
    let url = format!("postgresql://app@127.0.0.1:{port}/defaultdb?sslrootcert=ca.crt");
    let by_flags =
        ["--host", "127.0.0.1", "--port", &port, "--user", "app", "--ca-file", "ca.crt", "--password-file", "app.pw"];
    for arguments in [&[url.as_str(), "--password-file", "app.pw"][..], &by_flags] {
        let folder = settings.path("ca.crt");
        let mut command = TestProxy::command(folder.parent().unwrap());

        let finished = process::run(command.arg("check").args(arguments), "", DEADLINE);

        assert_eq!(finished.status.code(), Some(0), "{}\n{}", finished.stdout, finished.stderr);
        assert!(finished.stdout.contains("the only endpoint is well"), "{}", finished.stdout);
    }
}

#[test]
fn one_cluster_is_checked_by_its_name_and_an_unknown_one_is_told() {
    let node = cockroach("gcp-us-east1", &["defaultdb"]);
    let settings = SettingsFile::of(&node);

    assert_eq!(Checked::of_with(&settings, &["test"]).exit, 0);

    let finished = process::run(&mut command(&settings, &["check", "prod"]), "", DEADLINE);
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("the settings have no cluster \"prod\", but \"test\""), "{}", finished.stderr);
}

#[test]
fn a_failover_that_is_asked_for_and_not_there_fails() {
    let (first, second) = (cockroach("gcp-us-east1", &["defaultdb"]), cockroach("gcp-us-west2", &["defaultdb"]));
    let alone = SettingsFile::of(&first);
    assert_eq!((Checked::of(&alone).exit, Checked::of_with(&alone, &["--failover"]).exit), (0, 1));

    let pair = SettingsFile::of(&first).file("ca.crt", &[first.authority().pem(), second.authority().pem()].concat());
    let pair = pair.endpoint("second", second.address());
    let checked = Checked::of_with(&pair, &["--failover"]);

    let listener = &checked.report["listeners"][0];
    assert_eq!((checked.exit, &listener["failover"][0]), (0, &"second".into()), "{listener:#}");
}

#[test]
fn a_first_region_that_is_far_is_noted_with_the_near_one() {
    let (far, near) = (cockroach("gcp-europe-west1", &["defaultdb"]), cockroach("gcp-us-east1", &["defaultdb"]));
    let link = Relay::to(far.address(), Duration::from_millis(200));
    let both = [far.authority().pem(), near.authority().pem()].concat();
    let settings = SettingsFile::trusting(far.authority())
        .file("ca.crt", &both)
        .endpoint("gcp-europe-west1", link.address())
        .endpoint("gcp-us-east1", near.address());

    let [noted] = Checked::of(&settings).notes("nearer_region").try_into().unwrap();

    assert!(noted.contains("goes to \"gcp-europe-west1\" first") && noted.contains("regions = \"nearest\""), "{noted}");
}

#[test]
fn a_connection_string_with_an_unencoded_password_is_read_as_it_was_meant_and_not_shown() {
    let settings = SettingsFile::trusting(&Authority::new());
    let folder = settings.path("");
    let url = "postgresql://app:p@ss/w#rd@db.invalid:26257/defaultdb?sslrootcert=ca.crt";

    let finished = process::run(TestProxy::command(&folder).args(["check", url]), "", DEADLINE);

    let said = finished.stdout + &finished.stderr;
    assert_eq!(finished.status.code(), Some(11), "{said}");
    assert!(said.contains("no address for \"db.invalid\"") && !said.contains("w#rd"), "{said}");
}

#[test]
fn a_local_port_that_another_process_has_is_noted_with_its_name() {
    let node = cockroach("gcp-us-east1", &["defaultdb"]);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();

    let checked = Checked::of(&SettingsFile::of(&node).address(&address));

    let [taken] = checked.notes("port_taken").try_into().unwrap();
    assert!(taken.contains(&address) && taken.contains(&format!("({})", std::process::id())), "{taken}");
    assert_eq!(checked.exit, 0);
}

#[test]
fn the_daemons_own_port_is_not_noted() {
    let node = cockroach("gcp-us-east1", &["defaultdb"]);
    let settings = SettingsFile::of(&node);
    let text = settings.text();
    let folder = settings.path("");
    let proxy = settings.start();
    // The daemon's own answer says where it listens, and the same settings with these ports are checked.
    let text = text.replacen("127.0.0.1:0", &proxy.address().to_string(), 1);
    let text = text.replacen("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", proxy.listener("admin")), 1);
    let file = folder.join("same.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = TestProxy::command(&folder);

    let finished = process::run(command.args(["check", "--json", "--config"]).arg(&file), "", DEADLINE);

    assert_eq!(finished.status.code(), Some(0), "{}\n{}", finished.stdout, finished.stderr);
    assert!(!finished.stdout.contains("port_taken"), "{}", finished.stdout);
}

#[test]
fn settings_that_break_a_rule_are_told_as_ever() {
    let settings = SettingsFile::trusting(&Authority::new()).global("sessions_max = 0");

    let finished = process::run(&mut command(&settings, &["check"]), "", DEADLINE);

    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("sessions_max"), "{}", finished.stderr);
}

#[test]
fn json_is_as_its_schema_says() {
    let node = cockroach("gcp-us-east1", &["defaultdb"]);
    let api = CloudApi::start();
    let settings = SettingsFile::of(&node)
        .endpoint_at("dead", "dead.invalid", 26257, "")
        .variable("COCKROACH_API_KEY", KEY)
        .variable("COCKROACH_SERVER", &api.url())
        .cluster(&format!("cluster_id = \"{CLUSTER_ID}\""));
    let another = SettingsFile::of(&FakeUpstream::by_hand()).file("ca.crt", Authority::new().pem());
    let reports = [Checked::of(&settings).report, Checked::of(&another).report];
    for path in
        ["/clusters/0/cloud/plan", "/clusters/0/endpoints/0/server/version", "/clusters/0/endpoints/1/advice/fix"]
    {
        assert!(reports[0].pointer(path).is_some_and(|value| !value.is_null()), "{path} is not in {:#}", reports[0]);
    }
    let mut lacking = reports[0].clone();
    lacking.as_object_mut().unwrap().remove("exit");

    let wrong = judge_by("docs/check.schema.json", &[reports[0].clone(), reports[1].clone(), lacking]);

    assert_eq!(wrong[..2], [Vec::<String>::new(), Vec::new()]);
    assert!(!wrong[2].is_empty());
    assert!(described("docs/check.schema.json") > 40);
}

#[test]
fn every_id_of_an_advice_is_documented() {
    let (mut ids, mut folders) = (Vec::new(), vec![root().join("src/check")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(entry).unwrap();
            // The ID is the first thing that an advice is made of.
            let made = text.split("Advice::new(").skip(1).chain(text.split("dates(case, ").skip(1));
            ids.extend(
                made.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned)),
            );
        }
    }
    let documented = std::fs::read_to_string(root().join("docs/check.md")).unwrap();
    assert!(ids.len() > 40, "only {} were found", ids.len());

    for id in ids {
        assert!(documented.contains(&format!("| `{id}` |")), "{id} is not in docs/check.md");
    }
}

#[test]
fn nothing_that_a_server_says_reaches_a_terminal_as_it_is() {
    let odd = "odd\u{1b}[31m\u{9b}31m\u{202e}\u{2028}";
    let node = cockroach("gcp-us-east1", &["odd\u{1b}[31m\u{9b}31m\u{202e}\u{2028}"]);
    let settings = SettingsFile::of(&node);
    for arguments in [&["check"][..], &["check", "--json"]] {
        let finished = process::run(&mut command(&settings, arguments), "", DEADLINE);

        let said = finished.stdout + &finished.stderr;
        assert!(said.contains("odd") && !said.contains(odd), "{said:?}");
        assert!(!said.chars().any(|letter| "\u{1b}\u{9b}\u{202e}\u{2028}".contains(letter)), "{said:?}");
    }
}
