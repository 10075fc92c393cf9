//! Whose turn it is to read a source. There is one reading at a time; one that was given up keeps its turn, and its
//! thread, for itself, and the next goes by a new turn, up to a few.

use super::Known;
use crate::stamp::Stamp;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// Held by whoever reads.
pub(super) type Turn = Arc<Mutex<Reader>>;

/// What only the next reading needs.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) stamp: Option<Stamp>,
}

pub(super) struct Turns {
    now: std::sync::Mutex<Turn>,
    under_way: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { now: std::sync::Mutex::default(), under_way: Arc::new(Semaphore::new(READINGS_MAX)) }
    }

    pub(super) fn now(&self) -> Turn {
        Arc::clone(&self.lock())
    }

    /// The next reading need not wait for the one that has this turn, and knows nothing of what it saw.
    pub(super) fn give_up(&self, turn: &Turn) {
        let mut now = self.lock();
        if Arc::ptr_eq(&now, turn) {
            *now = Turn::default();
        }
    }

    /// To be held as long as a reading goes on; none where too many have not ended.
    pub(super) fn begin(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.under_way).try_acquire_owned().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The number of a reading that begins.
    pub(super) fn begin(&mut self) -> u64 {
        self.started = self.started.saturating_add(1);
        self.started
    }

    /// Whether a reading that ends now tells anything: none does that was begun before one that has ended.
    pub(super) fn end(&mut self, number: u64) -> bool {
        let is_news = number > self.finished;
        if is_news {
            (self.finished, self.fault, self.is_given_up) = (number, None, false);
        }
        is_news
    }
}

/// Each that hangs keeps a thread.
pub(super) const READINGS_MAX: usize = 4;
