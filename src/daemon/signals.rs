//! Signals: those that stop the daemon, and the one that has it read its settings again.

use std::io::{self, IsTerminal};
use tokio::{
    signal::unix::{self, SignalKind, signal},
    sync::mpsc,
};
use tracing::info;

/// Signals, as they come.
pub(super) struct Signals {
    origin: Origin,
    /// A log file that may not grow any more costs log lines, not sessions.
    _file_size: unix::Signal,
    /// A closed window must not leave the port taken.
    pub(super) hangup_stops: bool,
}

/// Who they come from.
enum Origin {
    /// Anybody. Those of users' own (SIGUSR1, SIGUSR2) would end the daemon without a word.
    Process { term: unix::Signal, interrupt: unix::Signal, hangup: unix::Signal, users: [unix::Signal; 2] },
    /// Who runs a command beside the daemon, and sees to the signals of the process.
    Ender(mpsc::Receiver<()>),
}

/// What a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Stop; the signal's name.
    Stop(&'static str),
    /// Read settings and files again.
    Reload,
}

/// Stops a daemon that hears no signals.
pub struct Ender(mpsc::Sender<()>);

impl Ender {
    /// Stops it gently, at once in a drain; the second time at once.
    pub fn stop(&self) {
        // One that is full has more than it takes, and nobody hears one that has ended.
        let _ = self.0.try_send(());
    }
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let origin = Origin::Process {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            users: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        };
        Self::from(origin, io::stdin().is_terminal())
    }

    /// Those of the process are somebody else's.
    pub(super) fn of_ender() -> io::Result<(Self, Ender)> {
        let (sender, receiver) = mpsc::channel(STOPS_MAX);
        Ok((Self::from(Origin::Ender(receiver), false)?, Ender(sender)))
    }

    fn from(origin: Origin, hangup_stops: bool) -> io::Result<Self> {
        let file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        Ok(Self { origin, _file_size: file_size, hangup_stops })
    }

    /// What the next one is for. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        let (term, interrupt, hangup, [first, second]) = match &mut self.origin {
            Origin::Process { term, interrupt, hangup, users } => (term, interrupt, hangup, users),
            Origin::Ender(stops) => match stops.recv().await {
                Some(()) => return Signal::Stop(COMMAND_ENDED),
                None => return std::future::pending().await,
            },
        };
        loop {
            tokio::select! {
                _ = term.recv() => return Signal::Stop("SIGTERM"),
                _ = interrupt.recv() => return Signal::Stop("SIGINT"),
                _ = first.recv() => info!("SIGUSR1 changes nothing"),
                _ = second.recv() => info!("SIGUSR2 changes nothing"),
                _ = hangup.recv() => return if self.hangup_stops { Signal::Stop("SIGHUP") } else { Signal::Reload },
            }
        }
    }
}

/// Stands where the name of a signal would.
pub(super) const COMMAND_ENDED: &str = "the end of the command";
/// One to stop, one to stop at once.
const STOPS_MAX: usize = 2;
