//! The Debian package and its units where they belong: on a machine that systemd runs, under the units' own sandbox,
//! between a client and a scripted cluster in the machine's network.

use crate::harness::{
    FakeUpstream, PASSWORD, TestClient,
    machine::Machine,
    markdown::{self, root},
    process::{self, mortal},
    settings::Cluster,
    wire::{Wire, query, startup},
};
use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

#[test]
fn it_starts_serves_and_stops_under_its_own_sandbox() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };

    host.machine.shell("systemctl start crdb-proxy");
    host.serves("localhost:26257");

    let shown = host.machine.shell("systemctl show crdb-proxy");
    for line in ["ActiveState=active", "SubState=running", "User=crdb-proxy", "NRestarts=0"] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in {shown}");
    }
    let pid = host.machine.property("crdb-proxy", "MainPID");
    let status = host.machine.shell(&format!("cat /proc/{pid}/status"));
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    host.machine.shell("systemctl stop crdb-proxy");
    assert_eq!(host.machine.property("crdb-proxy", "Result"), "success");
    assert_eq!(host.machine.property("crdb-proxy", "ExecMainStatus"), "0");
    host.journal.wait_for(&["INFO stopped"]);
}

/// A machine with the package on it, set up for a cluster that is reached in its network.
struct Host {
    machine: Machine,
    cluster: FakeUpstream,
    journal: crate::harness::machine::Journal,
}

impl Host {
    fn before(cluster: impl FnOnce() -> FakeUpstream) -> Option<Self> {
        let machine = Machine::boot()?;
        machine.bring(&package()?);
        machine.shell("dpkg -i /root/crdb-proxy.deb");
        machine.enter_network();
        let cluster = cluster();
        let address = cluster.address();
        let host = format!("host = \"{}\"\nport = {}", address.ip(), address.port());
        let settings = markdown::read("config/packaged.toml").replace("host = \"HOST\"", &host);
        machine.write("/etc/crdb-proxy/crdb-proxy.toml", &settings);
        machine.write("/etc/crdb-proxy/prod-ca.crt", cluster.authority().pem());
        machine.write("/etc/crdb-proxy/prod.pw", PASSWORD);
        machine.shell("cd /etc/crdb-proxy; chgrp crdb-proxy prod-ca.crt prod.pw; chmod 0640 prod-ca.crt prod.pw");
        if !daemon_tells() {
            println!("the daemon does not tell the service manager yet: units wait for its start only");
            for unit in ["crdb-proxy", "crdb-proxy@"] {
                let file = format!("/etc/systemd/system/{unit}.service.d/zz-untold.conf");
                machine.write(&file, "[Service]\nType=exec\nWatchdogSec=0\n");
            }
            machine.shell("systemctl daemon-reload");
        }
        let journal = machine.journal("crdb-proxy");
        Some(Self { machine, cluster, journal })
    }

    /// A client is served at this address, once the daemon says that it listens there.
    #[track_caller]
    fn serves(&self, address: &str) -> TestClient {
        self.journal.wait_for(&["INFO listening", "listener.name=main"]);
        connect(address)
    }
}

#[track_caller]
fn connect(address: &str) -> TestClient {
    TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")])
}

/// Whether the daemon says that it is ready, without which `Type=notify` waits in vain.
fn daemon_tells() -> bool {
    markdown::read("src/daemon/build.rs").contains("service_manager")
}

/// The package with the program that is tested. None, and the reason on the screen, where cargo-deb is missing.
pub(crate) fn package() -> Option<PathBuf> {
    let tool = root().join("target/test-env/cargo-deb/bin");
    let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap_or_default());
    let is_there = Command::new("sh").args(["-c", "command -v cargo-deb"]).env("PATH", &path).output().unwrap();
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
        build.args([env!("CARGO_BIN_EXE_crdb-proxy"), "--fast"]).env("PATH", path);
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
