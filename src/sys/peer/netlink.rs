//! Exact questions to the kernel's socket diagnostics (sock_diag(7)): the socket with exactly these two addresses.
//! Takes some microseconds, however many sockets there are.

use super::{Ends, Entry, Seen, canonical, is_past_handshake, network::Network};
use crate::lock::lock;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
        netlink::{SOCK_DIAG, SocketAddrNetlink},
        recv, send, socket_with,
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Mutex,
};

/// Asks. What it asks on is opened by the first question and kept, since that takes longer than the question.
#[derive(Default)]
pub(super) struct Diagnostics(Mutex<Option<Line>>);

struct Line {
    socket: OwnedFd,
    network: Option<Network>,
    /// Questions so far: an answer has the number of its own.
    asked: u32,
}

impl Diagnostics {
    /// Who is at the other end of a connection, as far as the kernel knows.
    pub(super) fn look_up(&self, ends: &Ends) -> io::Result<Seen> {
        let mut kept = lock(&self.0);
        // Not kept after an error, behind which an answer may lie unread.
        let mut line = kept.take().map_or_else(Line::open, Ok)?;
        let seen = line.look_up(ends)?;
        *kept = Some(line);
        Ok(seen)
    }
}

impl Line {
    fn open() -> io::Result<Self> {
        // The kernel answers before it lets go of the sender, so that there is nothing to wait for.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
        // So that nobody but the kernel can answer, not even an administrator of this network in another container.
        connect(&socket, &SocketAddrNetlink::new(KERNEL, 0))?;
        Ok(Self { network: Network::of(&socket), socket, asked: 0 })
    }

    fn look_up(&mut self, ends: &Ends) -> io::Result<Seen> {
        let mut seen = Seen { is_ours: self.is_of_our_network(ends)?, peers: None };
        if seen.is_ours
            && let Some(peers) = self.find((ends.peer, ends.own), |found| {
                is_past_handshake(found.state) && found.entry.inode != ends.inode
            })?
        {
            seen.add_peers(peers);
        }
        Ok(seen)
    }

    /// Whether what is told here is told of our end's network. Where the kernel has no names for them, it must know our end.
    fn is_of_our_network(&mut self, ends: &Ends) -> io::Result<bool> {
        match (self.network, ends.network) {
            (Some(asked), Some(ours)) => Ok(asked == ours),
            _ => Ok(self.find((ends.own, ends.peer), |found| found.entry.inode == ends.inode)?.is_some()),
        }
    }

    /// A socket at these addresses (its own first) that `counts`. One that is bound to an interface is shown to those
    /// only who ask for it, and then it may be another one that is shown.
    fn find(&mut self, ends: (SocketAddr, SocketAddr), counts: impl Fn(&Found) -> bool) -> io::Result<Option<Entry>> {
        for interface in [ANY_INTERFACE, LOOPBACK] {
            if let Some(found) = self.ask(ends, interface)?.filter(&counts) {
                return Ok(Some(found.entry));
            }
        }
        Ok(None)
    }

    fn ask(&mut self, (local, remote): (SocketAddr, SocketAddr), interface: u32) -> io::Result<Option<Found>> {
        self.asked = self.asked.wrapping_add(1);
        send(&self.socket, &question(self.asked, local, remote, interface), SendFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        let (length, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
        read(answer.get(..length).unwrap_or_default(), self.asked, local, remote)
    }
}

/// A socket, and how far its connection is.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    entry: Entry,
    state: u8,
}

/// A `nlmsghdr` and an `inet_diag_req_v2`.
fn question(number: u32, local: SocketAddr, remote: SocketAddr, interface: u32) -> Vec<u8> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = Vec::with_capacity(QUESTION_BYTES);
    bytes.extend(u32::try_from(QUESTION_BYTES).unwrap_or_default().to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]); // The sender, which the kernel knows.
    bytes.extend([u8::try_from(family).unwrap_or_default(), IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes()); // Every state.
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    bytes.extend(padded(local.ip()));
    bytes.extend(padded(remote.ip()));
    bytes.extend(interface.to_ne_bytes());
    bytes.extend([0xff; 8]); // Any cookie.
    bytes
}

fn padded(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The `inet_diag_msg` that answers this question, or an error. Where there is no such connection, the kernel tells of a socket that listens
/// at `local`, if there is one.
fn read(answer: &[u8], number: u32, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Found>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "socket diagnostics: an answer that cannot be read");
    let kind = u16::from_ne_bytes(field(answer, 4).ok_or_else(bad)?);
    if u32::from_ne_bytes(field(answer, 8).ok_or_else(bad)?) != number {
        return Err(bad());
    }
    if kind == NLMSG_ERROR {
        let error = i32::from_ne_bytes(field(answer, 16).ok_or_else(bad)?).saturating_neg();
        let is_none = error == Errno::NOENT.raw_os_error();
        return if is_none { Ok(None) } else { Err(io::Error::from_raw_os_error(error)) };
    }
    if kind != SOCK_DIAG_BY_FAMILY {
        return Err(bad());
    }
    let [family, state] = field(answer, 16).ok_or_else(bad)?;
    let address = |port: usize, ip: usize| {
        let port = u16::from_be_bytes(field(answer, port)?);
        let ip = if i32::from(family) == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::from(field::<4>(answer, ip)?))
        } else {
            IpAddr::V6(Ipv6Addr::from(field::<16>(answer, ip)?))
        };
        Some(canonical(SocketAddr::new(ip, port)))
    };
    let (found_local, found_remote) = (address(20, 24).ok_or_else(bad)?, address(22, 40).ok_or_else(bad)?);
    let uid = u32::from_ne_bytes(field(answer, 80).ok_or_else(bad)?);
    let inode = u32::from_ne_bytes(field(answer, 84).ok_or_else(bad)?);
    let is_it = (found_local, found_remote) == (local, remote);
    Ok(is_it.then_some(Found { entry: Entry { uid, inode: inode.into() }, state }))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Its number among those who speak netlink.
const KERNEL: u32 = 0;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
/// Shows no socket that is bound to an interface.
const ANY_INTERFACE: u32 = 0;
/// In every network namespace.
const LOOPBACK: u32 = 1;
const QUESTION_BYTES: usize = 72;
/// With room for what newer kernels add.
const ANSWER_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{getsockname, sendto};

    #[test]
    fn an_answer_about_another_socket_is_none() {
        let [local, remote, other] = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(|text| text.parse().unwrap());
        let mut answer = question(5, local, remote, ANY_INTERFACE);
        // The question has the addresses four bytes later than the answer.
        answer.drain(20..24);
        answer.resize(88, 0);
        answer[17] = 9;
        answer[80..84].copy_from_slice(&1000_u32.to_ne_bytes());
        answer[84..88].copy_from_slice(&4711_u32.to_ne_bytes());

        let found = Found { entry: Entry { uid: 1000, inode: 4711 }, state: 9 };
        assert_eq!(read(&answer, 5, local, remote).unwrap(), Some(found));
        assert!(read(&answer, 4, local, remote).is_err(), "the answer to another question was taken");
        for (local, remote) in [(local, other), (other, remote), (remote, local)] {
            assert_eq!(read(&answer, 5, local, remote).unwrap(), None);
        }
        for length in 0..88 {
            assert!(read(&answer[..length], 5, local, remote).is_err(), "{length} bytes were read");
        }
    }

    #[test]
    fn errors_are_told_apart_from_there_being_none() {
        let of = |errno: Errno| {
            let mut answer = vec![0; 36];
            answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
            answer[16..20].copy_from_slice(&(-errno.raw_os_error()).to_ne_bytes());
            let any = "127.0.0.1:1".parse().unwrap();
            read(&answer, 0, any, any).map_err(|error| error.raw_os_error())
        };

        assert_eq!(of(Errno::NOENT), Ok(None));
        assert_eq!(of(Errno::PERM), Err(Some(Errno::PERM.raw_os_error())));
    }

    #[test]
    fn nobody_but_the_kernel_can_answer() {
        let line = match Line::open() {
            Ok(line) => line,
            Err(error) => return println!("skipped: socket diagnostics: {error}"),
        };
        let own = SocketAddrNetlink::try_from(getsockname(&line.socket).unwrap()).unwrap();

        let stranger = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG));
        let sent = sendto(stranger.unwrap(), b"lie", SendFlags::empty(), &own).unwrap_err();

        // Who is no administrator may not send to others in the first place.
        assert!([Errno::CONNREFUSED, Errno::PERM].contains(&sent), "{sent}");
        if sent == Errno::PERM {
            println!("skipped: only root can send there at all");
        }
    }
}
