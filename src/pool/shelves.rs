//! What is worth keeping ready: sets of startup parameters that clients repeat, and how many of them were
//! used at once, and who waits for it. Pure: no I/O, the time is handed in; what is kept is of any type.

use super::burst::Burst;
use crate::{clock::Moment, jitter, wire::StartupParameters};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// What one listener keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Most for one set of parameters.
    pub(super) warm_max: usize,
    /// A set unused for so long is forgotten.
    pub(super) warm_idle: Duration,
    /// Sessions give back what they used.
    pub(super) reuse: bool,
}

/// The sets of one listener. Bounded in number and in bytes.
pub(super) struct Shelves<T> {
    rules: Rules,
    /// Sets that were used once, by their hashes only: most are never seen again.
    seen: HashMap<u64, Moment>,
    hasher: RandomState,
    shelves: HashMap<Arc<StartupParameters>, Shelf<T>>,
    bytes: usize,
    next_opening_at: Moment,
    paused_until: Moment,
}

/// One set of parameters, and what stands ready for it.
pub(super) struct Shelf<T> {
    pub(super) ready: VecDeque<T>,
    used_at: Moment,
    burst: Burst,
    /// Shared with every opening under way, so that one that panics is no longer counted either.
    opening: Arc<()>,
    /// How many are being reset to come back.
    coming: usize,
    /// Clients that wait for one of those, the first in front; not more than come.
    waiting: VecDeque<oneshot::Sender<T>>,
    failures: u32,
    not_before: Moment,
    /// The server has too many connections until then, as far as is known.
    full_until: Moment,
    /// Where sessions give back: none is opened before then, since one of them may give one back.
    patient_until: Option<Moment>,
    /// The server refused this secret.
    refused_secret: Option<u64>,
}

/// Permission to open one upstream; it counts as under way until dropped.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) parameters: Arc<StartupParameters>,
    _under_way: Arc<()>,
}

/// Why nothing could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// Somehow; later it may work.
    Failed,
    /// Clients that wait go first.
    Busy,
    /// The server has too many connections (SQLSTATE 53300).
    Full,
    /// The server refused the secret of this generation.
    Secret(u64),
}

impl<T> Shelves<T> {
    pub(super) fn new(rules: Rules) -> Self {
        let start = Moment::default();
        Self {
            rules,
            seen: HashMap::new(),
            hasher: RandomState::new(),
            shelves: HashMap::new(),
            bytes: 0,
            next_opening_at: start,
            paused_until: start,
        }
    }

    /// A client comes with a known set; `None` when it is not known. It is known from its second use on, if the first had
    /// a session: the next upstream is then on its way while this client still logs in.
    pub(super) fn used(&mut self, parameters: &StartupParameters, now: Moment) -> Option<&mut Shelf<T>> {
        if !self.shelves.contains_key(parameters) && self.was_seen(parameters, now) {
            self.add(parameters, now);
        }
        let shelf = self.shelves.get_mut(parameters)?;
        if self.rules.reuse {
            // A short session gives back what would be opened in its place.
            shelf.patient_until.get_or_insert(now.after(REUSE_PATIENCE));
        }
        shelf.used_at = now;
        shelf.burst.taken(now, self.rules.warm_idle);
        Some(shelf)
    }

    /// A client for whom nothing stood ready has got a session.
    pub(super) fn learn(&mut self, parameters: &StartupParameters, now: Moment) {
        if let Some(shelf) = self.shelves.get_mut(parameters) {
            // Somebody has just got in: what went wrong before need not go wrong now.
            (shelf.refused_secret, shelf.failures, shelf.not_before) = (None, 0, now);
            return;
        }
        // Two that came at once.
        if self.was_seen(parameters, now) {
            return self.add(parameters, now);
        }
        if self.seen.len() >= SEEN_MAX {
            let idle = self.rules.warm_idle;
            self.seen.retain(|_, at| now.since(*at) < idle);
        }
        if self.seen.len() < SEEN_MAX {
            self.seen.insert(self.hasher.hash_one(parameters), now);
        }
    }

    fn was_seen(&mut self, parameters: &StartupParameters, now: Moment) -> bool {
        let hash = self.hasher.hash_one(parameters);
        self.seen.remove(&hash).is_some_and(|at| now.since(at) < self.rules.warm_idle)
    }

    /// A set is known from now on, if there is room for it.
    fn add(&mut self, parameters: &StartupParameters, now: Moment) {
        let bytes = parameters.bytes();
        if self.shelves.len() >= SHELVES_MAX || self.bytes.saturating_add(bytes) > BYTES_MAX {
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let shelf = Shelf {
            ready: VecDeque::new(),
            used_at: now,
            burst: Burst::default(),
            opening: Arc::new(()),
            coming: 0,
            waiting: VecDeque::new(),
            failures: 0,
            not_before: now,
            full_until: now,
            patient_until: None,
            refused_secret: None,
        };
        self.shelves.insert(Arc::new(parameters.clone()), shelf);
    }

    /// A session gives one back, which is reset first: whether it is worth that.
    pub(super) fn expect(&mut self, parameters: &StartupParameters) -> bool {
        let Some(shelf) = self.shelves.get_mut(parameters).filter(|shelf| shelf.coming < COMING_MAX) else {
            return false;
        };
        shelf.coming = shelf.coming.saturating_add(1);
        true
    }

    /// One of those that were expected has come, or will not: whom none is left for waits no longer.
    pub(super) fn unexpect(&mut self, parameters: &StartupParameters) {
        if let Some(shelf) = self.shelves.get_mut(parameters) {
            shelf.coming = shelf.coming.saturating_sub(1);
            shelf.forget_those_who_left();
            shelf.waiting.truncate(shelf.coming);
        }
    }

    /// One has come back. `Err` gives it back when nobody waits for it.
    pub(super) fn hand_on(&mut self, parameters: &StartupParameters, item: T, now: Moment) -> Result<(), T> {
        let Some(shelf) = self.shelves.get_mut(parameters) else { return Err(item) };
        // While they come back, none needs to be opened.
        shelf.patient_until = shelf.patient_until.map(|_| now.after(REUSE_PATIENCE));
        let mut item = item;
        while let Some(client) = shelf.waiting.pop_front() {
            match client.send(item) {
                Ok(()) => return Ok(()),
                Err(unsent) => item = unsent,
            }
        }
        Err(item)
    }

    /// One was opened or has come back. `Err` gives it back when there is no place for it.
    pub(super) fn put(&mut self, parameters: &StartupParameters, item: T, now: Moment) -> Result<(), T> {
        let is_paused = now < self.paused_until;
        let Some(shelf) = self.shelves.get_mut(parameters).filter(|_| !is_paused) else { return Err(item) };
        shelf.refused_secret = None;
        // What sessions give back may be wanted again in a moment; then somebody looks how many of them may stay.
        let room = if self.rules.reuse { RETURNED_MAX.max(self.rules.warm_max) } else { self.rules.warm_max };
        if shelf.ready.len() >= room {
            return Err(item);
        }
        shelf.ready.push_back(item);
        if shelf.ready.len() >= shelf.burst.wanted(self.rules.warm_max) {
            shelf.burst.refilled();
            shelf.patient_until = None;
        }
        Ok(())
    }

    /// What was to be opened was not, or is of no use.
    pub(super) fn failed(&mut self, parameters: &StartupParameters, setback: Setback, now: Moment) {
        if let Some(shelf) = self.shelves.get_mut(parameters) {
            shelf.failed(setback, now);
        }
    }

    /// Nothing is opened for so long.
    pub(super) fn pause(&mut self, span: Duration, now: Moment) {
        self.paused_until = self.paused_until.max(now.after(span));
    }

    /// The next upstream to open, if one is due: not more at once than a server takes without noticing.
    pub(super) fn next_opening(
        &mut self,
        secret_of: impl Fn(&StartupParameters) -> u64,
        now: Moment,
    ) -> Option<Opening> {
        let warm_max = self.rules.warm_max;
        if now < self.paused_until.max(self.next_opening_at) {
            return None;
        }
        let is_due = |(parameters, shelf): &(&Arc<StartupParameters>, &Shelf<T>)| {
            shelf.lacks(warm_max)
                && now >= shelf.open_from()
                && shelf.refused_secret.is_none_or(|known| known != secret_of(parameters))
        };
        let (parameters, shelf) = self.shelves.iter().find(is_due)?;
        self.next_opening_at = now.after(jitter::around(SPACING));
        Some(Opening { parameters: Arc::clone(parameters), _under_way: Arc::clone(&shelf.opening) })
    }

    /// Forgets sets that nobody has used for long, and gives what stood ready for them.
    pub(super) fn forget_idle(&mut self, now: Moment) -> Vec<T> {
        let idle = self.rules.warm_idle;
        let mut left = Vec::new();
        let mut bytes = self.bytes;
        self.shelves.retain(|parameters, shelf| {
            let is_used = now.since(shelf.used_at) < idle || shelf.coming > 0;
            if !is_used {
                bytes = bytes.saturating_sub(parameters.bytes());
                left.extend(shelf.ready.drain(..));
            }
            is_used
        });
        self.bytes = bytes;
        left
    }

    /// The next moment at which time alone gives something to do; not counting what expires on the shelves.
    pub(super) fn next_due(&self, secret_of: impl Fn(&StartupParameters) -> u64) -> Option<Moment> {
        let gate = self.paused_until.max(self.next_opening_at);
        let lacking = self.shelves.iter().filter(|(_, shelf)| shelf.lacks(self.rules.warm_max));
        let may_open = |(parameters, shelf): &(&Arc<StartupParameters>, &Shelf<T>)| {
            shelf.refused_secret.is_none_or(|known| known != secret_of(parameters))
        };
        let opening = lacking.filter(may_open).map(|(_, shelf)| shelf.open_from().max(gate)).min();
        let idle = self.shelves.values().map(|shelf| shelf.used_at.after(self.rules.warm_idle)).min();
        opening.into_iter().chain(idle).min()
    }

    /// All shelves.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Shelf<T>> {
        self.shelves.values_mut()
    }

    /// How many stand ready in all.
    pub(super) fn ready(&self) -> usize {
        self.shelves.values().map(|shelf| shelf.ready.len()).sum()
    }

    /// What is shown of each set: its parameters, how many stand ready and how many are wanted.
    pub(super) fn list(&self) -> Vec<(Arc<StartupParameters>, usize, usize)> {
        let wanted = |shelf: &Shelf<T>| shelf.burst.wanted(self.rules.warm_max);
        let shown = self.shelves.iter();
        shown.map(|(parameters, shelf)| (Arc::clone(parameters), shelf.ready.len(), wanted(shelf))).collect()
    }
}

impl<T> Shelf<T> {
    /// Takes out those against which `objection` has something, with what it has.
    pub(super) fn take_out<R>(&mut self, mut objection: impl FnMut(&mut T) -> Option<R>) -> Vec<(T, R)> {
        let mut taken = Vec::new();
        let mut place = 0;
        while let Some(item) = self.ready.get_mut(place) {
            let Some(reason) = objection(item) else {
                place = place.saturating_add(1);
                continue;
            };
            taken.extend(self.ready.remove(place).map(|item| (item, reason)));
        }
        taken
    }

    /// The next one for a client. Of those that come back the last one, which the server's memory still knows
    /// best, so that what is not needed shows; else the first, before it is too old.
    pub(super) fn next(&mut self, comes_back: bool) -> Option<T> {
        if comes_back { self.ready.pop_back() } else { self.ready.pop_front() }
    }

    /// Puts one that is not to be had right now behind all others.
    pub(super) fn postpone(&mut self, item: T, comes_back: bool) {
        if comes_back { self.ready.push_front(item) } else { self.ready.push_back(item) }
    }

    /// For a client that found nothing: what comes back next, unless others wait for all of it. What it
    /// gets may be an error, too: then nothing comes.
    pub(super) fn wait(&mut self) -> Option<oneshot::Receiver<T>> {
        self.forget_those_who_left();
        (self.waiting.len() < self.coming).then(|| {
            let (client, handed) = oneshot::channel();
            self.waiting.push_back(client);
            handed
        })
    }

    fn forget_those_who_left(&mut self) {
        self.waiting.retain(|client| !client.is_closed());
    }

    /// How long no client has come for it.
    pub(super) fn unused_for(&self, now: Moment) -> Duration {
        now.since(self.used_at)
    }

    /// One of these was good for a client.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// One could not be opened, or did not last: the next one waits, longer each time.
    pub(super) fn failed(&mut self, setback: Setback, now: Moment) {
        match setback {
            Setback::Failed => {
                let pause = BACK_OFF.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF_MAX);
                self.failures = self.failures.saturating_add(1);
                self.not_before = now.after(jitter::around(pause));
            }
            Setback::Busy => self.not_before = now.after(jitter::around(BUSY_PAUSE)),
            Setback::Full => self.full_until = now.after(FULL_PAUSE),
            Setback::Secret(generation) => self.refused_secret = Some(generation),
        }
    }

    fn open_from(&self) -> Moment {
        self.not_before.max(self.full_until).max(self.patient_until.unwrap_or_default())
    }

    fn lacks(&self, warm_max: usize) -> bool {
        // One is the shelf's own.
        let opening = Arc::strong_count(&self.opening).saturating_sub(1);
        self.ready.len().saturating_add(opening).saturating_add(self.coming) < self.burst.wanted(warm_max)
    }
}

/// Each takes about 50 bytes.
const SEEN_MAX: usize = 4096;
const SHELVES_MAX: usize = 256;
/// Of one set. More than `warm_max`: a reset is cheap beside a login, and clients may be there for all of them.
const COMING_MAX: usize = 64;
/// Of one set.
const RETURNED_MAX: usize = 64;
/// Of all sets together.
const BYTES_MAX: usize = 1 << 20;
/// Between two openings of one listener.
const SPACING: Duration = Duration::from_millis(25);
const REUSE_PATIENCE: Duration = Duration::from_millis(100);
const BUSY_PAUSE: Duration = Duration::from_millis(250);
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// After a 53300.
pub(super) const FULL_PAUSE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
