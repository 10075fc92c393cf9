//! Calls that only some systems have: the one place to look at when porting.

mod accounts;
mod child;
mod owner;
mod passed;
mod peer;
mod private;
mod process;
mod routes;
mod tcp;
mod uid_map;

pub use accounts::{group_id, user_id};
pub use child::{End, Tied, hears_keyboard, is_ignored, spawn_tied};
pub use owner::listening_process;
pub use passed::{Passed, PassedDescriptor, UNNAMED, take_passed};
pub use peer::PeerUids;
pub use private::{keep_memory_private, leave_no_cores};
pub use process::{ProcessFacts, process_facts};
pub use routes::{Route, routes};
pub use tcp::{Sent, set_receive_low_water, set_tcp_user_timeout, tcp_sent};
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
