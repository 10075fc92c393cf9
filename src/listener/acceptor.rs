//! Takes one client after the other from a socket, each with a place among the sockets in startup.

use super::{Listening, Socket};
use crate::{
    session::{Accepted, ClientStream, Parts},
    settings::Limits,
    upstream,
};
use socket2::SockRef;
use std::{future::pending, io, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// Takes clients from a socket. A failed accept (descriptors are used up, a client that left again) never
/// ends the listener: it pauses, longer each time, and tries again.
pub(super) struct Acceptor {
    socket: Socket,
    /// What the next client is served with.
    parts: Arc<Parts>,
    /// Accepted, and waiting for a place.
    waiting: Option<(ClientStream, String)>,
    /// The one that waits has called another away from its place.
    has_called: bool,
    /// Kept here, since a session that ends interrupts the wait.
    resume_at: Option<Instant>,
    /// No second warning before then.
    quiet_until: Option<Instant>,
    pause: Duration,
}

impl Acceptor {
    pub(super) fn new(socket: Socket, parts: Arc<Parts>) -> Self {
        socket.tune(&parts.limits);
        Self { socket, parts, waiting: None, has_called: false, resume_at: None, quiet_until: None, pause: PAUSE_MIN }
    }

    /// What clients are served with.
    pub(super) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Serves the next clients with these.
    pub(super) fn go_on_with(&mut self, parts: Arc<Parts>) {
        self.socket.tune(&parts.limits);
        // There may be other places now, where nobody was called.
        self.has_called &= Arc::ptr_eq(&self.parts.startups, &parts.startups);
        self.parts = parts;
    }

    /// The next client, once there is a place for it in startup. Cancel safe.
    pub(super) async fn accept(&mut self) -> Accepted {
        let (stream, client) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => self.accept_socket().await,
        };
        // Kept while waiting for a place: a session that ends interrupts that. Each listener holds one.
        self.waiting = Some((stream, client));
        let startups = Arc::clone(&self.parts.startups);
        let Some(startup_place) = startups.place(&mut self.has_called).await else { return pending().await };
        let kept = self.socket.is_inherited().then(|| self.parts.sessions.admit());
        match self.waiting.take() {
            Some((stream, client)) => Accepted { stream, client, startup_place, kept },
            None => pending().await,
        }
    }

    async fn accept_socket(&mut self) -> (ClientStream, String) {
        loop {
            if let Some(at) = self.resume_at {
                sleep_until(at).await;
                self.resume_at = None;
            }
            match self.socket.accept().await {
                Ok(accepted) => {
                    self.pause = PAUSE_MIN;
                    return accepted;
                }
                Err(error) => self.hold(&error),
            }
        }
    }

    fn hold(&mut self, error: &io::Error) {
        if self.quiet_until.is_none_or(|until| Instant::now() >= until) {
            self.quiet_until = Some(Instant::now() + QUIET);
            let name = &self.parts.listener.name;
            warn!(listener.name = %name, %error, "accepting paused; it goes on as soon as it can");
        }
        self.resume_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Socket {
    /// Every client's socket begins with what is set here, as systems hand it down: that spares five system calls a
    /// client.
    fn tune(&self, limits: &Limits) {
        if let Listening::Tcp(listening) = &self.listening {
            let listening = SockRef::from(listening);
            // A socket that cannot be tuned still serves.
            let _ = listening.set_tcp_nodelay(true);
            let _ = upstream::set_keepalive(&listening, limits);
        }
    }

    async fn accept(&self) -> io::Result<(ClientStream, String)> {
        match &self.listening {
            Listening::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((ClientStream::Tcp(stream), address.to_string()))
            }
            Listening::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
                let client = peer.map_or_else(|| "unix".to_owned(), |pid| format!("unix:pid={pid}"));
                Ok((ClientStream::Unix(stream), client))
            }
        }
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(60);
