//! What is polled only when it was itself woken, not whenever its task is.
//!
//! A relay is polled for every message of either side. The side that has nothing new need not be asked,
//! and what a relay waits for besides bytes (the daemon's next phase) takes a lock to poll. A cheap look at
//! a version number would not do instead: it can change before the wake-up comes, and then a wake-up is
//! lost.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Tells whether something was woken since it was polled the last time.
#[derive(Default)]
pub(super) struct Latch(Option<(Arc<Signal>, Waker)>);

/// A future behind a [`Latch`].
pub(super) struct OnWake<F> {
    future: Pin<Box<F>>,
    latch: Latch,
}

struct Signal {
    is_due: AtomicBool,
    task: Waker,
}

impl Latch {
    /// What to poll with, unless nothing was woken: one atomic load then. Always something to poll with
    /// the first time, and after a move to another task.
    pub(super) fn due(&mut self, cx: &Context<'_>) -> Option<&Waker> {
        let known = self.0.take_if(|(signal, _)| signal.task.will_wake(cx.waker()));
        let (signal, waker) = self.0.insert(known.unwrap_or_else(|| Signal::for_task(cx.waker())));
        let is_due = signal.is_due.load(Acquire) && signal.is_due.swap(false, AcqRel);
        is_due.then_some(waker)
    }
}

impl<F: Future> OnWake<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Box::pin(future), latch: Latch::default() }
    }

    /// Goes on with another future of the same type.
    pub(super) fn set(&mut self, future: F) {
        self.future.set(future);
        self.latch = Latch::default();
    }

    /// Costs one atomic load unless the future was woken since the last time.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<F::Output> {
        match self.latch.due(cx) {
            Some(waker) => self.future.as_mut().poll(&mut Context::from_waker(waker)),
            None => Poll::Pending,
        }
    }
}

impl Signal {
    fn for_task(task: &Waker) -> (Arc<Self>, Waker) {
        let signal = Arc::new(Self { is_due: true.into(), task: task.clone() });
        (Arc::clone(&signal), signal.into())
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };
    use tokio::sync::Notify;

    #[tokio::test]
    async fn it_is_polled_once_and_then_only_when_woken() {
        let (polls, notify) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counted, notified) = (Arc::clone(&polls), Arc::clone(&notify));
        // In a task of its own, whose waker stays the same.
        let watching = tokio::spawn(async move {
            let mut notified = Box::pin(notified.notified());
            let mut watched = OnWake::new(poll_fn(|cx| {
                counted.fetch_add(1, Relaxed);
                notified.as_mut().poll(cx)
            }));
            let mut poll = async || poll_fn(|cx| Poll::Ready(watched.poll(cx).is_ready())).await;
            let idle = [poll().await, poll().await, poll().await];
            let polls_when_idle = counted.load(Relaxed);
            notify.notify_waiters();
            (idle, polls_when_idle, poll().await)
        });

        assert_eq!(watching.await.unwrap(), ([false; 3], 1, true));
        assert_eq!(polls.load(Relaxed), 2);
    }
}
