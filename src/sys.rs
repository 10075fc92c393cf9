//! Calls that only some systems have: the one place to look at when porting.

mod accounts;
mod child;
mod owner;
mod passed;
mod peer;
mod private;
mod process;
mod routes;
mod uid_map;

pub use accounts::{group_id, user_id};
pub use child::{End, Tied, hears_keyboard, is_ignored, spawn_tied};
pub use owner::listening_process;
pub use passed::{Passed, PassedDescriptor, UNNAMED, take_passed};
pub use peer::PeerUids;
pub use private::{keep_memory_private, leave_no_cores};
pub use process::{ProcessFacts, process_facts};
pub use routes::{Route, routes};
pub use uid_map::{can_tell_users_apart, is_own_user, is_whole_uid_map, uid_map};

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

/// The user that this process acts as.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this machine is short of something, rather than the other side at fault.
pub fn is_shortage(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    shortages.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Time since some fixed point, exact to a few milliseconds and cheaper to ask than `Instant`.
pub fn coarse_clock() -> Duration {
    #[cfg(target_os = "linux")]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    #[cfg(not(target_os = "linux"))]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// Time since the machine started, suspend included.
pub fn time_since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// How much of that time the machine was suspended; zero where the system does not say.
pub fn time_suspended() -> Duration {
    let awake = Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic)).unwrap_or_default();
    time_since_boot().saturating_sub(awake)
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

/// Gives memory that is free back to the system. The GNU C library keeps it otherwise.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no crate of ours wraps malloc_trim")]
pub fn give_back_memory() {
    // SAFETY: it may be called by any thread at any time, and touches only what nobody has (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Does nothing: the allocators of musl and of other systems see to it themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_memory() {}

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
pub fn tcp_sent(socket: &impl std::os::fd::AsFd) -> Option<Sent> {
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
pub fn tcp_sent(_: &impl std::os::fd::AsFd) -> Option<Sent> {
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

    #[cfg(target_os = "linux")]
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

    #[test]
    fn the_descriptor_limit_is_known() {
        assert!(raise_descriptor_limit().is_none_or(|limit| limit > 0));
    }
}
