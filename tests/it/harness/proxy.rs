//! The daemon's own binary, its log and its admin address.

use super::{
    DEADLINE, TestClient,
    hunt::{self, Leak, Secrets},
    process::{self, Finished, Lines, mortal},
    settings::{Cluster, SettingsFile, write_private},
    wire::{Stream, Wire},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running daemon; killed when dropped, and its log shown if the test fails.
pub(crate) struct TestProxy {
    child: Child,
    log: Arc<Lines>,
    stdout: Arc<Lines>,
    secrets: Secrets,
    folder: TempDir,
}

impl TestProxy {
    /// In front of `cluster`, with the usual settings.
    pub(crate) fn before(cluster: &impl Cluster) -> Self {
        SettingsFile::of(cluster).start()
    }

    /// The binary with a clean environment; killed with the test.
    pub(crate) fn command(folder: &Path) -> Command {
        Self::command_behind(&[], folder)
    }

    /// The same behind a program that becomes it, such as `prlimit --nofile=100 --`.
    pub(crate) fn command_behind(prefix: &[&str], folder: &Path) -> Command {
        let words = [prefix, &[env!("CARGO_BIN_EXE_crdb-proxy")]].concat();
        let mut command = mortal(Path::new(words[0]), "KILL", None);
        command.args(&words[1..]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", folder);
        command.current_dir(folder);
        command
    }

    /// Starts a command made by [`Self::command`]; `folder` lives as long as the daemon.
    pub(crate) fn spawn(mut command: Command, folder: TempDir) -> Self {
        let secrets = Secrets::of(folder.path(), &command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, log) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child, log, stdout, secrets, folder }
    }

    /// Where the listener `main`, or the only one, listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of(|name| name != "admin").parse().unwrap()
    }

    /// Where the listener with this name listens: an address, or the path of a socket.
    pub(crate) fn listener(&self, listener: &str) -> String {
        self.address_of(|name| name == listener)
    }

    fn address_of(&self, accept: impl Fn(&str) -> bool) -> String {
        let line = self
            .wait_for_log(|line| line["message"] == "listening" && line["listener.name"].as_str().is_some_and(&accept));
        line["listener.addr"].as_str().unwrap().to_owned()
    }

    /// Waits for a log line, past ones included.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, accept: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str(line).ok().filter(&accept);
        self.log.find(parse).unwrap_or_else(|| panic!("the daemon never logged it"))
    }

    /// Waits for a line that contains this text, whatever its format.
    #[track_caller]
    pub(crate) fn wait_for_text(&self, text: &str) {
        self.log
            .find(|line| line.contains(text).then_some(()))
            .unwrap_or_else(|| panic!("the daemon never said {text}"));
    }

    /// Waits for a line with this message.
    #[track_caller]
    pub(crate) fn wait_for_message(&self, message: &str) -> Value {
        self.wait_for_log(|line| line["message"] == message)
    }

    /// Whether no line with this message comes for `span`, and none has. Only for what must *not* happen.
    pub(crate) fn never_says(&self, message: &str, span: Duration) -> bool {
        let says = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|line| line["message"] == message);
        self.log.find_within(span, |line| says(line).then_some(())).is_none()
    }

    /// The log so far, parsed.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        self.log.all().iter().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The log so far, as written.
    pub(crate) fn log_text(&self) -> String {
        self.log.all().join("\n")
    }

    /// What the daemon wrote to standard output.
    pub(crate) fn stdout_text(&self) -> String {
        self.stdout.all().join("\n")
    }

    /// A connection that has not said anything yet.
    pub(crate) fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address()).unwrap())
    }

    /// A client that has sent this startup and waits for the answer.
    pub(crate) fn startup(&self, parameters: &[(&str, &str)]) -> Wire {
        let mut wire = self.connect();
        wire.send(&super::wire::startup(parameters));
        wire
    }

    /// A client that is logged in.
    #[track_caller]
    pub(crate) fn client(&self) -> TestClient {
        let client = TestClient::log_in(self.connect(), &[("user", "anyone")]);
        self.secrets.add_cancel_key(&client.key);
        client
    }

    /// One request to the admin address: status and body.
    pub(crate) fn http(&self, request_line: &str, headers: &str) -> (u16, String, String) {
        let address = self.listener("admin");
        let mut socket: Box<dyn Stream> = match address.strip_prefix("unix:") {
            Some(path) => Box::new(UnixStream::connect(path).unwrap()),
            None => Box::new(TcpStream::connect(&address).unwrap()),
        };
        socket.socket().set_read_timeout(Some(DEADLINE)).unwrap();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        write!(socket, "{request_line} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a complete answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(!head.to_ascii_lowercase().contains("chunked"), "this client reads whole bodies only");
        (status, head.to_owned(), body.to_owned())
    }

    /// `/metrics` as text.
    pub(crate) fn metrics(&self) -> String {
        let (status, _, body) = self.http("GET /metrics", "");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The value of the series with this name and all of these labels; absent if there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        series(&self.metrics(), name, labels)
    }

    /// Asks for a metric until it has `value`: a metric announces nothing, so this is the one thing polled.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let end = Instant::now() + DEADLINE;
        loop {
            let metrics = self.metrics();
            let found = series(&metrics, name, labels);
            if found == Some(value) {
                return;
            }
            assert!(Instant::now() < end, "{name}{labels:?} is {found:?}, not {value}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks until the listener `main` has refused `count` clients for `reason`.
    #[track_caller]
    pub(crate) fn wait_for_refusals(&self, reason: &str, count: f64) {
        let labels = [("listener", "main"), ("reason", reason)];
        self.wait_for_metric("crdb_proxy_client_connections_refused_total", &labels, count);
    }

    /// Asks until the listener `main` has closed `count` sessions for `reason`.
    #[track_caller]
    pub(crate) fn wait_for_closed(&self, reason: &str, count: f64) {
        let labels = [("listener", "main"), ("reason", reason)];
        self.wait_for_metric("crdb_proxy_client_connections_closed_total", &labels, count);
    }

    /// Asks until the listener `main` has `count` clients.
    #[track_caller]
    pub(crate) fn wait_for_active(&self, count: f64) {
        self.wait_for_metric("crdb_proxy_client_connections_active", &[("listener", "main")], count);
    }

    /// `/status`.
    pub(crate) fn status(&self) -> Value {
        let (status, _, body) = self.http("GET /status", "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Asks `/status` until it is as wanted, which nothing announces.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, is_so: impl Fn(&Value) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !is_so(&self.status()) {
            assert!(Instant::now() < end, "{}", self.status());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Changes the settings file in one step.
    pub(crate) fn rewrite_settings(&self, change: impl Fn(&str) -> String) {
        let file = self.path("crdb-proxy.toml");
        let text = change(&fs::read_to_string(&file).unwrap());
        write_private(&file, &text);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(&self.child, signal);
    }

    /// Waits for the daemon's end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        assert!(self.log.ended_within(DEADLINE), "the daemon is still running");
        self.child.wait().unwrap()
    }

    /// Waits for the daemon's end; its exit code, or minus the signal that ended it.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = self.ended();
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }

    /// One more text that the daemon must say nowhere; what lies beside its settings is known anyhow.
    pub(crate) fn keep_secret(&self, secret: &str) {
        self.secrets.add(secret);
    }

    /// The secrets that the daemon is looked at for.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where the daemon has told a secret so far.
    pub(crate) fn leaks(&self) -> Vec<Leak> {
        self.secrets.add_files(self.folder.path());
        let mut leaks = self.leaks_served();
        leaks.extend(self.secrets.in_text("log", &self.log_text()));
        leaks.extend(self.secrets.in_text("stdout", &self.stdout_text()));
        leaks
    }

    /// The same of what the admin address shows, as long as the daemon is there.
    fn leaks_served(&self) -> Vec<Leak> {
        let served = if self.log.ended_within(Duration::ZERO) { Vec::new() } else { hunt::served(&self.log.all()) };
        served.iter().flat_map(|(channel, text)| self.secrets.in_text(channel, text)).collect()
    }

    /// SIGTERM, and the exit code.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> i32 {
        let leaks = self.leaks_served();
        assert!(leaks.is_empty(), "the daemon serves secrets: {leaks:#?}");
        self.signal(Signal::TERM);
        self.exit_code()
    }

    /// The process, for /proc.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        // Only root may look; others take the daemon's word.
        let seen = fs::read_dir(format!("/proc/{}/fd", self.pid())).map(Iterator::count);
        seen.unwrap_or_else(|_| self.metric("process_open_fds", &[]).unwrap() as usize)
    }

    /// The memory in use now, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// How often its threads have gone to sleep so far.
    pub(crate) fn wake_ups(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten();
        // A thread may end at any time.
        let of_one = |thread: fs::DirEntry| {
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        threads.filter_map(of_one).sum()
    }

    /// A file beside the settings.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        let is_passing = !std::thread::panicking();
        let mut leaks = if is_passing { self.leaks_served() } else { Vec::new() };
        self.child.kill().ok();
        self.child.wait().ok();
        if is_passing {
            // Whatever was written last has arrived then.
            self.log.ended_within(DEADLINE);
            leaks.extend(self.leaks());
            assert!(leaks.is_empty(), "the daemon tells secrets: {leaks:#?}");
        } else {
            eprintln!("--- the daemon's log\n{}", process::tail(&self.log.all()));
        }
    }
}

/// Runs the daemon's binary to its end: a command, or a start that must fail.
#[track_caller]
pub(crate) fn run_daemon(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = TestProxy::command(folder);
    command.args(arguments).envs(variables.iter().copied());
    let secrets = Secrets::of(folder, &command);
    let finished = process::run(&mut command, "", DEADLINE);
    let leaks = [secrets.in_text("log", &finished.stderr), secrets.in_text("stdout", &finished.stdout)].concat();
    assert!(leaks.is_empty(), "{arguments:?} tells secrets: {leaks:#?}");
    finished
}

/// A port on which nothing listens.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// The value of one series in the text that `/metrics` gives.
pub(crate) fn series(metrics: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    metrics.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, found_labels) = series.split_once('{').unwrap_or((series, ""));
        let has = |(key, value): &(&str, &str)| found_labels.contains(&format!("{key}=\"{value}\""));
        (found == name && labels.iter().all(has)).then(|| value.parse().unwrap())
    })
}
