//! The kernel's own tables of sockets, `/proc/self/net/tcp` and `tcp6`, read line by line. That takes
//! milliseconds where there are thousands of sockets.

use super::{Ends, Entry, Seen, canonical, is_past_handshake};
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Both ends of a connection, as far as they stand there.
pub(super) fn look_up(ends: &Ends) -> io::Result<Seen> {
    let mut seen = Seen::default();
    // A socket of IPv6 may well speak IPv4; it stands in the second table then.
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let lines = match File::open(table) {
            Ok(file) => BufReader::new(file).lines(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in lines {
            // To the last: there may be more than one at either end.
            note(&line?, ends, &mut seen);
        }
    }
    Ok(seen)
}

fn note(line: &str, ends: &Ends, seen: &mut Seen) -> Option<()> {
    let mut fields = line.split_ascii_whitespace();
    let (local, remote) = (fields.nth(1)?, fields.next()?);
    let (local, remote) = (table_address(local)?, table_address(remote)?);
    let is_own = (local, remote) == (ends.own, ends.peer);
    if !is_own && (local, remote) != (ends.peer, ends.own) {
        return None;
    }
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let entry = Entry { uid: fields.nth(3)?.parse().ok()?, inode: fields.nth(1)?.parse().ok()? };
    if is_own {
        seen.is_ours |= entry.inode == ends.inode;
    } else if is_past_handshake(state) {
        seen.add_peers(entry);
    }
    Some(())
}

/// `0100007F:2411`: words as they lie in memory, in network order, and the port.
pub(in crate::sys) fn table_address(text: &str) -> Option<SocketAddr> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_tells_its_socket_and_owner() {
        let line =
            "   3: 0100007F:9C40 0100007F:2429 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let [peer, own] = ["127.0.0.1:40000", "127.0.0.1:9257"].map(|address| address.parse().unwrap());
        let of = |line: &str, own, peer| {
            let mut seen = Seen::default();
            note(line, &Ends { own, peer, inode: 4711, network: None }, &mut seen);
            (seen.is_ours, seen.peers)
        };

        assert_eq!(of(line, own, peer), (false, Some(Entry { uid: 1000, inode: 4711 })));
        assert_eq!(of(line, peer, own), (true, None));
        for state in ["02", "03", "06", "07", "0A", "0C"] {
            assert_eq!(of(&line.replace(" 01 ", &format!(" {state} ")), own, peer), (false, None), "{state}");
        }
        assert!(of(&line.replace(" 01 ", " 0B "), own, peer).1.is_some());
        assert_eq!(of(&line.replace("4711", "4712"), peer, own), (false, None), "another socket than ours");
        assert_eq!(of("  sl  local_address rem_address   st", own, peer), (false, None));
        assert_eq!(of(line, own, "127.0.0.1:40001".parse().unwrap()), (false, None));
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
}
