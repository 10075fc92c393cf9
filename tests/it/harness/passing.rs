//! Starting the daemon as a service manager does: with listening sockets that stay open here.

use std::{
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

/// What stands before the daemon's own command line. It moves the descriptors to where they are looked for, says
/// which process they are for, and becomes the daemon. High numbers first: the old and the new ones may overlap.
const BECOMES_THE_DAEMON: &str = "\
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 500) for number in sys.argv[1].split(',')]
for place, number in enumerate(given):
    os.dup2(number, 3 + place, inheritable=True)
os.closerange(3 + len(given), 600)
os.environ['LISTEN_FDS'] = str(len(given))
os.environ['LISTEN_PID'] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
";

/// The words before the daemon's own that pass it these descriptors.
pub(super) fn wrapper(sockets: &[BorrowedFd<'_>]) -> Vec<String> {
    let numbers: Vec<_> = sockets.iter().map(|socket| socket.as_raw_fd().to_string()).collect();
    ["python3", "-c", BECOMES_THE_DAEMON].map(str::to_owned).into_iter().chain([numbers.join(",")]).collect()
}

/// Leaves these descriptors open in this command only; other programs that tests start at the same time are not
/// given them.
#[expect(unsafe_code, reason = "only between fork and exec can a descriptor be kept for one program")]
pub(super) fn keep_open(command: &mut Command, sockets: &[BorrowedFd<'_>]) {
    let numbers: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let keep = move || {
        for &number in &numbers {
            // SAFETY: the caller holds the descriptors until the program has started.
            let socket = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: it makes one system call for each descriptor, and allocates nothing.
    unsafe { command.pre_exec(keep) };
}
