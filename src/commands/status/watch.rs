//! `status --watch`: asks again every second, and goes on when the daemon goes and comes back.

use super::{
    look,
    screen::{Screen, quit_key},
    view::{self, Before},
};
use crate::{
    commands::{CommandError, say},
    control::{Client, ControlError, status::Status},
    diagnostics::{self, printable},
};
use std::{io::IsTerminal, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

/// Shows it until Ctrl-C, `q` or a signal.
///
/// # Errors
/// Nobody takes what is shown.
pub(super) async fn watch(daemon: &Client, json: bool) -> Result<u8, CommandError> {
    // First, so that no signal leaves the terminal as it is drawn on.
    let mut stop = Stop::new()?;
    let on_screen = !json && std::io::stdout().is_terminal();
    let mut showing = Showing { screen: on_screen.then(Screen::open), last: None, fault: None };
    if on_screen {
        stop.listen_for_q();
    }
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let round = async {
            ticks.tick().await;
            if json { showing.pass_on(daemon).await } else { showing.show(daemon).await }
        };
        tokio::select! {
            biased;
            () = stop.requested() => return Ok(0),
            shown = round => shown?,
        }
    }
}

struct Showing {
    screen: Option<Screen>,
    last: Option<(Status, Instant)>,
    /// What was wrong the last time.
    fault: Option<String>,
}

impl Showing {
    async fn pass_on(&mut self, daemon: &Client) -> Result<(), CommandError> {
        match daemon.status_text().await {
            Ok(text) => {
                self.fault = None;
                say(&format!("{text}\n"))
            }
            Err(error) => {
                self.note(daemon, &error);
                Ok(())
            }
        }
    }

    async fn show(&mut self, daemon: &Client) -> Result<(), CommandError> {
        let now = Instant::now();
        let text = match daemon.status().await {
            Ok(status) => {
                let before = self.last.as_ref().map(|(status, at)| Before { status, span: now - *at });
                let text = view::told(&status, before, &look::of_stdout());
                self.last = Some((status, now));
                self.fault = None;
                text
            }
            Err(error) => {
                self.note(daemon, &error);
                match (&self.screen, &self.last) {
                    // What was there last stays in sight.
                    (Some(_), Some((status, _))) => view::told(status, None, &look::of_stdout()),
                    (Some(_), None) => String::new(),
                    (None, _) => return Ok(()),
                }
            }
        };
        match &self.screen {
            Some(screen) => {
                let fault = self
                    .fault
                    .as_ref()
                    .map(|fault| format!("{}\n\n", look::wrapped(fault, "", look::of_stdout().width)));
                screen.draw(&format!("{}{text}", fault.unwrap_or_default()));
                Ok(())
            }
            None => say(&format!("{text}\n")),
        }
    }

    /// Says once, where there is no screen to show it on, that the daemon does not tell.
    fn note(&mut self, daemon: &Client, error: &ControlError) {
        let fault = if error.is_nobody_there() {
            format!("no daemon is at {}; asking again", daemon.address())
        } else {
            format!("{error}; asking again")
        };
        let fault = printable(&fault);
        if self.screen.is_none() && self.fault.as_ref() != Some(&fault) {
            diagnostics::plainly(&fault);
        }
        self.fault = Some(fault);
    }
}

/// Whatever ends it: each leaves the terminal as it was.
struct Stop {
    signals: Vec<Signal>,
    quit: Arc<Notify>,
}

impl Stop {
    fn new() -> Result<Self, CommandError> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = kinds.into_iter().map(signal).collect::<Result<_, _>>();
        let signals = signals.map_err(|error| CommandError::Said(1, format!("signals cannot be heard: {error}")))?;
        Ok(Self { signals, quit: Arc::default() })
    }

    fn listen_for_q(&mut self) {
        self.quit = quit_key();
    }

    async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = self.signals.as_mut_slice() else { return };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            () = self.quit.notified() => {}
        }
    }
}

const PACE: Duration = Duration::from_secs(1);
