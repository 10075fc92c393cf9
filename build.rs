//! Tells `crdb_proxy_build_info` which compiler and which revision it was built from. Never fails: what
//! cannot be found out is "unknown". Puts no path of the building machine into the program.

use std::{env, ffi::OsStr, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CRDB_PROXY_REVISION");
    let rustc = env::var_os("RUSTC").and_then(|rustc| output(&rustc, &["--version"]));
    println!("cargo:rustc-env=CRDB_PROXY_RUSTC={}", rustc.as_deref().unwrap_or("unknown"));
    let given = env::var("CRDB_PROXY_REVISION").ok().filter(|revision| is_line(revision));
    let revision = given.or_else(revision_of_git);
    println!("cargo:rustc-env=CRDB_PROXY_REVISION={}", revision.as_deref().unwrap_or("unknown"));
}

/// The commit that is checked out, where this folder is a repository of its own and no part of another.
fn revision_of_git() -> Option<String> {
    let git = |arguments: &[&str]| output(OsStr::new("git"), arguments);
    let same = |one: &Path, other: &Path| one.canonicalize().ok() == other.canonicalize().ok();
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if !same(Path::new(&top), Path::new(&env::var_os("CARGO_MANIFEST_DIR")?)) {
        return None;
    }
    // A commit changes the second, a checkout both; a file that is absent would have this run every time.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
        if let Some(path) = path {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The only line that a program prints, if it succeeds.
fn output(program: &OsStr, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    is_line(&text).then_some(text)
}

/// A line feed would end what cargo is told.
fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(['\n', '\r'])
}
