//! A real PostgreSQL server, as a cluster's region: TLS from a throwaway authority, SCRAM logins.
//!
//! Every test has a server of its own, so that it may stop it, fill it or read its log. `initdb`
//! takes a second or two, so it runs once: its result, roles and databases included, is kept in
//! `target/tmp` and copied for each server, which then starts in a fraction of a second. The copy is
//! guarded by a file lock, since test processes run side by side.

use super::{
    Authority, PASSWORD,
    certificates::Identity,
    process::{self, Lines, mortal},
    settings::Cluster,
};
use std::{
    fs::{self, File, Permissions},
    hash::{DefaultHasher, Hash, Hasher},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// A running server; stopped and removed when dropped.
pub(crate) struct Postgres {
    /// What signed its certificate.
    pub(crate) authority: Authority,
    child: Child,
    log: Arc<Lines>,
    port: u16,
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
        // Another process may take a port between the look and the bind; the server says so and the next is tried.
        for _ in 0..20 {
            let port = free_port();
            let mut child = server(folder.path(), port, settings).spawn().unwrap();
            let log = Lines::of(child.stderr.take().unwrap());
            if log.find(|line| line.contains("ready to accept connections").then_some(())).is_some() {
                return Self { authority, child, log, port, folder };
            }
            child.kill().ok();
            child.wait().unwrap();
            let log = log.all().join("\n");
            assert!(log.contains("Address already in use"), "PostgreSQL did not start:\n{log}");
        }
        panic!("no free port for PostgreSQL in twenty tries");
    }

    /// Runs SQL as the superuser, past the daemon; gives the rows as unaligned text.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "defaultdb", "-c", sql]);
        psql.arg("-h").arg(self.folder.path()).args(["-p", &self.port.to_string()]);
        process::run(&mut psql, "", super::DEADLINE).expect_success()
    }
}

impl Cluster for Postgres {
    fn authority(&self) -> &Authority {
        &self.authority
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL's log\n{}", process::tail(&self.log.all()));
        }
        process::signal(&self.child, rustix::process::Signal::QUIT);
        self.child.wait().ok();
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
    process::run(&mut copy, "", super::DEADLINE).expect_success();
    folder
}

/// In memory where there is room for many servers: creating a thousand files on a disk takes a second.
fn data_root() -> PathBuf {
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

fn server(folder: &Path, port: u16, settings: &[&str]) -> Command {
    let mut command = mortal(&program("postgres"), "QUIT", database_user());
    command.arg("-D").arg(folder.join("data")).current_dir("/").stdin(Stdio::null()).stderr(Stdio::piped());
    let own = [format!("port={port}"), format!("unix_socket_directories={}", folder.display())];
    let own = own.iter().map(String::as_str);
    for setting in CONFIGURATION.iter().copied().chain(own).chain(settings.iter().copied()) {
        command.args(["-c", setting]);
    }
    command
}

/// PostgreSQL refuses to run as root; Debian's package makes this user.
fn database_user() -> Option<&'static str> {
    rustix::process::getuid().is_root().then_some("postgres")
}

/// Makes a path the server's own where the server runs as another user.
fn give_away(path: &Path) {
    if database_user().is_some() {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let entry = passwd.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
        let ids = entry.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
        chown(path, Some(ids[0]), Some(ids[1])).unwrap();
    }
}

/// A port that is free now, from below the range that the kernel gives to outgoing connections,
/// which the many sockets of tests running side by side are taken from.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id() as u16;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + process.wrapping_mul(97).wrapping_add(step) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
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
    "log_connections=on",
    "log_disconnections=on",
];
