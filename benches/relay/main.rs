//! What the daemon costs a session that is open, and what it gains one that is not, beside direct TLS and beside
//! pgbouncer and haproxy where they are installed:
//!
//! ```text
//! cargo bench --bench relay                     in under five minutes
//! cargo bench --bench relay -- quick            in under one and a half
//! cargo bench --bench relay -- figures.json     for another place than target/relay.json
//! ```
//!
//! PostgreSQL, proxies and clients share one machine and nothing is far away, so that what is seen is processor time.
//! Every measure goes round by round, and in a round path by path in an order that turns with each round: a noisy
//! minute meets all paths alike. Figures of one run may be compared; of two runs only ratios. `docs/performance.md`
//! says what each line and each field means.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "as in the tests, whose harness this is built on"
)]

mod facts;
mod measures;
mod memory;
mod paths;
mod peers;
mod processes;
mod system_calls;
mod table;

// A module around it, since the path of a file would take the harness's own modules for its neighbours.
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/it"]
mod it {
    pub(crate) mod harness;
}

use it::harness;
use paths::{Server, daemon, daemon_with_reuse, direct};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};
use table::Results;

/// How much is done.
pub(crate) struct Plan {
    /// Of round trips. A round lasts long enough that the logins before it do not matter: what is new at the server has
    /// its first queries dearer, and pgbouncer's is not new.
    pub(crate) rounds: usize,
    /// Of such a round.
    pub(crate) seconds: u32,
    /// Of connects, for a second each: many short ones, since what else runs changes within seconds.
    pub(crate) connects: usize,
    /// Of COPY.
    pub(crate) copies: usize,
    /// Of one COPY.
    pub(crate) mebibytes: usize,
    /// Idle sessions at which memory is looked at.
    pub(crate) sessions: Vec<usize>,
    /// Round trips of each client while system calls are counted.
    pub(crate) traced: u32,
    mode: &'static str,
    output: PathBuf,
}

fn main() {
    let descriptors = processes::raise_descriptors();
    let plan = Plan::of(std::env::args().skip(1), descriptors);
    let start = Instant::now();
    let mut facts = facts::gather(plan.mode);
    let server = Server::start();

    let mut skipped = Vec::new();
    let mut proxies = vec![daemon(&server)];
    for start in [peers::pgbouncer, peers::haproxy] {
        match start(&server) {
            Ok(path) => proxies.push(path),
            Err(reason) => skipped.push(reason),
        }
    }
    let (direct, reuse) = (direct(&server), daemon_with_reuse(&server));
    server.fill(&proxies[0]);
    let paths = std::iter::once(&direct).chain(&proxies).collect::<Vec<_>>();
    let all = paths.iter().copied().chain([&reuse]).collect::<Vec<_>>();
    let mut columns = all.iter().map(|path| path.name).collect::<Vec<_>>();
    // Beside the daemon's other one.
    columns[2..].rotate_right(1);
    facts["tls"] = all.iter().map(|path| (path.name.to_owned(), json!(measures::tls_behind(path)))).collect();

    let mut results = Results::default();
    measures::round_trips(&paths, &plan, &mut results);
    measures::copies(&paths, &plan, &mut results);
    measures::connects(&all, &plan, &mut results);
    let calls = system_calls::count(&proxies, &plan, &mut results, &mut skipped);
    drop((direct, reuse, proxies));
    memory::idle_sessions(&server, &plan, &mut results);

    facts["seconds"] = json!(start.elapsed().as_secs_f64().round());
    facts["skipped"] = json!(skipped);
    facts["results"] = results.json();
    facts["system_calls"] = calls;
    println!("\n{}", results.markdown(&columns));
    skipped.iter().for_each(|reason| println!("left out: {reason}"));
    fs::write(&plan.output, format!("{facts:#}\n")).unwrap();
    println!("{} in {} s", plan.output.display(), facts["seconds"]);
}

impl Plan {
    fn of(arguments: impl Iterator<Item = String>, descriptors: u64) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut plan = Self {
            rounds: 5,
            seconds: 3,
            connects: 7,
            copies: 5,
            mebibytes: 512,
            sessions: vec![500],
            traced: 3000,
            mode: "full",
            output: target.join("relay.json"),
        };
        // A session through a proxy is a descriptor here, two there, and one of the server's.
        if descriptors >= 4096 {
            plan.sessions.push(1000);
        }
        for argument in arguments {
            match argument.as_str() {
                "--bench" => {} // Cargo's own.
                "quick" => {
                    plan = Self {
                        rounds: 3,
                        seconds: 1,
                        connects: 3,
                        copies: 3,
                        mebibytes: 128,
                        sessions: vec![500],
                        traced: 1000,
                        mode: "quick",
                        ..plan
                    };
                }
                file if file.ends_with(".json") => plan.output = file.into(),
                other => panic!("{other} is neither `quick` nor the name of a .json file"),
            }
        }
        plan
    }
}
