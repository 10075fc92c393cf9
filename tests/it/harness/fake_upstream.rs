//! A scripted server for what PostgreSQL does not do: CockroachDB's ways, and bad manners.
//!
//! A thread accepts, a thread serves each connection: answer to SSLRequest, TLS, startup, login, key.
//! The logged-in connection then belongs to the test ([`FakeUpstream::session`]), or to a function.

use super::{
    Authority, DEADLINE, PASSWORD,
    certificates::Identity,
    scram::{self, Flaw},
    settings::Cluster,
    wire::{self, CANCEL_CODE, Wire, command_complete, error, message, parameter_status, ready},
};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
};

/// What the server does; the default is a CockroachDB node that lets `app` in.
#[derive(Clone)]
pub(crate) struct Script {
    /// How SSLRequest is answered.
    pub(crate) front: Front,
    /// The certificate shown; absent: the usual one of the server's authority.
    pub(crate) identity: Option<Identity>,
    /// How the user logs in.
    pub(crate) login: Login,
    /// Sent in place of AuthenticationOk, after the proof; then the server closes.
    pub(crate) instead_of_ok: Option<Vec<u8>>,
    /// Sent in place of parameters, key and ReadyForQuery; then the server closes.
    pub(crate) instead_of_ready: Option<Vec<u8>>,
    /// Sent between the parameters and the key.
    pub(crate) before_key: Vec<u8>,
    /// The body of BackendKeyData.
    pub(crate) key: Vec<u8>,
    /// Who has the connection once it is logged in.
    pub(crate) session: Session,
}

/// How SSLRequest is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// `S`, and TLS.
    Tls,
    /// Bytes, and nothing more, until the client leaves: `N`, garbage, an error.
    Says(Vec<u8>),
    /// Nothing at all, until the client leaves.
    Silent,
    /// `S`, and then nothing.
    SilentInTls,
    /// The end of file.
    Closes,
    /// An RST.
    Resets,
}

/// How the user logs in.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    /// Not at all.
    Trust,
    /// AuthenticationCleartextPassword; this is the right one.
    Cleartext(String),
    /// SCRAM-SHA-256 only, as CockroachDB offers it.
    Scram {
        password: String,
        iterations: u32,
        flaw: Flaw,
    },
    /// Any request for authentication, byte for byte; then the server waits.
    Asks(Vec<u8>),
}

/// Who has the connection once it is logged in.
#[derive(Clone)]
pub(crate) enum Session {
    /// The test, by [`FakeUpstream::session`].
    ByHand,
    /// The server itself: every query is answered at once with nothing in it.
    Answers,
    /// A function, in the connection's thread.
    Run(Arc<dyn Fn(Wire) + Send + Sync>),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            front: Front::Tls,
            identity: None,
            login: Login::scram(PASSWORD),
            instead_of_ok: None,
            instead_of_ready: None,
            before_key: Vec::new(),
            // One opaque number, not a process ID and a secret.
            key: vec![0xf1, 0x02, 0x03, 0x04, 0x95, 0x06, 0x07, 0xf8],
            session: Session::ByHand,
        }
    }
}

impl Login {
    /// SCRAM with CockroachDB's least number of iterations, to keep tests quick.
    pub(crate) fn scram(password: &str) -> Self {
        Self::Scram {
            password: password.into(),
            iterations: 4096,
            flaw: Flaw::None,
        }
    }
}

/// A running server; no longer accepts once dropped.
pub(crate) struct FakeUpstream {
    /// What signed the usual certificate.
    pub(crate) authority: Authority,
    address: SocketAddr,
    shared: Arc<Shared>,
    sessions: Mutex<mpsc::Receiver<Wire>>,
    accepting: Option<thread::JoinHandle<()>>,
}

/// A CancelRequest as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cancel {
    pub(crate) key: Vec<u8>,
    pub(crate) over_tls: bool,
}

/// What the server has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// The bodies of the startup messages after the version, byte for byte.
    pub(crate) startups: Vec<Vec<u8>>,
    /// Protocol versions asked for.
    pub(crate) versions: Vec<u32>,
    /// Cancel requests.
    pub(crate) cancels: Vec<Cancel>,
    /// Passwords that came in clear.
    pub(crate) passwords: Vec<Vec<u8>>,
    /// Names asked for by SNI.
    pub(crate) server_names: Vec<Option<String>>,
    /// Handshakes that resumed an earlier one.
    pub(crate) resumed: usize,
    /// Bytes that came after a front that never speaks TLS had answered.
    pub(crate) after_front: Vec<u8>,
}

struct Shared {
    script: Mutex<Script>,
    usual: Identity,
    seen: Mutex<Seen>,
    changed: Condvar,
    stopping: Mutex<bool>,
    tickets: Arc<dyn rustls::server::StoresServerSessions>,
}

impl FakeUpstream {
    /// A CockroachDB node whose logged-in connections the test takes by hand.
    pub(crate) fn by_hand() -> Self {
        Self::start(Script::default())
    }

    /// A CockroachDB node that answers every query at once.
    pub(crate) fn answering() -> Self {
        Self::start(Script {
            session: Session::Answers,
            ..Script::default()
        })
    }

    /// With an authority of its own, on a free port.
    pub(crate) fn start(script: Script) -> Self {
        Self::signed_by(Authority::new(), script)
    }

    /// With a given authority, on a free port.
    pub(crate) fn signed_by(authority: Authority, script: Script) -> Self {
        Self::bound_to(TcpListener::bind("127.0.0.1:0").unwrap(), authority, script)
    }

    /// On a given socket: of another family, or on the port of a server that is gone.
    pub(crate) fn bound_to(listener: TcpListener, authority: Authority, script: Script) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            usual: authority.server(),
            seen: Mutex::default(),
            changed: Condvar::new(),
            stopping: Mutex::new(false),
            tickets: rustls::server::ServerSessionMemoryCache::new(64),
        });
        let (sender, sessions) = mpsc::channel();
        let serving = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || accept(&listener, &serving, &sender)));
        Self {
            authority,
            address,
            shared,
            sessions: Mutex::new(sessions),
            accepting,
        }
    }

    /// The next logged-in connection.
    #[track_caller]
    pub(crate) fn session(&self) -> Wire {
        self.sessions
            .lock()
            .unwrap()
            .recv_timeout(DEADLINE)
            .expect("no session reached the cluster")
    }

    /// Whether no further logged-in connection waits to be taken.
    pub(crate) fn has_no_more_sessions(&self) -> bool {
        self.sessions.lock().unwrap().try_recv().is_err()
    }

    /// Changes what later connections meet.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap());
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until what was seen satisfies `enough`.
    #[track_caller]
    pub(crate) fn wait_until(&self, enough: impl Fn(&Seen) -> bool) -> Seen {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, timeout) = self
            .shared
            .changed
            .wait_timeout_while(seen, DEADLINE, |seen| !enough(seen))
            .unwrap();
        assert!(!timeout.timed_out(), "the cluster saw only {seen:?}");
        seen.clone()
    }

    /// Stops accepting; connections that are open stay.
    pub(crate) fn stop(&mut self) {
        *self.shared.stopping.lock().unwrap() = true;
        TcpStream::connect(self.address).ok(); // Wakes the accepting thread.
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

impl Cluster for FakeUpstream {
    fn authority(&self) -> &Authority {
        &self.authority
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, sessions: &mpsc::Sender<Wire>) {
    for socket in listener.incoming() {
        if *shared.stopping.lock().unwrap() {
            return;
        }
        let (shared, sessions) = (Arc::clone(shared), sessions.clone());
        shared.note(|seen| seen.connections += 1);
        // An error means that the client has left, which is its right.
        thread::spawn(move || {
            socket
                .and_then(|socket| shared.serve(socket, &sessions))
                .ok()
        });
    }
}

impl Shared {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }

    fn serve(&self, mut socket: TcpStream, sessions: &mpsc::Sender<Wire>) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let script = self.script.lock().unwrap().clone();
        match script.front {
            Front::Closes => return Ok(()),
            Front::Resets => {
                socket.read_exact(&mut [0; 8])?;
                Wire::new(socket).reset();
                return Ok(());
            }
            _ => {}
        }
        let mut request = [0; 8];
        socket.read_exact(&mut request)?;
        if request[4..] == CANCEL_CODE.to_be_bytes() {
            let length = u32::from_be_bytes([request[0], request[1], request[2], request[3]]);
            let mut key = vec![0; length as usize - 8];
            socket.read_exact(&mut key)?;
            self.note(|seen| {
                seen.cancels.push(Cancel {
                    key,
                    over_tls: false,
                })
            });
            return Ok(());
        }
        if request != wire::SSL_REQUEST {
            let refusal = error(
                "FATAL",
                "08P01",
                "node is running secure mode, SSL connection required",
            );
            return socket.write_all(&refusal);
        }
        match &script.front {
            Front::Tls => socket.write_all(b"S")?,
            Front::Says(bytes) => socket.write_all(bytes)?,
            Front::SilentInTls => socket.write_all(b"S")?,
            Front::Silent | Front::Closes | Front::Resets => {}
        }
        if script.front != Front::Tls {
            let mut rest = Vec::new();
            socket.set_read_timeout(Some(DEADLINE))?;
            socket.read_to_end(&mut rest).ok();
            self.note(|seen| seen.after_front.extend(rest));
            return Ok(());
        }
        let wire = self.handshake(socket, script.identity.as_ref().unwrap_or(&self.usual))?;
        self.log_in(wire, script, sessions)
    }

    fn handshake(&self, mut socket: TcpStream, identity: &Identity) -> io::Result<Wire> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = config
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.private_key())
            .unwrap();
        config.session_storage = Arc::clone(&self.tickets);
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        self.note(|seen| {
            seen.server_names
                .push(connection.server_name().map(str::to_owned));
            seen.resumed += usize::from(resumed);
        });
        Ok(Wire::new(StreamOwned::new(connection, socket)))
    }

    fn log_in(
        &self,
        mut wire: Wire,
        script: Script,
        sessions: &mpsc::Sender<Wire>,
    ) -> io::Result<()> {
        let (code, body) = wire.untyped()?;
        if code == CANCEL_CODE {
            self.note(|seen| {
                seen.cancels.push(Cancel {
                    key: body,
                    over_tls: true,
                })
            });
            return Ok(());
        }
        self.note(|seen| {
            seen.versions.push(code);
            seen.startups.push(body);
        });
        if !self.authenticate(&mut wire, &script.login)? {
            return close_with(
                wire,
                &error(
                    "FATAL",
                    "28P01",
                    "password authentication failed for user app",
                ),
            );
        }
        if let Some(bytes) = script.instead_of_ok {
            return close_with(wire, &bytes);
        }
        wire.try_send(&message(b'R', &[0, 0, 0, 0]))?;
        if let Some(bytes) = script.instead_of_ready {
            return close_with(wire, &bytes);
        }
        let mut greeting = parameter_status("server_version", "13.0.0");
        greeting.extend(parameter_status("client_encoding", "UTF8"));
        greeting.extend(parameter_status("crdb_version", "CockroachDB CCL v26.1.0"));
        greeting.extend(script.before_key);
        greeting.extend(message(b'K', &script.key));
        greeting.extend(ready(b'I'));
        wire.try_send(&greeting)?;
        match script.session {
            Session::ByHand => drop(sessions.send(wire)),
            Session::Answers => answer(wire)?,
            Session::Run(run) => run(wire),
        }
        Ok(())
    }

    fn authenticate(&self, wire: &mut Wire, login: &Login) -> io::Result<bool> {
        match login {
            Login::Trust => Ok(true),
            Login::Cleartext(password) => {
                wire.try_send(&message(b'R', &[0, 0, 0, 3]))?;
                let sent = wire.next_message()?.body;
                let right = sent.strip_suffix(b"\0") == Some(password.as_bytes());
                self.note(|seen| seen.passwords.push(sent));
                Ok(right)
            }
            Login::Scram {
                password,
                iterations,
                flaw,
            } => scram::serve(wire, password, *iterations, *flaw),
            Login::Asks(request) => {
                wire.try_send(request)?;
                wire.rest();
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

/// Sends bytes and closes so that they arrive.
fn close_with(mut wire: Wire, bytes: &[u8]) -> io::Result<()> {
    wire.try_send(bytes)?;
    wire.half_close();
    wire.rest();
    Ok(())
}

/// Answers every query at once with nothing in it, until the client leaves.
fn answer(mut wire: Wire) -> io::Result<()> {
    loop {
        match wire.next_message()?.tag {
            b'Q' => wire.try_send(&[command_complete("SELECT 0"), ready(b'I')].concat())?,
            b'S' => wire.try_send(&ready(b'I'))?,
            b'X' => return Ok(()),
            _ => {}
        }
    }
}
