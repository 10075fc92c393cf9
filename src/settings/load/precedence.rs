//! Behaviour A4: flag > variable > file > default, for every option there is. The cases are generated
//! from the tables of keys and flags, so an option without a case does not compile or fails.

use super::tests::{ONE_CLUSTER, World};
use crate::settings::{
    Flag, Loaded,
    keys::{SCALARS, Slot, defaults},
    show_json,
};

/// The value of a key as `config show` prints it, with its source.
fn shown(loaded: &Loaded, table: &str, key: &str) -> (String, String) {
    let shown: serde_json::Value = serde_json::from_str(&show_json(loaded)).unwrap();
    let tables = shown["tables"].as_array().unwrap();
    let found = tables.iter().find(|found| found["table"] == table).unwrap();
    let line = found["values"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["key"] == key)
        .unwrap();
    (
        line["value"].to_string(),
        line["source"].as_str().unwrap().to_owned(),
    )
}

/// Two values that differ from each other and from the default: TOML, and as variables say them.
fn samples(name: &str, slot: &Slot) -> [(String, String); 2] {
    let text = |value: &str| (format!("\"{value}\""), value.to_owned());
    let bare = |value: &str| (value.to_owned(), value.to_owned());
    match (name, slot) {
        ("admin", _) => [text("127.0.0.1:7"), text("off")],
        ("admin_hosts", _) => [
            ("[\"a\"]".into(), "a".into()),
            ("[\"b\", \"c\"]".into(), "b,c".into()),
        ],
        ("log_format", _) => [text("json"), text("text")],
        ("log_level", _) => [text("debug"), text("error")],
        (_, Slot::Span { .. } | Slot::SpanOrOff { .. }) => [text("7s"), text("3min")],
        (_, Slot::Count { .. }) => [bare("5000"), bare("6000")],
        (_, Slot::Switch { .. }) => [bare("true"), bare("false")],
        _ => [bare("7"), bare("9")],
    }
}

#[test]
fn a_variable_goes_before_the_file_and_the_file_before_the_default_for_every_key() {
    for key in SCALARS {
        let [(in_file, _), (_, in_variable)] = samples(key.name, &key.slot);
        let file = format!("{} = {in_file}\n{ONE_CLUSTER}", key.name);
        let variable = format!("CRDB_PROXY_{}", key.name.to_ascii_uppercase());

        let plain = World::of_file(ONE_CLUSTER).loaded();
        let filed = World::of_file(&file).loaded();
        let varied = World::of_file(&file)
            .variable(&variable, &in_variable)
            .loaded();

        let default = key.slot.show(&mut defaults(3));
        let default = serde_json::to_string(&default).unwrap();
        assert_eq!(
            shown(&plain, "", key.name),
            (default.clone(), "default".to_owned())
        );
        let (value, source) = shown(&filed, "", key.name);
        assert_eq!(source, "../f/crdb-proxy.toml:1", "{}", key.name);
        assert_ne!(value, default, "{}: the sample is the default", key.name);
        let (value_of_variable, source) = shown(&varied, "", key.name);
        assert_eq!(source, format!("variable {variable}"), "{}", key.name);
        assert_ne!(
            value_of_variable, value,
            "{}: the samples are the same",
            key.name
        );
    }
}

/// What a flag sets: table, key, the line of a file that sets it, and three values, each with what
/// must be in the shown value: of the file, the variable and the flag.
struct Case {
    table: &'static str,
    key: &'static str,
    file: String,
    said: [&'static str; 2],
    expected: [&'static str; 3],
}

fn case(flag: Flag) -> Case {
    let root = |key, line: &str, said, expected| Case {
        table: "",
        key,
        file: format!("{line}\n{ONE_CLUSTER}"),
        said,
        expected,
    };
    let replaced = |table, key, from, line: &str, said, expected| {
        assert!(ONE_CLUSTER.contains(from));
        Case {
            table,
            key,
            file: ONE_CLUSTER.replace(from, line),
            said,
            expected,
        }
    };
    let cluster = |key, from, line, said, expected| {
        replaced("[cluster.prod]", key, from, line, said, expected)
    };
    let endpoint = |key, line: &str, said, expected| {
        let file = ONE_CLUSTER.replace("host = \"h\"", line);
        Case {
            table: "[[cluster.prod.endpoint]]",
            key,
            file,
            said,
            expected,
        }
    };
    let listener = |key, line: &str, said, expected| Case {
        table: "[[listener]]",
        key,
        file: format!("{ONE_CLUSTER}[[listener]]\n{line}\n"),
        said,
        expected,
    };
    let addresses = ["localhost:1", "localhost:2", "localhost:3"];
    let password = "password = { file = \"p\" }";
    match flag {
        Flag::Listen => listener(
            "address",
            "address = \"localhost:1\"",
            ["localhost:2", "localhost:3"],
            addresses,
        ),
        Flag::Admin => root(
            "admin",
            "admin = \"localhost:1\"",
            ["localhost:2", "localhost:3"],
            addresses,
        ),
        Flag::LogFormat => root(
            "log_format",
            "log_format = \"json\"",
            ["text", "json"],
            ["json", "text", "json"],
        ),
        Flag::LogLevel => root(
            "log_level",
            "log_level = \"warn\"",
            ["debug", "trace"],
            ["warn", "debug", "trace"],
        ),
        Flag::Host => endpoint("host", "host = \"h1\"", ["h2", "h3"], ["h1", "h2", "h3"]),
        Flag::Port => endpoint(
            "port",
            "host = \"h\"\nport = 1",
            ["2", "3"],
            ["1", "2", "3"],
        ),
        Flag::TlsServerName => endpoint(
            "tls_server_name",
            "host = \"h\"\ntls_server_name = \"t1\"",
            ["t2", "t3"],
            ["t1", "t2", "t3"],
        ),
        Flag::User => cluster(
            "user",
            "user = \"app\"",
            "user = \"u1\"",
            ["u2", "u3"],
            ["u1", "u2", "u3"],
        ),
        Flag::CaFile => cluster(
            "ca",
            "ca = \"ca.crt\"",
            "ca = \"c1\"",
            ["c2", "c3"],
            ["/f/c1", "/w/c2", "/w/c3"],
        ),
        Flag::PasswordFile => cluster(
            "password",
            password,
            password,
            ["q", "r"],
            ["/f/p", "/w/q", "/w/r"],
        ),
        Flag::PasswordCommand => cluster(
            "password",
            password,
            password,
            ["q x", "r x"],
            ["/f/p", "[\"q\",\"x\"]", "[\"r\",\"x\"]"],
        ),
        Flag::CertFile => cluster(
            "cert",
            password,
            "cert = \"c1\"\nkey = \"k\"",
            ["c2", "c3"],
            ["/f/c1", "/w/c2", "/w/c3"],
        ),
        Flag::KeyFile => cluster(
            "key",
            password,
            "cert = \"c\"\nkey = \"k1\"",
            ["k2", "k3"],
            ["/f/k1", "/w/k2", "/w/k3"],
        ),
        Flag::Database => listener(
            "database",
            "database = \"d1\"",
            ["d2", "d3"],
            ["d1", "d2", "d3"],
        ),
        Flag::Region => listener(
            "regions",
            "regions = [\"r1\"]",
            ["r2", "r3"],
            ["r1", "r2", "r3"],
        ),
        Flag::UnsafeAllowRemote => listener(
            "unsafe_allow_remote",
            "unsafe_allow_remote = true",
            ["false", "true"],
            ["true", "false", "true"],
        ),
    }
}

#[test]
fn a_flag_goes_before_a_variable_and_a_variable_before_the_file_for_every_flag() {
    for flag in Flag::ALL {
        let Case {
            table,
            key,
            file,
            said,
            expected,
        } = case(flag);
        let file = if flag == Flag::Region {
            format!("{file}{THREE_REGIONS}")
        } else {
            file
        };
        let variable = flag.variable();

        let layers = [
            World::of_file(&file).loaded(),
            World::of_file(&file).variable(&variable, said[0]).loaded(),
            World::of_file(&file)
                .variable(&variable, said[0])
                .flag(flag, said[1])
                .loaded(),
        ];

        let sources = [
            "../f/crdb-proxy.toml:".to_owned(),
            format!("variable {variable}"),
            format!("flag --{}", flag.name()),
        ];
        for ((loaded, expected), source) in layers.iter().zip(expected).zip(sources) {
            let (value, from) = shown(loaded, table, key);
            assert!(
                value.contains(expected),
                "{flag:?}: {value} is not {expected}"
            );
            assert!(
                from.starts_with(&source),
                "{flag:?}: {from} is not {source}"
            );
        }
    }
}

#[test]
fn a_connection_string_stands_below_the_flags_and_variables_of_its_own_layer() {
    let url = "postgresql://u1:x@h1:1/d1?sslrootcert=c1";
    let of_variable = World::default().variable("CRDB_PROXY_URL", url);
    let user = |world: World| shown(&world.loaded(), "[cluster.default]", "user").0;

    assert_eq!(user(of_variable.clone()), "\"u1\"");
    assert_eq!(
        user(of_variable.clone().variable("CRDB_PROXY_USER", "u2")),
        "\"u2\""
    );
    assert_eq!(
        user(of_variable.clone().url("postgresql://u3:x@h?sslrootcert=c")),
        "\"u3\""
    );
    let argument = World::default().variable("CRDB_PROXY_USER", "u2").url(url);
    assert_eq!(user(argument.clone()), "\"u1\"");
    assert_eq!(user(argument.flag(Flag::User, "u4")), "\"u4\"");
}

const THREE_REGIONS: &str = "\
[[cluster.prod.endpoint]]\nregion = \"r1\"\nhost = \"h1\"\n\
[[cluster.prod.endpoint]]\nregion = \"r2\"\nhost = \"h2\"\n\
[[cluster.prod.endpoint]]\nregion = \"r3\"\nhost = \"h3\"\n";
