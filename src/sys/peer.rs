//! Whose process is at the other end of a TCP connection of this machine, as the kernel tells it: by socket
//! diagnostics where they may be asked, else by its tables in `/proc`. What the kernel says counts only if it
//! knows our own end of the connection as ours: in another network namespace the same two addresses are
//! somebody else's.

#[cfg(target_os = "linux")]
mod netlink;
mod table;

pub(super) use table::table_address;

use super::time_since_boot;
use socket2::SockRef;
use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Asks the kernel for the users of peers, and remembers how it can be asked.
pub struct PeerUids {
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
    own: Option<Entry>,
    /// Of sockets whose handshake is done: whoever binds to the loopback interface leaves the same two addresses
    /// free to others, whose sockets then try in vain to connect.
    peers: Option<Entry>,
}

impl PeerUids {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { diagnostics_from: AtomicU64::new(1), turns: Semaphore::new(TURNS_MAX) }
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
            && let Some(owner) = netlink::look_up(&ends).ok().and_then(|seen| seen.owner(&ends))
        {
            return Ok(owner);
        }
        let turn = self.turns.acquire().await;
        // The first question may have the kernel load a module; the tables take longer the more sockets there are.
        let now = milliseconds();
        let may_try = self.diagnostics_from.load(Relaxed) <= now;
        let looking = spawn_blocking(move || {
            let by_diagnostics = if may_try { netlink::look_up(&ends).ok() } else { None };
            let owner = by_diagnostics.and_then(|seen| seen.owner(&ends));
            match owner {
                Some(owner) => (true, Ok(owner)),
                None => (false, table::look_up(&ends).and_then(|seen| seen.owner(&ends).ok_or_else(elsewhere))),
            }
        });
        let (is_diagnosed, owner) = looking.await.unwrap_or_else(|error| (false, Err(error.into())));
        drop(turn);
        if may_try {
            self.diagnostics_from.store(if is_diagnosed { 0 } else { now.saturating_add(TRY_AGAIN) }, Relaxed);
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
        Ok(own.zip(peer).map(|(own, peer)| Self { own: canonical(own), peer: canonical(peer), inode }))
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
    fn owner(&self, ends: &Ends) -> Option<Option<u32>> {
        let is_ours = self.own.is_some_and(|own| own.inode == ends.inode);
        is_ours.then(|| self.peers.filter(|peers| peers.inode != 0).map(|peers| peers.uid))
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
mod tests {
    use super::*;
    use socket2::{Domain, SockFilter, Socket, Type};
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
        time::Instant,
    };

    /// A connection over this address, if the machine has it.
    fn connection(listen: &str, dial: &str) -> Option<(TcpStream, TcpStream)> {
        let Ok(listener) = TcpListener::bind(listen) else {
            println!("skipped: {listen}, which this machine does not have");
            return None;
        };
        let client = TcpStream::connect((dial, listener.local_addr().unwrap().port())).unwrap();
        Some((client, listener.accept().unwrap().0))
    }

    /// Of both ways to ask; a way that is forbidden here is left out.
    fn both_ways(served: &TcpStream) -> Vec<Option<u32>> {
        let ends = Ends::of(served.as_fd()).unwrap().unwrap();
        let by_netlink = netlink::look_up(&ends).inspect_err(|error| println!("skipped: socket diagnostics: {error}"));
        let ways = [by_netlink.ok(), table::look_up(&ends).ok()];
        ways.into_iter().flatten().map(|seen| seen.owner(&ends).expect("our own end")).collect()
    }

    #[tokio::test]
    async fn both_ways_to_ask_agree_until_the_peer_has_gone() {
        let own = rustix::process::geteuid().as_raw();
        for (listen, dial) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let Some((client, served)) = connection(listen, dial) else { continue };
            let uids = PeerUids::new();

            let ways = both_ways(&served);
            assert!(!ways.is_empty() && ways.iter().all(|found| *found == Some(own)), "{listen}: {ways:?}");
            // The first question and those behind it go different ways.
            for _ in 0..2 {
                assert_eq!(uids.of_tcp(served.as_fd()).await.unwrap(), Some(own), "{listen}");
            }

            drop(client);
            let ways = both_ways(&served);
            assert!(ways.iter().all(Option::is_none), "{listen}: {ways:?}");
            assert_eq!(uids.of_tcp(served.as_fd()).await.unwrap(), None, "{listen}");
        }
    }

    /// A socket whose port others may have, too.
    fn tcp() -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket
    }

    #[tokio::test]
    async fn a_socket_that_only_tries_to_connect_is_not_taken_for_the_peer() {
        let own = rustix::process::geteuid().as_raw();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().into();
        let (client, trying) = (tcp(), tcp());
        client.bind_device(Some(b"lo")).unwrap();
        let expected = if own == 0 { 41_001 } else { own };
        if own == 0 {
            // A socket belongs to whom its file does.
            rustix::fs::fchown(&client, Some(rustix::fs::Uid::from_raw(expected)), None).unwrap();
        } else {
            println!("skipped: only root can have sockets of two users");
        }
        client.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        client.connect(&address).unwrap();
        let served = listener.accept().unwrap().0;
        // It hears nothing any more, so that the other one gets no answer and stays as it is.
        SockRef::from(&served).attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
        trying.bind(&client.local_addr().unwrap()).unwrap();
        trying.set_nonblocking(true).unwrap();
        assert_eq!(trying.connect(&address).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
        assert_eq!(trying.local_addr().unwrap().as_socket(), served.peer_addr().ok());

        let ways = both_ways(&served);
        // Diagnostics may show the other one alone; then it is nobody's.
        let is_right = |found: &Option<u32>| found.is_none_or(|uid| uid == expected);
        assert!(ways.iter().all(is_right) && ways.last() == Some(&Some(expected)), "{ways:?}");
        let uids = PeerUids::new();
        for _ in 0..2 {
            assert!(is_right(&uids.of_tcp(served.as_fd()).await.unwrap()));
        }

        // It is nobody's once the client has gone, though the other is there still.
        drop(client);
        let ways = both_ways(&served);
        assert!(ways.iter().all(Option::is_none), "{ways:?}");
    }

    #[test]
    fn a_client_that_is_bound_to_the_loopback_interface_is_told_like_any_other() {
        let own = rustix::process::geteuid().as_raw();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = tcp();
        client.bind_device(Some(b"lo")).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();

        let ways = both_ways(&listener.accept().unwrap().0);

        assert!(!ways.is_empty() && ways.iter().all(|found| *found == Some(own)), "{ways:?}");
    }

    #[test]
    fn of_two_sockets_at_the_other_end_that_are_not_one_users_none_counts() {
        let owner = |entries: &[(u32, u64)]| {
            let mut seen = Seen { own: Some(Entry { uid: 0, inode: 7 }), peers: None };
            entries.iter().for_each(|&(uid, inode)| seen.add_peers(Entry { uid, inode }));
            let any = "127.0.0.1:1".parse().unwrap();
            seen.owner(&Ends { own: any, peer: any, inode: 7 }).unwrap()
        };

        assert_eq!((owner(&[(5, 8)]), owner(&[(5, 8), (5, 9)])), (Some(5), Some(5)));
        for odd in [&[(5, 8), (6, 9)][..], &[(5, 8), (6, 9), (6, 9)], &[(5, 8), (0, 0)], &[(0, 0), (0, 8)]] {
            assert_eq!(owner(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn only_states_after_the_handshake_tell_of_a_peer() {
        let good: Vec<u8> = (0..=u8::MAX).filter(|state| is_past_handshake(*state)).collect();

        assert_eq!(good, [1, 4, 5, 8, 9, 11]);
    }

    #[test]
    fn a_socket_that_listens_where_the_peer_was_is_not_taken_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let ends = Ends {
            own: listener.local_addr().unwrap(),
            peer: elsewhere.local_addr().unwrap(),
            inode: rustix::fs::fstat(&listener).unwrap().st_ino,
        };

        for seen in [netlink::look_up(&ends).ok(), table::look_up(&ends).ok()].into_iter().flatten() {
            assert!(seen.own.is_none() && seen.peers.is_none(), "{seen:?}");
        }
    }

    #[test]
    fn a_connection_of_another_network_is_not_judged_by_this_one() {
        let ends = Ends { own: "127.0.0.1:1".parse().unwrap(), peer: "127.0.0.1:2".parse().unwrap(), inode: 7 };
        let entry = |inode| Some(Entry { uid: 1000, inode });

        assert_eq!(Seen { own: entry(7), peers: entry(8) }.owner(&ends), Some(Some(1000)));
        assert_eq!(Seen { own: entry(7), peers: entry(0) }.owner(&ends), Some(None));
        assert_eq!(Seen { own: entry(9), peers: entry(8) }.owner(&ends), None);
        assert_eq!(Seen { own: None, peers: entry(8) }.owner(&ends), None);
    }

    #[tokio::test]
    async fn what_is_forbidden_is_not_tried_for_every_client() {
        let (_client, served) = connection("127.0.0.1:0", "127.0.0.1").unwrap();
        let uids = PeerUids::new();
        let later = milliseconds() + TRY_AGAIN;
        uids.diagnostics_from.store(later, Relaxed);

        assert_eq!(uids.of_tcp(served.as_fd()).await.unwrap(), Some(rustix::process::geteuid().as_raw()));

        assert_eq!(uids.diagnostics_from.load(Relaxed), later);
    }

    #[test]
    #[ignore = "a measurement; run it in release with --no-capture"]
    fn how_long_a_look_up_takes_among_ten_thousand_sockets() {
        super::super::raise_descriptor_limit();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open: Vec<_> =
            (0..5000).map_while(|_| Some((TcpStream::connect(address).ok()?, listener.accept().ok()?.0))).collect();
        println!("sockets open: {}", open.len() * 2);
        let all: Vec<_> = open.iter().map(|(_, served)| Ends::of(served.as_fd()).unwrap().unwrap()).collect();
        let measure = |name: &str, look_up: fn(&Ends) -> io::Result<Seen>, count: usize| {
            let mut times: Vec<_> = all
                .iter()
                .rev()
                .step_by(all.len() / count)
                .map(|ends| {
                    let began = Instant::now();
                    look_up(ends).unwrap().owner(ends).unwrap();
                    began.elapsed()
                })
                .collect();
            times.sort();
            println!("{name}: median {:?}, 99 % {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
        };
        measure("netlink", netlink::look_up, 5000);
        measure("/proc", table::look_up, 100);
    }
}
