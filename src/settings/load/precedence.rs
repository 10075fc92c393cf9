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
    let line = found["values"].as_array().unwrap().iter().find(|line| line["key"] == key).unwrap();
    (line["value"].to_string(), line["source"].as_str().unwrap().to_owned())
}

/// Two values that differ from each other and from the default: TOML, and as variables say them.
fn samples(name: &str, slot: &Slot) -> [(String, String); 2] {
    let text = |value: &str| (format!("\"{value}\""), value.to_owned());
    let bare = |value: &str| (value.to_owned(), value.to_owned());
    match (name, slot) {
        ("admin", _) => [text("127.0.0.1:7"), text("off")],
        ("admin_hosts", _) => [("[\"a\"]".into(), "a".into()), ("[\"b\", \"c\"]".into(), "b,c".into())],
        ("log_format", _) => [text("json"), text("text")],
        ("local_access", _) => [text("any"), text("same-user")],
        ("log_level", _) => [text("debug"), text("error")],
        (_, Slot::Span { .. } | Slot::SpanOrOff { .. }) => [text("7s"), text("3min")],
        (_, Slot::Count { .. }) => [bare("5000"), bare("6000")],
        (_, Slot::Number { .. }) => [bare("7"), bare("0")],
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
        let varied = World::of_file(&file).variable(&variable, &in_variable).loaded();

        let default = key.slot.show(&mut defaults(3));
        let default = serde_json::to_string(&default).unwrap();
        assert_eq!(shown(&plain, "", key.name), (default.clone(), "default".to_owned()));
        let (value, source) = shown(&filed, "", key.name);
        assert_eq!(source, "../f/crdb-proxy.toml:1", "{}", key.name);
        assert_ne!(value, default, "{}: the sample is the default", key.name);
        let (value_of_variable, source) = shown(&varied, "", key.name);
        assert_eq!(source, format!("variable {variable}"), "{}", key.name);
        assert_ne!(value_of_variable, value, "{}: the samples are the same", key.name);
    }
}

#[test]
fn a_flag_goes_before_a_variable_and_a_variable_before_the_file_for_every_flag() {
    let cases: Vec<Vec<&str>> = FLAGS.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    for flag in Flag::ALL {
        let case = cases.iter().find(|case| case[0] == flag.name());
        let [_, table, key, marker, line, in_file, of_variable, of_flag] = case.unwrap()[..] else {
            panic!("{flag:?} has no case of eight columns");
        };
        let (variable_says, variable_shows) = of_variable.split_once('>').unwrap();
        let (flag_says, flag_shows) = of_flag.split_once('>').unwrap();
        assert!(BASE.contains(marker));
        let mut file = BASE.replace(marker, &line.replace(';', "\n"));
        if flag == Flag::Region {
            file += THREE_REGIONS;
        }
        let variable = flag.variable();

        let filed = World::of_file(&file);
        let varied = filed.clone().variable(&variable, variable_says);
        let flagged = varied.clone().flag(flag, flag_says);

        let expected = [
            (filed, in_file, "../f/crdb-proxy.toml:".to_owned()),
            (varied, variable_shows, format!("variable {variable}")),
            (flagged, flag_shows, format!("flag --{}", flag.name())),
        ];
        for (world, expected, source) in expected {
            let (value, from) = shown(&world.loaded(), table, key);
            assert!(value.contains(expected), "{flag:?}: {value} is not {expected}");
            assert!(from.starts_with(&source), "{flag:?}: {from} is not {source}");
        }
    }
}

#[test]
fn a_connection_string_stands_below_the_flags_and_variables_of_its_own_layer() {
    let url = "postgresql://u1:x@h1:1/d1?sslrootcert=c1";
    let of_variable = World::default().variable("CRDB_PROXY_URL", url);
    let user = |world: World| shown(&world.loaded(), "[cluster.default]", "user").0;

    assert_eq!(user(of_variable.clone()), "\"u1\"");
    assert_eq!(user(of_variable.clone().variable("CRDB_PROXY_USER", "u2")), "\"u2\"");
    assert_eq!(user(of_variable.clone().url("postgresql://u3:x@h?sslrootcert=c")), "\"u3\"");
    let argument = World::default().variable("CRDB_PROXY_USER", "u2").url(url);
    assert_eq!(user(argument.clone()), "\"u1\"");
    assert_eq!(user(argument.flag(Flag::User, "u4")), "\"u4\"");
}

const THREE_REGIONS: &str = "\
[[cluster.prod.endpoint]]\nregion = \"r1\"\nhost = \"h1\"\n\
[[cluster.prod.endpoint]]\nregion = \"r2\"\nhost = \"h2\"\n\
[[cluster.prod.endpoint]]\nregion = \"r3\"\nhost = \"h3\"\n";

/// A file with a place for a line in each table.
const BASE: &str = "\
#root\n[cluster.prod]\nca = \"ca.crt\"\nuser = \"app\"\npassword = { file = \"p\" }\n\
[[cluster.prod.endpoint]]\nhost = \"h\"\n#endpoint\n[[listener]]\n#listener\n";

/// Flag; table and key that it sets; what in [`BASE`] to replace by which lines (`;` parts them); what
/// is shown then; what the variable and the flag say, `>`, what is shown then.
const FLAGS: &str = r##"
listen|[[listener]]|address|#listener|address = "localhost:1"|localhost:1|localhost:2>localhost:2|localhost:3>localhost:3
admin||admin|#root|admin = "localhost:1"|localhost:1|localhost:2>localhost:2|off>off
host|[[cluster.prod.endpoint]]|host|host = "h"|host = "h1"|h1|h2>h2|h3>h3
port|[[cluster.prod.endpoint]]|port|#endpoint|port = 1|1|2>2|3>3
user|[cluster.prod]|user|user = "app"|user = "u1"|u1|u2>u2|u3>u3
database|[[listener]]|database|#listener|database = "d1"|d1|d2>d2|d3>d3
password-file|[cluster.prod]|password|file = "p"|file = "q"|/f/q|r>/w/r|s>/w/s
password-command|[cluster.prod]|password|file = "p"|command = ["q"]|["q"]|r x>["r","x"]|s x>["s","x"]
ca-file|[cluster.prod]|ca|"ca.crt"|"c1"|/f/c1|c2>/w/c2|c3>/w/c3
tls-server-name|[[cluster.prod.endpoint]]|tls_server_name|#endpoint|tls_server_name = "t1"|t1|t2>t2|t3>t3
cert-file|[cluster.prod]|cert|user = "app"|user = "app";cert = "c1";key = "k"|/f/c1|c2>/w/c2|c3>/w/c3
key-file|[cluster.prod]|key|user = "app"|user = "app";cert = "c";key = "k1"|/f/k1|k2>/w/k2|k3>/w/k3
region|[[listener]]|regions|#listener|regions = { nearest = ["r1"] }|{"nearest":["r1"]}|r3,r2>["r3","r2"]|nearest>"nearest"
log-format||log_format|#root|log_format = "json"|json|text>text|json>json
log-level||log_level|#root|log_level = "warn"|warn|debug>debug|trace>trace
unsafe-allow-remote|[[listener]]|unsafe_allow_remote|#listener|unsafe_allow_remote = true|true|false>false|true>true
"##;
