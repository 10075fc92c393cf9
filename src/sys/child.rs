//! A command that runs beside the daemon, on the daemon's own terminal: how it is tied to this process, how its end
//! is learnt, and who hears the keyboard's signals.

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, getpgrp, kill_process, waitpid},
    termios::tcgetpgrp,
};
use std::{
    fs::File,
    io,
    process::{Child, Command},
};

/// A process that this one has started. It is told to end when this one lets go of it.
#[derive(Debug)]
pub struct Tied {
    pid: Pid,
    /// Also waits for processes that this one was left with.
    is_init: bool,
    end: Option<End>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl End {
    /// Of a process that ends because of this signal.
    pub fn of_signal(number: i32) -> Self {
        Self::Signal(u8::try_from(number).unwrap_or_default())
    }

    /// As a shell gives it on.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => SIGNALLED.saturating_add(number),
        }
    }
}

/// Starts it. Where the system can (Linux), it gets SIGTERM when this process is gone however that came about; for that
/// it must be started by a thread that lives as long as the process, such as the first.
///
/// # Errors
/// Those of [`Command::spawn`].
pub fn spawn_tied(mut command: Command) -> io::Result<Tied> {
    end_with_parent(&mut command);
    let child = command.spawn()?;
    Ok(Tied { pid: pid_of(&child)?, is_init: std::process::id() == 1, end: None })
}

impl Tied {
    /// How it ended, if it has; to be asked whenever SIGCHLD came, by the thread that has started it. As the first
    /// process of a container this also lets processes go whose own parents have left them.
    ///
    /// # Errors
    /// Somebody else has waited for it.
    pub fn try_wait(&mut self) -> io::Result<Option<End>> {
        while self.end.is_none() {
            let whom = if self.is_init { None } else { Some(self.pid) };
            match waitpid(whom, WaitOptions::NOHANG | of_this_thread()) {
                Ok(Some((pid, status))) if pid == self.pid => self.end = end_of(status.as_raw()),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.end)
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, number: i32) {
        // Its number is nobody else's while nobody has waited for it.
        if let (None, Some(signal)) = (self.end, Signal::from_named_raw(number)) {
            // One that ends at this moment needs none.
            let _ = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
    }
}

fn pid_of(child: &Child) -> io::Result<Pid> {
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    number.ok_or_else(|| io::Error::other("the system gave a process without a number"))
}

/// `None`: it has only stopped, which is not asked for.
fn end_of(status: i32) -> Option<End> {
    let byte = |number: i32| u8::try_from(number).ok();
    if libc::WIFEXITED(status) {
        return byte(libc::WEXITSTATUS(status)).map(End::Code);
    }
    if libc::WIFSIGNALED(status) { byte(libc::WTERMSIG(status)).map(End::Signal) } else { None }
}

/// Children of other threads (a command that prints a password) are waited for there. Orphans are left with the first
/// thread.
fn of_this_thread() -> WaitOptions {
    #[cfg(target_os = "linux")]
    return WaitOptions::from_bits_retain(u32::from_ne_bytes(libc::__WNOTHREAD.to_ne_bytes()));
    #[cfg(not(target_os = "linux"))]
    WaitOptions::empty()
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "nothing else runs code between fork and exec")]
fn end_with_parent(command: &mut Command) {
    use rustix::process::{getpid, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt;
    let parent = getpid();
    let ask = move || {
        // Not SIGKILL: what it has not committed the database undoes, but what it writes elsewhere nobody does.
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // It may be gone already, and then nothing would come. In a container it has no number that is seen there.
        if getppid().is_some_and(|now| now != parent) { Err(Errno::SRCH.into()) } else { Ok(()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing, as must be between fork and exec.
    unsafe {
        command.pre_exec(ask);
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_: &mut Command) {}

/// Whether the keyboard's signals (SIGINT, SIGQUIT) come to this process, and so to all of its group.
pub fn hears_keyboard() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}

/// Whether this process was started to ignore a signal, as by `nohup`; to be asked before anything hears it.
#[expect(unsafe_code, reason = "no crate of ours asks for a signal's disposition")]
pub fn is_ignored(number: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed where no new action is given; what is there is written to a place of its type. Where
    // the call fails the zeroes stay, which are a value of that type too, and are not looked at.
    unsafe {
        libc::sigaction(number, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// What a shell adds to the number of a signal.
const SIGNALLED: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn ended(script: &str, signal: Option<i32>) -> End {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut child = spawn_tied(command).unwrap();
        signal.inspect(|number| child.signal(*number));
        let begun = Instant::now();
        loop {
            if let Some(end) = child.try_wait().unwrap() {
                return end;
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_end_is_told_as_a_shell_tells_it() {
        assert_eq!(ended("exit 7", None), End::Code(7));
        assert_eq!(ended("kill -KILL $$", None).exit_code(), 137);
        assert_eq!(ended("exec sleep 60", Some(libc::SIGTERM)), End::Signal(15));
    }

    #[test]
    fn a_signal_is_not_ignored_unless_somebody_said_so() {
        assert!(!is_ignored(libc::SIGUSR2));
        assert!(is_ignored(libc::SIGPIPE), "which Rust's own start says");
    }
}
