//! Settings from file, variables, flags and connection string, as the command line shows them.

use crate::harness::{FakeUpstream, PASSWORD, SettingsFile, proxy::run_daemon};
use std::net::TcpListener;

#[test]
fn all_broken_rules_are_told_at_once_each_with_source_key_value_and_rule() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("no_such_key = 1\nsessions_max = 0\ndrain_limit = 25");
    let file = settings.write();

    let checked = check(&settings, &[], &[]);

    assert_eq!(checked.status.code(), Some(2));
    let stderr = checked.stderr;
    assert!(stderr.contains(file.to_str().unwrap()), "{stderr}");
    for key in ["no_such_key", "sessions_max", "drain_limit"] {
        assert!(stderr.contains(key), "{key} is missing: {stderr}");
    }
    assert!(stderr.contains("10s"), "no example of a duration: {stderr}");
}

#[test]
fn a_bad_value_names_the_flag_or_variable_that_it_came_from() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);

    let by_flag = check(&settings, &["--log-level", "loud"], &[]).stderr;
    let by_variable = check(&settings, &[], &[("CRDB_PROXY_LOG_LEVEL", "loud")]).stderr;

    assert!(by_flag.contains("--log-level") && by_flag.contains("loud"), "{by_flag}");
    assert!(by_variable.contains("CRDB_PROXY_LOG_LEVEL") && by_variable.contains("loud"), "{by_variable}");
}

#[test]
fn flags_beat_variables_beat_the_file_beats_the_default() {
    let cluster = FakeUpstream::answering();
    let level = |settings: &SettingsFile, arguments: &[&str], variables: &[(&str, &str)]| {
        let shown = show(settings, arguments, variables);
        let line = shown.lines().find(|line| line.starts_with("log_level")).expect("log_level").to_owned();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let bare = SettingsFile::of(&cluster);
    let file = SettingsFile::of(&cluster).global("log_level = \"error\"");
    let variable = [("CRDB_PROXY_LOG_LEVEL", "debug")];

    assert_eq!(level(&bare, &[], &[]), "info");
    assert_eq!(level(&file, &[], &[]), "error");
    assert_eq!(level(&file, &[], &variable), "debug");
    assert_eq!(level(&file, &["--log-level", "trace"], &variable), "trace");
}

#[test]
fn an_unknown_variable_of_ours_is_fatal_and_a_service_link_is_not() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);

    let typo = check(&settings, &[], &[("CRDB_PROXY_PASWORD_FILE", "x")]);
    let links = [
        ("CRDB_PROXY_SERVICE_HOST", "10.96.0.7"),
        ("CRDB_PROXY_SERVICE_PORT", "26257"),
        ("CRDB_PROXY_PORT", "tcp://10.96.0.7:26257"),
        ("CRDB_PROXY_PORT_26257_TCP_ADDR", "10.96.0.7"),
    ];
    let kubernetes = check(&settings, &[], &links);

    assert_eq!(typo.status.code(), Some(2));
    assert!(typo.stderr.contains("CRDB_PROXY_PASWORD_FILE"), "{}", typo.stderr);
    assert!(kubernetes.status.success(), "{}", kubernetes.stderr);
}

#[test]
fn checking_opens_no_socket() {
    let cluster = FakeUpstream::answering();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = SettingsFile::of(&cluster).address(&address);

    let checked = check(&settings, &[], &[]);

    assert!(checked.status.success(), "{}", checked.stderr);
    assert_eq!(cluster.seen().connections, 0);
}

#[test]
fn showing_masks_every_secret() {
    let cluster = FakeUpstream::answering();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.crt"), cluster.authority.pem()).unwrap();
    let url = "postgresql://app:s3cr3t-in-url@db.example/defaultdb?sslmode=verify-full&sslrootcert=ca.crt";

    let by_flag = run_daemon(folder.path(), &["config", "show", url], &[]);
    let variables = [("CRDB_PROXY_URL", url)];
    let by_variable = run_daemon(folder.path(), &["config", "show"], &variables);

    for finished in [by_flag, by_variable] {
        let text = format!("{}{}", finished.stdout, finished.stderr);
        assert!(finished.status.success(), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
        assert!(text.contains("db.example") && text.contains("password"), "{text}");
    }
}

#[test]
fn what_is_shown_can_be_served_again() {
    let cluster = FakeUpstream::answering();
    let policy = "regions = { nearest = [\"first\"] }\npath = [\"psc\", \"public\"]\nreuse = true";
    let psc = "[[cluster.test.endpoint]]\nname = \"psc\"\nkind = \"psc\"\nhost = \"h\"\nendpoint_name = \"n\"\n";
    let settings = SettingsFile::of(&cluster).listener(policy).appendix(psc);
    let shown = show(&settings, &[], &[]);
    let again = settings.path("again.toml");
    std::fs::write(&again, &shown).unwrap();

    let arguments = ["config", "check", "--config", again.to_str().unwrap()];
    run_daemon(again.parent().unwrap(), &arguments, &[]).expect_success();
    let values =
        |shown: &str| shown.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    let shown_again = run_daemon(again.parent().unwrap(), &["config", "show", arguments[2], arguments[3]], &[]);
    assert_eq!(values(&shown_again.expect_success())[1..], values(&shown)[1..]);
}

#[test]
fn a_weaker_sslmode_is_refused_with_a_reason_and_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    for sslmode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let url = format!("postgresql://app@db.example/defaultdb?sslmode={sslmode}&sslrootcert=ca.crt");
        let finished = run_daemon(folder.path(), &["config", "check", &url, "--password-file", "pw"], &[]);

        assert_eq!(finished.status.code(), Some(2), "{sslmode}");
        assert!(finished.stderr.contains("verify-full"), "{sslmode}: {}", finished.stderr);
    }
}

#[test]
fn a_missing_authority_is_fatal_and_the_text_says_where_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = "postgresql://app@db.example/defaultdb";

    let finished = run_daemon(folder.path(), &["config", "check", url, "--password-file", "pw"], &[]);

    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("--ca-file") && finished.stderr.contains("/cert"), "{}", finished.stderr);
}

#[test]
fn a_remote_listener_needs_tls_and_a_local_password_or_plain_words() {
    let cluster = FakeUpstream::answering();
    let remote = || SettingsFile::of(&cluster).address("0.0.0.0:0");
    let local = "tls = \"require\"\ntls_cert = \"l.crt\"\ntls_key = \"l.key\"\nlocal_password = { file = \"l.pw\" }";
    let identity = cluster.authority.server();

    let refused = check(&remote(), &[], &[]);
    let guarded = check(&remote().identity("l", &identity).file("l.pw", "x").listener(local), &[], &[]);
    let unsafely = check(&remote().listener("unsafe_allow_remote = true"), &[], &[]);

    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("unsafe_allow_remote"), "{}", refused.stderr);
    assert!(guarded.status.success(), "{}", guarded.stderr);
    assert!(unsafely.status.success(), "{}", unsafely.stderr);
}

#[test]
fn there_is_no_password_flag_and_no_password_in_the_file() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).password(&format!("password = \"{PASSWORD}\""));

    let literal = check(&settings, &[], &[]);
    let flag = check(&SettingsFile::of(&cluster), &["--password", PASSWORD], &[]);

    assert_eq!((literal.status.code(), flag.status.code()), (Some(2), Some(2)));
    assert!(!literal.stderr.contains(PASSWORD), "{}", literal.stderr);
}

#[test]
fn a_listener_may_not_be_called_as_the_admin_address_is() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).another_listener("admin", "");

    let checked = check(&settings, &[], &[]);

    assert_eq!(checked.status.code(), Some(2), "{}", checked.stderr);
    assert!(checked.stderr.contains("\"admin\""), "{}", checked.stderr);
}

#[test]
fn the_bare_command_prints_help_and_everything_else_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let told = |arguments: &[&str]| {
        let finished = run_daemon(folder.path(), arguments, &[]);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        finished.stderr
    };

    assert!(told(&[]).contains("--password-file"), "no help");
    for arguments in [
        &["config", "check"][..],
        &["config", "show"],
        &["run"],
        &["--user", "app", "--ca-file", "f"],
        &["--log-level", "debug"],
    ] {
        let told = told(arguments);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("--host") && told.contains("see crdb-proxy --help"), "{told}");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_and_one_object_where_json_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let json = [("CRDB_PROXY_LOG_FORMAT", "json")];
    for arguments in
        [&["bogus"][..], &["--pasword-file", "x"], &["app:topsecret@h/d"], &["config", "chekc"], &["config"]]
    {
        let text = run_daemon(folder.path(), arguments, &[]);
        let object = run_daemon(folder.path(), arguments, &json);

        assert_eq!((text.status.code(), object.status.code()), (Some(2), Some(2)), "{}", text.stderr);
        assert_eq!(text.stderr.lines().count(), 1, "{}", text.stderr);
        let line: serde_json::Value = serde_json::from_str(&object.stderr).expect(&object.stderr);
        let sentence = line["message"].as_str().unwrap();
        assert_eq!(text.stderr, format!("crdb-proxy: {sentence}"));
        assert!(sentence.ends_with("(see crdb-proxy --help)") && !sentence.contains("topsecret"), "{sentence}");
    }
    let bare = run_daemon(folder.path(), &[], &json);
    serde_json::from_str::<serde_json::Value>(&bare.stderr).expect(&bare.stderr);
}

#[test]
fn an_endpoint_that_cannot_be_dialled_is_refused_with_what_is_missing() {
    let endpoint = |lines: &str| {
        let cluster = FakeUpstream::answering();
        let block = format!("[[cluster.test.endpoint]]\nname = \"second\"\nregion = \"second\"\n{lines}\n");
        refused(&SettingsFile::of(&cluster).appendix(&block))
    };

    for (lines, rule) in [
        ("", "host: missing; the host name of the connection string"),
        ("host = \"\"", "host = \"\": must not be empty; give the host name"),
        ("kind = \"psc\"\nhost = \"db.example\"", "endpoint_name: missing; a psc endpoint is dialled as"),
        ("kind = \"psc\"\nhost = \"h\"\nendpoint_name = \"A.b\"", "endpoint_name = \"A.b\": must be the name of"),
        ("kind = \"psk\"\nhost = \"db.example\"", "kind = \"psk\": must be \"public\", \"internal\", \"psc\" or"),
        ("host = \"db.example\"\nendpoint_name = \"a\"", "endpoint_name: only an endpoint of kind \"psc\""),
    ] {
        let told = endpoint(lines);

        assert!(told.contains("cluster \"test\": endpoint \"second\": ") && told.contains(rule), "{lines}: {told}");
    }
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused_with_key_and_rule() {
    for (line, rule) in [
        ("regions = [\"second\"]", "regions: no endpoint of cluster \"test\" has the region \"second\""),
        ("regions = [\"first\", \"first\"]", "regions: names \"first\" twice"),
        ("regions = \"first\"", "must be a list of regions in order, \"nearest\", or { nearest = "),
        ("regions = { nearest = [\"second\"] }", "regions: no endpoint of cluster \"test\" has the region"),
        ("path = [\"psc\"]", "path: leaves no endpoint: those of cluster \"test\" are public"),
        ("path = [\"public\", \"public\"]", "path: names \"public\" twice"),
        ("path = [\"vpn\"]", "path: \"vpn\": must be \"public\", \"internal\""),
        ("path = \"public\"", "path = \"public\": must be a list of text, like [\"public\"]"),
        ("prefer = \"speed\"", "prefer = \"speed\": must be \"path\" or \"region\""),
        ("reuse = true\nwarm_max = 0", "reuse: needs a warm_max of at least 1"),
    ] {
        let cluster = FakeUpstream::answering();

        let told = refused(&SettingsFile::of(&cluster).listener(line));

        assert!(told.contains("listener \"main\": ") && told.contains(rule), "{line}: {told}");
    }
}

#[test]
fn a_path_that_leaves_no_endpoint_of_the_regions_is_refused_and_of_one_region_warned_about() {
    let private = |listener: &str| {
        let cluster = FakeUpstream::answering();
        let block = "[[cluster.test.endpoint]]\nregion = \"second\"\nkind = \"internal\"\nhost = \"db.example\"\n";
        SettingsFile::of(&cluster).listener(listener).appendix(block)
    };

    let told = refused(&private("regions = [\"first\"]\npath = [\"internal\"]"));
    let by_default = refused(&private("regions = [\"first\"]"));
    let warned = check(&private("regions = [\"first\", \"second\"]\npath = [\"internal\"]"), &[], &[]);

    assert!(told.contains("listener \"main\": path: leaves no endpoint together with regions"), "{told}");
    assert!(by_default.contains("listener \"main\": regions: leaves no endpoint"), "{by_default}");
    assert!(warned.status.success(), "{}", warned.stderr);
    assert!(warned.stdout.contains("no endpoint of \"first\" ever serves"), "{}", warned.stdout);
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).address("127.0.0.1:5");
    let second = "[[listener]]\nname = \"second\"\ncluster = \"test\"\naddress = \"localhost:5\"\n";

    let told = refused(&settings.appendix(second));

    assert!(told.contains("listener \"second\": address: localhost:5 is taken by listener \"main\""), "{told}");
}

#[test]
fn a_duration_without_a_unit_is_refused_whatever_the_key() {
    for key in ["warm_idle", "warm_age", "probe_interval", "probe_down_interval", "dns_refresh", "failback_after"] {
        let cluster = FakeUpstream::answering();

        let told = refused(&SettingsFile::of(&cluster).global(&format!("{key} = 60")));

        assert!(told.contains(&format!("{key} = 60: needs a unit: \"")), "{told}");
    }
}

#[test]
fn the_nearest_region_can_be_asked_for_by_flag_and_variable_also_beside_a_host() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);

    for shown in [
        show(&settings, &["--region", "nearest"], &[]),
        show(&settings, &[], &[("CRDB_PROXY_REGION", "nearest")]),
        show(&settings, &["--region", "nearest", "--host", "db.example"], &[]),
    ] {
        assert!(shown.contains("\nregions = \"nearest\""), "{shown}");
        assert!(shown.contains("\nregion = \"first\""), "{shown}");
    }
}

/// What a check of the settings says, which must refuse them with one fault.
fn refused(settings: &SettingsFile) -> String {
    let checked = check(settings, &[], &[]);
    assert_eq!(checked.status.code(), Some(2), "{}", checked.stderr);
    assert_eq!(checked.stderr.lines().count(), 1, "{}", checked.stderr);
    checked.stderr
}

fn check(settings: &SettingsFile, arguments: &[&str], variables: &[(&str, &str)]) -> crate::harness::process::Finished {
    let file = settings.write();
    let base = ["config", "check", "--config", file.to_str().unwrap()];
    run_daemon(file.parent().unwrap(), &[&base, arguments].concat(), variables)
}

fn show(settings: &SettingsFile, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let file = settings.write();
    let base = ["config", "show", "--config", file.to_str().unwrap()];
    run_daemon(file.parent().unwrap(), &[&base, arguments].concat(), variables).expect_success()
}
