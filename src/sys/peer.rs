//! Whose process is at the other end of a loopback TCP connection, as the kernel's own table of sockets
//! tells it. Reads that table line by line and keeps nothing.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The user ID that owns the socket at the other end of a connection from `peer` to `own`, both on this
/// machine; `None` when that socket is gone or was closed, whose owner then is nobody's to tell. Takes
/// milliseconds where there are thousands of sockets.
///
/// # Errors
/// The kernel's table cannot be read; always on systems that have none.
#[cfg(target_os = "linux")]
pub fn tcp_peer_uid(peer: SocketAddr, own: SocketAddr) -> io::Result<Option<u32>> {
    use std::{
        fs::File,
        io::{BufRead, BufReader},
    };
    // A socket of IPv6 may well speak IPv4; it stands in the second table then.
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let lines = match File::open(table) {
            Ok(file) => BufReader::new(file).lines(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in lines {
            if let Some(owner) = owner(&line?, peer, own) {
                return Ok(owner);
            }
        }
    }
    Ok(None)
}

/// Here nobody can be asked.
#[cfg(not(target_os = "linux"))]
pub fn tcp_peer_uid(_: SocketAddr, _: SocketAddr) -> io::Result<Option<u32>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The owner of the socket in this line: absent if it is another socket's line, `None` within if no process
/// holds the socket any more. Such a socket shows as root's, and must not pass for it.
fn owner(line: &str, peer: SocketAddr, own: SocketAddr) -> Option<Option<u32>> {
    let mut fields = line.split_ascii_whitespace();
    let (local, remote) = (fields.nth(1)?, fields.next()?);
    if table_address(local)? != canonical(peer) || table_address(remote)? != canonical(own) {
        return None;
    }
    let (uid, inode) = (fields.nth(4)?, fields.nth(1)?);
    Some(uid.parse().ok().filter(|_| inode != "0"))
}

/// `0100007F:2411`: words as they lie in memory, in network order, and the port.
pub(super) fn table_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at.checked_add(8)?)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words: [[u8; 4]; 4] = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// Without scope and flow, and as IPv4 where it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_tells_its_socket_and_owner() {
        let line =
            "   3: 0100007F:9C40 0100007F:2429 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let [peer, own] = ["127.0.0.1:40000", "127.0.0.1:9257"].map(|address| address.parse().unwrap());

        assert_eq!(owner(line, peer, own), Some(Some(1000)));
        assert_eq!(owner(line, own, peer), None, "our own end");
        let closed = line.replace(" 4711 ", " 0 ").replace(" 1000 ", " 0 ");
        assert_eq!(owner(&closed, peer, own), Some(None));
        assert_eq!(owner("  sl  local_address rem_address   st", peer, own), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_of_both_families_are_read() {
        for (text, expected) in [
            ("0100007F:2429", "127.0.0.1:9257"),
            ("00000000000000000000000001000000:2429", "[::1]:9257"),
            ("B80D01200000000067452301EFCDAB89:0001", "[2001:db8::123:4567:89ab:cdef]:1"),
            ("0000000000000000FFFF00000100007F:2429", "127.0.0.1:9257"),
        ] {
            assert_eq!(table_address(text), expected.parse().ok(), "{text}");
        }
        for text in ["", ":", "0100007F", "0100007:1", "0100007G:1", "0100007F:10000", "éééé:1"] {
            assert_eq!(table_address(text), None, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_owner_of_a_peer_is_found_until_it_has_gone() {
        use std::net::{TcpListener, TcpStream};
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else {
                println!("skipped: {host}, which this machine does not have");
                continue;
            };
            let own = listener.local_addr().unwrap();
            let client = TcpStream::connect(own).unwrap();
            let (_served, peer) = listener.accept().unwrap();

            let uid = tcp_peer_uid(peer, own).unwrap();
            assert_eq!(uid, Some(rustix::process::geteuid().as_raw()), "{host}");

            drop(client);
            assert_eq!(tcp_peer_uid(peer, own).unwrap(), None, "{host}");
        }
    }
}
