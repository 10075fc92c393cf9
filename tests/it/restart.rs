//! Restarts under load with a listening socket that outlives the daemon, as a socket unit's does.

use crate::harness::{
    DEADLINE, Postgres, SettingsFile, TestClient, TestProxy,
    postgres::program,
    process::{self, Lines, mortal},
    wire::Wire,
};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

const RESTARTS: usize = 20;

#[test]
fn restarts_beside_a_long_transaction_fail_no_transaction_that_had_not_begun() {
    let postgres = Postgres::start();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let start = || {
        // Clients wait in the socket while the long transaction is given time, so not for longer than they bear.
        let settings = SettingsFile::of(&postgres).global("drain_limit = \"500ms\"");
        settings.start_with(&[("main", socket.as_fd())])
    };
    let mut proxy = start();
    let load = Load::on(address);

    for round in 1..=RESTARTS {
        let mut long = client(address);
        long.query("begin");
        long.query("select 1");
        wait_for_statements(&proxy, 30.0);

        assert_eq!(proxy.terminate(), 4, "restart {round}: it cuts the one transaction that does not end");
        let lines = proxy.log_lines();
        let stopped = lines.iter().find(|line| line["message"] == "stopped").expect("a last line");
        assert_eq!(stopped["sessions.cut"], 1, "restart {round}");
        proxy = start();
    }
    client(address);
    load.goes_on();
    load.finish();
}

fn client(address: SocketAddr) -> TestClient {
    TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")])
}

/// Waits until this daemon has seen so many statements answered, which nothing announces.
#[track_caller]
fn wait_for_statements(proxy: &TestProxy, count: f64) {
    let end = Instant::now() + DEADLINE;
    while proxy.metric("crdb_proxy_statements_total", &[("listener", "main")]).unwrap() < count {
        assert!(Instant::now() < end, "nobody is served");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// pgbench with a new connection for each transaction, each of which waits three seconds at most. It ends at the
/// first that fails.
struct Load {
    child: Child,
    progress: Arc<Lines>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let connection =
            format!("host=127.0.0.1 port={} user=anyone dbname=defaultdb connect_timeout=3", address.port());
        let mut prepare = mortal(&program("pgbench"), "KILL", None);
        process::run(prepare.args(["-i", "-q", "-s", "1", &connection]), "", Duration::from_secs(60)).expect_success();
        let mut load = mortal(&program("pgbench"), "KILL", None);
        load.args(["-C", "-S", "-c", "4", "-j", "4", "-T", "3600", "-P", "1", &connection]);
        let mut child = load.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let progress = Lines::of(child.stderr.take().unwrap());
        let load = Self { child, progress };
        load.goes_on();
        load
    }

    /// Waits for the next line of its progress.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.progress.all();
        let goes_on = self.progress.find_after(before.len(), |line| line.contains("progress:").then_some(()));
        assert!(goes_on.is_some(), "pgbench makes no progress: {:?}", self.progress.all());
    }

    #[track_caller]
    fn finish(mut self) {
        let lines = self.progress.all();
        assert!(self.child.try_wait().unwrap().is_none(), "pgbench ended early: {lines:?}");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let is_wrong = |line: &&String| ["error", "FATAL", "aborted"].iter().any(|word| line.contains(word));
        assert_eq!(lines.iter().find(is_wrong), None);
        // The last figure of each line counts failed transactions.
        let failed = lines.iter().filter_map(|line| line.rsplit_once(", ")?.1.strip_suffix(" failed"));
        let failed = failed.collect::<Vec<_>>();
        assert!(failed.len() > 10 && failed.iter().all(|failed| *failed == "0"), "{lines:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
