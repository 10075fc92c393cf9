//! Calls that only some systems have: the one place to look at when porting.

use std::time::Duration;

/// Raises the soft limit of open descriptors to the hard one and returns it; `None` is unlimited.
pub fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused only under odd sandboxes; the soft limit then stands.
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Time since some fixed point, exact to a few milliseconds and cheaper to ask than `Instant`.
pub fn coarse_clock() -> Duration {
    #[cfg(target_os = "linux")]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    #[cfg(not(target_os = "linux"))]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// Tells the kernel how long sent bytes may stay unacknowledged; `None`: as long as its own limits say.
pub fn set_tcp_user_timeout(socket: &socket2::SockRef<'_>, limit: Option<Duration>) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    return socket.set_tcp_user_timeout(limit);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, limit);
        Ok(())
    }
}

/// What the kernel hears from the other side of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Sent bytes, or two probes, wait for an acknowledgement.
    pub is_owed: bool,
    /// How long ago the last one came.
    pub last_ack: Duration,
}

/// Asks the kernel (TCP_INFO); `None` where it cannot be asked.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no crate of ours wraps TCP_INFO")]
pub fn tcp_heard(socket: &impl std::os::fd::AsFd) -> Option<Heard> {
    use std::os::fd::AsRawFd;
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as it is borrowed; the kernel writes at most `length` bytes
    // to a place that has as many; all of its fields are numbers, so that any bytes are a value.
    let info = unsafe {
        let place = info.as_mut_ptr().cast();
        if libc::getsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length) != 0 {
            return None;
        }
        info.assume_init()
    };
    Some(Heard {
        // A single probe may just be under way.
        is_owed: info.tcpi_unacked > 0 || info.tcpi_probes > 1,
        last_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

/// Asks the kernel; here it cannot be asked.
#[cfg(not(target_os = "linux"))]
pub fn tcp_heard(_: &impl std::os::fd::AsFd) -> Option<Heard> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_does_not_run_backwards() {
        let before = coarse_clock();

        assert!(coarse_clock() >= before);
    }

    #[test]
    fn a_quiet_connection_owes_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();

        let heard = tcp_heard(&socket);

        assert!(heard.is_none_or(|heard| !heard.is_owed && heard.last_ack < Duration::from_secs(60)), "{heard:?}");
    }

    #[test]
    fn the_descriptor_limit_is_known() {
        assert!(raise_descriptor_limit().is_none_or(|limit| limit > 0));
    }
}
