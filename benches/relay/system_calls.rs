//! System calls of a proxy for each round trip, as strace counts them. Being traced slows it down, and more may be
//! ready at once when it looks; hence apart from all that is timed.

use crate::{
    Plan,
    harness::{
        DEADLINE,
        process::{self, Lines, mortal},
    },
    paths::Path,
    processes::find_program,
    table::{Measure, Results},
};
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    sync::Arc,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Counts them; gives those of each kind for the JSON file.
pub(crate) fn count(paths: &[Path], plan: &Plan, results: &mut Results, skipped: &mut Vec<String>) -> Value {
    let mut kinds = Vec::new();
    for (clients, measure) in [(1, CALLS_OF_ONE), (8, CALLS_OF_EIGHT)] {
        eprintln!("{}", measure.title);
        for path in paths {
            let strace = match Strace::attach(path.pid().unwrap()) {
                Ok(strace) => strace,
                Err(reason) => {
                    skipped.push(format!("system calls: {reason}"));
                    return json!(kinds);
                }
            };
            let (count, threads, each) = (clients.to_string(), clients.min(2).to_string(), plan.traced.to_string());
            path.pgbench(&["-S", "-n", "-c", &count, "-j", &threads, "-t", &each], LIMIT);
            let trips = f64::from(clients * plan.traced);
            let calls = strace.finish();
            results.add(&measure, path, calls.values().sum::<f64>() / trips);
            let each = calls.into_iter().map(|(name, count)| (name, json!(count / trips))).collect::<Map<_, _>>();
            kinds.push(json!({ "path": path.name, "clients": clients, "calls": each }));
        }
    }
    json!(kinds)
}

/// strace, attached to a process and all its threads.
struct Strace {
    child: Child,
    lines: Arc<Lines>,
}

impl Strace {
    /// Returns once calls are counted.
    fn attach(process: u32) -> Result<Self, String> {
        let program = find_program("strace").ok_or("strace is not installed")?;
        let mut command = mortal(&program, "KILL", None);
        command.args(["-c", "-f", "-p", &process.to_string()]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Lines::of(child.stderr.take().unwrap());
        let strace = Self { child, lines };
        match strace.lines.find(|line| line.contains(" attached").then_some(())) {
            Some(()) => Ok(strace),
            None => Err(format!("strace cannot attach: {}", strace.lines.all().join(" "))),
        }
    }

    /// Lets the process go; gives how often each call was made.
    fn finish(self) -> BTreeMap<String, f64> {
        process::signal(&self.child, Signal::INT);
        assert!(self.lines.ended_within(DEADLINE), "strace does not end");
        let lines = self.lines.all();
        // "% time, seconds, usecs/call, calls, errors, syscall" between two rules; without errors the column is empty.
        let rows = lines.iter().skip_while(|line| !line.starts_with("------")).skip(1);
        let rows = rows.take_while(|line| !line.starts_with("------"));
        let calls = rows.map(|row| {
            let columns = row.split_whitespace().collect::<Vec<_>>();
            (columns.last().unwrap().to_string(), columns[3].parse().unwrap())
        });
        let calls = calls.collect::<BTreeMap<_, _>>();
        assert!(!calls.is_empty(), "{lines:?}");
        calls
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // What it traced goes on.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const CALLS_OF_ONE: Measure =
    Measure { name: "system_calls_1", title: "proxy's system calls, 1 client", unit: "per round trip", decimals: 2 };
const CALLS_OF_EIGHT: Measure =
    Measure { name: "system_calls_8", title: "proxy's system calls, 8 clients", unit: "per round trip", decimals: 2 };
