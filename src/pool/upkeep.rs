//! The task behind a pool: opens what is wanted, hears what servers say to upstreams that wait, closes what
//! is no longer of use, and resets what sessions give back.

use super::{
    PING_MIN, Pool, Stock,
    shelves::{FULL_PAUSE, Opening, Setback, Shelf},
    stock::{Ping, Stocked, spoilt_by},
};
use crate::{
    clock::Moment,
    jitter,
    metrics::{
        Held,
        labels::{RecycleCause, UpstreamState},
    },
    shutdown::Stop,
    upstream::{Claim, NotPrepared, Upstream},
    wire::{SqlState, StartupParameters, messages},
};
use std::{
    future::{pending, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::debug;

/// What an opening has come to; other work of the upkeep has no outcome.
struct Opened {
    opening: Opening,
    place: OwnedSemaphorePermit,
    /// `None` when clients that wait went first.
    made: Option<Result<Upstream, NotPrepared>>,
}

impl Pool {
    /// Keeps the pool until the daemon stops; then closes everything and returns. Dropping the future drops
    /// what stands ready without a goodbye, once the pool is gone too.
    pub(crate) async fn keep(self: Arc<Self>, mut stop: Stop) {
        let mut work = JoinSet::new();
        let (mut changes, mut in_use, mut full) = (self.cluster.changes(), self.cluster.in_use(), self.cluster.full());
        let mut looked_at = self.cluster.clock().now();
        while stop.phase().is_serving() {
            let (now, rested_at) = (self.cluster.clock().now(), Instant::now() + REST);
            self.sweep();
            self.say_goodbyes(&mut work);
            self.open_what_is_wanted(&mut work, now);
            if self.lock().shelves.ready() > 0 && now.since(looked_at) >= LOOK_EVERY {
                looked_at = now;
                let pool = Arc::clone(&self);
                work.spawn(async move {
                    pool.look_around().await;
                    None
                });
            }
            tokio::select! {
                biased;
                _ = stop.phase_changed() => {}
                Some(done) = work.join_next() => {
                    if let Ok(Some(opened)) = done {
                        self.take_in(opened);
                    }
                }
                () = poll_fn(|cx| self.poll_spoilt(cx)) => {}
                _ = in_use.changed() => self.make_room(ROOM_PAUSE),
                _ = full.changed() => self.make_room(FULL_PAUSE),
                _ = changes.changed() => {}
                () = self.work_to_do(rested_at) => {}
                () = self.something_due(now, looked_at) => {}
            }
        }
        self.close(work).await;
    }

    /// Waits for something to do that sessions have left, which is not done more often than is of use to them.
    async fn work_to_do(&self, rested_at: Instant) {
        self.work.notified().await;
        sleep_until(rested_at).await;
    }

    /// Takes out of use what an objection stands against, and forgets sets that nobody uses.
    fn sweep(&self) {
        let judge = self.judge();
        let mut stock = self.lock();
        let Stock { shelves, discarded, .. } = &mut *stock;
        for shelf in shelves.iter_mut() {
            self.give_places(shelf);
            let spoilt = shelf.take_out(|stocked| {
                let objection = self.objection(&judge, &stocked.upstream, Some(stocked.expires_at));
                let is_left_over = stocked.leaves_at().is_some_and(|at| judge.now >= at);
                objection.or(is_left_over.then_some(RecycleCause::Idle))
            });
            for (stocked, cause) in spoilt {
                self.recycle(stocked, cause, discarded);
            }
        }
        for stocked in shelves.forget_idle(judge.now) {
            self.recycle(stocked, RecycleCause::Idle, discarded);
        }
    }

    /// What was given back may stay if there are not `warm_max` of its set yet, and a place is free.
    fn give_places(&self, shelf: &mut Shelf<Stocked>) {
        let mut placed = 0;
        for stocked in &mut shelf.ready {
            if placed < self.warm_max {
                stocked.place = stocked.place.take().or_else(|| Arc::clone(&self.places).try_acquire_owned().ok());
                placed = placed.saturating_add(usize::from(stocked.place.is_some()));
            } else {
                stocked.place = None;
            }
        }
    }

    /// Ready whenever one of those that wait was found to be of no use, which is then taken out.
    fn poll_spoilt(&self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.cluster.clock().now();
        let mut stock = self.lock();
        let Stock { shelves, discarded, .. } = &mut *stock;
        let mut any = Poll::Pending;
        for shelf in shelves.iter_mut() {
            let pace = self.pace(shelf, now);
            let spoilt = shelf.take_out(|stocked| match stocked.poll_spoilt(cx, pace) {
                Poll::Pending => None,
                Poll::Ready(cause) => Some(cause),
            });
            for (stocked, cause) in spoilt {
                self.recycle_spoilt(stocked, cause, shelf, discarded);
                any = Poll::Ready(());
            }
        }
        any
    }

    fn open_what_is_wanted(self: &Arc<Self>, work: &mut JoinSet<Option<Opened>>, now: Moment) {
        loop {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
            let secret_of = |parameters: &_| self.setup.account_of(parameters).generation();
            let Some(opening) = self.lock().shelves.next_opening(secret_of, now) else { return };
            let pool = Arc::clone(self);
            work.spawn(async move {
                let claim = Claim {
                    setup: &pool.setup,
                    parameters: &opening.parameters,
                    choice: &pool.choice,
                    of_client: None,
                };
                let made = pool.cluster.prepare(&claim).await;
                Some(Opened { opening, place, made })
            });
        }
    }

    fn take_in(&self, opened: Opened) {
        let Opened { opening, place, made } = opened;
        let setback = match made {
            Some(Ok(upstream)) => {
                let expires_at = upstream.login.birth.at.after(jitter::around(self.warm_age));
                let stocked = self.stocked(upstream, expires_at, Some(place), false);
                return self.put(&mut self.lock(), &opening.parameters, stocked);
            }
            Some(Err(error)) => {
                debug!(cluster.name = %self.cluster.name(), cause = error.cause.in_short(), "no upstream could be made ready");
                setback(&error)
            }
            // There is another chance soon.
            None => Setback::Busy,
        };
        let now = self.cluster.clock().now();
        self.lock().shelves.failed(&opening.parameters, setback, now);
    }

    /// What stands ready from now on.
    pub(super) fn stocked(
        &self,
        mut upstream: Upstream,
        expires_at: Moment,
        place: Option<OwnedSemaphorePermit>,
        is_reused: bool,
    ) -> Stocked {
        upstream.login.held = Held::new(upstream.login.way.metrics.upstreams.at(UpstreamState::Warm));
        let now = self.cluster.clock().now();
        let (ping, _ready) = (Ping::NotBefore(now.after(PING_MIN)), Held::new(&self.metrics.warm_ready));
        Stocked { upstream, is_reused, expires_at, place, _ready, ping, heard_at: now, since: now }
    }

    pub(super) fn put(&self, stock: &mut Stock, parameters: &StartupParameters, stocked: Stocked) {
        let Stock { shelves, discarded, is_closed } = stock;
        let now = self.cluster.clock().now();
        let greeting = &stocked.upstream.login.greeting;
        // What came in one piece with the login's end has not been looked at.
        let is_too_big = greeting.bytes() > GREETING_BYTES_MAX;
        let spoilt = spoilt_by(&greeting.read_ahead, false).or(is_too_big.then_some(RecycleCause::Closed));
        if let Some(cause) = spoilt {
            shelves.failed(parameters, Setback::Failed, now);
            return self.recycle(stocked, cause, discarded);
        }
        if *is_closed {
            return discarded.push(stocked.upstream);
        }
        // The sweep that follows looks at whether it is still of use.
        if let Err(stocked) = shelves.put(parameters, stocked, now) {
            discarded.push(stocked.upstream);
        }
    }

    /// Somebody needs what these take up: a database free of connections, or a place at the server.
    fn make_room(&self, pause: Duration) {
        let now = self.cluster.clock().now();
        let mut stock = self.lock();
        let Stock { shelves, discarded, .. } = &mut *stock;
        shelves.pause(pause, now);
        for shelf in shelves.iter_mut() {
            for (stocked, cause) in shelf.take_out(|_| Some(RecycleCause::Limit)) {
                self.recycle(stocked, cause, discarded);
            }
        }
    }

    /// Looks at what may have changed while nobody logs in: the secret's file, and the endpoint's addresses.
    async fn look_around(&self) {
        // All at once: commands may take their time.
        let mut looks = JoinSet::new();
        for account in self.setup.accounts() {
            let Some(credentials) = account.credentials().cloned() else { continue };
            // A failure is logged there, and the last good secret stays in use.
            looks.spawn(async move { credentials.try_out().await.is_ok() });
        }
        while looks.join_next().await.is_some() {}
        if let Some(way) = self.cluster.order_of(&self.setup, &self.choice).into_iter().next() {
            self.cluster.refresh_addresses(&way).await;
        }
    }

    /// Waits for the next moment at which time alone gives something to do.
    async fn something_due(&self, now: Moment, looked_at: Moment) {
        let due = {
            let mut stock = self.lock();
            let expiry =
                stock.shelves.iter_mut().flat_map(|shelf| &shelf.ready).map(|stocked| stocked.expires_at).min();
            let look = expiry.map(|_| looked_at.after(LOOK_EVERY));
            let ping = stock.shelves.iter_mut().filter_map(|shelf| {
                let pace = self.pace(shelf, now);
                shelf.ready.iter().map(|stocked| stocked.look_at(pace)).min()
            });
            let ping = ping.min();
            let leaving = stock.shelves.iter_mut().flat_map(|shelf| &shelf.ready).filter_map(Stocked::leaves_at).min();
            // A place that another listener's pool gives up wakes nobody here.
            let due =
                stock.shelves.next_due(|parameters| self.setup.account_of(parameters).generation()).map(
                    |due| match self.places.available_permits() {
                        0 => due.max(now.after(LOOK_EVERY)),
                        _ => due,
                    },
                );
            [expiry, look, ping, leaving, due].into_iter().flatten().min()
        };
        match due {
            Some(at) => sleep(at.since(now).max(WAIT_MIN)).await,
            None => pending().await,
        }
    }

    fn say_goodbyes(&self, work: &mut JoinSet<Option<Opened>>) {
        let discarded = std::mem::take(&mut self.lock().discarded);
        for upstream in discarded {
            work.spawn(async move {
                say_goodbye(upstream).await;
                None
            });
        }
    }

    async fn close(&self, mut work: JoinSet<Option<Opened>>) {
        // Openings under way are of no use any more.
        work.abort_all();
        let left = {
            let mut stock = self.lock();
            stock.is_closed = true;
            let Stock { shelves, discarded, .. } = &mut *stock;
            for shelf in shelves.iter_mut() {
                for (stocked, cause) in shelf.take_out(|_| Some(RecycleCause::Drain)) {
                    self.recycle(stocked, cause, discarded);
                }
            }
            std::mem::take(discarded)
        };
        let mut goodbyes: JoinSet<()> = left.into_iter().map(say_goodbye).collect();
        while goodbyes.join_next().await.is_some() {}
    }
}

/// Ends an upstream in the way that servers expect. Takes at most a second.
pub(super) async fn say_goodbye(mut upstream: Upstream) {
    let talk = async {
        upstream.stream.write_all(messages::TERMINATE).await?;
        upstream.stream.shutdown().await?;
        while upstream.stream.read(&mut [0; 256]).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A server that is gone, or does not go, changes nothing.
    let _ = timeout(GOODBYE_LIMIT, talk).await;
}

fn setback(error: &NotPrepared) -> Setback {
    match error.cause.sqlstate() {
        Some(SqlState::TOO_MANY_CONNECTIONS) => Setback::Full,
        Some(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION) => Setback::Secret(error.secret),
        _ => Setback::Failed,
    }
}

/// As files are looked at everywhere.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After an error that says that something is in use.
const ROOM_PAUSE: Duration = Duration::from_secs(60);
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// Between two rounds that sessions ask for.
const REST: Duration = Duration::from_millis(10);
/// Clocks may differ a little in when a moment has come.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// What a server says at login is kept with each upstream that waits.
const GREETING_BYTES_MAX: usize = 16 * 1024;
