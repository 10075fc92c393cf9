//! An upstream that stands ready: whether it is still good, and what it heard meanwhile.

use crate::{
    clock::Moment,
    metrics::{Held, labels::RecycleCause},
    upstream::Upstream,
    wire::{ServerError, SqlState},
};
use std::{
    future::{Future, poll_fn},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::OwnedSemaphorePermit,
    task::unconstrained,
};

/// An upstream that waits for a client.
pub(super) struct Stocked {
    pub(super) upstream: Upstream,
    /// Another session has used it before.
    pub(super) is_reused: bool,
    /// From then on it is too old.
    pub(super) expires_at: Moment,
    /// Its place among all that stand ready in the daemon.
    pub(super) _place: OwnedSemaphorePermit,
    /// Counts it among those of the listener.
    pub(super) _ready: Held,
}

impl Stocked {
    /// Hears what the server has said. Ready once it is of no use any more: its end, or anything but
    /// ParameterStatus and NoticeResponse, which are kept for the client. The TLS stream is asked, not the
    /// socket: a session ticket makes that readable, too.
    pub(super) fn poll_spoilt(&mut self, cx: &mut Context<'_>) -> Poll<RecycleCause> {
        loop {
            let mut bytes = [0; 1024];
            let mut space = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.upstream.stream).poll_read(cx, &mut space) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                    let heard = &mut self.upstream.login.greeting.read_ahead;
                    heard.extend_from_slice(space.filled());
                    if let Some(cause) = spoilt_by(heard) {
                        return Poll::Ready(cause);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(RecycleCause::Closed),
            }
        }
    }

    /// The same without waiting: for the moment before it is handed out.
    pub(super) fn spoilt_now(&mut self) -> Option<RecycleCause> {
        // Without a budget: a task that has used its own up is told "pending" of everything.
        let mut look = pin!(unconstrained(poll_fn(|cx| Poll::Ready(self.poll_spoilt(cx)))));
        match look.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Poll::Ready(cause)) => Some(cause),
            _ => None,
        }
    }

    /// Whether this machine would still use the same address of its own to get there. After a change of
    /// network it would not, and the connection leads nowhere although nothing says so.
    pub(super) fn is_on_this_network(&self) -> bool {
        let socket = self.upstream.stream.get_ref().0;
        let (Ok(own), Ok(peer)) = (socket.local_addr(), socket.peer_addr()) else { return false };
        own_address_towards(peer) == Some(own.ip())
    }
}

/// The address that a connection to `peer` would come from now. Nothing is sent.
fn own_address_towards(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Why what a server said of itself makes its connection useless; `None` while it does not.
fn spoilt_by(heard: &[u8]) -> Option<RecycleCause> {
    let mut rest = heard;
    while let Some((header, after)) = rest.split_first_chunk::<5>() {
        let [kind, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        match kind {
            b'S' | b'N' if (4..=HEARD_BYTES_MAX).contains(&length) => {}
            b'E' => {
                let body = after.get(..length.saturating_sub(4)).unwrap_or(after);
                let is_shutdown = ServerError::parse(body).sqlstate == SqlState::ADMIN_SHUTDOWN;
                return Some(if is_shutdown { RecycleCause::Shutdown } else { RecycleCause::Closed });
            }
            _ => return Some(RecycleCause::Closed),
        }
        let Some(next) = after.get(length.saturating_sub(4)..) else { break };
        rest = next;
    }
    (heard.len() > HEARD_BYTES_MAX).then_some(RecycleCause::Closed)
}

/// More than any settings reload of a server says.
const HEARD_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::frame;

    #[test]
    fn parameters_and_notices_are_kept_and_all_else_spoils() {
        let status = frame(b'S', b"TimeZone\0UTC\0");
        let notice = frame(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
        let kept = [status.clone(), notice].concat();
        assert_eq!(spoilt_by(&kept), None);
        for end in 0..kept.len() {
            assert_eq!(spoilt_by(&kept[..end]), None, "the first {end} bytes");
        }

        let shutdown = frame(b'E', b"SFATAL\0C57P01\0Mterminating\0\0");
        assert_eq!(spoilt_by(&[kept.clone(), shutdown].concat()), Some(RecycleCause::Shutdown));
        for other in [frame(b'E', b"SFATAL\0C57P05\0Midle\0\0"), frame(b'A', b"\0\0\0\x01c\0p\0"), frame(b'Z', b"I")] {
            assert_eq!(spoilt_by(&[kept.clone(), other].concat()), Some(RecycleCause::Closed));
        }
        assert_eq!(spoilt_by(b"S\0\0\0\x03"), Some(RecycleCause::Closed), "a length that cannot be");
        assert_eq!(spoilt_by(&status.repeat(1000)), Some(RecycleCause::Closed), "too much");
    }

    #[test]
    fn the_address_towards_loopback_is_loopback() {
        let own = own_address_towards("127.0.0.1:26257".parse().unwrap());

        assert_eq!(own, Some(Ipv4Addr::LOCALHOST.into()));
    }
}
