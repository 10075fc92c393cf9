//! A stream in memory whose other end the test holds. The relay reads exactly the pieces that were said, and what it was
//! told goes into one log for both sides: there is no doubt about the order in which it knew things.

use super::*;
use std::{
    cell::{Ref, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Waker, ready},
};
use tokio::io::ReadBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What the relay was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Bytes(Vec<u8>),
    End,
    ReadFailed,
    WriteFailed,
}

pub(super) type Log = Rc<RefCell<Vec<(Side, Told)>>>;

/// The relay's end.
pub(super) struct Pipe(Rc<RefCell<Inner>>);

/// The test's end.
pub(super) struct Peer(Rc<RefCell<Inner>>);

struct Inner {
    side: Side,
    log: Log,
    pieces: VecDeque<Vec<u8>>,
    has_ended: bool,
    failed: bool,
    is_deaf: bool,
    is_window_open: bool,
    was_window_ever_closed: bool,
    /// The most that one write takes.
    bite: usize,
    /// Taken, but not got before a flush, as in a TLS connection's own buffer.
    held: Vec<u8>,
    got: Vec<u8>,
    was_told_end: bool,
    has_settled: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

pub(super) fn pipe(side: Side, log: &Log, bite: usize) -> (Peer, Pipe) {
    let inner = Inner {
        side,
        log: Rc::clone(log),
        pieces: VecDeque::new(),
        has_ended: false,
        failed: false,
        is_deaf: false,
        is_window_open: true,
        was_window_ever_closed: false,
        bite,
        held: Vec::new(),
        got: Vec::new(),
        was_told_end: false,
        has_settled: false,
        reader: None,
        writer: None,
    };
    let inner = Rc::new(RefCell::new(inner));
    (Peer(Rc::clone(&inner)), Pipe(inner))
}

impl Peer {
    pub(super) fn say(&self, piece: &[u8]) {
        let mut inner = self.0.borrow_mut();
        if !piece.is_empty() && !inner.has_ended && !inner.failed {
            inner.pieces.push_back(piece.to_vec());
        }
        inner.wake();
    }

    /// No more is said; `and_hears` whether what is sent is still taken.
    pub(super) fn end(&self, and_hears: bool) {
        let mut inner = self.0.borrow_mut();
        inner.has_ended = true;
        inner.is_deaf |= !and_hears;
        inner.wake();
    }

    /// As after a TCP reset: what was not read is lost.
    pub(super) fn fail(&self) {
        let mut inner = self.0.borrow_mut();
        (inner.failed, inner.is_deaf) = (true, true);
        inner.pieces.clear();
        inner.wake();
    }

    pub(super) fn open_window(&self, is_open: bool) {
        let mut inner = self.0.borrow_mut();
        inner.is_window_open = is_open;
        inner.was_window_ever_closed |= !is_open;
        inner.wake();
    }

    pub(super) fn was_window_ever_closed(&self) -> bool {
        self.0.borrow().was_window_ever_closed
    }

    pub(super) fn is_window_open(&self) -> bool {
        self.0.borrow().is_window_open
    }

    /// Closed or broken.
    pub(super) fn is_deaf(&self) -> bool {
        self.0.borrow().is_deaf
    }

    pub(super) fn has_ended(&self) -> bool {
        let inner = self.0.borrow();
        inner.has_ended || inner.failed
    }

    pub(super) fn is_all_read(&self) -> bool {
        self.0.borrow().pieces.is_empty()
    }

    pub(super) fn was_told_end(&self) -> bool {
        self.0.borrow().was_told_end
    }

    pub(super) fn got(&self) -> Ref<'_, [u8]> {
        Ref::map(self.0.borrow(), |inner| inner.got.as_slice())
    }
}

impl Inner {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn note(&self, told: Told) {
        self.log.borrow_mut().push((self.side, told));
    }

    fn poll_deliver(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            self.note(Told::WriteFailed);
            let kind = if self.failed { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe };
            return Poll::Ready(Err(kind.into()));
        }
        if self.is_window_open || self.held.is_empty() {
            self.got.append(&mut self.held);
            return Poll::Ready(Ok(()));
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        if inner.failed {
            inner.note(Told::ReadFailed);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let Some(mut piece) = inner.pieces.pop_front() else {
            if inner.has_ended {
                inner.note(Told::End);
                return Poll::Ready(Ok(()));
            }
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let rest = piece.split_off(piece.len().min(space.remaining()));
        if !rest.is_empty() {
            inner.pieces.push_front(rest);
        }
        space.put_slice(&piece);
        inner.note(Told::Bytes(piece));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if inner.held.len() >= HELD_MAX || inner.is_deaf {
            ready!(inner.poll_deliver(cx))?;
        }
        let bytes = &bytes[..bytes.len().min(inner.bite)];
        inner.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_deliver(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_deliver(cx))?;
        inner.was_told_end = true;
        Poll::Ready(Ok(()))
    }
}

impl Path for Pipe {
    fn set_user_timeout(&self, _: Option<Duration>) {}
    fn sent(&self) -> Option<crate::sys::Sent> {
        None
    }
    fn settle(&mut self) {
        self.0.borrow_mut().has_settled = true;
    }
}

impl Pipe {
    pub(super) fn has_settled(&self) -> bool {
        self.0.borrow().has_settled
    }
}

const HELD_MAX: usize = 64;
