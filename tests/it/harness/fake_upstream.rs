//! A scripted server for what PostgreSQL does not do: CockroachDB's ways, and bad manners.
//!
//! A thread accepts, a thread serves each connection: answer to SSLRequest, TLS, startup, login, key.
//! The logged-in connection then belongs to the test ([`FakeUpstream::session`]), to the server itself
//! ([`Session::Answers`]), or to a function.

mod serve;
mod sessions;

use super::{
    Authority, DEADLINE, PASSWORD,
    certificates::Identity,
    scram::Flaw,
    settings::Cluster,
    wire::{Wire, error},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serve::accept;
use sessions::Sessions;
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

/// What the server does; the default is a CockroachDB node that lets `app` in.
#[derive(Clone)]
pub(crate) struct Script {
    /// How SSLRequest is answered.
    pub(crate) front: Front,
    /// How long that takes.
    pub(crate) front_delay: Duration,
    /// The certificate shown; absent: the usual one of the server's authority.
    pub(crate) identity: Option<Identity>,
    /// Whose client certificates are accepted, as PEM text; absent: none is asked for.
    pub(crate) client_authority: Option<String>,
    /// How the user logs in.
    pub(crate) login: Login,
    /// How long it takes from the proof to AuthenticationOk, or to what is sent in its place.
    pub(crate) login_delay: Duration,
    /// Sent in place of AuthenticationOk, after the proof; then the server closes.
    pub(crate) instead_of_ok: Option<Vec<u8>>,
    /// Sent in place of parameters, key and ReadyForQuery; then the server closes.
    pub(crate) instead_of_ready: Option<Vec<u8>>,
    /// Sent again and again after AuthenticationOk, so far apart, until the client leaves.
    pub(crate) endless: Option<(Vec<u8>, Duration)>,
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
    /// The end of file, in good order.
    Closes,
    /// An RST.
    Resets,
}

/// How the user logs in.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    /// AuthenticationCleartextPassword; this is the right one.
    Cleartext(String),
    /// SCRAM-SHA-256 only, as CockroachDB offers it.
    Scram { password: String, iterations: u32, flaw: Flaw },
    /// SCRAM-SHA-256-PLUS beside it, as PostgreSQL offers it over TLS.
    ScramPlus { password: String },
    /// AuthenticationOk at once.
    Nothing,
    /// Any request for authentication, byte for byte; then the server waits.
    Asks(Vec<u8>),
}

/// Who has the connection once it is logged in.
#[derive(Clone)]
pub(crate) enum Session {
    /// The test, by [`FakeUpstream::session`].
    ByHand,
    /// The server itself: every query is noted and answered at once with nothing in it, outside of any
    /// transaction; [`FakeUpstream::drain_sessions`] and [`FakeUpstream::close_sessions`] end it.
    Answers,
    /// A function, in the connection's thread.
    Run(Arc<dyn Fn(Wire) + Send + Sync>),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            front: Front::Tls,
            front_delay: Duration::ZERO,
            identity: None,
            client_authority: None,
            login: Login::scram(PASSWORD),
            login_delay: Duration::ZERO,
            instead_of_ok: None,
            instead_of_ready: None,
            endless: None,
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
        Self::Scram { password: password.into(), iterations: 4096, flaw: Flaw::None }
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
    /// Mechanisms and GS2 headers that clients chose.
    pub(crate) scram: Vec<String>,
    /// Bytes that came although the server's last word left nothing to answer.
    pub(crate) after_request: Vec<u8>,
    /// Connections that ended, whatever became of them.
    pub(crate) ended: usize,
    /// Connections that were logged in.
    pub(crate) logged_in: usize,
    /// The most connections at once that were accepted and not logged in, as long as no login fails.
    pub(crate) most_in_login: usize,
    /// Sessions that are open now, without those that the test has by hand.
    pub(crate) open: usize,
    /// Simple queries in the order in which [`Session::Answers`] met them, each with the number of its
    /// connection; the first is 1.
    pub(crate) queries: Vec<(usize, String)>,
}

type Change = Box<dyn Fn(&mut Script) + Send>;

/// What all threads of a server share.
struct Shared {
    script: Mutex<Script>,
    /// For how many further connections the script is changed, and how.
    next: Mutex<(usize, Change)>,
    answered: Sessions,
    handing_over: Mutex<()>,
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
        Self::start(Script { session: Session::Answers, ..Script::default() })
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
            next: Mutex::new((0, Box::new(|_| {}))),
            answered: Sessions::default(),
            handing_over: Mutex::default(),
            usual: authority.server(),
            seen: Mutex::default(),
            changed: Condvar::new(),
            stopping: Mutex::new(false),
            tickets: rustls::server::ServerSessionMemoryCache::new(64),
        });
        let (sender, sessions) = mpsc::channel();
        let serving = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || accept(&listener, &serving, &sender)));
        Self { authority, address, shared, sessions: Mutex::new(sessions), accepting }
    }

    /// The next logged-in connection.
    #[track_caller]
    pub(crate) fn session(&self) -> Wire {
        self.sessions.lock().unwrap().recv_timeout(DEADLINE).expect("no session reached the cluster")
    }

    /// Of the next two logged-in connections the one whose other side says no more, and the one that stays. That of a
    /// client that has left and the one that was made ready meanwhile come in either order.
    #[track_caller]
    pub(crate) fn left_and_ready(&self) -> (Wire, Wire) {
        let [mut one, mut other] = [self.session(), self.session()];
        let (first, second) = (one.stream().socket(), other.stream().socket());
        let mut both = [PollFd::new(&*first, PollFlags::RDHUP), PollFd::new(&*second, PollFlags::RDHUP)];
        let limit = Timespec::try_from(DEADLINE).unwrap();
        let ready = poll(&mut both, Some(&limit)).unwrap();
        assert_eq!(ready, 1, "one of two connections was to end");
        let has_first_left = !both[0].revents().is_empty();
        if has_first_left { (one, other) } else { (other, one) }
    }

    /// Changes what later connections meet.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap());
    }

    /// Changes what the next `count` connections meet, of whatever kind they are; later ones meet what
    /// they would have met.
    pub(crate) fn change_next(&self, count: usize, change: impl Fn(&mut Script) + Send + 'static) {
        *self.shared.next.lock().unwrap() = (count, Box::new(change));
    }

    /// Refuses the next `count` logins after the proof with a FATAL error of this SQLSTATE.
    pub(crate) fn fail_next(&self, count: usize, sqlstate: &str) {
        let refusal = error("FATAL", sqlstate, "refused by the script");
        self.change_next(count, move |script| script.instead_of_ok = Some(refusal.clone()));
    }

    /// Tells all sessions of [`Session::Answers`], unasked, that the server shuts down (57P01), and ends them.
    pub(crate) fn drain_sessions(&self) {
        self.shared.answered.drain();
    }

    /// Ends all sessions of [`Session::Answers`] without a word.
    pub(crate) fn close_sessions(&self) {
        self.shared.answered.close();
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until what was seen satisfies `enough`.
    #[track_caller]
    pub(crate) fn wait_until(&self, enough: impl Fn(&Seen) -> bool) -> Seen {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, timeout) = self.shared.changed.wait_timeout_while(seen, DEADLINE, |seen| !enough(seen)).unwrap();
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
