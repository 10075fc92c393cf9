//! The last refusals: for `/status`, and so that equal ones fill no log.

use crate::{settings::Name, wire::SqlState};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// What clients were refused with, the newest last; equal refusals are one entry.
pub struct Refusals {
    repeat: Mutex<Duration>,
    recent: Mutex<VecDeque<Entry>>,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The listener that it came to.
    pub listener: Name,
    /// Which kind of error.
    pub sqlstate: SqlState,
    /// The message.
    pub message: String,
    /// The hint, if there was one.
    pub hint: Option<String>,
    /// Whose process it was, where that is known; a line about one user does not stand for another.
    pub peer_uid: Option<u32>,
}

/// A refusal and how often it was given.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When last.
    pub at: SystemTime,
    /// What was told.
    pub told: Told,
    /// How often so far.
    pub count: u64,
    logged_at: Instant,
    unlogged: u64,
}

impl Refusals {
    /// Equal refusals are to be logged once per `repeat`.
    pub fn new(repeat: Duration) -> Self {
        Self { repeat: Mutex::new(repeat), recent: Mutex::default() }
    }

    /// From now on once per `repeat`.
    pub fn set_repeat(&self, repeat: Duration) {
        *self.repeat.lock().unwrap_or_else(PoisonError::into_inner) = repeat;
    }

    /// Notes a refusal. `Some` when it is to be logged now, with how many equal ones were not.
    pub fn note(&self, mut told: Told) -> Option<u64> {
        let (now, at) = (Instant::now(), SystemTime::now());
        let repeat = *self.repeat.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent = self.lock();
        let of_others = |entry: &&Entry| entry.told.is_but_for_user(&told) && entry.told.peer_uid != told.peer_uid;
        if recent.iter().filter(of_others).count() >= USERS_MAX {
            // Whoever has many users fills neither the list nor the log with them.
            let is_known = recent.iter().any(|entry| entry.told == told);
            told.peer_uid = told.peer_uid.filter(|_| is_known);
        }
        let known = recent.iter().position(|entry| entry.told == told).and_then(|place| recent.remove(place));
        let Some(mut entry) = known else {
            if recent.len() >= ENTRIES_MAX {
                recent.pop_front();
            }
            recent.push_back(Entry { at, told, count: 1, logged_at: now, unlogged: 0 });
            return Some(0);
        };
        entry.at = at;
        entry.count = entry.count.saturating_add(1);
        let is_due = now.duration_since(entry.logged_at) >= repeat;
        let unlogged = entry.unlogged;
        (entry.logged_at, entry.unlogged) =
            if is_due { (now, 0) } else { (entry.logged_at, unlogged.saturating_add(1)) };
        recent.push_back(entry);
        is_due.then_some(unlogged)
    }

    /// The entries, newest last.
    pub fn list(&self) -> Vec<Entry> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Whether only the user may differ.
    fn is_but_for_user(&self, other: &Self) -> bool {
        let words = |told: &Self| (told.sqlstate, told.hint.clone());
        self.listener == other.listener && self.message == other.message && words(self) == words(other)
    }
}

const ENTRIES_MAX: usize = 50;
/// With refusals of their own for the same; the users beyond share one.
const USERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str) -> Told {
        let listener = Name::new("main").unwrap();
        Told { listener, sqlstate: SqlState::CONNECT_FAILED, message: message.into(), hint: None, peer_uid: None }
    }

    #[test]
    fn equal_refusals_are_logged_once_per_span_and_counted() {
        let refusals = Refusals::new(Duration::from_secs(3600));

        assert_eq!(refusals.note(told("a")), Some(0));
        assert_eq!(refusals.note(told("a")), None);
        assert_eq!(refusals.note(told("b")), Some(0));

        let counts: Vec<_> = refusals.list().into_iter().map(|entry| (entry.told.message, entry.count)).collect();
        assert_eq!(counts, [("a".into(), 2), ("b".into(), 1)]);
    }

    #[test]
    fn a_line_that_is_due_says_how_many_were_left_out() {
        let refusals = Refusals::new(Duration::ZERO);
        refusals.note(told("a"));
        refusals.lock()[0].unlogged = 7;

        assert_eq!(refusals.note(told("a")), Some(7));
    }

    #[test]
    fn users_have_entries_of_their_own_up_to_a_bound() {
        let refusals = Refusals::new(Duration::from_secs(3600));
        let of = |uid| Told { peer_uid: Some(uid), ..told("a") };
        refusals.note(told("b"));

        let logged: Vec<_> = (0..100).filter(|uid| refusals.note(of(*uid)) == Some(0)).collect();
        assert_eq!(logged, [0, 1, 2, 3, 4, 5, 6, 7, 8], "eight, and one line for all others");
        assert_eq!((refusals.note(of(3)), refusals.note(of(200))), (None, None));

        let noted = |uid: Option<u32>| {
            refusals.list().into_iter().find(|entry| entry.told == Told { peer_uid: uid, ..told("a") })
        };
        assert_eq!((noted(Some(3)).unwrap().count, noted(None).unwrap().count), (2, 93));
        assert_eq!(refusals.list().len(), 10);
    }

    #[test]
    fn no_more_than_fifty_are_kept() {
        let refusals = Refusals::new(Duration::ZERO);
        for i in 0..200 {
            refusals.note(told(&i.to_string()));
        }

        assert_eq!(refusals.list().len(), ENTRIES_MAX);
    }
}
