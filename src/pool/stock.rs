//! An upstream that stands ready: whether it is still good, and what it heard meanwhile.

use crate::{
    clock::Moment,
    metrics::{Held, labels::RecycleCause},
    sys,
    upstream::Upstream,
    wire::{ServerError, SqlState},
};
use std::{
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
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
    /// Its place among all that stand ready in the daemon; none for a moment after it was given back.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Counts it among those of the listener.
    pub(super) _ready: Held,
    pub(super) ping: Ping,
    /// The server last spoke then.
    pub(super) heard_at: Moment,
    /// It stands ready since then.
    pub(super) since: Moment,
}

/// A Sync outside of everything, which a server answers with ReadyForQuery: a connection into a black hole
/// looks sound until something is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ping {
    /// The next one is sent then.
    NotBefore(Moment),
    /// One was sent then, and is to be answered.
    SentAt(Moment),
}

/// How a server is pinged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) now: Moment,
    /// Between an answer and the next ping.
    pub(super) every: Duration,
    /// How long an answer may take.
    pub(super) patience: Duration,
}

impl Stocked {
    /// Hears what the server has said, and pings it. Ready once it is of no use any more: its end, a ping that
    /// is not answered, or anything but ParameterStatus and NoticeResponse, which are kept for the client.
    pub(super) fn poll_spoilt(&mut self, cx: &mut Context<'_>, pace: Pace) -> Poll<RecycleCause> {
        if let Poll::Ready(cause) = self.poll_heard(cx, pace) {
            return Poll::Ready(cause);
        }
        match self.ping {
            Ping::SentAt(at) if pace.now.since(at) >= pace.patience => return Poll::Ready(RecycleCause::Closed),
            Ping::NotBefore(at) if pace.now >= at => match Pin::new(&mut self.upstream.stream).poll_write(cx, SYNC) {
                Poll::Ready(Ok(written)) if written == SYNC.len() => self.ping = Ping::SentAt(pace.now),
                Poll::Ready(_) => return Poll::Ready(RecycleCause::Closed),
                Poll::Pending => {}
            },
            _ => {}
        }
        match Pin::new(&mut self.upstream.stream).poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(RecycleCause::Closed),
            _ => Poll::Pending,
        }
    }

    /// When it is closed, if it has no place then and nobody has come for it.
    pub(super) fn leaves_at(&self) -> Option<Moment> {
        self.place.is_none().then(|| self.since.after(RETURNED_IDLE))
    }

    /// When it must be looked at again although the server says nothing.
    pub(super) fn look_at(&self, pace: Pace) -> Moment {
        match self.ping {
            Ping::NotBefore(at) => at,
            Ping::SentAt(at) => at.after(pace.patience),
        }
    }

    /// Whether an answer is on its way that is not for a client.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.ping, Ping::SentAt(_))
    }

    /// The TLS stream is asked, not the socket: a session ticket makes that readable, too.
    fn poll_heard(&mut self, cx: &mut Context<'_>, pace: Pace) -> Poll<RecycleCause> {
        loop {
            let mut bytes = [0; 1024];
            let mut space = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.upstream.stream).poll_read(cx, &mut space) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                    let awaits_answer = self.awaits_answer();
                    let heard = &mut self.upstream.login.greeting.read_ahead;
                    heard.extend_from_slice(space.filled());
                    self.heard_at = pace.now;
                    if awaits_answer && take_answer(heard) {
                        self.ping = Ping::NotBefore(pace.now.after(pace.every));
                    }
                    let awaits_answer = matches!(self.ping, Ping::SentAt(_));
                    if let Some(cause) = spoilt_by(heard, awaits_answer) {
                        return Poll::Ready(cause);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(RecycleCause::Closed),
            }
        }
    }

    /// The same without waiting: for the moment before it is handed out.
    pub(super) fn spoilt_now(&mut self, pace: Pace) -> Option<RecycleCause> {
        // Without a budget: a task that has used its own up is told "pending" of everything.
        let mut look = pin!(unconstrained(poll_fn(|cx| Poll::Ready(self.poll_heard(cx, pace)))));
        match look.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Poll::Ready(cause)) => Some(cause),
            _ => None,
        }
    }

    /// Whether it goes from client to client so fast that looking at it costs more than is to be found.
    pub(super) fn is_fresh(&self, now: Moment) -> bool {
        self.is_reused && now.since(self.heard_at) < FRESH
    }

    /// Whether the server has said anything behind its answers to the reset.
    pub(super) fn has_said_more(&mut self) -> bool {
        let pace = Pace { now: self.since, every: Duration::ZERO, patience: Duration::ZERO };
        self.spoilt_now(pace).is_some()
    }

    /// Whether this machine would still use the same address of its own to get there. After a change of
    /// network it would not, and the connection leads nowhere although nothing says so. One that is
    /// fresh is not asked.
    pub(super) fn is_on_this_network(&self, now: Moment) -> bool {
        if self.is_fresh(now) {
            return true;
        }
        let socket = self.upstream.stream.get_ref().0.socket();
        let (Ok(own), Ok(peer)) = (socket.local_addr(), socket.peer_addr()) else { return false };
        match own_address_towards(peer) {
            Ok(now) => now == own.ip(),
            // Without a descriptor to ask with, nothing is known of the network.
            Err(error) => sys::is_shortage(&error),
        }
    }
}

/// The address that a connection to `peer` would come from now. Nothing is sent.
fn own_address_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

/// Why what a server said of itself makes its connection useless; `None` while it does not.
pub(super) fn spoilt_by(heard: &[u8], awaits_answer: bool) -> Option<RecycleCause> {
    let mut rest = heard;
    while let Some((header, after)) = rest.split_first_chunk::<5>() {
        let [kind, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        match kind {
            b'S' | b'N' if (4..=HEARD_BYTES_MAX).contains(&length) => {}
            // The rest of it is on its way.
            b'Z' if awaits_answer && after.is_empty() => {}
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

/// Takes the answer to a ping, if it is there and whole, out of what was heard.
fn take_answer(heard: &mut Vec<u8>) -> bool {
    let mut place = 0_usize;
    while let Some((header, _)) = heard.get(place..).and_then(<[u8]>::split_first_chunk::<5>) {
        let [kind, length @ ..] = *header;
        let size = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX).saturating_add(1);
        let end = place.saturating_add(size);
        if kind == b'Z' && heard.get(place..end) == Some(READY) {
            heard.drain(place..end);
            return true;
        }
        place = end;
    }
    false
}

const RETURNED_IDLE: Duration = Duration::from_secs(1);
/// Hardly anything changes in less.
const FRESH: Duration = Duration::from_millis(100);
const SYNC: &[u8] = b"S\0\0\0\x04";
const READY: &[u8] = b"Z\0\0\0\x05I";
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
        assert_eq!(spoilt_by(&kept, false), None);
        for end in 0..kept.len() {
            assert_eq!(spoilt_by(&kept[..end], false), None, "the first {end} bytes");
        }

        let shutdown = frame(b'E', b"SFATAL\0C57P01\0Mterminating\0\0");
        assert_eq!(spoilt_by(&[kept.clone(), shutdown].concat(), false), Some(RecycleCause::Shutdown));
        for other in [frame(b'E', b"SFATAL\0C57P05\0Midle\0\0"), frame(b'A', b"\0\0\0\x01c\0p\0"), frame(b'Z', b"I")] {
            assert_eq!(spoilt_by(&[kept.clone(), other].concat(), false), Some(RecycleCause::Closed));
        }
        assert_eq!(spoilt_by(b"S\0\0\0\x03", false), Some(RecycleCause::Closed), "a length that cannot be");
        assert_eq!(spoilt_by(&status.repeat(1000), false), Some(RecycleCause::Closed), "too much");
    }

    #[test]
    fn the_answer_to_a_ping_is_taken_out_wherever_it_stands_and_no_other() {
        let status = frame(b'S', b"TimeZone\0UTC\0");
        for (before, after) in [(&[][..], &[][..]), (&status, &[]), (&[], &status), (&status, &status)] {
            let mut heard = [before, READY, after].concat();
            for end in 0..before.len() + READY.len() {
                let mut half = heard[..end].to_vec();
                assert!(!take_answer(&mut half) && half.len() == end);
                assert_eq!(spoilt_by(&half, true), None, "{half:?}");
            }

            assert!(take_answer(&mut heard));
            assert_eq!(heard, [before, after].concat());
        }
        let mut odd = frame(b'Z', b"T");
        assert!(!take_answer(&mut odd));
        assert_eq!(spoilt_by(&odd, true), Some(RecycleCause::Closed));
        assert_eq!(spoilt_by(READY, false), Some(RecycleCause::Closed), "nobody asked");
    }

    #[test]
    fn the_address_towards_loopback_is_loopback() {
        let own = own_address_towards("127.0.0.1:26257".parse().unwrap());

        assert_eq!(own.unwrap(), IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
