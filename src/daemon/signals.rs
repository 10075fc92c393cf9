//! Signals that stop the daemon.

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

    /// The name of the next one that stops. Cancel safe.
    pub(super) async fn next(&mut self) -> &'static str {
        let [first, second] = &mut self.users;
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = first.recv() => info!("SIGUSR1 changes nothing"),
                _ = second.recv() => info!("SIGUSR2 changes nothing"),
                _ = self.hangup.recv() => {
                    if self.hangup_stops {
                        return "SIGHUP";
                    }
                    info!("SIGHUP changes nothing: secrets are looked at before every login, settings and certificates at a start");
                }
            }
        }
    }

    /// The next one that stops at once. A terminal that goes away says so more than once: not this.
    pub(super) async fn next_in_a_drain(&mut self) -> &'static str {
        self.hangup_stops = false;
        self.next().await
    }
}
