//! The ways to the server: directly, and through the daemon.

use crate::{
    harness::{
        Authority, DEADLINE, PASSWORD, Postgres, SettingsFile, TestProxy,
        postgres::program,
        process::{self, Finished},
        settings::Cluster,
    },
    peers::Peer,
};
use std::{fs, process::Command, time::Duration};
use tempfile::TempDir;

/// PostgreSQL, and what its clients verify it with.
pub(crate) struct Server {
    pub(crate) postgres: Postgres,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let settings =
            ["max_connections=1100", "shared_buffers=128MB", "log_connections=off", "log_disconnections=off"];
        let postgres = Postgres::configured(Authority::new(), &settings);
        let folder = tempfile::Builder::new().prefix("crdb-proxy-bench-").tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), postgres.authority.pem()).unwrap();
        Self { postgres, folder }
    }

    /// Makes pgbench's tables, and one that COPY has as its target.
    pub(crate) fn fill(&self, path: &Path) {
        path.pgbench(&["-i", "-q", "-s", "1"], DEADLINE);
        let sql = "create unlogged table sink (line text); alter table sink owner to app; grant app to certified";
        self.postgres.sql(sql);
    }

    /// Waits until it has ended all sessions but the one that asks, as those to come need their places.
    pub(crate) fn wait_until_empty(&self) {
        self.postgres.sql(
            "do $$ begin
                 while (select count(*) from pg_stat_activity where backend_type = 'client backend') > 1 loop
                     perform pg_sleep(0.01), pg_stat_clear_snapshot();
                 end loop;
             end $$",
        );
    }
}

/// A way to the server.
pub(crate) struct Path {
    /// As in the table and the JSON file.
    pub(crate) name: &'static str,
    /// For libpq.
    pub(crate) connection: String,
    proxy: Option<Proxy>,
}

/// What is in the way; ended when dropped.
enum Proxy {
    Daemon(TestProxy),
    Peer(Peer),
}

pub(crate) const DIRECT: &str = "direct TLS";

/// As an application would be set up without any proxy.
pub(crate) fn direct(server: &Server) -> Path {
    let (port, ca) = (server.postgres.address().port(), server.folder.path().join("ca.crt"));
    let connection = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=app dbname=defaultdb sslmode=verify-full sslrootcert={}",
        ca.display()
    );
    Path { name: DIRECT, connection, proxy: None }
}

/// What every proxy starts behind: a session of its own, as one in another terminal has. Linux may share the processor
/// out among sessions first, so that a proxy in that of the clients would pay for what they do. It becomes the proxy
/// only while nothing here makes its children leaders of process groups.
pub(crate) const OWN_SESSION: &str = "setsid";

/// With the default settings.
pub(crate) fn daemon(server: &Server) -> Path {
    through_daemon("crdb-proxy", SettingsFile::of(&server.postgres))
}

/// With upstreams used again by later sessions, as pgbouncer does.
pub(crate) fn daemon_with_reuse(server: &Server) -> Path {
    through_daemon("crdb-proxy, reuse", SettingsFile::of(&server.postgres).listener("reuse = true"))
}

fn through_daemon(name: &'static str, settings: SettingsFile) -> Path {
    let proxy = settings.usual_log().behind(&[OWN_SESSION]).start();
    Path::through(name, proxy.address().port(), "app", Proxy::Daemon(proxy))
}

/// A peer that lets any local client in as `user`.
pub(crate) fn through_peer(name: &'static str, peer: Peer, user: &str) -> Path {
    Path::through(name, peer.port(), user, Proxy::Peer(peer))
}

impl Path {
    fn through(name: &'static str, port: u16, user: &str, proxy: Proxy) -> Self {
        let connection = format!("host=127.0.0.1 port={port} user={user} dbname=defaultdb sslmode=disable");
        Self { name, connection, proxy: Some(proxy) }
    }

    /// The process in the way.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.proxy.as_ref().map(|proxy| match proxy {
            Proxy::Daemon(daemon) => daemon.pid(),
            Proxy::Peer(peer) => peer.pid(),
        })
    }

    /// One of PostgreSQL's programs, to be given this path's connection as its last argument. Not by way of `PATH`,
    /// where Debian has a script that looks for the program and takes longer than a login.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = process::mortal(&program(name), "KILL", None);
        command.env("PGPASSWORD", PASSWORD).env("PGGSSENCMODE", "disable").env("PGCONNECT_TIMEOUT", "20");
        command
    }

    /// Runs pgbench to its end; gives its report.
    pub(crate) fn pgbench(&self, arguments: &[&str], limit: Duration) -> String {
        let report = self.run("pgbench", arguments, limit).expect_success();
        assert!(!report.contains("failed transactions:") || report.contains("failed transactions: 0 "), "{report}");
        report
    }

    /// Runs one of PostgreSQL's programs to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Finished {
        process::run(self.command(program).args(arguments).arg(&self.connection), "", limit)
    }
}
