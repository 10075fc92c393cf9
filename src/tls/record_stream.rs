//! TLS that is read one record at a time.

use std::{
    io,
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// A TLS stream whose reads look at its socket once. tokio-rustls's own look for more after every record, and a reader that
/// then asks for more looks in vain twice.
#[derive(Debug)]
pub struct RecordStream<S>(pub S);

impl<S> Deref for RecordStream<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> DerefMut for RecordStream<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0
    }
}

impl<S: AsyncBufRead + Unpin> AsyncRead for RecordStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let record = ready!(Pin::new(&mut self.0).poll_fill_buf(cx))?;
        let bytes = record.len().min(space.remaining());
        space.put_slice(record.get(..bytes).unwrap_or_default());
        Pin::new(&mut self.0).consume(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RecordStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::VecDeque, task::Waker};

    /// Has one record after another, and then nothing yet.
    #[derive(Default)]
    struct Records {
        records: VecDeque<Vec<u8>>,
        looks: usize,
    }

    impl AsyncRead for Records {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            panic!("it looks for more than a record");
        }
    }

    impl AsyncBufRead for Records {
        fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            let this = self.get_mut();
            this.looks += 1;
            this.records.front().map_or(Poll::Pending, |record| Poll::Ready(Ok(record)))
        }

        fn consume(mut self: Pin<&mut Self>, bytes: usize) {
            let mut record = self.records.pop_front().unwrap();
            let rest = record.split_off(bytes);
            if !rest.is_empty() {
                self.records.push_front(rest);
            }
        }
    }

    /// What one read of at most `most` bytes gives; `None` when there is nothing yet.
    fn read(stream: &mut RecordStream<Records>, most: usize) -> Option<Vec<u8>> {
        let mut space = vec![0; most];
        let mut space = ReadBuf::new(&mut space);
        match Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut space) {
            Poll::Ready(read) => Some(read.map(|()| space.filled().to_vec()).unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn each_read_looks_once() {
        let records = [b"one".to_vec(), b"two".to_vec()].into();
        let mut stream = RecordStream(Records { records, ..Records::default() });

        let read = [read(&mut stream, 100), read(&mut stream, 100), read(&mut stream, 100)];

        assert_eq!(read, [Some(b"one".to_vec()), Some(b"two".to_vec()), None]);
        assert_eq!(stream.looks, 3);
    }

    #[test]
    fn what_finds_no_room_comes_with_the_next_read() {
        let mut stream = RecordStream(Records { records: [b"seven by".to_vec()].into(), ..Records::default() });

        assert_eq!(read(&mut stream, 5).unwrap(), b"seven");
        assert_eq!(read(&mut stream, 5).unwrap(), b" by");
        assert_eq!(read(&mut stream, 5), None);
    }

    #[test]
    fn an_end_is_no_bytes() {
        let mut stream = RecordStream(&b""[..]);
        let mut space = [0; 8];
        let mut space = ReadBuf::new(&mut space);

        let read = Pin::new(&mut stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut space);

        assert!(matches!(read, Poll::Ready(Ok(()))) && space.filled().is_empty());
    }
}
