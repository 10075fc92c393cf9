//! Places for sockets in startup: how many there are, and who gives way when all are taken.
//!
//! A socket that says nothing costs its owner nothing, so that a few thousand of them could keep everybody else out
//! for `startup_limit`. While clients wait for a place, whoever has had one for longer than [`SHORT_LIMIT`] gives it
//! up, the one that has waited longest first.

use std::{future::ready, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// Places for sockets in startup, of all listeners.
pub(crate) struct Startups {
    places: Arc<Semaphore>,
    /// Calls one of those that may be called, first in, first out; kept for the next where there is none yet.
    calls: Notify,
}

/// How long one client's startup may take.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    /// Accept, and `startup_limit`.
    by: Instant,
    /// From then on it may be called away.
    safe_until: Instant,
    startups: &'a Startups,
}

/// Why a startup may take no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// `startup_limit` has passed.
    Limit,
    /// Others wait, and it has had its time.
    CalledAway,
}

impl Startups {
    pub(crate) fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), calls: Notify::new() }
    }

    /// A place, as soon as there is one; `None` never comes, since places are not done away with. `has_called` belongs
    /// to the client that waits, so that it calls once however often its wait is interrupted. Cancel safe.
    pub(crate) async fn place(&self, has_called: &mut bool) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(&self.places);
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_taken) => {
                if !std::mem::replace(has_called, true) {
                    self.calls.notify_one();
                }
                places.acquire_owned().await.ok()
            }
        };
        if std::mem::take(has_called) {
            // Taken back where nobody has heard it: another place became free.
            tokio::select! {
                biased;
                () = self.calls.notified() => {}
                () = ready(()) => {}
            }
        }
        place
    }

    /// For a client that was accepted at `began`.
    pub(crate) fn patience(&self, began: Instant, limit: Duration) -> Patience<'_> {
        Patience { by: began + limit, safe_until: began + SHORT_LIMIT, startups: self }
    }
}

impl Patience<'_> {
    /// What `work` gives, if it comes in time. Dropping the future drops the work.
    pub(crate) async fn bound<T>(self, work: impl Future<Output = T>) -> Result<T, Late> {
        let called_away = async {
            sleep_until(self.safe_until).await;
            self.startups.calls.notified().await;
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = sleep_until(self.by) => Err(Late::Limit),
            () = called_away => Err(Late::CalledAway),
        }
    }
}

/// Enough for a handshake over half the earth.
pub(crate) const SHORT_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn nobody_is_called_away_while_there_are_places() {
        let startups = Startups::new(2);
        let _place = startups.place(&mut false).await.unwrap();
        let _last = startups.place(&mut false).await.unwrap();
        let began = Instant::now();

        let late = startups.patience(began, HOUR).bound(pending::<()>()).await;

        assert_eq!((late, began.elapsed()), (Err(Late::Limit), HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_waited_longest_gives_way_and_no_one_else() {
        let startups = Startups::new(2);
        let first = startups.place(&mut false).await;
        tokio::time::advance(Duration::from_millis(300)).await;
        let second = startups.place(&mut false).await;
        let began = Instant::now();
        let older = async {
            let late = startups.patience(began - Duration::from_millis(300), HOUR).bound(pending::<()>()).await;
            drop(first);
            (late, began.elapsed())
        };
        let younger = async {
            let late = startups.patience(began, HOUR).bound(pending::<()>()).await;
            drop(second);
            (late, began.elapsed())
        };

        let next = async { startups.place(&mut false).await.map(|place| (place, began.elapsed())).unwrap() };
        let (older, younger, (_place, served)) = tokio::join!(older, younger, next);

        assert_eq!(older, (Err(Late::CalledAway), Duration::from_millis(700)));
        assert_eq!(served, Duration::from_millis(700));
        assert_eq!(younger, (Err(Late::Limit), HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_heard_is_taken_back() {
        let startups = Startups::new(1);
        let place = startups.place(&mut false).await;
        let began = Instant::now();
        let mut has_called = false;
        // In this order: it waits, and only then is the place left.
        let (_place, ()) = tokio::join!(biased; startups.place(&mut has_called), async { drop(place) });

        let late = startups.patience(began, HOUR).bound(pending::<()>()).await;

        assert_eq!((late, has_called), (Err(Late::Limit), false));
    }
}
