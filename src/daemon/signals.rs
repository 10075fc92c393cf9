//! Signals: those that stop the daemon, and the one that has it read its settings again.

use std::io::{self, IsTerminal};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Signals, as they come. Those of users' own (SIGUSR1, SIGUSR2) would end the daemon without a word.
pub(super) struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
    users: [Signal; 2],
    /// A closed window must not leave the port taken.
    hangup_stops: bool,
}

/// What a signal wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
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
            hangup_stops: io::stdin().is_terminal(),
        })
    }

    /// What the next one wants. Cancel safe.
    pub(super) async fn next(&mut self) -> Wish {
        let [first, second] = &mut self.users;
        loop {
            tokio::select! {
                _ = self.term.recv() => return Wish::Stop("SIGTERM"),
                _ = self.interrupt.recv() => return Wish::Stop("SIGINT"),
                _ = first.recv() => info!("SIGUSR1 changes nothing"),
                _ = second.recv() => info!("SIGUSR2 changes nothing"),
                _ = self.hangup.recv() => return if self.hangup_stops { Wish::Stop("SIGHUP") } else { Wish::Reload },
            }
        }
    }

    /// The name of the next one that stops at once. A terminal that goes away says so more than once, and a
    /// daemon that drains reads nothing again: not this.
    pub(super) async fn next_in_a_drain(&mut self) -> &'static str {
        self.hangup_stops = false;
        loop {
            match self.next().await {
                Wish::Stop(name) => return name,
                Wish::Reload => info!("SIGHUP changes nothing while draining"),
            }
        }
    }
}
