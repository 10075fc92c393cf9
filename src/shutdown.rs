//! How the daemon is told to stop, and how everything in it learns of that.

use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// Still serving, new clients too, and no longer ready: whoever sends clients here is to notice.
    Delaying,
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

/// What stops, for those who are told why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaver {
    /// The daemon.
    #[default]
    Daemon,
    /// A listener that is not in the settings any more.
    Listener,
}

/// The side that says stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<State>);

/// The side that is told. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    leaver: Leaver,
}

/// A pair in [`Phase::Running`].
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(State { phase: Phase::Running, leaver: Leaver::Daemon });
    (Stopper(sender), Stop(receiver))
}

impl Phase {
    /// Whether clients are served as usual.
    pub fn is_serving(self) -> bool {
        matches!(self, Self::Running | Self::Delaying)
    }

    fn rank(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Delaying => 1,
            Self::Draining(_) => 2,
            Self::Cutting => 3,
        }
    }
}

impl Stopper {
    /// Moves on to `phase`; never back.
    pub fn enter(&self, phase: Phase) {
        self.advance(phase, None);
    }

    /// Drains what belongs to a listener that is gone, while the daemon goes on.
    pub fn enter_without_listener(&self, drain: Drain) {
        self.advance(Phase::Draining(drain), Some(Leaver::Listener));
    }

    fn advance(&self, phase: Phase, leaver: Option<Leaver>) {
        self.0.send_if_modified(|now| {
            let moves = phase.rank() > now.phase.rank();
            if moves {
                *now = State { phase, leaver: leaver.unwrap_or(now.leaver) };
            }
            moves
        });
    }

    /// Whether anybody is left to be told.
    pub fn is_heard(&self) -> bool {
        !self.0.is_closed()
    }

    /// Waits until nobody is left to be told. Cancel safe.
    pub async fn unheard(&self) {
        self.0.closed().await;
    }
}

impl Stop {
    /// How far stopping has come.
    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }

    /// What is stopping, once anything is.
    pub fn leaver(&self) -> Leaver {
        self.0.borrow().leaver
    }

    /// Waits for the next phase. A vanished [`Stopper`] changes nothing any more. Cancel safe.
    pub async fn phase_changed(&mut self) -> Phase {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().phase
    }

    /// Waits until new clients are no longer served. Cancel safe.
    pub async fn draining(&mut self) {
        if self.0.wait_for(|now| !now.phase.is_serving()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a drain has gone on for as long as it bears with silence. Cancel safe.
    pub async fn out_of_patience(&mut self) {
        let draining = self.0.wait_for(|now| !now.phase.is_serving()).await.map(|now| now.phase);
        match draining {
            Ok(Phase::Draining(Drain { idle_close, .. })) => tokio::time::sleep(idle_close).await,
            Ok(_) => {}
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until sessions are being cut off. Cancel safe.
    pub async fn cutting(&mut self) {
        if self.0.wait_for(|now| now.phase == Phase::Cutting).await.is_err() {
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
