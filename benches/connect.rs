//! How long a client waits for its first answer, with the daemon and without it.
//!
//! `cargo bench --bench connect` runs it, `cargo bench --bench connect -- 51` with 51 rounds. It needs what the
//! tests need (`tests/run` installs it), uses free ports, and leaves nothing behind.
//!
//! **First part.** A PostgreSQL server 40 ms away (there and back): a relay in this process delays the bytes
//! and charges a round trip for the TCP connect. Measured is the time from the connect to the end of
//! `SELECT 1`, the paths in turn, so that whatever else the machine does meets all of them:
//!
//! - *direct*: over TLS, verified, with SCRAM, as `psql` with `sslmode=verify-full` connects. The client is
//!   tokio-postgres in this process, since starting `psql` would add some 10 ms of its own; it needs the same
//!   round trips: connect, SSLRequest, TLS 1.3 without resumption, startup, two for SCRAM, query.
//! - *cold*: the same client, without TLS, through a daemon that keeps no warm upstreams (`warm_max = 0`).
//! - *warm*: through a daemon with the default settings, each time once `crdb_proxy_warm_ready` says that an
//!   upstream waits. The first two connections are not counted, on any path.
//!
//! **Second part.** 1000 clients connect at once, each asks `SELECT 1`, and all stay until the last has its
//! answer: directly over TLS, and through a cold daemon with `logins_max = 64`, to a server on loopback without
//! delay that takes 1200. It is a matter of processor time, which client, daemon and server share here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "as in the tests, whose harness this is built on"
)]

// A module around it, since the path of a file would take the harness's own modules for its neighbours.
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
#[path = "../tests/it"]
mod it {
    pub(crate) mod harness;
}

use it::harness::{
    self, Authority, DEADLINE, PASSWORD, Postgres, SettingsFile, TestProxy, relay::Relay, settings::Cluster,
    wire::SSL_REQUEST,
};
use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::CertificateDer, pki_types::pem::PemObject};
use std::{
    error::Error,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_postgres::{Client, Config, NoTls, config::SslMode};
use tokio_rustls::TlsConnector;

const ROUND_TRIP: Duration = Duration::from_millis(40);
const CLIENTS: usize = 1000;
/// A crowd on a busy machine may take its time; nothing else does.
const CROWD_LIMIT: Duration = Duration::from_secs(120);

fn main() {
    // Cargo adds `--bench`.
    let rounds = std::env::args().skip(1).find(|argument| argument != "--bench").map_or(21, |argument| {
        let rounds = argument.parse::<std::num::NonZero<usize>>();
        rounds.unwrap_or_else(|_| panic!("{argument} is not a number of rounds, of at least 1")).get()
    });
    let runtime = Runtime::new().unwrap();
    first_answers(&runtime, rounds);
    crowds(&runtime, 3);
}

/// A way to the server.
#[derive(Clone)]
struct Path {
    address: SocketAddr,
    /// Present on the direct path.
    tls: Option<TlsConnector>,
}

impl Path {
    fn direct(address: SocketAddr, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // PostgreSQL knows this group only. Any other guess costs a round trip, which CockroachDB asks of nobody
        // and the daemon pays once, since it remembers.
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::SECP256R1];
        let config =
            ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled(); // A new process of psql has nothing to resume.
        Self { address, tls: Some(Arc::new(config).into()) }
    }

    fn through(proxy: &TestProxy) -> Self {
        Self { address: proxy.address(), tls: None }
    }

    /// Connects, asks one query, and gives the open connection.
    async fn first_answer(&self) -> Result<Connected, Box<dyn Error + Send + Sync>> {
        let mut socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Connected::over(socket).await };
        socket.write_all(&SSL_REQUEST).await?;
        if socket.read_u8().await? != b'S' {
            return Err("the server declines TLS".into());
        }
        Connected::over(tls.connect("localhost".try_into()?, socket).await?).await
    }
}

struct Connected {
    client: Client,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Connected {
    async fn over<S>(stream: S) -> Result<Self, Box<dyn Error + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = Config::new();
        config.user("app").password(PASSWORD).dbname("defaultdb").ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let connected = Self { client, connection: tokio::spawn(connection) };
        connected.client.simple_query("SELECT 1").await?;
        Ok(connected)
    }

    async fn close(self) {
        drop(self.client);
        self.connection.await.ok();
    }
}

fn first_answers(runtime: &Runtime, rounds: usize) {
    let postgres = Postgres::start();
    let relay = Relay::to(postgres.address(), ROUND_TRIP);
    let direct = Path::direct(relay.address(), &postgres.authority);
    let settings = || SettingsFile::trusting(&postgres.authority).usual_log().endpoint("first", relay.address());
    let (cold, warm) = (settings().global("warm_max = 0").start(), settings().start());
    let (path_of_cold, path_of_warm) = (Path::through(&cold), Path::through(&warm));

    let (mut direct_times, mut cold_times, mut warm_times) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds + 2 {
        direct_times.push(time_of(runtime, &direct));
        cold_times.push(time_of(runtime, &path_of_cold));
        // The first two make the daemon expect a third.
        if round >= 2 {
            wait_for_warm(&warm);
        }
        warm_times.push(time_of(runtime, &path_of_warm));
    }

    println!("\nConnect and first query, {ROUND_TRIP:?} round trip, {rounds} rounds\n");
    println!("{:<28}{:>10}{:>10}{:>10}{:>12}", "path", "median", "least", "most", "of direct");
    let base = Row::of(&direct_times[2..]);
    base.print("direct, TLS and SCRAM", &base);
    Row::of(&cold_times[2..]).print("daemon, cold", &base);
    Row::of(&warm_times[2..]).print("daemon, warm", &base);
    println!("warm, in round trips: {:.2}", Row::of(&warm_times[2..]).median.as_secs_f64() / ROUND_TRIP.as_secs_f64());
}

fn time_of(runtime: &Runtime, path: &Path) -> Duration {
    let start = Instant::now();
    let connected = runtime.block_on(async { timeout(DEADLINE, path.first_answer()).await });
    let connected = connected.expect("no answer in time").unwrap();
    let took = start.elapsed();
    runtime.block_on(connected.close());
    took
}

fn warm_ready(proxy: &TestProxy) -> Option<f64> {
    proxy.metric("crdb_proxy_warm_ready", &[("listener", "main")])
}

/// Asks until an upstream waits: a metric announces nothing.
fn wait_for_warm(proxy: &TestProxy) {
    let end = Instant::now() + DEADLINE;
    while warm_ready(proxy) < Some(1.0) {
        assert!(Instant::now() < end, "no upstream is kept warm");
        thread::sleep(Duration::from_millis(10));
    }
}

struct Row {
    median: Duration,
    least: Duration,
    most: Duration,
}

impl Row {
    fn of(times: &[Duration]) -> Self {
        let mut times = times.to_vec();
        times.sort();
        Self { median: times[times.len() / 2], least: times[0], most: times[times.len() - 1] }
    }

    fn print(&self, name: &str, base: &Self) {
        let [median, least, most] = [self.median, self.least, self.most].map(milliseconds);
        println!("{name:<28}{median:>10}{least:>10}{most:>10}{:>12}", ratio(self.median, base.median));
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn ratio(time: Duration, base: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() / base.as_secs_f64())
}

fn crowds(runtime: &Runtime, rounds: usize) {
    let postgres = Postgres::configured(Authority::new(), &["max_connections=1200"]);
    let settings = SettingsFile::of(&postgres).usual_log().global("warm_max = 0\nlogins_max = 64");
    let proxy = settings.start();
    let paths = [
        ("direct, TLS and SCRAM", Path::direct(postgres.address(), &postgres.authority)),
        ("daemon, cold", Path::through(&proxy)),
    ];

    let mut walls = [Vec::new(), Vec::new()];
    let mut errors = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (at, (_, path)) in paths.iter().enumerate() {
            let (wall, failed) = runtime.block_on(crowd(path));
            walls[at].push(wall);
            errors[at].extend(failed);
            wait_until_empty(&postgres);
        }
    }

    println!("\n{CLIENTS} clients at once, logins_max = 64, no delay, {rounds} rounds\n");
    println!("{:<28}{:>10}{:>10}{:>10}{:>12}", "path", "median", "least", "most", "of direct");
    let base = Row::of(&walls[0]);
    for ((name, _), walls) in paths.iter().zip(&walls) {
        Row::of(walls).print(name, &base);
    }
    for ((name, _), errors) in paths.iter().zip(&errors) {
        let first = errors.first().map(|error| format!(", the first: {error}")).unwrap_or_default();
        println!("errors of {name}: {} of {}{first}", errors.len(), CLIENTS * rounds);
    }
    assert!(errors.iter().all(Vec::is_empty), "clients that got no answer are not slower or quicker than others");
}

/// How long it took until the last client had its answer, and what those were told that got none.
async fn crowd(path: &Path) -> (Duration, Vec<String>) {
    let mut clients = JoinSet::new();
    let start = Instant::now();
    for _ in 0..CLIENTS {
        let path = path.clone();
        clients.spawn(async move { timeout(CROWD_LIMIT, path.first_answer()).await });
    }
    let outcomes = clients.join_all().await;
    let wall = start.elapsed();
    let (mut open, mut errors) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(Ok(connected)) => open.push(connected),
            Ok(Err(error)) => errors.push(chain(&*error)),
            Err(_) => errors.push(format!("no answer in {CROWD_LIMIT:?}")),
        }
    }
    for connected in open {
        connected.close().await;
    }
    (wall, errors)
}

/// An error and its causes; tokio-postgres says little in the first.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Waits until the server has ended all sessions but the one that asks, as the next crowd needs their places.
fn wait_until_empty(postgres: &Postgres) {
    postgres.sql(
        "do $$ begin
             while (select count(*) from pg_stat_activity where backend_type = 'client backend') > 1 loop
                 perform pg_sleep(0.01), pg_stat_clear_snapshot();
             end loop;
         end $$",
    );
}
