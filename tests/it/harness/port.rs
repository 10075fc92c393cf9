//! A port that stays a test's own while nothing listens on it: for servers that go away and come back.

use socket2::{Domain, Socket, Type};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// A port of 127.0.0.1 that no other test is given until this is dropped.
pub(crate) struct Port {
    address: SocketAddr,
    _holder: Socket,
}

impl Port {
    /// A free one, from below the range that the kernel gives to outgoing connections, which the many
    /// sockets of tests running side by side are taken from.
    pub(crate) fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let process = std::process::id() as u16;
        for _ in 0..12_000 {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = 20_000 + process.wrapping_mul(97).wrapping_add(step) % 12_000;
            if let Some(port) = Self::hold((Ipv4Addr::LOCALHOST, port).into()) {
                return port;
            }
        }
        panic!("no free port among 12000");
    }

    /// Where a server may listen that sets SO_REUSEADDR, as nearly all do.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on the port, with room for a crowd.
    pub(crate) fn listen(&self) -> TcpListener {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        socket.listen(4096).unwrap();
        socket.into()
    }

    /// Binds a socket that never listens. Bound without SO_REUSEADDR, it meets every other holder; with
    /// it from then on, it lets a listener in beside itself. Without a listener, clients get an RST.
    fn hold(address: SocketAddr) -> Option<Self> {
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        holder.bind(&address.into()).ok()?;
        holder.set_reuse_address(true).unwrap();
        Some(Self { address, _holder: holder })
    }
}
