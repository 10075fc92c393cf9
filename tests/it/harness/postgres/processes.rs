//! The processes of a PostgreSQL server, which are the one that was started and its children.

use crate::harness::{DEADLINE, process};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

/// The server's first process and all its children, which have process groups of their own.
pub(super) fn of(server: &Child) -> Vec<Pid> {
    let server = Pid::from_child(server);
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let children = processes.filter(|process| parent_of(*process) == Some(server));
    std::iter::once(server).chain(children).collect()
}

/// Stops the first process and waits until it is, since it could start another until then. Looks only,
/// so that one which is stopped already, or has ended, is seen by the next to look, too.
pub(super) fn stop(server: &Child) {
    process::signal(server, Signal::STOP);
    let look = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(Pid::from_child(server)), look).unwrap();
}

/// Removes what a killed server leaves behind: a small segment of System V memory that tells a second
/// server of the first. Its ID closes a line of the lock file.
pub(super) fn remove_shared_memory(data: &Path) {
    let lock = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let id = lock.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)).expect("a line of shared memory");
    process::run(Command::new("ipcrm").args(["--shmem-id", id]), "", DEADLINE).expect_success();
}

/// The fourth field of /proc/PID/stat; the second, the name in parentheses, may hold anything.
fn parent_of(process: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    Pid::from_raw(after_name.split(' ').nth(1)?.parse().ok()?)
}
