//! The commands that ask the Cloud API, against an API of the tests' own: what they print, and what they change.

mod allowlist;
mod private_endpoint;
mod target;
mod users;

use crate::harness::{
    Terminal, TestProxy,
    cloud_api::{CloudApi, KEY},
    process::Finished,
    proxy::run_daemon,
};
use tempfile::TempDir;

/// Runs a command with the API's address and key, in an empty folder.
fn command(api: &CloudApi, words: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    command_in(&folder, api, words)
}

fn command_in(folder: &TempDir, api: &CloudApi, words: &str) -> Finished {
    let variables = [("COCKROACH_SERVER", &*api.url()), ("COCKROACH_API_KEY", KEY)];
    let done = run_daemon(folder.path(), &words.split(' ').collect::<Vec<_>>(), &variables);
    assert!(!done.stdout.contains("_secret") && !done.stderr.contains("_secret"), "{}\n{}", done.stdout, done.stderr);
    done
}

/// What it says on standard error where it fails, and how it ends.
#[track_caller]
fn refusal(api: &CloudApi, words: &str) -> (i32, String) {
    let done = command(api, words);
    assert_eq!(done.stdout, "", "{}", done.stderr);
    (done.status.code().unwrap(), done.stderr)
}

/// What it prints, and what it says beside that.
#[track_caller]
fn told(api: &CloudApi, words: &str) -> (String, String) {
    let done = command(api, words);
    assert!(done.status.success(), "{}\n{}", done.stdout, done.stderr);
    (done.stdout, done.stderr)
}

fn at_terminal(folder: &TempDir, api: &CloudApi, words: &str) -> Terminal {
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, folder.path());
    command.args(words.split(' ')).env("COCKROACH_SERVER", api.url()).env("COCKROACH_API_KEY", KEY);
    Terminal::start(command)
}

/// How often something was changed.
fn changes(api: &CloudApi) -> usize {
    api.lines().iter().filter(|line| !line.starts_with("GET ")).count()
}
