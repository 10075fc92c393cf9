//! Proxies of others that do what the daemon does: clients in clear on loopback, verified TLS to the server.

use crate::{
    harness::{
        DEADLINE, PASSWORD,
        port::Port,
        postgres::{database_user, give_away},
        process::{Lines, mortal, tail},
        settings::Cluster,
    },
    paths::{OWN_SESSION, Path, Server, through_peer},
    processes::{find_program, first_line},
};
use std::{
    fs,
    net::TcpStream,
    process::{Child, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running one; killed when dropped.
pub(crate) struct Peer {
    child: Child,
    log: Arc<Lines>,
    port: Port,
    _folder: TempDir,
}

/// With session pooling, in which a client has its server connection for itself as long as it stays, and which gives
/// that connection to a later client after `DISCARD ALL`. What is not named is as it is by default, its log too.
pub(crate) fn pgbouncer(server: &Server) -> Result<Path, String> {
    let configuration = |port: u16, folder: &str| {
        format!(
            "[databases]\n\
             defaultdb = host=127.0.0.1 port={} dbname=defaultdb user=app password='{PASSWORD}'\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = session\n\
             default_pool_size = 2000\n\
             max_client_conn = 2000\n\
             server_tls_sslmode = verify-full\n\
             server_tls_ca_file = {folder}/ca.crt\n",
            server.postgres.address().port()
        )
    };
    let peer = Peer::start("pgbouncer", &[], configuration, &[("ca.crt", server.postgres.authority.pem())])?;
    Ok(through_peer("pgbouncer", peer, "app"))
}

/// As a plain wrapper in TLS, which can do no more than show a certificate: libpq refuses the SCRAM-SHA-256-PLUS that
/// PostgreSQL offers over TLS on a connection which libpq sees in clear. It knows no SSLRequest either.
pub(crate) fn haproxy(server: &Server) -> Result<Path, String> {
    let version = first_line("postgres", "--version").unwrap_or_default();
    let major = version.split(' ').find_map(|word| word.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < 17) {
        return Err(format!("haproxy: it needs TLS without SSLRequest, from PostgreSQL 17 on, and this is {version}"));
    }
    let configuration = |port: u16, folder: &str| {
        format!(
            "global\n    maxconn 4000\n\
             defaults\n    mode tcp\n    timeout connect 10s\n    timeout client 1h\n    timeout server 1h\n\
             listen sql\n    bind 127.0.0.1:{port}\n    \
             server first 127.0.0.1:{} ssl verify required ca-file {folder}/ca.crt crt {folder}/client.pem \
             verifyhost localhost sni str(localhost) alpn postgresql\n",
            server.postgres.address().port()
        )
    };
    let client = server.postgres.authority.client("certified");
    let identity = format!("{}{}", client.certificate, client.key);
    let files = [("ca.crt", server.postgres.authority.pem()), ("client.pem", &identity)];
    let peer = Peer::start("haproxy", &["-db", "-f"], configuration, &files)?;
    Ok(through_peer("haproxy", peer, "certified"))
}

impl Peer {
    /// Runs `program` with these arguments and the name of its configuration, which is told its port and folder.
    fn start(
        program: &str,
        arguments: &[&str],
        configuration: impl FnOnce(u16, &str) -> String,
        files: &[(&str, &str)],
    ) -> Result<Self, String> {
        let found = find_program(program).ok_or_else(|| format!("{program}: it is not installed"))?;
        let folder = tempfile::Builder::new().prefix("crdb-proxy-bench-").tempdir().unwrap();
        let port = Port::reserve();
        let text = configuration(port.address().port(), &folder.path().display().to_string());
        for (name, text) in files.iter().chain(&[("configuration", text.as_str())]) {
            fs::write(folder.path().join(name), text).unwrap();
            give_away(&folder.path().join(name));
        }
        give_away(folder.path());
        // pgbouncer refuses to run as root, as PostgreSQL does.
        let mut command = mortal(OWN_SESSION.as_ref(), "KILL", database_user());
        command.arg(found).args(arguments).arg(folder.path().join("configuration")).current_dir("/");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let peer = Self { child, log, port, _folder: folder };
        peer.wait_until_listening(program);
        Ok(peer)
    }

    /// Connects until it works: not all of them say when they listen.
    fn wait_until_listening(&self, program: &str) {
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(self.port.address()).is_err() {
            let is_late = Instant::now() > end || self.log.ended_within(Duration::ZERO);
            assert!(!is_late, "{program} does not listen");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.address().port()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("--- a peer's log\n{}", tail(&self.log.all()));
        }
    }
}
