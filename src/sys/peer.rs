//! Whose process is at the other end of a TCP connection of this machine, as the kernel tells it: by socket
//! diagnostics where they may be asked, else by its tables in `/proc`. What the kernel says counts only if it
//! speaks of the network namespace that our end of the connection is of: in another one the same two addresses are
//! somebody else's.

#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod network;
mod table;

pub(super) use table::table_address;

use super::time_since_boot;
use socket2::SockRef;
use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Asks the kernel for the users of peers, and remembers how it can be asked.
pub struct PeerUids {
    #[cfg(target_os = "linux")]
    diagnostics: Arc<netlink::Diagnostics>,
    /// In milliseconds since the machine's start: when diagnostics may be tried; 0 while they are known to work.
    diagnostics_from: AtomicU64,
    /// Turns at what takes a while.
    turns: Semaphore,
}

/// A connection, seen from our end; addresses as [`canonical`] has them.
#[derive(Clone, Copy, Debug)]
struct Ends {
    own: SocketAddr,
    peer: SocketAddr,
    /// Of our end's socket.
    inode: u64,
    /// That our end is of, where the kernel tells.
    #[cfg(target_os = "linux")]
    network: Option<network::Network>,
}

/// A socket as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    uid: u32,
    /// 0 when no process holds it any more; its user shows as root then, and must not pass for it.
    inode: u64,
}

/// What the kernel shows of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// It speaks of the network that our end is of.
    is_ours: bool,
    /// Of sockets whose handshake is done: whoever binds to the loopback interface leaves the same two addresses
    /// free to others, whose sockets then try in vain to connect.
    peers: Option<Entry>,
}

impl PeerUids {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            diagnostics: Arc::default(),
            diagnostics_from: AtomicU64::new(1),
            turns: Semaphore::new(TURNS_MAX),
        }
    }

    /// The user whose process is at the other end of this connection, if that is on this machine; `None` when
    /// that end is gone or was closed, whose owner then is nobody's to tell. Cancel safe.
    ///
    /// # Errors
    /// The kernel cannot be asked; always on systems other than Linux.
    pub async fn of_tcp(&self, socket: BorrowedFd<'_>) -> io::Result<Option<u32>> {
        let is_connected = || SockRef::from(&socket).peer_addr().is_ok();
        let Some(ends) = Ends::of(socket)? else { return Ok(None) };
        let found = self.ask(ends).await;
        // A sender that has reset its connection may have left its port to another process, whose user this would
        // pass for. While our end is connected, nobody else can have that port; so it is looked at last.
        if is_connected() { found } else { Ok(None) }
    }

    #[cfg(target_os = "linux")]
    async fn ask(&self, ends: Ends) -> io::Result<Option<u32>> {
        if self.diagnostics_from.load(Relaxed) == 0
            && let Some(owner) = self.diagnostics.look_up(&ends).ok().and_then(|seen| seen.owner())
        {
            return Ok(owner);
        }
        let turn = self.turns.acquire().await;
        // The first question may have the kernel load a module; the tables take longer the more sockets there are.
        let now = milliseconds();
        let may_try = self.diagnostics_from.load(Relaxed) <= now;
        let diagnostics = Arc::clone(&self.diagnostics);
        let looking = spawn_blocking(move || {
            let asked = may_try.then(|| diagnostics.look_up(&ends));
            let owner = asked.as_ref().and_then(|seen| seen.as_ref().ok()?.owner());
            let in_tables = || table::look_up(&ends).and_then(|seen| seen.owner().ok_or_else(elsewhere));
            (asked.map(Result::err), owner.map_or_else(in_tables, Ok))
        });
        let (asked, owner) = looking.await.unwrap_or_else(|error| (None, Err(error.into())));
        drop(turn);
        if let Some(from) = asked.and_then(|failure| may_ask_from(failure.as_ref(), now)) {
            self.diagnostics_from.store(from, Relaxed);
        }
        owner
    }

    #[cfg(not(target_os = "linux"))]
    async fn ask(&self, _: Ends) -> io::Result<Option<u32>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Default for PeerUids {
    fn default() -> Self {
        Self::new()
    }
}

impl Ends {
    /// `None` once the connection is gone.
    fn of(socket: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let known = SockRef::from(&socket);
        let Ok(peer) = known.peer_addr() else { return Ok(None) };
        let (own, peer) = (known.local_addr()?.as_socket(), peer.as_socket());
        let inode = rustix::fs::fstat(socket)?.st_ino;
        Ok(own.zip(peer).map(|(own, peer)| Self {
            own: canonical(own),
            peer: canonical(peer),
            inode,
            #[cfg(target_os = "linux")]
            network: network::Network::of(socket),
        }))
    }
}

#[cfg(target_os = "linux")]
impl Seen {
    /// Notes a socket at the other end. Of two that are not the same user's, it is nobody's.
    fn add_peers(&mut self, entry: Entry) {
        let is_one = |known: Entry| known.uid == entry.uid && known.inode != 0 && entry.inode != 0;
        let agrees = self.peers.is_none_or(is_one);
        self.peers = Some(if agrees { entry } else { Entry { inode: 0, ..entry } });
    }

    /// The owner of the other end, if it has one still; absent where the kernel speaks of other sockets than these.
    #[expect(clippy::option_option, reason = "not knowing and knowing that there is none are two things")]
    fn owner(&self) -> Option<Option<u32>> {
        self.is_ours.then(|| self.peers.filter(|peers| peers.inode != 0).map(|peers| peers.uid))
    }
}

/// From when on diagnostics may be asked, after a question that failed or did not. Nothing new after a lack of
/// descriptors, which passes.
#[cfg(target_os = "linux")]
fn may_ask_from(failure: Option<&io::Error>, now: u64) -> Option<u64> {
    match failure {
        None => Some(0),
        Some(error) if super::is_shortage(error) => None,
        Some(_) => Some(now.saturating_add(TRY_AGAIN)),
    }
}

/// Whether a socket in this state (the kernel's `TCP_…`) has been answered by the other end, and was not let go of.
#[cfg(target_os = "linux")]
fn is_past_handshake(state: u8) -> bool {
    const ESTABLISHED: u8 = 1;
    const FIN_WAIT1: u8 = 4;
    const FIN_WAIT2: u8 = 5;
    const CLOSE_WAIT: u8 = 8;
    const LAST_ACK: u8 = 9;
    const CLOSING: u8 = 11;
    matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING)
}

fn elsewhere() -> io::Error {
    io::Error::other("the kernel's tables do not have this connection; is its socket of another network namespace?")
}

fn milliseconds() -> u64 {
    u64::try_from(time_since_boot().as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Without scope and flow, and as IPv4 where it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Each may read a table of every socket of this machine.
const TURNS_MAX: usize = 4;
/// In milliseconds: what a sandbox forbids it will forbid for long.
const TRY_AGAIN: u64 = 60_000;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
