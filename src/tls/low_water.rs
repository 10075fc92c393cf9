//! Fewer wake-ups in a long answer. A server that writes one TLS record at a time wakes the daemon for each, when that is
//! the faster one: it then costs half as much again. So the kernel is asked to wait until several are there
//! (`SO_RCVLOWAT`, socket(7)), and a clock sees to it that the last of them do not wait long.

use super::read_ahead::MOST_BYTES;
use crate::sys;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A TCP socket that is read in larger pieces once it has said much without a word from us.
pub(super) struct LowWater<S> {
    socket: S,
    /// How many bytes are to be there at once.
    mark: usize,
    is_up: bool,
    /// Bytes read since the last write, or since patience was over.
    run: usize,
    /// While the mark is up, and until the look that follows it.
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether patience runs. Otherwise it may still wake the task, once, for nothing.
    is_waiting: bool,
}

impl<S> LowWater<S> {
    /// For reads of `bytes` bytes.
    pub(super) fn new(socket: S, bytes: usize) -> Self {
        // Not all of them: a read that is filled is followed by one that may find nothing.
        let mark = bytes.min(MOST_BYTES).saturating_mul(7) / 8;
        Self { socket, mark, is_up: false, run: 0, patience: None, is_waiting: false }
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> &S {
        &self.socket
    }
}

impl<S: AsFd> LowWater<S> {
    /// What comes next belongs to no long answer. Whoever waits for it goes on doing so, for no longer than before.
    pub(super) fn begin_anew(&mut self) {
        self.run = 0;
        if std::mem::take(&mut self.is_up) {
            // It could be put up, so it can be put down.
            let _ = sys::set_receive_low_water(&self.socket, 1);
        }
    }

    /// The socket, for a word of ours.
    pub(super) fn for_writing(&mut self) -> &mut S {
        self.begin_anew();
        &mut self.socket
    }

    fn note(&mut self, bytes: usize) {
        self.is_waiting = false;
        self.run = self.run.saturating_add(bytes);
        if !self.is_up && self.run >= LONG_BYTES {
            self.run = 0;
            self.is_up = sys::set_receive_low_water(&self.socket, self.mark).is_ok();
            if self.is_up && self.patience.is_none() {
                self.patience = Some(Box::pin(sleep(PATIENCE)));
            }
        }
    }

    /// The runtime knows of nothing: waits until patience is over, if the mark is up, and takes what is there without it.
    fn poll_patience(&mut self, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(patience) = &mut self.patience else { return Poll::Pending };
        if self.is_up {
            if !std::mem::replace(&mut self.is_waiting, true) {
                patience.as_mut().reset(Instant::now() + PATIENCE);
            }
            ready!(patience.as_mut().poll(cx));
            self.begin_anew();
        }
        self.look(space)
    }

    /// Takes what is there. Linux before 4.18 does not say that there is something when the mark is put down, and the
    /// runtime does not look before it is told.
    fn look(&mut self, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match recv(&self.socket, space.initialize_unfilled(), RecvFlags::DONTWAIT) {
            Ok((bytes, _)) => {
                space.advance(bytes);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.patience = None;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for LowWater<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = space.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, space);
        if read.is_pending() {
            return self.poll_patience(cx, space);
        }
        self.note(space.filled().len().saturating_sub(before));
        read
    }
}

/// So much in one answer, and it is long: what the clock adds at its end is then little beside it.
const LONG_BYTES: usize = 16 << 20;

/// How long bytes may lie there; the runtime's clock makes up to twice as much of it. A server that is slower than the mark
/// in this time is not waited for any more, until it has sent so much again.
const PATIENCE: Duration = Duration::from_millis(1);

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time,
    };

    async fn connected() -> (LowWater<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (LowWater::new(socket, 65_536), listener.accept().await.unwrap().0)
    }

    /// The peer has said so much that the mark is up.
    async fn after_a_long_answer() -> (LowWater<TcpStream>, TcpStream) {
        let (mut socket, mut peer) = connected().await;
        let mut answer = vec![0; LONG_BYTES - 1];
        let (said, heard) = (answer.clone(), socket.read_exact(&mut answer));
        let (said, heard) = tokio::join!(peer.write_all(&said), heard);
        said.unwrap();
        assert!(heard.is_ok() && !socket.is_up);

        peer.write_all(&[0]).await.unwrap();
        socket.read_u8().await.unwrap();
        assert!(socket.is_up);
        (socket, peer)
    }

    /// One look, without waiting, at what `socket` has.
    fn look(socket: &mut LowWater<TcpStream>) -> Option<usize> {
        let mut space = [0; 100];
        let mut space = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(socket).poll_read(&mut cx, &mut space) {
            Poll::Ready(read) => Some(read.map(|()| space.filled().len()).unwrap()),
            Poll::Pending => None,
        }
    }

    /// The mark is up, and they are there, and not told of.
    async fn with_ten_bytes_below_the_mark() -> (LowWater<TcpStream>, TcpStream) {
        let (mut socket, mut peer) = after_a_long_answer().await;
        assert_eq!(look(&mut socket), None);
        peer.write_all(&[0; 10]).await.unwrap();
        while rustix::io::ioctl_fionread(socket.socket()).unwrap() < 10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(look(&mut socket), None);
        (socket, peer)
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_long_answer_comes_when_patience_is_over() {
        let (mut socket, mut peer) = with_ten_bytes_below_the_mark().await;

        time::advance(2 * PATIENCE).await;

        // At once, and not only when the kernel says so.
        assert_eq!(look(&mut socket), Some(10));
        assert!(!socket.is_up);
        peer.write_all(&[0]).await.unwrap();
        socket.read_u8().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_waited_for_without_a_clock() {
        let (mut socket, mut peer) = after_a_long_answer().await;
        assert_eq!(look(&mut socket), None);
        time::advance(2 * PATIENCE).await;
        assert_eq!(look(&mut socket), None);
        assert!(!socket.is_up);

        peer.write_all(&[7]).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_from_us_begins_anew() {
        let (mut socket, mut peer) = after_a_long_answer().await;
        assert_eq!(look(&mut socket), None);

        socket.for_writing().write_all(&[0]).await.unwrap();
        assert!(!socket.is_up);
        peer.write_all(&[7]).await.unwrap();
        // The paused clock goes on by itself when nothing else is left to do; here it has nothing to do.
        let before = Instant::now();
        assert_eq!(socket.read_u8().await.unwrap(), 7);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_wait_below_the_mark_are_read_when_a_word_from_us_puts_it_down() {
        let (mut socket, _peer) = with_ten_bytes_below_the_mark().await;

        socket.for_writing().write_all(&[0]).await.unwrap();

        // At once, and not only when the kernel says so.
        assert_eq!(look(&mut socket), Some(10));
        assert_eq!(look(&mut socket), None);
        assert!(socket.patience.is_none(), "idle, it has a clock");
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_is_heard_through_a_raised_mark() {
        let (mut socket, peer) = after_a_long_answer().await;
        drop(peer);

        assert_eq!(socket.read(&mut [0; 100]).await.unwrap(), 0);
        // And not only because patience was over.
        assert!(socket.is_up);
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_answers_are_none_that_is_long() {
        let (mut socket, mut peer) = connected().await;
        let mut answer = vec![0; LONG_BYTES / 2];
        for _ in 0..4 {
            socket.for_writing().write_all(&[0]).await.unwrap();
            let said = answer.clone();
            let (said, heard) = tokio::join!(peer.write_all(&said), socket.read_exact(&mut answer));
            assert!(said.is_ok() && heard.is_ok());
            assert!(!socket.is_up);
        }
    }
}
