//! What a figure means nothing without: the machine, and the versions of all that ran on it.

use crate::processes::{first_line, output};
use serde_json::{Value, json};
use std::{fs, path::Path, time::SystemTime};

/// The fields of the JSON file that are known before anything is measured.
pub(crate) fn gather(mode: &str) -> Value {
    let postgres_and_clients = ["postgres", "pgbench", "psql"].map(|name| (name, first_line(name, "--version")));
    let others = [("pgbouncer", "--version"), ("haproxy", "-v"), ("strace", "--version")];
    let others = others.map(|(name, argument)| (name, first_line(name, argument)));
    let own = output(Path::new(env!("CARGO_BIN_EXE_crdb-proxy")), "--version");
    let versions = postgres_and_clients.into_iter().chain(others).chain([("crdb-proxy", own)]);
    json!({
        "schema": 1,
        "at": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        "mode": mode,
        "machine": {
            "processor": field_of_processor("model name"),
            "cores": std::thread::available_parallelism().unwrap().get(),
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim(),
            // Of the minute before: anything else that runs takes from all paths, but not alike.
            "load": fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().parse::<f64>().unwrap(),
        },
        "versions": versions.map(|(name, version)| (name.to_owned(), json!(version))).collect::<Value>(),
    })
}

/// The first core's; not every architecture has it.
fn field_of_processor(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(": ")?.1.to_owned())
}
