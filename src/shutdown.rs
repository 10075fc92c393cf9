//! How the daemon is told to stop, and how everything in it learns of that.

use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// New clients are refused, open sessions end at their idle points.
    Draining(Drain),
    /// What is still open is cut off.
    Cutting,
}

/// When and how gently sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// A session closes once silent at an idle point for so long …
    pub idle_close: Duration,
    /// … and from then on at its next idle point.
    pub hurry_from: Instant,
}

/// The side that says stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Phase>);

/// The side that is told. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Phase>);

/// A pair in [`Phase::Running`].
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Moves on to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }
}

impl Stop {
    /// How far stopping has come.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits for the next phase. A vanished [`Stopper`] changes nothing any more. Cancel safe.
    pub async fn phase_changed(&mut self) -> Phase {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }

    /// Waits until sessions are being cut off. Cancel safe.
    pub async fn cutting(&mut self) {
        if self.0.wait_for(|phase| *phase == Phase::Cutting).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_reaches_every_listener() {
        let (stopper, mut stop) = stop();
        let mut other = stop.clone();

        stopper.enter(Phase::Cutting);

        assert_eq!(stop.phase_changed().await, Phase::Cutting);
        other.cutting().await;
    }
}
