//! Round trips, bulk data and connects: what is done on each path, round by round.

use crate::{
    Plan,
    harness::{DEADLINE, postgres::data_root, process::Lines},
    paths::Path,
    processes::cpu_seconds,
    table::{Measure, Results},
};
use std::{
    fs::File,
    io::{BufWriter, Write},
    process::Stdio,
    time::{Duration, Instant},
};

/// The longest that one COPY may take.
const COPY_LIMIT: Duration = Duration::from_secs(120);
/// Of a row that is copied, without its length.
const ROW_BYTES: usize = 1024;

/// Every path once in each round, in an order that turns with each round.
fn in_turns(paths: &[&Path], rounds: usize, mut measure: impl FnMut(&Path)) {
    for round in 0..rounds {
        let mut order = paths.to_vec();
        order.rotate_left(round % paths.len());
        order.into_iter().for_each(&mut measure);
    }
}

/// Queries one after the other on open connections.
pub(crate) fn round_trips(paths: &[&Path], plan: &Plan, results: &mut Results) {
    for (clients, trips, cpu) in [(1, TRIPS_OF_ONE, CPU_OF_ONE), (8, TRIPS_OF_EIGHT, CPU_OF_EIGHT)] {
        eprintln!("{}", trips.title);
        in_turns(paths, plan.rounds, |path| {
            let run = pgbench(path, clients, plan.seconds, &[]);
            results.add(&trips, path, run.per_second);
            if let Some(seconds) = run.cpu_seconds {
                results.add(&cpu, path, seconds / run.transactions * 100_000.0);
            }
        });
    }
}

/// A connection for every query.
pub(crate) fn connects(paths: &[&Path], plan: &Plan, results: &mut Results) {
    eprintln!("{}", CONNECTS.title);
    in_turns(paths, plan.connects, |path| {
        let run = pgbench(path, 8, 1, &["-C"]);
        results.add(&CONNECTS, path, run.per_second);
        if let Some(seconds) = run.cpu_seconds {
            results.add(&CPU_OF_CONNECTS, path, seconds / run.transactions * 1000.0);
        }
    });
}

/// What one run of pgbench came to.
struct Run {
    per_second: f64,
    transactions: f64,
    /// Of the proxy, if there is one.
    cpu_seconds: Option<f64>,
}

fn pgbench(path: &Path, clients: u32, seconds: u32, more: &[&str]) -> Run {
    let (clients, threads, seconds) = (clients.to_string(), clients.min(2).to_string(), seconds.to_string());
    let arguments = [&["-S", "-n", "-c", &clients, "-j", &threads, "-T", &seconds], more].concat();
    let (report, cpu_seconds) = with_cpu(path, || path.pgbench(&arguments, DEADLINE));
    let figure = |title: &str| {
        let (_, after) = report.split_once(title).unwrap_or_else(|| panic!("{report}"));
        after.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    let transactions = figure("number of transactions actually processed: ");
    assert!(transactions > 0.0, "{report}");
    Run { per_second: figure("tps = "), transactions, cpu_seconds }
}

/// Does something; gives also the processor time that the proxy spent meanwhile.
fn with_cpu<T>(path: &Path, act: impl FnOnce() -> T) -> (T, Option<f64>) {
    let before = path.pid().map(cpu_seconds);
    let done = act();
    (done, path.pid().map(|process| cpu_seconds(process) - before.unwrap_or_default()))
}

/// COPY of rows that cost the server little, out and in; what comes in is read by the server, and not stored.
pub(crate) fn copies(paths: &[&Path], plan: &Plan, results: &mut Results) {
    let rows = plan.mebibytes * 1024 * 1024 / ROW_BYTES;
    let out =
        format!("copy (select repeat('y', {ROW_BYTES}) from generate_series(1, {rows})) to stdout (format binary)");
    let input = tempfile::NamedTempFile::new_in(data_root()).unwrap();
    write_rows(input.as_file(), rows);
    let into = "copy sink from stdin (format binary) where false".to_owned();

    for (sql, speed, cpu) in [(out, COPY_OUT, CPU_OF_COPY_OUT), (into, COPY_IN, CPU_OF_COPY_IN)] {
        eprintln!("{}", speed.title);
        in_turns(paths, plan.copies, |path| {
            let start = Instant::now();
            let ((), cpu_seconds) = with_cpu(path, || copy(path, &sql, File::open(input.path()).unwrap()));
            let bytes = (rows * ROW_BYTES) as f64;
            results.add(&speed, path, bytes / 1e6 / start.elapsed().as_secs_f64());
            if let Some(seconds) = cpu_seconds {
                results.add(&cpu, path, seconds / (bytes / 1e9));
            }
        });
    }
}

/// As COPY has them in its binary format: a signature, flags and an empty extension; then for each row the number of
/// its fields, and each field's length and bytes.
fn write_rows(file: &File, rows: usize) {
    let mut file = BufWriter::with_capacity(1 << 20, file);
    file.write_all(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0").unwrap();
    let length = (ROW_BYTES as u32).to_be_bytes();
    let row = [&[0, 1], &length[..], &[b'y'; ROW_BYTES]].concat();
    for _ in 0..rows {
        file.write_all(&row).unwrap();
    }
    file.write_all(&(-1_i16).to_be_bytes()).unwrap();
    file.flush().unwrap();
}

fn copy(path: &Path, sql: &str, input: File) {
    let mut psql = path.command("psql");
    psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-c", sql, &path.connection]);
    let mut child = psql.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let complaints = Lines::of(child.stderr.take().unwrap());
    if !complaints.ended_within(COPY_LIMIT) {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{}, {sql}: {status} {:?}", path.name, complaints.all());
}

/// What the server says of the connection behind a path. All paths must be protected alike to be compared.
pub(crate) fn tls_behind(path: &Path) -> String {
    let sql = "select version || ' ' || cipher from pg_stat_ssl where pid = pg_backend_pid() and ssl";
    let said = path.run("psql", &["-XAtq", "-c", sql], DEADLINE).expect_success();
    assert!(said.starts_with("TLSv1"), "{}: no TLS at the server: {said}", path.name);
    said
}

const TRIPS_OF_ONE: Measure =
    Measure { name: "round_trips_1", title: "round trips, 1 client", unit: "per s", decimals: 0 };
const TRIPS_OF_EIGHT: Measure =
    Measure { name: "round_trips_8", title: "round trips, 8 clients", unit: "per s", decimals: 0 };
const CPU_OF_ONE: Measure =
    Measure { name: "round_trips_1_cpu", title: "proxy's CPU, 1 client", unit: "s per 100 000", decimals: 2 };
const CPU_OF_EIGHT: Measure =
    Measure { name: "round_trips_8_cpu", title: "proxy's CPU, 8 clients", unit: "s per 100 000", decimals: 2 };
const COPY_OUT: Measure = Measure { name: "copy_out", title: "COPY out", unit: "MB/s", decimals: 0 };
const COPY_IN: Measure = Measure { name: "copy_in", title: "COPY in", unit: "MB/s", decimals: 0 };
const CPU_OF_COPY_OUT: Measure =
    Measure { name: "copy_out_cpu", title: "proxy's CPU, COPY out", unit: "s per GB", decimals: 2 };
const CPU_OF_COPY_IN: Measure =
    Measure { name: "copy_in_cpu", title: "proxy's CPU, COPY in", unit: "s per GB", decimals: 2 };
const CONNECTS: Measure =
    Measure { name: "connects", title: "connect, query, disconnect, 8 clients", unit: "per s", decimals: 0 };
const CPU_OF_CONNECTS: Measure =
    Measure { name: "connects_cpu", title: "proxy's CPU, connects", unit: "s per 1000", decimals: 2 };
