//! What faults say and what they keep to themselves: a mistyped value may hold a password, and a value
//! that is missing has no place of its own.

use super::tests::{ONE_CLUSTER, World};
use crate::settings::Flag;

const CA: &str = "sslrootcert=system";

#[test]
fn no_fault_repeats_a_connection_string_wherever_it_was_put() {
    let strings = [
        "postgresql://app:topsecret@x/d",
        "postgres://x/d?password=topsecret",
        "jdbc:postgresql://x/d?password=topsecret",
        "mysql://app:topsecret@x/d",
        "app:topsecret@x:26257/d",
        "unix:postgresql://app:topsecret@x/d",
    ];
    for string in strings {
        for flag in Flag::ALL.into_iter().filter(|flag| *flag != Flag::PasswordCommand) {
            for by_flag in [true, false] {
                let world = World::of_file(ONE_CLUSTER);
                let world = match by_flag {
                    true => world.flag(flag, string),
                    false => world.variable(&flag.variable(), string),
                };
                let told = world.faults().concat();
                assert!(!told.contains("topsecret"), "{flag:?}: {told}");
                assert!(told.contains("give it as the URL argument"), "{flag:?} {string}: {told}");
                assert!(told.contains(flag.name()) || told.contains(&flag.variable()), "{flag:?}: {told}");
            }
        }
        for key in [
            "admin",
            "log_format",
            "sessions_max",
            "drain_limit",
            "strict_secrets",
            "threads",
            "warm_max",
            "admin_post",
        ] {
            let told = World::of_file(&format!("{key} = \"{string}\"\n{ONE_CLUSTER}")).faults().concat();
            assert!(told.contains("give it as the URL argument") && !told.contains("topsecret"), "{key}: {told}");
        }
        for line in [
            "[[cluster.prod.endpoint]]\nname = \"S\"\nhost = \"h\"",
            "[[cluster.prod.endpoint]]\nregion = \"S\"\nhost = \"x\"",
            "[[listener]]\nname = \"S\"",
            "[[listener]]\ncluster = \"S\"",
            "[[cluster.prod.endpoint]]\nname = \"b\"\nkind = \"psc\"\nhost = \"x\"\nendpoint_name = \"S\"",
            "[[listener]]\nregions = [\"S\"]",
            "[[listener]]\nregions = { nearest = [\"S\"] }",
            "[[listener]]\nregions = { \"S\" = [] }",
            "[[listener]]\nregions = \"S\"",
            "[[listener]]\npath = [\"S\"]",
            "[[listener]]\npath = \"S\"",
            "[[listener]]\nprefer = \"S\"",
            "[[listener]]\nreuse = \"S\"",
            "[[listener]]\nsession_parameters = { \"S\" = 1.5 }",
            "[[listener]]\nlocal_password = { file = \"S\" }",
            "[[listener]]\nlocal_password = { env = \"S\" }",
            "[[listener]]\nlocal_password = { credential = \"S\" }",
            "[[listener]]\nlocal_password = { \"S\" = 1 }",
            "[cluster.\"S\"]",
            "[[listener]]\n\"S\" = 1",
        ] {
            let told = World::of_file(&format!("{ONE_CLUSTER}{}\n", line.replace('S', string))).faults().concat();
            assert!(!told.contains("topsecret"), "{line}: {told}");
        }
    }
    let host = World::default().flag(Flag::Host, strings[0]).faults();
    let rule = "looks like a connection string; give it as the URL argument, or in CRDB_PROXY_URL";
    assert_eq!(host, [format!("flag --host = (not shown): {rule}")]);
    let told = World::default().variable("CRDB_PROXY_CONFIG", strings[0]).faults().concat();
    assert!(told.contains("CRDB_PROXY_CONFIG") && !told.contains("topsecret"), "{told}");
}

#[test]
fn a_faulty_value_is_shown_only_where_it_is_short_and_plain() {
    let told = |value: &str| World::of_file(ONE_CLUSTER).variable("CRDB_PROXY_PORT", value).faults().concat();

    for plain in ["70000", "abc", "26257/tcp", "10s", "gcp-us-east", "10.0.0.1:5"] {
        assert!(told(plain).contains(&format!("= \"{plain}\": must")), "{}", told(plain));
    }
    for doubtful in ["hunter2", "Tq8vR2kZ0w", "p@ss", "correct horse battery staple and more", "a=b", "x\u{1b}[2J"] {
        assert!(told(doubtful).contains("CRDB_PROXY_PORT = (not shown): must"), "{}", told(doubtful));
        assert!(!told(doubtful).contains(doubtful), "{}", told(doubtful));
    }
}

#[test]
fn a_bad_connection_string_of_the_variable_names_the_variable() {
    let faults = World::default().variable("CRDB_PROXY_URL", "app:topsecret@h/d").faults();

    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("variable CRDB_PROXY_URL: no connection string"), "{faults:?}");
    let weak = World::default().variable("CRDB_PROXY_URL", "postgresql://a:b@h/d?sslmode=require").faults();
    assert!(weak[0].starts_with("variable CRDB_PROXY_URL: sslmode: weaker"), "{weak:?}");
}

#[test]
fn half_of_a_certificate_is_blamed_on_whoever_gave_that_half() {
    let url = format!("postgresql://app@h/d?{CA}");
    let certificate = World::default().url(&url).flag(Flag::CertFile, "client.crt").faults();
    let key = World::default().url(&url).variable("CRDB_PROXY_KEY_FILE", "client.key").faults();
    let file = World::of_file(&format!("{ONE_CLUSTER}\n[[listener]]\ntls_cert = \"c\"\n")).faults();

    assert_eq!(certificate.len(), 1, "{certificate:?}");
    assert!(certificate[0].starts_with("flag --cert-file: cluster \"default\": key: missing;"), "{certificate:?}");
    assert!(certificate[0].contains("--key-file"), "{certificate:?}");
    assert!(key[0].starts_with("variable CRDB_PROXY_KEY_FILE: cluster \"default\": cert: missing;"), "{key:?}");
    assert!(file[0].starts_with("../f/crdb-proxy.toml:9: listener"), "{file:?}");
}

#[test]
fn what_is_missing_is_blamed_on_nobody_but_says_who_named_the_cluster() {
    let by_flag = World::default().variable("CRDB_PROXY_USER", "app").flag(Flag::Host, "h").faults();
    let by_url = World::default().url("postgresql://h/d").faults();

    assert_eq!(by_flag.len(), 2, "{by_flag:?}");
    assert!(by_flag[0].starts_with("cluster \"default\" (from flag --host): ca: missing;"), "{by_flag:?}");
    assert!(by_flag[1].starts_with("cluster \"default\" (from flag --host): password: missing;"), "{by_flag:?}");
    assert!(by_url[1].starts_with("cluster \"default\" (from connection string): user: missing;"), "{by_url:?}");
}

#[test]
fn every_address_that_cannot_be_understood_gets_the_same_rule_and_what_was_meant() {
    let told = |flag, address: &str| {
        let faults = World::of_file(ONE_CLUSTER).flag(flag, address).faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].clone()
    };
    let cases = [
        ("27300", Some("localhost:27300")),
        (":27300", Some("localhost:27300")),
        ("localhost", Some("localhost:26257")),
        ("127.0.0.1", Some("127.0.0.1:26257")),
        ("::1", Some("[::1]:26257")),
        ("/tmp", Some("unix:/tmp")),
        ("localhost:80000", None),
        ("db:5", None),
        ("", None),
    ];
    for (said, meant) in cases {
        let told = told(Flag::Listen, said);
        assert!(told.contains("must be localhost:PORT, IP:PORT"), "{said}: {told}");
        assert!(told.contains("PORT is a number from 0 to 65535"), "{said}: {told}");
        let suggestion = meant.map(|meant| format!("; did you mean \"{meant}\"?"));
        assert_eq!(told.split_once("65535").unwrap().1, suggestion.unwrap_or_default(), "{said}: {told}");
    }
    assert!(told(Flag::Admin, "localhost").ends_with("did you mean \"localhost:9257\"?"));
    assert!(told(Flag::Admin, "9999").contains("unix:PATH or off"), "{}", told(Flag::Admin, "9999"));
}

#[test]
fn a_value_without_quotes_is_recognised() {
    let told = |text: &str| World::of_file(text).faults().concat();

    for text in ["password = topsecret", "drain_limit = 10s", "password = { file = topsecret }", "user = true blue"] {
        let told = told(text);
        assert!(told.contains("is the text in quotes?") && !told.contains("topsecret"), "{text}: {told}");
        assert!(!told.contains("boolean"), "{text}: {told}");
    }
    for text in ["a = \"x", "a b = 1", "a =", "[x"] {
        assert!(!told(text).contains("in quotes"), "{text}: {}", told(text));
    }
}

#[test]
fn a_listener_may_not_have_the_name_of_the_admin_address() {
    let faults = World::of_file(&format!("{ONE_CLUSTER}[[listener]]\nname = \"admin\"\n")).faults();

    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("name = \"admin\": the admin address is called so"), "{faults:?}");
}

#[test]
fn threads_are_shown_as_they_were_configured() {
    let shown = |text: &str| crate::settings::show(&World::of_file(&format!("{text}{ONE_CLUSTER}")).loaded());

    assert!(shown("").contains("threads = 0  # default\n"), "{}", shown(""));
    assert!(shown("threads = 0\n").contains("threads = 0  # ../f"), "{}", shown("threads = 0\n"));
    assert!(shown("threads = 7\n").contains("threads = 7  # ../f"), "{}", shown("threads = 7\n"));
}

#[test]
fn with_nothing_given_an_unknown_variable_is_told_as_well() {
    let faults = World::default().variable("CRDB_PROXY_HOTS", "h").faults();

    assert!(faults[0].contains("no cluster to reach") && faults[0].contains("--host"), "{faults:?}");
    assert!(faults[1].contains("did you mean \"CRDB_PROXY_HOST\"?"), "{faults:?}");
}

#[test]
fn tables_of_users_beside_a_name_say_what_to_take_away() {
    for table in ["[cluster.prod.user.reader]\npassword = { file = \"r.pw\" }", "[cluster.\"prod\".user.\"odd name\"]"]
    {
        let told = World::of_file(&format!("{ONE_CLUSTER}\n{table}\n")).faults().concat();

        assert!(told.contains("Take `user = …` away") && told.contains("[cluster.NAME.user.SQLUSER]"), "{told}");
    }
    let other = World::of_file("admin = \"off\"\n[admin.x]\n").faults().concat();
    assert!(other.contains("not valid TOML") && !other.contains("SQLUSER"), "{other}");
}
