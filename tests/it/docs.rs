//! The documentation says what the program does: every flag, variable, key, default, metric, status
//! field and refusal, and none that does not exist.

mod said;

use crate::harness::{
    FakeUpstream, SettingsFile, TestProxy,
    markdown::{self, code},
    proxy::run_daemon,
};
use said::*;
use std::{collections::BTreeSet, fs};

#[test]
fn every_key_is_documented_with_its_default_and_no_other() {
    let documented = documented_keys();
    let known = annotated_keys();
    assert!(known.len() > 40, "only {} keys in the annotated file", known.len());

    assert_eq!(documented.keys().collect::<Vec<_>>(), known.iter().collect::<Vec<_>>());
    let defaults = defaults();
    for ((section, key), documented) in &documented {
        let derived = DERIVED.iter().find(|(s, k, _)| s == section && k == key).map(|(_, _, text)| *text);
        let real = defaults.get(&(section.clone(), key.clone())).map_or("none", String::as_str);
        assert_eq!(documented, derived.unwrap_or(real), "[{section}] {key}");
    }
}

#[test]
fn the_readme_asks_for_the_rust_that_the_manifest_asks_for() {
    let manifest = markdown::read("Cargo.toml").parse::<toml::Table>().unwrap();
    let version = manifest["package"]["rust-version"].as_str().unwrap();

    assert!(markdown::read("README.md").contains(&format!("Rust ({version} or newer)")));
}

#[test]
fn every_flag_is_documented_with_its_default_and_no_other() {
    let settings = markdown::read("docs/settings.md");
    // It has defaults of its own for some of the daemon's.
    let mut known = flags_of(&["exec", "--help"]);
    known.extend(flags_of(&["--help"]));
    known.extend(flags_of(&["config", "show", "--help"]));
    COMMANDS.iter().for_each(|words| known.extend(flags_of(&[*words, &["--help"]].concat())));
    assert!(known.len() > 15, "{known:?}");

    let documented = column(&markdown::tables(&settings), "flag");

    assert_eq!(documented.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
    for (flag, default) in known.iter().filter_map(|(flag, default)| Some((flag, default.as_ref()?))) {
        assert_eq!(documented[flag].as_ref(), Some(default), "{flag}");
    }
}

#[test]
fn every_flag_of_setup_is_on_its_page_and_no_other() {
    let known = flags_of_setup().into_keys().filter(|flag| flag != "--help").collect::<Vec<_>>();

    let documented = column(&markdown::tables(&markdown::read("docs/setup.md")), "flag");

    assert_eq!(documented.into_keys().collect::<Vec<_>>(), known);
}

#[test]
fn every_variable_is_documented_and_taken_and_no_other() {
    let tables = markdown::tables(&markdown::read("docs/settings.md"));
    let documented = column(&tables, "variable");
    let own = ["JSON", "HELP", "VERSION"];
    let of_flags = flags_of(&["--help"]).into_keys().map(|flag| flag[2..].replace('-', "_").to_uppercase());
    let of_keys = annotated_keys().into_iter().filter(|(section, _)| section.is_empty());
    let of_keys = of_keys.map(|(_, key)| key.to_uppercase());
    let known = of_flags.filter(|flag| !own.contains(&flag.as_str())).chain(of_keys);
    let known = known.chain(["URL", "PASSWORD", "CONFIG"].map(str::to_owned));
    let known = known.map(|name| format!("CRDB_PROXY_{name}")).collect::<BTreeSet<_>>();

    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), known);
    // All that have a default can be set to it at once.
    let cluster = FakeUpstream::answering();
    let folder = SettingsFile::of(&cluster);
    let unquoted = |default: &str| default.replace("[]", "");
    let given = documented.iter().filter_map(|(name, default)| Some((name.as_str(), unquoted(default.as_ref()?))));
    let given = given.filter(|(_, default)| default != "none" && !default.contains(' ')).collect::<Vec<_>>();
    let given = given.iter().map(|(name, default)| (*name, default.as_str())).collect::<Vec<_>>();
    assert!(given.len() > 25, "{given:?}");
    let minimal = folder.path("minimal.toml");
    fs::write(&minimal, MINIMAL).unwrap();
    let arguments = ["config", "show", "--config", minimal.to_str().unwrap()];
    let shown = run_daemon(minimal.parent().unwrap(), &arguments, &given).expect_success();
    assert_eq!(shown.matches("# variable CRDB_PROXY_").count(), given.len(), "{shown}");
}

#[test]
fn the_readme_has_every_flag_and_agrees_with_the_settings_page() {
    let (readme, settings) = (markdown::read("README.md"), markdown::read("docs/settings.md"));
    let (readme, settings, keys) = (markdown::tables(&readme), markdown::tables(&settings), documented_keys());
    let of_itself = ["--help", "--version", "--json"];

    let flags = column(&readme, "flag");

    let known = flags_of(&["--help"]).into_keys().filter(|flag| !of_itself.contains(&flag.as_str()));
    assert_eq!(flags.keys().cloned().collect::<Vec<_>>(), known.collect::<Vec<_>>());
    let mut compared = 0;
    for title in ["flag", "variable"] {
        let known = column(&settings, title);
        for (name, default) in column(&readme, title) {
            let said = known.get(&name).unwrap_or_else(|| panic!("{name} is in the README only"));
            // What is no key has no default there.
            assert!(default == *said || said.is_none(), "{name}: {default:?}, {said:?}");
            compared += 1;
        }
    }
    for table in readme.iter().filter(|table| table.column("default").is_some()) {
        let (key, default) = (table.column("key").unwrap(), table.column("default").unwrap());
        for row in table.rows.iter().filter(|row| !row[key].is_empty()) {
            let section = row[key].split('`').next().unwrap().trim().to_owned();
            let [name] = code(&row[key]).try_into().expect("one key in a row");
            assert_eq!(keys[&(section, name)], row[default].replace('`', ""), "{row:?}");
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} rows were compared");
}

#[test]
fn no_page_names_a_flag_or_variable_that_does_not_exist() {
    let tables = markdown::tables(&markdown::read("docs/settings.md"));
    let (variables, mut flags) = (column(&tables, "variable"), flags_of(&["demo", "--help"]));
    flags.extend(flags_of(&["config", "show", "--help"]));
    flags.extend(flags_of(&["exec", "--help"]));
    COMMANDS.iter().for_each(|words| flags.extend(flags_of(&[*words, &["--help"]].concat())));
    flags.extend(flags_of_setup());
    let others = ["--fail", "--output", "--silent", "--release", "--locked", "--path", "--version", "--crdb"];
    // Of the commands that docs/performance.md shows.
    let of_benches = ["--bench", "--print", "--target-dir"];
    // Of the commands that docs/deploy.md shows.
    let of_images =
        ["--build-arg", "--build-context", "--format", "--from-file", "--isolation", "--no-default-features"];
    let of_images =
        [&of_images[..], &["--platform", "--profile", "--short", "--network", "--tag", "--target", "--userns"]]
            .concat();
    // Of the commands that docs/systemd.md shows.
    let of_services = ["--mode", "--now", "--owner"];
    let is_of_kubernetes = |name: &str| name.contains("_SERVICE_") || name == "CRDB_PROXY_PORT=tcp";
    let is_of_others = |name: &str| is_of_kubernetes(name) || name == "CRDB_PROXY_REVISION";
    let mut found = 0;
    for file in markdown::files() {
        let text = fs::read_to_string(&file).unwrap();
        let words = text.split(|c: char| c.is_whitespace() || "`'\"()[]|:,;./…".contains(c));
        for word in words.filter(|word| !word.starts_with("---")) {
            let is_unknown = match word {
                _ if word.starts_with("CRDB_PROXY_") && word != "CRDB_PROXY_" && !is_of_others(word) => {
                    !variables.contains_key(word.split('=').next().unwrap())
                }
                _ if word.starts_with("--") && word.len() > 2 => {
                    let flag = word.split('=').next().unwrap();
                    !flags.contains_key(flag)
                        && !others.contains(&flag)
                        && !of_benches.contains(&flag)
                        && !of_images.contains(&flag)
                        && !of_services.contains(&flag)
                }
                _ => continue,
            };
            found += 1;
            assert!(!is_unknown, "{}: {word} does not exist", file.display());
        }
    }
    assert!(found > 60, "only {found} flags and variables were found");
}

#[test]
fn every_metric_and_label_value_is_documented_and_no_other() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).identity("own", &cluster.authority.client("app"));
    let settings = settings.identity("local", &cluster.authority.server());
    let settings = settings.cluster("cert = \"own.crt\"\nkey = \"own.key\"");
    let local = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let proxy = settings.listener(local).start();

    let exported = families(&proxy.metrics());

    let documented = documented_families();
    assert!(exported.len() > 20, "{exported:?}");
    assert_eq!(documented.keys().collect::<Vec<_>>(), exported.keys().collect::<Vec<_>>());
    for (name, family) in exported {
        assert_eq!(documented[&name], family, "{name}");
    }
    for name in code(&markdown::prose(&markdown::read("README.md"))) {
        assert!(!name.starts_with("crdb_proxy_") || documented.contains_key(&name), "README: {name}");
    }
}

#[test]
fn a_build_names_its_compiler_and_revision() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);

    let metrics = proxy.metrics();

    let build = metrics.lines().find(|line| line.starts_with("crdb_proxy_build_info{")).unwrap();
    assert!(build.contains("rustc=\"rustc 1."), "{build}");
    // A source archive has no history, and a packager may give any name.
    let is_known = |revision: &str| revision.len() >= 12 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    let revision = build.split_once("revision=\"").unwrap().1.split('"').next().unwrap();
    let has_history = markdown::root().join(".git").exists() && option_env!("CRDB_PROXY_REVISION").is_none();
    assert!(!has_history || is_known(revision), "{build}");
    assert!(!build.contains('/'), "{build}");
}

#[test]
fn every_status_field_is_documented_and_no_other() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).identity("own", &cluster.authority.client("app"));
    let proxy = settings.cluster("cert = \"own.crt\"\nkey = \"own.key\"").start();
    // Twice the same, which is then kept ready.
    let _sessions = [proxy.client(), proxy.client()];
    proxy.startup(&[("no_user", "x")]).until(b'E');

    let mut fields = BTreeSet::new();
    collect_fields(&proxy.status(), &mut fields);

    let text = markdown::read("docs/status.md");
    let mentioned = code(&text).into_iter().collect::<BTreeSet<_>>();
    let missing = fields.difference(&mentioned).collect::<Vec<_>>();
    assert!(fields.len() > 50 && missing.is_empty(), "{missing:?}");
    let rows = markdown::tables(&text).into_iter().flat_map(|table| table.rows);
    for field in rows.flat_map(|row| code(&row[0])) {
        assert!(fields.contains(&field), "{field} does not exist");
    }
}

#[test]
fn every_refusal_and_log_message_of_the_readme_is_said_by_the_source() {
    let mut source = String::new();
    collect_source(&markdown::root().join("src"), &mut source);
    let source = source.replace("\\\"", "\"");
    let mut compared = 0;
    for table in markdown::tables(&markdown::read("README.md")) {
        let texts: Vec<String> = match table.header[0].as_str() {
            "SQLSTATE" => table.rows.iter().map(|row| row[1].clone()).collect(),
            "message" => table.rows.iter().flat_map(|row| code(&row[0])).collect(),
            _ => continue,
        };
        for text in texts.iter().filter(|text| !text.starts_with("the server's own text")) {
            for piece in text.split(['…', '/']).map(|piece| piece.trim().trim_end_matches(':')) {
                compared += 1;
                assert!(source.contains(piece), "the source never says \"{piece}\" of \"{text}\"");
            }
        }
    }
    assert!(compared > 40, "only {compared} texts were compared");
}

#[test]
fn every_field_of_a_closed_session_is_documented_and_no_other() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    let mut client = proxy.client();
    client.send(&crate::harness::wire::terminate());

    let line = proxy.wait_for_message("session closed");

    let of_every_line = ["timestamp", "level", "message", "target"];
    let fields = line.as_object().unwrap().keys().filter(|field| !of_every_line.contains(&field.as_str()));
    let mut fields = fields.cloned().collect::<BTreeSet<_>>();
    fields.insert("close.detail".to_owned()); // There where an end has more to be told.
    let tables = markdown::tables(&markdown::read("README.md"));
    let mut rows = tables.iter().filter(|table| table.header[0] == "message").flat_map(|table| &table.rows);
    let row = rows.find(|row| row[0] == "`session closed`").unwrap();
    assert_eq!(code(&row[2]).into_iter().collect::<BTreeSet<_>>(), fields);
}

#[test]
fn links_lead_somewhere() {
    let mut followed = 0;
    for file in markdown::files() {
        let text = fs::read_to_string(&file).unwrap();
        for link in markdown::links(&text).iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", file.display());
            if !anchor.is_empty() {
                let anchors = markdown::anchors(&fs::read_to_string(&target).unwrap());
                assert!(anchors.iter().any(|known| known == anchor), "{}: {link} of {anchors:?}", file.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
}
