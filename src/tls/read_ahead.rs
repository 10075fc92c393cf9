//! Bytes of a socket, read ahead of rustls. It takes in some 4 KB at a time (rustls 0.23), one record at most: in bulk that
//! is a system call for each, and bytes of the next record that it moves about.

use crate::buffers::{self, Buffer};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::coop::poll_proceed,
};

/// What was read of a socket and not yet asked for. Holds a buffer only while it holds bytes.
pub(super) struct ReadAhead {
    /// Most bytes of one read.
    bytes: usize,
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    /// The last read of the socket was a large one, so the next one may be, too.
    is_bulk: bool,
}

impl ReadAhead {
    /// Reads up to `bytes` bytes at once, or up to 64 KiB.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes: bytes.min(MOST_BYTES), buffer: None, start: 0, end: 0, is_bulk: false }
    }

    /// Fills `space` with what comes next, as far as that is there. Nothing is an end of file.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_none() {
            if !self.is_bulk || space.remaining() >= self.bytes {
                let before = space.filled().len();
                let read = Pin::new(socket).poll_read(cx, space);
                self.note(&read, space.filled().len().saturating_sub(before));
                return read;
            }
            ready!(self.poll_fill(cx, socket))?;
        }
        // As much a step as a read of the socket: however much one has brought, other tasks have their turn.
        let step = ready!(poll_proceed(cx));
        self.hand_over(space);
        step.made_progress();
        Poll::Ready(Ok(()))
    }

    fn poll_fill<S: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, socket: &mut S) -> Poll<io::Result<()>> {
        let mut buffer = buffers::borrow(self.bytes);
        let mut space = ReadBuf::new(&mut buffer);
        let read = Pin::new(socket).poll_read(cx, &mut space);
        let filled = space.filled().len();
        self.note(&read, filled);
        if filled == 0 {
            buffers::give_back(buffer);
        } else {
            (self.buffer, self.start, self.end) = (Some(buffer), 0, filled);
        }
        read
    }

    fn note(&mut self, read: &Poll<io::Result<()>>, bytes: usize) {
        if read.is_ready() {
            self.is_bulk = bytes >= BULK_BYTES;
        }
    }

    fn hand_over(&mut self, space: &mut ReadBuf<'_>) {
        let ahead = self.buffer.as_deref().and_then(|buffer| buffer.get(self.start..self.end)).unwrap_or_default();
        let (piece, rest) = ahead.split_at(ahead.len().min(space.remaining()));
        space.put_slice(piece);
        self.start = self.end.saturating_sub(rest.len());
        if self.start == self.end
            && let Some(buffer) = self.buffer.take()
        {
            buffers::give_back(buffer);
        }
    }
}

/// More at once gains nothing.
pub(super) const MOST_BYTES: usize = 64 << 10;

/// A read of so much is one of many: rustls asks for it, unless it has most of a record already, and queries and their
/// answers seldom have it.
const BULK_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::{collections::VecDeque, task::Waker};

    /// Gives one piece after another, as far as there is room; `None` among them is a time when there is nothing.
    #[derive(Default)]
    struct Pieces {
        pieces: VecDeque<Option<Vec<u8>>>,
        reads: usize,
        most_asked: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.reads += 1;
            self.most_asked = self.most_asked.max(space.remaining());
            match self.pieces.pop_front() {
                None => Poll::Ready(Ok(())),
                Some(None) => Poll::Pending,
                Some(Some(mut piece)) => {
                    let rest = piece.split_off(piece.len().min(space.remaining()));
                    space.put_slice(&piece);
                    if !rest.is_empty() {
                        self.pieces.push_front(Some(rest));
                    }
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    /// What one read of `most` bytes gives; `None` when there is nothing yet.
    fn read(ahead: &mut ReadAhead, socket: &mut Pieces, most: usize) -> Option<Vec<u8>> {
        let mut space = vec![0; most];
        let mut space = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(read) = ahead.poll_read(&mut cx, socket, &mut space) else { return None };
        read.unwrap();
        Some(space.filled().to_vec())
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..251).cycle().take(length).collect()
    }

    #[test]
    fn in_bulk_one_read_of_the_socket_serves_many() {
        let mut socket = Pieces { pieces: [Some(bytes(4096 + 40_000)), None].into(), ..Pieces::default() };
        let mut ahead = ReadAhead::new(65_536);

        let read = std::iter::from_fn(|| read(&mut ahead, &mut socket, 4096)).flatten().collect::<Vec<_>>();

        assert!(read == bytes(4096 + 40_000));
        // One as rustls asked for, one of all the rest, and one that found nothing.
        assert_eq!(socket.reads, 3);
        assert!(ahead.buffer.is_none());
    }

    #[test]
    fn what_is_no_bulk_goes_straight_to_who_asked() {
        let answers = (0..100).flat_map(|_| [Some(bytes(300)), None]);
        let mut socket = Pieces { pieces: answers.collect(), ..Pieces::default() };
        let mut ahead = ReadAhead::new(65_536);

        for _ in 0..100 {
            assert!(read(&mut ahead, &mut socket, 4096).unwrap() == bytes(300));
            assert!(read(&mut ahead, &mut socket, 4096).is_none());
        }
        assert_eq!(socket.most_asked, 4096);
    }

    #[tokio::test]
    async fn other_tasks_have_their_turn_although_much_is_there() {
        let pieces = std::iter::repeat_with(|| Some(bytes(60_000))).take(100);
        let mut socket = Pieces { pieces: pieces.collect(), ..Pieces::default() };
        let mut ahead = ReadAhead::new(65_536);
        let mut turns = vec![0];

        // A task of its own, which has the runtime's usual budget.
        let reading = tokio::spawn(async move {
            std::future::poll_fn(|cx| {
                let mut space = [0; 4096];
                loop {
                    let mut space = ReadBuf::new(&mut space);
                    match ahead.poll_read(cx, &mut socket, &mut space) {
                        Poll::Pending => {
                            turns.push(0);
                            return Poll::Pending;
                        }
                        Poll::Ready(read) => read.unwrap(),
                    }
                    *turns.last_mut().unwrap() += space.filled().len();
                    if space.filled().is_empty() {
                        return Poll::Ready(std::mem::take(&mut turns));
                    }
                }
            })
            .await
        });

        let turns = reading.await.unwrap();
        assert_eq!(turns.iter().sum::<usize>(), 6_000_000);
        assert!(turns.iter().all(|bytes| *bytes < 1 << 20), "{turns:?}");
    }

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_its_order(
            lengths in vec(proptest::option::of(1..20_000_usize), 0..12),
            asks in vec(1..9000_usize, 1..12),
            at_once in 1..65_536_usize,
        ) {
            let all = bytes(lengths.iter().flatten().sum());
            let mut rest = &all[..];
            let pieces = lengths.iter().map(|length| length.and_then(|length| Some(rest.split_off(..length)?.to_vec())));
            let mut socket = Pieces { pieces: pieces.collect(), ..Pieces::default() };
            let mut ahead = ReadAhead::new(at_once);
            let mut got = Vec::new();
            let mut asks = asks.into_iter().cycle();

            while got.len() < all.len() || !socket.pieces.is_empty() {
                let before = got.len();
                match read(&mut ahead, &mut socket, asks.next().unwrap()) {
                    Some(read) => got.extend(read),
                    // Nothing may wait in the buffer while the reader is told that there is nothing.
                    None => prop_assert!(ahead.buffer.is_none()),
                }
                prop_assert!(got.len() > before || socket.pieces.is_empty() || ahead.buffer.is_none());
            }

            prop_assert!(got == all);
            prop_assert!(ahead.buffer.is_none());
            prop_assert_eq!(read(&mut ahead, &mut socket, 4096), Some(Vec::new()));
        }
    }
}
