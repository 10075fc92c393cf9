//! A client's byte stream, whatever it runs over.

use crate::tls::{RecordSocket, RecordStream};
use socket2::SockRef;
use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The client's side of a session.
pub(crate) enum ClientStream {
    /// In clear, over TCP.
    Tcp(TcpStream),
    /// In clear, over a Unix socket.
    Unix(UnixStream),
    /// Over local TLS.
    Tls(Box<RecordStream<TlsStream<RecordSocket<TcpStream>>>>),
}

impl ClientStream {
    /// Whether the next byte begins a TLS handshake; waits for it, and leaves it unread. Only a TCP
    /// client in clear is looked at. An end of input is no TLS.
    pub(crate) async fn begins_tls(&self) -> io::Result<bool> {
        let Self::Tcp(socket) = self else { return Ok(false) };
        let mut first = [0];
        let read = socket.peek(&mut first).await?;
        Ok(read == 1 && first == [crate::wire::first_message::TLS_HANDSHAKE])
    }

    /// Goes on over TLS, of which in bulk up to `bulk_bytes` are read at once. On any but a TCP client in clear this is
    /// an error.
    pub(crate) async fn secure(self, acceptor: &TlsAcceptor, bulk_bytes: usize) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => {
                let socket = RecordSocket::new(socket, bulk_bytes);
                Ok(Self::Tls(Box::new(RecordStream(acceptor.accept(socket).await?))))
            }
            Self::Unix(_) | Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether the client can send nothing more. Asks the kernel, since what the runtime knows may be older; of a client
    /// that is to be told more than a close, by TLS, this says no.
    pub(crate) fn has_closed(&self) -> bool {
        let Self::Tcp(socket) = self else { return false };
        SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|waiting| waiting == 0)
    }

    /// The socket under it, to ask the kernel about.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }

    /// Whether bytes are encrypted on their way.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, space),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, space),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, space),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
