//! How cost grows with the number of sessions: memory of each, CPU of a round trip among so many, what
//! they cost while nobody says anything, and what memory is left once they are gone.
//!
//! ```text
//! cargo bench --bench scale                     in about three minutes
//! cargo bench --bench scale -- figures.json     for another place than target/scale.json
//! ```
//!
//! The server is a stand-in in a process of its own, since PostgreSQL would need a process and some megabytes for each of
//! ten thousand connections: TLS 1.3, no password, one answer for every query. A session is two descriptors of the daemon:
//! there are fewer than ten thousand where the limit (`ulimit -n`) has no room for them. `docs/performance.md` says what each line
//! means.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "as in the tests, whose harness this is built on"
)]

mod clients;
#[allow(dead_code, reason = "benches/relay uses the rest of it")]
#[path = "../relay/processes.rs"]
mod processes;
mod server;

// A module around it, since the path of a file would take the harness's own modules for its neighbours.
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../../tests/it"]
mod it {
    pub(crate) mod harness;
}

use clients::Clients;
use it::harness::{self, SettingsFile, TestProxy};
use processes::{cpu_seconds, raise_descriptors, settled_kib};
use serde_json::{Value, json};
use server::Server;
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const COUNTS: [usize; 5] = [10, 100, 1000, 5000, 10_000];
/// At each count.
const ROUND_TRIPS: usize = 100_000;
/// How long nobody says anything, while the daemon's CPU is looked at.
const SILENCE: Duration = Duration::from_secs(5);
/// After the last words: a session looks at its path once more in `tcp_user_timeout` / 6.
const REST: Duration = Duration::from_secs(7);
/// What the daemon has open besides sessions.
const OTHER_DESCRIPTORS: u64 = 128;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let output = match arguments.next() {
        Some(argument) if argument == server::ARGUMENT => return server::serve(Path::new(&arguments.next().unwrap())),
        Some(file) if file.ends_with(".json") => file.into(),
        Some(other) => panic!("{other} is not the name of a .json file"),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("scale.json"),
    };
    measure(&output);
}

fn measure(output: &PathBuf) {
    let room = raise_descriptors().saturating_sub(OTHER_DESCRIPTORS) / 2;
    let mut counts = COUNTS.map(|count| count.min(usize::try_from(room).unwrap())).to_vec();
    counts.dedup();
    let server = Server::start();
    // What stands ready would be counted with sessions.
    let daemon = SettingsFile::of(&server).usual_log().global("warm_max = 0").start();
    let process = daemon.pid();

    // What is built at first use is no session's.
    drop(Clients::open(daemon.address(), 10));
    daemon.wait_for_active(0.0);
    let before = settled_kib(process);
    println!(
        "| sessions | memory of each, KiB | CPU of 100 000 round trips of ten of them, s | of all in turn | CPU in silence, % of a core | wake-ups in silence, per s |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut clients = Clients::open(daemon.address(), 0);
    let mut rows = Vec::new();
    for count in counts {
        clients.grow_to(count);
        let row = at(&daemon, &mut clients, before);
        println!(
            "| {count} | {:.1} | {:.2} | {:.2} | {:.1} | {:.1} |",
            number(&row, "kib_per_session"),
            number(&row, "cpu_s_per_100k_of_ten"),
            number(&row, "cpu_s_per_100k_of_all"),
            number(&row, "silent_cpu_percent"),
            number(&row, "silent_wake_ups_per_s"),
        );
        rows.push(row);
    }
    let most = settled_kib(process);
    drop(clients);
    daemon.wait_for_active(0.0);
    // The daemon gives back what many sessions have freed, though not at once.
    thread::sleep(REST);
    let after = settled_kib(process);
    let mebibytes = [before, most, after].map(|kib| kib / 1024.0);
    println!(
        "\nmemory without sessions {:.1} MiB, with all of them {:.1}, once they are gone {:.1}",
        mebibytes[0], mebibytes[1], mebibytes[2]
    );
    let all = json!({ "schema": 1, "counts": rows, "mib_before": mebibytes[0], "mib_most": mebibytes[1], "mib_after": mebibytes[2] });
    fs::write(output, format!("{all:#}\n")).unwrap();
    println!("{}", output.display());
}

/// One row of the table.
fn at(daemon: &TestProxy, clients: &mut Clients, before: f64) -> Value {
    let process = daemon.pid();
    let memory = (settled_kib(process) - before) / clients.count() as f64;
    thread::sleep(REST);
    let (cpu, wake_ups, start) = (cpu_seconds(process), daemon.wake_ups(), Instant::now());
    thread::sleep(SILENCE);
    let seconds = start.elapsed().as_secs_f64();
    let silent_cpu = (cpu_seconds(process) - cpu) / seconds;
    let silent_wake_ups = daemon.wake_ups().saturating_sub(wake_ups) as f64 / seconds;
    let mut busy = |sessions| {
        let cpu = cpu_seconds(process);
        let asked = clients.ask(sessions, ROUND_TRIPS);
        (cpu_seconds(process) - cpu) * 100_000.0 / asked as f64
    };
    let (of_few, of_all) = (busy(COUNTS[0]), busy(usize::MAX));
    json!({
        "sessions": clients.count(),
        "kib_per_session": memory,
        "cpu_s_per_100k_of_ten": of_few,
        "cpu_s_per_100k_of_all": of_all,
        "silent_cpu_percent": silent_cpu * 100.0,
        "silent_wake_ups_per_s": silent_wake_ups,
    })
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap()
}
