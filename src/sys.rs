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

/// Tells the kernel how long sent bytes may stay unacknowledged.
pub fn set_tcp_user_timeout(socket: &socket2::SockRef<'_>, limit: Duration) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    return socket.set_tcp_user_timeout(Some(limit));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, limit);
        Ok(())
    }
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
    fn the_descriptor_limit_is_known() {
        assert!(raise_descriptor_limit().is_none_or(|limit| limit > 0));
    }
}
