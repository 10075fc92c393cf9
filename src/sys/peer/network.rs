//! Which network namespace a socket is of.

use std::os::fd::{AsFd, AsRawFd};

/// The number that the kernel knows a network namespace by, never given twice (SO_NETNS_COOKIE, since Linux 5.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) u64);

impl Network {
    /// `None` where the kernel does not tell.
    #[expect(unsafe_code, reason = "no crate of ours wraps SO_NETNS_COOKIE")]
    pub(super) fn of(socket: impl AsFd) -> Option<Self> {
        let mut cookie = 0_u64;
        let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).ok()?;
        let descriptor = socket.as_fd().as_raw_fd();
        let place = (&raw mut cookie).cast();
        // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel writes at most `length` bytes
        // to a place that has as many, of a type of which any bytes are a value.
        let failed =
            unsafe { libc::getsockopt(descriptor, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, place, &raw mut length) };
        let is_told = failed == 0 && usize::try_from(length).ok()? == size_of_val(&cookie) && cookie != 0;
        is_told.then_some(Self(cookie))
    }
}
