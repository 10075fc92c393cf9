//! Signals: those that stop the daemon, and the one that has it read its settings again.

use std::io::{self, IsTerminal};
use tokio::signal::unix::{self, SignalKind, signal};
use tracing::info;

/// Signals, as they come. Those of users' own (SIGUSR1, SIGUSR2) would end the daemon without a word.
pub(super) struct Signals {
    term: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    users: [unix::Signal; 2],
    /// A log file that may not grow any more costs log lines, not sessions.
    _file_size: unix::Signal,
    /// A closed window must not leave the port taken.
    pub(super) hangup_stops: bool,
}

/// What a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Stop; the signal's name.
    Stop(&'static str),
    /// Read settings and files again.
    Reload,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            users: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
            hangup_stops: io::stdin().is_terminal(),
        })
    }

    /// What the next one is for. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        let [first, second] = &mut self.users;
        loop {
            tokio::select! {
                _ = self.term.recv() => return Signal::Stop("SIGTERM"),
                _ = self.interrupt.recv() => return Signal::Stop("SIGINT"),
                _ = first.recv() => info!("SIGUSR1 changes nothing"),
                _ = second.recv() => info!("SIGUSR2 changes nothing"),
                _ = self.hangup.recv() => return if self.hangup_stops { Signal::Stop("SIGHUP") } else { Signal::Reload },
            }
        }
    }
}
