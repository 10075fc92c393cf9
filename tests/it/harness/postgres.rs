//! A real PostgreSQL server, as a cluster's region: TLS from a throwaway authority, SCRAM logins.
//!
//! Every test has a server of its own, so that it may stop it, fill it or read its log. `initdb`
//! takes a second or two, so it runs once: its result, roles and databases included, is kept in
//! `target/tmp` and copied for each server, which then starts in a fraction of a second. The copy is
//! guarded by a file lock, since test processes run side by side.

mod processes;

use super::{
    Authority, DEADLINE, PASSWORD,
    certificates::Identity,
    port::Port,
    process::{self, Lines, mortal},
    settings::Cluster,
};
use rustix::process::Signal;
use std::{
    fs::{self, File, Permissions},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

/// A running server; stopped and removed when dropped, whatever was done to it.
pub(crate) struct Postgres {
    /// What signed its certificate.
    pub(crate) authority: Authority,
    child: Child,
    log: Arc<Lines>,
    settings: Vec<String>,
    port: Port,
    folder: TempDir,
}

impl Postgres {
    /// With the usual certificate and configuration.
    pub(crate) fn start() -> Self {
        Self::configured(Authority::new(), &[])
    }

    /// With a certificate of `authority` and more settings, each `name=value`.
    pub(crate) fn configured(authority: Authority, settings: &[&str]) -> Self {
        let identity = authority.server();
        Self::with_identity(authority, &identity, settings)
    }

    /// With exactly this certificate.
    pub(crate) fn with_identity(authority: Authority, identity: &Identity, settings: &[&str]) -> Self {
        Self::starting(authority, identity, settings).ready()
    }

    /// One server for each region of a cluster: they share an authority, and no data.
    pub(crate) fn regions(count: usize) -> Vec<Self> {
        let authority = Authority::new();
        let start = |_| Self::starting(authority.clone(), &authority.server(), &[]);
        // All are under way before the first is waited for.
        let starting = (0..count).map(start).collect::<Vec<_>>();
        starting.into_iter().map(Self::ready).collect()
    }

    /// Kills all its processes at once (SIGKILL): the kernel closes their connections, and nothing is said.
    pub(crate) fn kill(&mut self) {
        // One that is stopped starts no others while they are counted.
        self.stop_process();
        self.signal_all(Signal::KILL);
        self.child.wait().unwrap();
        // All of them hold the log's pipe, so its end is that of the last one.
        assert!(self.log.ended_within(DEADLINE), "a process of the server outlives it");
        processes::remove_shared_memory(&self.folder.path().join("data"));
    }

    /// Stops all its processes where they are (SIGSTOP): connections are accepted by the kernel, nobody answers.
    pub(crate) fn stop_process(&self) {
        processes::stop(&self.child);
        self.signal_all(Signal::STOP);
    }

    /// Lets them go on after [`Self::stop_process`].
    pub(crate) fn continue_process(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Starts the server again on the same port, with the same data; one that still runs is shut down first,
    /// which tells its clients so (57P01).
    pub(crate) fn restart(&mut self) {
        self.end(Signal::INT);
        (self.child, self.log) = spawn(self.folder.path(), &self.port, &self.settings);
        self.wait_until_ready();
    }

    /// Shows this certificate from now on.
    pub(crate) fn show(&self, identity: &Identity) {
        for (name, text) in [("server.crt", &identity.certificate), ("server.key", &identity.key)] {
            // Over the file that is there, which has its mode and owner already.
            fs::write(self.folder.path().join("data").join(name), text).unwrap();
        }
        assert_eq!(self.sql("select pg_reload_conf()").trim(), "t");
    }

    /// Runs SQL as the superuser, past the daemon; gives the rows as unaligned text.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "defaultdb", "-c", sql]);
        psql.arg("-h").arg(self.folder.path()).args(["-p", &self.address().port().to_string()]);
        process::run(&mut psql, "", DEADLINE).expect_success()
    }

    fn starting(authority: Authority, identity: &Identity, settings: &[&str]) -> Self {
        let folder = data_folder();
        for (name, text) in [
            ("server.crt", identity.certificate.as_str()),
            ("server.key", &identity.key),
            ("ca.crt", authority.pem()),
            ("pg_hba.conf", HOST_BASED_AUTHENTICATION),
        ] {
            let path = folder.path().join("data").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            give_away(&path);
        }
        let (port, settings) = (Port::reserve(), settings.iter().map(|&setting| setting.into()).collect::<Vec<_>>());
        let (child, log) = spawn(folder.path(), &port, &settings);
        Self { authority, child, log, settings, port, folder }
    }

    fn ready(self) -> Self {
        self.wait_until_ready();
        self
    }

    /// Its log is shown, as always on a panic, if it does not get there.
    fn wait_until_ready(&self) {
        let ready = self.log.find(|line| line.contains("ready to accept connections").then_some(()));
        assert!(ready.is_some(), "PostgreSQL did not start");
    }

    /// Ends the server in the way of `signal`, unless it has ended.
    fn end(&mut self, signal: Signal) {
        if let Ok(None) = self.child.try_wait() {
            self.continue_process();
            process::signal(&self.child, signal);
            if !self.log.ended_within(DEADLINE) {
                self.signal_all(Signal::KILL);
            }
            self.child.wait().ok();
        }
    }

    fn signal_all(&self, signal: Signal) {
        for process in processes::of(&self.child) {
            // One that has ended by itself needs none.
            rustix::process::kill_process(process, signal).ok();
        }
    }
}

impl Cluster for Postgres {
    fn authority(&self) -> &Authority {
        &self.authority
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL's log\n{}", process::tail(&self.log.all()));
        }
        self.end(Signal::QUIT);
    }
}

/// A program of the PostgreSQL installation: of `$PG_BIN`, else of the newest in Debian's place.
pub(crate) fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return PathBuf::from(folder).join(name);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    let newest = newest.expect("no PostgreSQL in /usr/lib/postgresql or $PG_BIN; `tests/run` installs it");
    newest.path().join("bin").join(name)
}

/// A fresh copy of the initialised data folder, beside the server's Unix socket.
fn data_folder() -> TempDir {
    let template = template();
    let folder = tempfile::Builder::new().prefix("crdb-proxy-pg-").tempdir_in(data_root()).unwrap();
    give_away(folder.path());
    // As root the copy keeps its owner, the user postgres.
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(template).arg(folder.path().join("data"));
    process::run(&mut copy, "", DEADLINE).expect_success();
    folder
}

/// In memory where there is room for many servers: creating a thousand files on a disk takes a second.
pub(crate) fn data_root() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if free > 2 << 30 { memory.into() } else { std::env::temp_dir() }
}

/// The data folder that every server begins with, made by whoever comes first.
fn template() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut hasher = DefaultHasher::new();
    (program("initdb"), initial_sql(), rustix::process::getuid().as_raw()).hash(&mut hasher);
    let template = target.join(format!("postgres-{:016x}", hasher.finish()));
    let lock = File::create(template.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        let folder = tempfile::Builder::new().prefix("crdb-proxy-pg-").tempdir().unwrap();
        give_away(folder.path());
        let data = folder.path().join("data");
        let mut initdb = mortal(&program("initdb"), "KILL", database_user());
        initdb.args(["--no-sync", "--username=postgres", "--auth=reject", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--wal-segsize=1", "-D"]).arg(&data).env("LC_ALL", "C.UTF-8").current_dir("/");
        process::run(&mut initdb, "", Duration::from_secs(60)).expect_success();
        let mut single = mortal(&program("postgres"), "KILL", database_user());
        single.args(["--single", "-j", "-F", "-D"]).arg(&data).arg("postgres").current_dir("/");
        let finished = process::run(&mut single, &initial_sql(), Duration::from_secs(60));
        assert!(!finished.stderr.contains("ERROR"), "{}", finished.stderr);
        finished.expect_success();
        let unfinished = template.with_extension("unfinished");
        fs::remove_dir_all(&unfinished).ok();
        let mut copy = Command::new("cp");
        process::run(copy.arg("-a").arg(&data).arg(&unfinished), "", Duration::from_secs(60)).expect_success();
        fs::rename(unfinished, &template).unwrap();
    }
    template
}

fn spawn(folder: &Path, port: &Port, settings: &[String]) -> (Child, Arc<Lines>) {
    let mut command = mortal(&program("postgres"), "QUIT", database_user());
    command.arg("-D").arg(folder.join("data")).current_dir("/").stdin(Stdio::null()).stderr(Stdio::piped());
    let own = [format!("port={}", port.address().port()), format!("unix_socket_directories={}", folder.display())];
    for setting in CONFIGURATION.iter().copied().chain(own.iter().chain(settings).map(String::as_str)) {
        command.args(["-c", setting]);
    }
    let mut child = command.spawn().unwrap();
    let log = Lines::of(child.stderr.take().unwrap());
    (child, log)
}

/// PostgreSQL refuses to run as root; Debian's package makes this user.
pub(crate) fn database_user() -> Option<&'static str> {
    rustix::process::getuid().is_root().then_some("postgres")
}

/// Makes a path the server's own where the server runs as another user.
pub(crate) fn give_away(path: &Path) {
    if database_user().is_some() {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let entry = passwd.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
        let ids = entry.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
        chown(path, Some(ids[0]), Some(ids[1])).unwrap();
    }
}

/// In single-user mode with `-j` a statement ends at a semicolon before an empty line.
fn initial_sql() -> String {
    [
        &format!("CREATE ROLE app LOGIN CREATEDB REPLICATION PASSWORD '{PASSWORD}'"),
        &format!("CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'"),
        &format!("CREATE ROLE double LOGIN PASSWORD '{PASSWORD}'"),
        "CREATE ROLE certified LOGIN",
        "CREATE ROLE locked NOLOGIN PASSWORD 'x'",
        "GRANT pg_signal_backend TO app",
        "CREATE DATABASE defaultdb OWNER app",
        "CREATE DATABASE other OWNER app",
    ]
    .map(|statement| format!("{statement};\n\n"))
    .concat()
}

/// Cleartext for `plain`, a certificate for `certified`, certificate and password for `double`, SCRAM
/// for all others; nothing without TLS. The superuser's way in is the socket in the temporary folder.
const HOST_BASED_AUTHENTICATION: &str = "
local   all          postgres        trust
hostssl all          plain      all  password
hostssl all          certified  all  cert
hostssl all          double     all  scram-sha-256 clientcert=verify-full
hostssl replication  app        all  scram-sha-256
hostssl all          all        all  scram-sha-256
";

const CONFIGURATION: &[&str] = &[
    "listen_addresses=127.0.0.1,::1",
    "ssl=on",
    "ssl_ca_file=ca.crt",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "min_wal_size=2MB",
    "max_connections=300",
    "wal_level=logical",
    "max_wal_senders=4",
    "autovacuum=off",
    // In the data folder, so that a killed server leaves none behind in /dev/shm.
    "dynamic_shared_memory_type=mmap",
    "log_connections=on",
    "log_disconnections=on",
];
