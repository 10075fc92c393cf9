//! What is asked of TCP sockets, and told them.

use std::{io, os::fd::AsFd, time::Duration};

/// Tells the kernel how long sent bytes may stay unacknowledged; `None`: as long as its own limits say.
pub fn set_tcp_user_timeout(socket: &socket2::SockRef<'_>, limit: Option<Duration>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return socket.set_tcp_user_timeout(limit);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, limit);
        Ok(())
    }
}

/// Asks the kernel to call a socket readable once `bytes` bytes are there, or its end; 1 is the usual.
///
/// # Errors
/// Where that cannot be asked for; it then goes on as before.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no crate of ours sets SO_RCVLOWAT")]
pub fn set_receive_low_water(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = libc::socklen_t::try_from(size_of_val(&bytes)).unwrap_or_default();
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads `length` bytes, which are one
    // number (socket(7)).
    let set =
        unsafe { libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const bytes).cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the kernel; here it is not asked.
#[cfg(not(target_os = "linux"))]
pub fn set_receive_low_water(_: &impl AsFd, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How the bytes fare that were sent over a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes wait, and all that the other side would take are acknowledged: it does not read.
    pub is_window_closed: bool,
    /// More than one probe of a closed window went unanswered; a single one may just be under way.
    pub are_probes_unanswered: bool,
    /// How long ago the last acknowledgement came.
    pub last_ack: Duration,
}

/// Asks the kernel (TCP_INFO, SIOCOUTQ); `None` where it cannot be asked.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no crate of ours wraps TCP_INFO and SIOCOUTQ")]
pub fn tcp_sent(socket: &impl AsFd) -> Option<Sent> {
    use std::os::fd::AsRawFd;
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    let mut queued: libc::c_int = 0;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed. The kernel writes at most `length` bytes
    // to a place that has as many, all of whose fields are numbers, so that any bytes are a value; and one
    // `int` to the address of one (tcp(7), "SIOCOUTQ", whose number is TIOCOUTQ's).
    let info = unsafe {
        let place = info.as_mut_ptr().cast();
        if libc::getsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length) != 0
            || libc::ioctl(descriptor, libc::TIOCOUTQ, &raw mut queued) != 0
        {
            return None;
        }
        info.assume_init()
    };
    Some(Sent {
        is_window_closed: queued > 0 && info.tcpi_unacked == 0,
        are_probes_unanswered: info.tcpi_probes > 1,
        last_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

/// Asks the kernel; here it cannot be asked.
#[cfg(not(target_os = "linux"))]
pub fn tcp_sent(_: &impl AsFd) -> Option<Sent> {
    None
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_does_not_read_closes_its_window() {
        use std::io::{ErrorKind, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!tcp_sent(&socket).unwrap().is_window_closed);

        socket.set_nonblocking(true).unwrap();
        let begun = std::time::Instant::now();
        while !tcp_sent(&socket).unwrap().is_window_closed {
            let written = socket.write(&[0; 1 << 16]).map_err(|error| error.kind());
            assert!(matches!(written, Ok(_) | Err(ErrorKind::WouldBlock)), "{written:?}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", tcp_sent(&socket));
        }

        assert!(!tcp_sent(&socket).unwrap().are_probes_unanswered);
    }

    #[tokio::test]
    async fn a_socket_is_readable_once_as_much_is_there_as_was_asked_for() {
        use std::task::{Context, Waker};
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, other) = (tokio::net::TcpStream::connect(address), tokio::net::TcpStream::connect(address));
        let ((asked, mut peer), (other, mut others_peer)) = (
            (asked.await.unwrap(), listener.accept().await.unwrap().0),
            (other.await.unwrap(), listener.accept().await.unwrap().0),
        );

        set_receive_low_water(&asked, 100).unwrap();
        peer.write_all(&[0; 99]).await.unwrap();
        others_peer.write_all(&[0]).await.unwrap();
        // What is known of the one was known of the other before.
        other.readable().await.unwrap();
        assert!(asked.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending());
        peer.write_all(&[0]).await.unwrap();
        asked.readable().await.unwrap();
    }
}
