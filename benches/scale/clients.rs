//! Clients of the daemon, in clear.

use crate::{
    harness::{DEADLINE, wire},
    server::ANSWER,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

/// How many are at work at the same time, when they are.
const LANES: usize = 8;

/// Open sessions.
pub(crate) struct Clients {
    daemon: SocketAddr,
    sessions: Vec<TcpStream>,
}

impl Clients {
    /// Opens so many; each asks one query.
    pub(crate) fn open(daemon: SocketAddr, count: usize) -> Self {
        let mut clients = Self { daemon, sessions: Vec::new() };
        clients.grow_to(count);
        clients
    }

    /// Opens more, until there are so many.
    pub(crate) fn grow_to(&mut self, count: usize) {
        let daemon = self.daemon;
        let missing = count.saturating_sub(self.sessions.len());
        let of_lane = |lane: usize| missing / LANES + usize::from(lane < missing % LANES);
        let opened = thread::scope(|scope| {
            let lanes: Vec<_> = (0..LANES)
                .map(|lane| scope.spawn(move || (0..of_lane(lane)).map(|_| open(daemon)).collect::<Vec<_>>()))
                .collect();
            lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect::<Vec<_>>()
        });
        self.sessions.extend(opened);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sessions.len()
    }

    /// About so many round trips in all of the first sessions, one session after the other, several at a time; gives how
    /// many there were.
    pub(crate) fn ask(&mut self, sessions: usize, round_trips: usize) -> usize {
        let sessions = sessions.min(self.sessions.len());
        let lanes = LANES.min(sessions);
        let mut rest = &mut self.sessions[..sessions];
        thread::scope(|scope| {
            for place in 0..lanes {
                let (lane, others) = rest.split_at_mut(rest.len().div_ceil(lanes - place));
                rest = others;
                scope.spawn(move || {
                    let count = lane.len();
                    (0..round_trips / lanes).for_each(|turn| ask(&mut lane[turn % count]));
                });
            }
        });
        round_trips / lanes * lanes
    }
}

fn open(daemon: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(daemon).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.write_all(&wire::startup(&[("user", "app")])).unwrap();
    loop {
        let mut header = [0; 5];
        socket.read_exact(&mut header).unwrap();
        let [kind, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        socket.read_exact(&mut body).unwrap();
        assert!(kind != b'E', "{}", String::from_utf8_lossy(&body));
        if kind == b'Z' {
            break;
        }
    }
    ask(&mut socket);
    socket
}

fn ask(socket: &mut TcpStream) {
    let mut answer = [0; ANSWER.len()];
    socket.write_all(&wire::query("select 1")).unwrap();
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *ANSWER);
}
