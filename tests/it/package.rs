//! The Debian package: what is in it, and what installing, updating and removing it does.

use crate::{
    harness::{
        DEADLINE, FakeUpstream,
        machine::Machine,
        markdown::root,
        process::{self, mortal},
    },
    service::set_up,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

#[test]
fn it_holds_everything_that_an_installation_needs() {
    let Some(package) = package() else { return };
    let contents = dpkg_deb("--contents", &package);
    // Mode, owner, size, date, time, name.
    let files = contents.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>();
    let has = |mode: &str, name: &str| files.iter().any(|file| file[0] == mode && file[5] == format!("./{name}"));

    assert!(has("-rwxr-xr-x", "usr/bin/crdb-proxy"), "{contents}");
    assert!(has("-rw-r-----", "etc/crdb-proxy/crdb-proxy.toml"), "{contents}");
    let mut expected = vec!["usr/lib/sysusers.d/crdb-proxy.conf".to_owned()];
    expected.extend(below("systemd", "service").map(|name| format!("usr/lib/systemd/system/{name}")));
    expected.extend(below("systemd", "socket").map(|name| format!("usr/lib/systemd/system/{name}")));
    expected.extend(below("systemd/drop-ins", "conf").map(|name| format!("usr/share/doc/crdb-proxy/drop-ins/{name}")));
    expected.extend(below("docs", "md").map(|name| format!("usr/share/doc/crdb-proxy/{name}")));
    assert!(expected.len() >= 15, "{expected:?}");
    for name in ["README.md", "CHANGELOG.md", "copyright", "help.txt", "examples/crdb-proxy.toml"] {
        expected.push(format!("usr/share/doc/crdb-proxy/{name}"));
    }
    expected.extend(PRINTED.iter().map(|name| format!("usr/share/{name}")));
    for name in expected {
        assert!(has("-rw-r--r--", &name), "{name} is not in {contents}");
    }
    assert!(files.iter().all(|file| file[1] == "0/0"), "{contents}");
}

#[test]
fn it_says_what_it_is_and_what_it_needs() {
    let Some(package) = package() else { return };

    let info = dpkg_deb("--info", &package);

    for line in ["Package: crdb-proxy", "Section: database", "Recommends: ca-certificates"] {
        assert!(info.lines().any(|told| told.trim() == line), "{line} is not in {info}");
    }
    let field = |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
    assert!(field("Version: ").starts_with(env!("CARGO_PKG_VERSION")), "{info}");
    assert!(
        field("Depends: ").contains("libc6 (>= ") && field("Depends: ").contains("systemd | systemd-sysusers"),
        "{info}"
    );
    let control = Command::new("dpkg-deb").arg("--ctrl-tarfile").arg(&package).output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("control.tar"), control.stdout).unwrap();
    let mut tar = Command::new("tar");
    process::run(tar.args(["-xf", "control.tar"]).current_dir(folder.path()), "", DEADLINE).expect_success();
    assert_eq!(fs::read_to_string(folder.path().join("conffiles")).unwrap().trim(), "/etc/crdb-proxy/crdb-proxy.toml");
}

#[test]
fn the_linter_of_packages_has_nothing_new_to_say() {
    let Some(package) = package() else { return };
    if !Command::new("lintian").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: lintian is missing; tests/run installs it");
        return;
    }
    let known = ACCEPTED.iter().map(|(tag, _)| *tag);
    let mut lintian = mortal(Path::new("lintian"), "KILL", None);
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags"]);
    lintian.arg(known.collect::<Vec<_>>().join(",")).arg(&package);

    let said = process::run(&mut lintian, "", BUILD);

    assert!(said.status.success() && said.stdout.is_empty(), "{}\n{}", said.stdout, said.stderr);
}

#[test]
fn it_is_installed_and_runs_where_no_systemd_does() {
    let Some(package) = package() else { return };
    let Some(machine) = Machine::without_systemd() else { return };
    machine.bring(&package);

    machine.shell("dpkg -i /root/crdb-proxy.deb");

    let version = machine.shell("crdb-proxy --version");
    assert_eq!(version, format!("crdb-proxy {}", env!("CARGO_PKG_VERSION")));
    let user = machine.shell("getent passwd crdb-proxy; getent group crdb-proxy");
    assert!(user.contains("nologin") && user.contains("\ncrdb-proxy:"), "{user}");
    let modes = machine.shell("stat --format='%U %G %a' /etc/crdb-proxy /etc/crdb-proxy/crdb-proxy.toml");
    assert_eq!(modes, "root crdb-proxy 750\nroot crdb-proxy 640");
    let cluster = FakeUpstream::answering();
    set_up(&machine, &cluster);
    let check = "setpriv --reuid=crdb-proxy --regid=crdb-proxy --clear-groups crdb-proxy config check --config \
                 /etc/crdb-proxy/crdb-proxy.toml";
    assert_eq!(machine.shell(check), "the settings are sound", "a warning on a fresh installation");
}

#[test]
fn settings_stay_when_it_is_removed_and_go_when_it_is_purged() {
    let Some(package) = package() else { return };
    let Some(machine) = Machine::without_systemd() else { return };
    machine.bring(&package);
    machine.shell("dpkg -i /root/crdb-proxy.deb; echo '# mine' >> /etc/crdb-proxy/crdb-proxy.toml");
    machine.shell("systemctl --quiet enable crdb-proxy.socket crdb-proxy.service crdb-proxy@shop.service");
    let links = "find /etc/systemd/system -name 'crdb-proxy*'";
    assert_eq!(machine.shell(links).lines().count(), 3);

    // Modes that the administrator has changed are kept by an update, and so is what was changed in the file.
    machine.shell("chmod 0700 /etc/crdb-proxy; dpkg -i /root/crdb-proxy.deb");
    assert_eq!(machine.shell("stat --format=%a /etc/crdb-proxy"), "700");
    machine.shell("grep -q '^# mine' /etc/crdb-proxy/crdb-proxy.toml");

    machine.shell("dpkg --remove crdb-proxy");
    machine.shell("grep -q '^# mine' /etc/crdb-proxy/crdb-proxy.toml; test ! -e /usr/bin/crdb-proxy");
    assert_eq!(machine.shell(links), "");
    machine.write("/etc/crdb-proxy/prod.pw", "secret");
    machine.shell("dpkg --purge crdb-proxy");
    // No package made the secret, so none removes it; and its user keeps its number.
    assert_eq!(machine.shell("find /etc/crdb-proxy -type f"), "/etc/crdb-proxy/prod.pw");
    machine.shell("getent passwd crdb-proxy");
    assert_eq!(
        machine.shell("find / -xdev -name '*crdb-proxy*' -not -path '/root/*' -not -path '/old/*'"),
        "/etc/crdb-proxy"
    );
}

#[test]
fn settings_that_were_deleted_do_not_stop_an_installation() {
    let Some(package) = package() else { return };
    let Some(machine) = Machine::without_systemd() else { return };
    machine.bring(&package);
    machine.shell("dpkg -i /root/crdb-proxy.deb; rm /etc/crdb-proxy/crdb-proxy.toml; dpkg --remove crdb-proxy");

    machine.shell("dpkg -i /root/crdb-proxy.deb");

    machine.shell("crdb-proxy --version; test ! -e /etc/crdb-proxy/crdb-proxy.toml");
}

/// The package with the program that is tested. None, and the reason on the screen, where cargo-deb is missing.
pub(crate) fn package() -> Option<PathBuf> {
    let is_there = Command::new("sh").args(["-c", "command -v cargo-deb"]).output().unwrap();
    if !is_there.status.success() {
        println!("skipped: cargo-deb is missing; tests/run installs it");
        return None;
    }
    let folder = root().join("target/package");
    fs::create_dir_all(&folder).unwrap();
    // Tests are processes of their own, and one package is enough.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let package = folder.join("crdb-proxy.deb");
    if !is_newer(&package) {
        let mut build = mortal(&root().join("packaging/build-deb"), "KILL", None);
        build.args([env!("CARGO_BIN_EXE_crdb-proxy"), "--fast"]);
        process::run(&mut build, "", BUILD).expect_success();
    }
    Some(package)
}

/// Whether a package is there, and newer than everything that it is made of.
fn is_newer(package: &Path) -> bool {
    let parts = ["Cargo.toml", "README.md", "CHANGELOG.md", "config", "docs", "packaging", "systemd"];
    let mut find = Command::new("find");
    find.arg(env!("CARGO_BIN_EXE_crdb-proxy")).args(parts).arg("-newer").arg(package).current_dir(root());
    package.exists() && process::run(&mut find, "", BUILD).expect_success().is_empty()
}

const BUILD: Duration = Duration::from_secs(60);

fn dpkg_deb(what: &str, package: &Path) -> String {
    process::run(Command::new("dpkg-deb").arg(what).arg(package), "", DEADLINE).expect_success()
}

/// The names of a folder's files of one kind.
fn below(folder: &str, extension: &'static str) -> impl Iterator<Item = String> {
    let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(move |path| path.extension().is_some_and(|found| found == extension));
    files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
}

/// What the program prints for the package, below `/usr/share`.
const PRINTED: [&str; 4] = [
    "man/man1/crdb-proxy.1.gz",
    "bash-completion/completions/crdb-proxy",
    "zsh/vendor-completions/_crdb-proxy",
    "fish/vendor_completions.d/crdb-proxy.fish",
];

/// What lintian may say, and why.
const ACCEPTED: [(&str, &str); 6] = [
    ("malformed-contact", "the maintainers have no address yet"),
    ("no-changelog", "CHANGELOG.md is the only one"),
    ("wrong-name-for-upstream-changelog", "README.md links to it by its name"),
    ("unstripped-binary-or-object", "the names of functions are kept, for backtraces"),
    ("maintainer-script-calls-systemctl", "there is no debhelper here that would do it"),
    ("non-standard-file-perm", "settings are the daemon's and root's to read"),
];
