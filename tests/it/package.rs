//! The Debian package: what is in it, and what installing, updating and removing it does.

use crate::harness::{
    FakeUpstream,
    machine::Machine,
    markdown::root,
    process::{self, mortal},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

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
