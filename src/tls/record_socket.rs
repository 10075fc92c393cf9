//! The socket that TLS records come from and are written to.

use super::{low_water::LowWater, read_ahead::ReadAhead};
use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TCP socket under TLS. rustls hands over its records as a list, and a query is one record: the kernel takes that
/// with less work by a plain write than by `writev`. In bulk the socket is read ahead of what rustls asks for, and when
/// much is there.
pub struct RecordSocket<S> {
    socket: LowWater<S>,
    ahead: ReadAhead,
}

impl<S> RecordSocket<S> {
    /// Puts TLS on `socket`, of which in bulk up to `bulk_bytes` are read at once.
    pub fn new(socket: S, bulk_bytes: usize) -> Self {
        Self { socket: LowWater::new(socket, bulk_bytes), ahead: ReadAhead::new(bulk_bytes) }
    }

    /// The socket itself.
    pub fn socket(&self) -> &S {
        self.socket.socket()
    }
}

impl<S: AsFd> RecordSocket<S> {
    /// What comes next is part of no long answer, and is heard at once.
    pub fn begin_anew(&mut self) {
        self.socket.begin_anew();
    }
}

impl<S: AsFd> AsFd for RecordSocket<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for RecordSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, ahead } = &mut *self;
        ahead.poll_read(cx, socket, space)
    }
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for RecordSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.socket.for_writing()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        records: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match records {
            [record] => Pin::new(self.socket.for_writing()).poll_write(cx, record),
            several => Pin::new(self.socket.for_writing()).poll_write_vectored(cx, several),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.for_writing()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.for_writing()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, net::UdpSocket};

    /// Notes how it was written to.
    struct Written(Vec<(&'static str, usize)>, UdpSocket);

    impl AsFd for Written {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.1.as_fd()
        }
    }

    impl AsyncWrite for Written {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(("plain", bytes.len()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes = pieces.iter().map(|piece| piece.len()).sum();
            self.0.push(("list", bytes));
            Poll::Ready(Ok(bytes))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn one_record_goes_out_by_a_plain_write_and_several_at_once() {
        let written = Written(Vec::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut socket = RecordSocket::new(written, 0);
        assert!(socket.is_write_vectored());
        let (first, second) = (IoSlice::new(b"one"), IoSlice::new(b"another"));

        for (records, bytes) in [(&[first][..], 3), (&[first, second], 10)] {
            let written = poll_fn(|cx| Pin::new(&mut socket).poll_write_vectored(cx, records)).await.unwrap();
            assert_eq!(written, bytes);
        }

        assert_eq!(socket.socket().0, [("plain", 3), ("list", 10)]);
    }
}
