//! One direction of a relay: bytes of a source on their way to a sink, as they came.

use crate::{
    buffers::{self, Buffer},
    wire::frames::FrameError,
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read and not yet written, and how the source stands.
pub(super) struct Flow {
    buffer_bytes: usize,
    /// Borrowed while it holds bytes.
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
    unflushed: bool,
    source_ended: Option<FlowEnd>,
    read: u64,
    written: u64,
}

/// Why no more bytes will flow. What was read before has been handed to the sink, unless that failed.
#[derive(Debug)]
pub(super) enum FlowEnd {
    /// The source said that it has no more.
    SourceEof,
    /// The source broke.
    SourceFailed(io::Error),
    /// The source sent what is no message; whole messages before it were written.
    Malformed(FrameError),
    /// The sink takes no more.
    SinkFailed(io::Error),
}

impl Flow {
    /// A flow that begins with bytes which were read ahead.
    pub(super) fn new(
        buffer_bytes: usize,
        read_ahead: &[u8],
        follow: impl FnOnce(&[u8]) -> Result<(), FrameError>,
    ) -> Self {
        let mut flow = Self {
            buffer_bytes,
            buffer: None,
            start: 0,
            end: 0,
            unflushed: false,
            source_ended: None,
            read: 0,
            written: 0,
        };
        if !read_ahead.is_empty() {
            flow.buffer = Some(read_ahead.into());
            flow.take_in(read_ahead.len(), follow(read_ahead));
        }
        flow
    }

    /// Protocol bytes read from the source so far.
    pub(super) fn bytes(&self) -> u64 {
        self.read
    }

    /// Protocol bytes that the sink has taken so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether the sink has everything that was read.
    pub(super) fn is_drained(&self) -> bool {
        self.start == self.end && !self.unflushed
    }

    /// How the source has ended, whose last bytes still wait for the sink.
    pub(super) fn source_end(&self) -> Option<&FlowEnd> {
        self.source_ended.as_ref()
    }

    /// Bytes that were read and not yet written.
    pub(super) fn pending(&self) -> &[u8] {
        self.buffer.as_deref().and_then(|buffer| buffer.get(self.start..self.end)).unwrap_or_default()
    }

    /// Moves bytes until one side has to be waited for, or nothing will flow any more. `follow` sees
    /// every byte once, before it is written.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        follow: &mut impl FnMut(&[u8]) -> Result<(), FrameError>,
    ) -> Poll<FlowEnd>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            // First all that is there: each write costs the sink's peer a wake-up. And a stalled sink must not hide the
            // source's end.
            let is_source_silent = self.poll_fill(cx, source, follow).is_pending();
            if let Err(error) = ready!(self.poll_write(cx, sink)) {
                return Poll::Ready(FlowEnd::SinkFailed(error));
            }
            if self.source_ended.is_some() {
                if let Err(error) = ready!(self.poll_flush(cx, sink)) {
                    return Poll::Ready(FlowEnd::SinkFailed(error));
                }
                return Poll::Ready(self.source_ended.take().unwrap_or(FlowEnd::SourceEof));
            }
            if is_source_silent {
                // What is written must not wait for what is not read.
                return match self.poll_flush(cx, sink) {
                    Poll::Ready(Err(error)) => Poll::Ready(FlowEnd::SinkFailed(error)),
                    _ => Poll::Pending,
                };
            }
        }
    }

    /// Reads until there is no more room, or nothing more to come. Pending while the source is silent, with what it said
    /// before in the buffer.
    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        follow: &mut impl FnMut(&[u8]) -> Result<(), FrameError>,
    ) -> Poll<()> {
        while self.has_room() {
            ready!(self.poll_read(cx, source, follow));
        }
        Poll::Ready(())
    }

    fn has_room(&self) -> bool {
        self.source_ended.is_none() && self.buffer.as_ref().is_none_or(|buffer| self.end < buffer.len())
    }

    /// Forgets what could not be written.
    pub(super) fn discard(&mut self) {
        self.start = self.end;
        self.release();
    }

    fn poll_write<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
        while self.start < self.end {
            let written = ready!(Pin::new(&mut *sink).poll_write(cx, self.pending()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start = self.start.saturating_add(written);
            self.written = self.written.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
            self.unflushed = true;
        }
        self.release();
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(sink).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        follow: &mut impl FnMut(&[u8]) -> Result<(), FrameError>,
    ) -> Poll<()> {
        let mut buffer = self.buffer.take().unwrap_or_else(|| buffers::borrow(self.buffer_bytes));
        let mut space = ReadBuf::new(buffer.get_mut(self.end..).unwrap_or_default());
        let result = Pin::new(source).poll_read(cx, &mut space);
        let (filled, followed) = match &result {
            Poll::Ready(Ok(())) if !space.filled().is_empty() => (space.filled().len(), follow(space.filled())),
            _ => (0, Ok(())),
        };
        self.buffer = Some(buffer);
        if filled == 0 && self.start == self.end {
            self.release();
        }
        match ready!(result) {
            Ok(()) if filled == 0 => self.source_ended = Some(FlowEnd::SourceEof),
            Ok(()) => self.take_in(filled, followed),
            Err(error) => self.source_ended = Some(FlowEnd::SourceFailed(error)),
        }
        Poll::Ready(())
    }

    fn take_in(&mut self, filled: usize, followed: Result<(), FrameError>) {
        let before = self.end;
        self.end = before.saturating_add(filled);
        self.read = self.read.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        if let Err(error) = followed {
            // Whole messages before the malformed one still go out; of the bad one nothing more does.
            self.end = before.saturating_add(error.sound_bytes.unwrap_or(0));
            self.source_ended = Some(FlowEnd::Malformed(error));
        }
    }

    fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        if let Some(buffer) = self.buffer.take_if(|buffer| buffer.len() == self.buffer_bytes) {
            buffers::give_back(buffer);
        }
        self.buffer = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::VecDeque, task::Waker};

    /// Says one piece at each read, and then nothing; notes each write.
    #[derive(Default)]
    struct Peer {
        says: VecDeque<Vec<u8>>,
        hears: Vec<Vec<u8>>,
        is_deaf: bool,
    }

    impl AsyncRead for Peer {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.says.pop_front() else { return Poll::Pending };
            let rest = piece.split_off(piece.len().min(space.remaining()));
            space.put_slice(&piece);
            if !rest.is_empty() {
                self.says.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Peer {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.is_deaf {
                return Poll::Pending;
            }
            self.hears.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn poll(flow: &mut Flow, source: &mut Peer, sink: &mut Peer) {
        let polled = flow.poll(&mut Context::from_waker(Waker::noop()), source, sink, &mut |_| Ok(()));
        assert!(polled.is_pending());
    }

    #[test]
    fn what_is_there_goes_on_in_as_few_writes_as_it_fits_into() {
        let says = [3000, 3000, 3000, 500].map(|length| vec![7; length]);
        let (mut source, mut sink) = (Peer { says: says.into(), ..Peer::default() }, Peer::default());
        let mut flow = Flow::new(4096, &[], |_| Ok(()));

        poll(&mut flow, &mut source, &mut sink);

        assert_eq!(sink.hears.iter().map(Vec::len).collect::<Vec<_>>(), [4096, 4096, 1308]);
        assert!(flow.is_drained() && flow.buffer.is_none());
    }

    #[test]
    fn no_more_is_read_than_the_buffer_holds_while_the_sink_takes_nothing() {
        let says = [3000, 3000, 3000].map(|length| vec![7; length]);
        let mut source = Peer { says: says.into(), ..Peer::default() };
        let mut sink = Peer { is_deaf: true, ..Peer::default() };
        let mut flow = Flow::new(4096, &[], |_| Ok(()));

        poll(&mut flow, &mut source, &mut sink);
        poll(&mut flow, &mut source, &mut sink);

        assert_eq!((flow.pending().len(), flow.bytes()), (4096, 4096));
        sink.is_deaf = false;
        poll(&mut flow, &mut source, &mut sink);
        assert_eq!(sink.hears.concat().len(), 9000);
    }
}
