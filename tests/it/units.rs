//! The systemd units as text: what systemd's own checkers say, and that they agree with the program, the settings and
//! the package. service.rs has them at work.

use crate::harness::{
    DEADLINE, FakeUpstream, SettingsFile,
    markdown::{self, root},
    process::{self, Finished},
    proxy::run_daemon,
    settings::write_private,
};
use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};
use tempfile::TempDir;

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let Some(tree) = Tree::new() else { return };

    let said = tree.analyze(&["verify"], &UNITS);

    assert!(
        said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(),
        "{}{}",
        said.stdout,
        said.stderr
    );
    fs::write(tree.units.join("careless.service"), "[Service]\nExecStart=/usr/bin/crdb-proxy\nRestrt=always\n")
        .unwrap();
    let said = tree.analyze(&["verify"], &["careless.service"]);
    assert!(said.stderr.contains("Restrt"), "{}", said.stderr);
}

#[test]
fn systemd_has_nothing_to_say_about_the_units_with_each_drop_in() {
    let drop_ins = files("systemd/drop-ins");
    assert!(drop_ins.len() >= 4, "{drop_ins:?}");
    for drop_in in drop_ins {
        let Some(tree) = Tree::new() else { return };
        if drop_in == "notify-reload.conf" && tree.version < 253 {
            println!("skipped: {drop_in} is for systemd 253, and this is {}", tree.version);
            continue;
        }
        for service in SERVICES {
            tree.lay_over(service, &drop_in);

            let said = tree.analyze(&["verify"], &[service]);

            assert!(said.stderr.is_empty() && said.stdout.is_empty(), "{service}, {drop_in}: {}", said.stderr);
        }
    }
}

#[test]
fn the_sandbox_leaves_no_more_open_than_it_says() {
    // The last column: what a drop-in costs.
    for (drop_in, most) in
        [("", 1.1), ("uid-rules.conf", 1.3), ("password-commands.conf", 1.2), ("credentials.conf", 1.1)]
    {
        for service in SERVICES {
            let Some(tree) = Tree::new() else { return };
            if !drop_in.is_empty() {
                tree.lay_over(service, drop_in);
            }

            let said = tree.analyze(&["security", "--offline=true", "--no-pager"], &[service]).expect_success();

            let last = said.lines().last().unwrap_or_default();
            let exposure = last.split(": ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
            assert!(exposure.is_some_and(|exposure| exposure <= most), "{service} with {drop_in}: {last}");
            if drop_in.is_empty() {
                let exceptions = said.lines().filter_map(|line| line.strip_prefix('✗')?.split_whitespace().next());
                assert_eq!(exceptions.collect::<BTreeSet<_>>(), EXCEPTIONS.into(), "each has its reason in the unit");
            }
        }
    }
    // Not by a list of addresses, which would be there for the number only.
    for service in SERVICES {
        assert!(values(service, "IPAddressAllow").is_empty() && values(service, "IPAddressDeny").is_empty());
    }
}

#[test]
fn the_instance_differs_from_the_service_where_it_must() {
    let directives = |unit: &str| {
        let text = markdown::read(&format!("systemd/{unit}"));
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (service, instance) = (directives("crdb-proxy.service"), directives("crdb-proxy@.service"));

    assert_eq!(service.len(), instance.len());
    let differing = service.iter().zip(&instance).filter(|(one, other)| one != other).map(|(one, _)| one);
    let differing = differing.map(|line| line.split('=').next().unwrap()).collect::<Vec<_>>();
    assert_eq!(differing, ["Description", "ExecStart", "RuntimeDirectory"]);
}

#[test]
fn exit_codes_mean_in_the_units_what_they_mean_in_the_readme() {
    let table = markdown::tables(&markdown::read("README.md"));
    let table = table.iter().find(|table| table.header[0] == "exit code").unwrap();
    let code_of = |word: &str| table.rows.iter().find(|row| row[1].contains(word)).unwrap()[0].clone();

    for service in SERVICES {
        assert_eq!(values(service, "SuccessExitStatus"), [code_of("cut off at `drain_limit`")]);
        assert_eq!(values(service, "RestartPreventExitStatus"), [code_of("settings")]);
    }
}

#[test]
fn there_is_time_to_stop_with_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let shown = run_daemon(
        folder.path(),
        &["config", "show", "postgresql://app@h/d?sslrootcert=system"],
        &[("CRDB_PROXY_PASSWORD", "secret")],
    );
    let shown = shown.expect_success();
    let seconds = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{key} = "))).expect(key);
        line.split('"').nth(1).unwrap().trim_end_matches('s').parse::<u64>().unwrap()
    };

    for service in SERVICES {
        let limit = values(service, "TimeoutStopSec")[0].parse::<u64>().unwrap();
        assert!(limit > seconds("drain_delay") + seconds("drain_limit") + 10, "{service}");
    }
}

#[test]
fn there_are_descriptors_for_all_sessions() {
    for service in SERVICES {
        let limit = values(service, "LimitNOFILE")[0].parse::<usize>().unwrap();
        assert!(limit >= 2 * 10_000 + 64, "{service}");
    }
}

#[test]
fn socket_units_name_the_listener_of_the_packaged_settings_and_its_address() {
    let settings = markdown::read("config/packaged.toml").parse::<toml::Table>().unwrap();
    let listeners = settings["listener"].as_array().unwrap();
    assert_eq!(listeners.len(), 1);

    for socket in ["crdb-proxy.socket", "crdb-proxy@.socket"] {
        assert_eq!(values(socket, "FileDescriptorName"), [listeners[0]["name"].as_str().unwrap()]);
        assert_eq!(values(socket, "Accept"), ["no"]);
    }
    assert_eq!(listeners[0]["address"].as_str(), Some("localhost:26257"));
    assert_eq!(values("crdb-proxy.socket", "ListenStream"), ["127.0.0.1:26257", "[::1]:26257"]);
}

#[test]
fn the_packaged_settings_are_sound_once_what_is_in_capitals_is_replaced() {
    let cluster = FakeUpstream::answering();
    let folder = SettingsFile::of(&cluster);
    let beside = |name: &str| folder.path(name);
    fs::write(beside("packaged.toml"), markdown::read("config/packaged.toml").replace("\"HOST\"", "\"db.test\""))
        .unwrap();
    fs::copy(beside("ca.crt"), beside("prod-ca.crt")).unwrap();
    write_private(&beside("prod.pw"), "secret");

    let checked = run_daemon(beside(".").as_path(), &["config", "check", "--config", "packaged.toml"], &[]);

    assert_eq!(checked.expect_success(), "the settings are sound");
}

#[test]
fn the_user_is_made_with_a_group_and_without_a_login() {
    let Some(tree) = Tree::new() else { return };
    fs::create_dir(tree.folder.path().join("etc")).unwrap();
    let mut sysusers = Command::new("systemd-sysusers");
    sysusers
        .arg(format!("--root={}", tree.folder.path().display()))
        .arg(root().join("systemd/crdb-proxy.sysusers.conf"));

    process::run(&mut sysusers, "", DEADLINE).expect_success();

    let made = |file: &str| fs::read_to_string(tree.folder.path().join("etc").join(file)).unwrap();
    let user = made("passwd").lines().find(|line| line.starts_with("crdb-proxy:")).unwrap().to_owned();
    assert!(user.ends_with("/nologin"), "{user}");
    assert!(made("group").lines().any(|line| line.starts_with("crdb-proxy:")));
    for service in SERVICES {
        assert_eq!(
            (values(service, "User"), values(service, "Group")),
            (vec!["crdb-proxy".into()], vec!["crdb-proxy".into()])
        );
    }
}

#[test]
fn every_page_that_the_units_name_is_in_the_package() {
    let package = markdown::read("Cargo.toml");
    for unit in UNITS {
        for page in values(unit, "Documentation") {
            let name = page.strip_prefix("file:///usr/share/doc/crdb-proxy/").unwrap().to_owned();
            assert!(root().join("docs").join(&name).exists(), "{unit} names {name}");
        }
    }
    assert!(package.contains("[\"docs/*.md\", \"usr/share/doc/crdb-proxy/\", \"644\"]"));
}

#[test]
fn the_page_on_systemd_has_every_drop_in_and_exception() {
    let page = markdown::read("docs/systemd.md");

    for drop_in in files("systemd/drop-ins") {
        assert!(page.contains(&format!("`{drop_in}`")), "{drop_in} is not explained");
    }
    for exception in EXCEPTIONS {
        let directive = exception.split(['=', '/']).next().unwrap();
        let units = SERVICES.map(|service| markdown::read(&format!("systemd/{service}")));
        assert!(page.contains(directive), "{directive} is not explained");
        assert!(units.iter().all(|unit| unit.contains(directive)), "{directive} is not in the units");
    }
}

/// The units in a small root of their own, where the program is in its place.
struct Tree {
    folder: TempDir,
    units: PathBuf,
    /// Of systemd.
    version: u32,
}

impl Tree {
    /// None, and the reason on the screen, without systemd's tools.
    fn new() -> Option<Self> {
        let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
            println!("skipped: systemd-analyze is missing; tests/run installs it");
            return None;
        };
        let version = String::from_utf8(version.stdout).unwrap();
        let version = version.split(' ').nth(1).unwrap().split(['.', '~']).next().unwrap().parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let units = folder.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&units).unwrap();
        for unit in UNITS {
            fs::copy(root().join("systemd").join(unit), units.join(unit)).unwrap();
        }
        for program in ["usr/bin/crdb-proxy", "bin/sh"] {
            let place = folder.path().join(program);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, "").unwrap();
            fs::set_permissions(place, Permissions::from_mode(0o755)).unwrap();
        }
        // What every system has, and all units lean on.
        for target in ["sysinit", "basic", "sockets", "multi-user", "shutdown", "network", "nss-lookup"] {
            fs::write(units.join(format!("{target}.target")), "[Unit]\nDefaultDependencies=no\n").unwrap();
        }
        Some(Self { folder, units, version })
    }

    fn lay_over(&self, service: &str, drop_in: &str) {
        let place = self.folder.path().join(format!("etc/systemd/system/{service}.d"));
        fs::create_dir_all(&place).unwrap();
        fs::copy(root().join("systemd/drop-ins").join(drop_in), place.join(drop_in)).unwrap();
    }

    /// `systemd-analyze`, which calls a template by an instance of it.
    fn analyze(&self, command: &[&str], units: &[&str]) -> Finished {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(command).arg("--man=no").arg(format!("--root={}", self.folder.path().display()));
        analyze.args(units.iter().map(|unit| unit.replace('@', "@shop")));
        process::run(&mut analyze, "", DEADLINE)
    }
}

/// What a unit says for a directive.
fn values(unit: &str, directive: &str) -> Vec<String> {
    let text = markdown::read(&format!("systemd/{unit}"));
    let said = text.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
    said.map(str::to_owned).collect()
}

fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    names.sort();
    names
}

const SERVICES: [&str; 2] = ["crdb-proxy.service", "crdb-proxy@.service"];
const UNITS: [&str; 4] = ["crdb-proxy.service", "crdb-proxy@.service", "crdb-proxy.socket", "crdb-proxy@.socket"];

/// What `systemd-analyze security` marks.
const EXCEPTIONS: [&str; 6] = [
    "DeviceAllow=",
    "IPAddressDeny=",
    "PrivateNetwork=",
    "RestrictAddressFamilies=~AF_(INET|INET6)",
    "RestrictAddressFamilies=~AF_UNIX",
    "RootDirectory=/RootImage=",
];
