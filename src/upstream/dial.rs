//! TCP to one of several addresses: the next is dialled beside the last when that one hesitates
//! (happy eyeballs, RFC 8305), and the rest stay at hand for when a connected one turns out useless.

use crate::{settings::Limits, sys};
use socket2::{SockRef, TcpKeepalive};
use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, task::JoinSet, time::sleep};

/// Addresses not dialled yet, and those being dialled or connected and not taken. Dropping it ends all attempts.
pub(super) struct Race {
    waiting: VecDeque<SocketAddr>,
    dialling: JoinSet<Dialled>,
}

/// An address and what came of dialling it.
pub(super) type Dialled = (SocketAddr, io::Result<TcpStream>);

impl Race {
    /// Addresses in the order in which to dial them; nothing is dialled yet.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { waiting: addresses.into(), dialling: JoinSet::new() }
    }

    /// The next address that connects or fails; `None` when all have. Cancel safe: attempts go on.
    pub(super) async fn next(&mut self) -> Option<Dialled> {
        if self.dialling.is_empty() {
            self.dial_one_more();
        }
        loop {
            let has_more = !self.waiting.is_empty();
            tokio::select! {
                biased;
                done = self.dialling.join_next() => match done? {
                    Ok((address, Err(error))) => {
                        self.dial_one_more();
                        return Some((address, Err(error)));
                    }
                    Ok(connected) => return Some(connected),
                    // A task that panicked or was aborted dialled nothing.
                    Err(_) => self.dial_one_more(),
                },
                () = sleep(HESITATION), if has_more => self.dial_one_more(),
            }
        }
    }

    /// Whether no address is left.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.dialling.is_empty()
    }

    fn dial_one_more(&mut self) {
        if let Some(address) = self.waiting.pop_front() {
            self.dialling.spawn(async move { (address, TcpStream::connect(address).await) });
        }
    }
}

/// Small messages at once, and dead peers noticed: keepalive and, on Linux, TCP_USER_TIMEOUT.
pub(super) fn tune(socket: &TcpStream, limits: &Limits) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    set_keepalive(&socket, limits)?;
    sys::set_tcp_user_timeout(&socket, Some(limits.tcp_user_timeout))
}

/// Probes an idle connection as the settings say; both legs use this.
pub(crate) fn set_keepalive(socket: &SockRef<'_>, limits: &Limits) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(limits.keepalive_idle)
        .with_interval(limits.keepalive_interval)
        .with_retries(limits.keepalive_count.get());
    socket.set_tcp_keepalive(&keepalive)
}

/// How long an address may hesitate before the next is dialled beside it (RFC 8305, section 5).
const HESITATION: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn closed_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_passed_over_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (closed, open) = (closed_port().await, listener.local_addr().unwrap());
        let mut race = Race::new(vec![closed, open]);

        let (first, refused) = race.next().await.unwrap();
        let (second, connected) = race.next().await.unwrap();

        assert_eq!((first, refused.unwrap_err().kind()), (closed, io::ErrorKind::ConnectionRefused));
        assert_eq!((second, connected.is_ok()), (open, true));
        assert!(race.next().await.is_none());
    }
}
