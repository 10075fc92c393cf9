//! Addresses of names, with a short memory: one question at a time for each name, a fresh answer used without
//! asking, and the last good one for as long as asking fails. Only names of the settings are asked for, so
//! there are few.

use super::{lock, resolve::Resolve};
use crate::clock::{Clock, Moment};
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::timeout,
};

/// The resolver and what it said last.
pub(super) struct Names {
    resolver: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
    refresh: Mutex<Duration>,
    known: Mutex<HashMap<String, Arc<Name>>>,
}

/// Why there are no addresses.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The resolver says so.
    Failed(io::Error),
    /// It says nothing.
    Late,
}

#[derive(Default)]
struct Name {
    /// Held by the question that is under way.
    asking: Arc<AsyncMutex<()>>,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    addresses: Option<Arc<[IpAddr]>>,
    /// Until then the addresses are used without asking.
    fresh_until: Moment,
    /// How many questions have been answered, well or badly.
    answers: u64,
    /// What the last question failed with.
    failure: Option<(io::ErrorKind, String)>,
}

impl Names {
    /// `refresh` is how long an answer is used without asking again.
    pub(super) fn new(resolver: Arc<dyn Resolve>, clock: Arc<dyn Clock>, refresh: Duration) -> Self {
        Self { resolver, clock, refresh: Mutex::new(refresh), known: Mutex::default() }
    }

    /// From now on, answers are used for so long without asking again.
    pub(super) fn refresh_after(&self, span: Duration) {
        *lock(&self.refresh) = span;
    }

    /// Addresses of `host`, the preferred first; never none. Waits at most 2 s, and much less while there is
    /// a last good answer. Cancel safe: a question that was begun goes on for those who ask next.
    pub(super) async fn look_up(&self, host: &str) -> Result<Arc<[IpAddr]>, NoAnswer> {
        if let Ok(literal) = host.parse() {
            return Ok([literal].into());
        }
        let name = Arc::clone(lock(&self.known).entry(host.to_owned()).or_default());
        let seen = {
            let said = lock(&name.said);
            if let Some(addresses) = said.addresses.as_ref().filter(|_| self.clock.now() < said.fresh_until) {
                return Ok(Arc::clone(addresses));
            }
            said.answers
        };
        let limit = if lock(&name.said).addresses.is_some() { LIMIT_WITH_A_LAST_ANSWER } else { LIMIT };
        let answered = timeout(limit, async {
            let turn = Arc::clone(&name.asking).lock_owned().await;
            // Whoever held it before may have brought the answer.
            if lock(&name.said).answers == seen {
                self.ask(host, &name, turn).await;
            }
        });
        let is_late = answered.await.is_err();
        let mut said = lock(&name.said);
        if let Some(addresses) = said.addresses.clone() {
            if is_late {
                // Not every client is to wait for a resolver that hangs.
                said.fresh_until = self.clock.now().after(RETRY_AFTER.min(*lock(&self.refresh)));
            }
            return Ok(addresses);
        }
        let failure = said.failure.as_ref().filter(|_| !is_late);
        Err(failure.map_or(NoAnswer::Late, |(kind, text)| NoAnswer::Failed(io::Error::new(*kind, text.clone()))))
    }

    /// The addresses that were said last, without asking.
    pub(super) fn last(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        if let Ok(literal) = host.parse() {
            return Some([literal].into());
        }
        let name = lock(&self.known).get(host).cloned()?;
        let said = lock(&name.said);
        said.addresses.clone()
    }

    /// Asks anew next time, as after a suspend or a change of network. The last good answers stay.
    pub(super) fn forget(&self) {
        for name in lock(&self.known).values() {
            lock(&name.said).fresh_until = Moment::default();
        }
    }

    /// Drops what is known of all names but these.
    pub(super) fn keep_only<'a>(&self, hosts: impl Iterator<Item = &'a str> + Clone) {
        lock(&self.known).retain(|known, _| hosts.clone().any(|host| host == known));
    }

    /// In a task of its own: a client that leaves must not end the question for all others, and while a
    /// resolver hangs there must not be a second question for the same name.
    async fn ask(&self, host: &str, name: &Arc<Name>, turn: OwnedMutexGuard<()>) {
        let (resolver, clock, refresh) = (Arc::clone(&self.resolver), Arc::clone(&self.clock), *lock(&self.refresh));
        let (host, name) = (host.to_owned(), Arc::clone(name));
        let question = tokio::spawn(async move {
            let answer = resolver.resolve(&host).await;
            lock(&name.said).note(answer, clock.now(), refresh);
            drop(turn);
        });
        // A question that panicked leaves the last good answer.
        let _ = question.await;
    }
}

impl Said {
    fn note(&mut self, answer: io::Result<Vec<IpAddr>>, now: Moment, refresh: Duration) {
        self.answers = self.answers.saturating_add(1);
        match answer {
            Ok(addresses) => {
                self.addresses = Some(addresses.into());
                self.fresh_until = now.after(refresh);
                self.failure = None;
            }
            Err(error) => {
                // While asking fails the last good answer serves, and is asked for less often than used.
                self.fresh_until = now.after(RETRY_AFTER.min(refresh));
                self.failure = Some((error.kind(), error.to_string()));
            }
        }
    }
}

/// How long the resolver may take before an endpoint counts as not resolved.
const LIMIT: Duration = Duration::from_secs(2);
/// A resolver that hesitates must not make a region look far away whose addresses are known.
const LIMIT_WITH_A_LAST_ANSWER: Duration = Duration::from_millis(250);
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SetClock, upstream::resolve::Resolving};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::sync::Notify;

    const REFRESH: Duration = Duration::from_secs(30);

    /// Says what it is told to, once it is let.
    #[derive(Default)]
    struct Told {
        answer: Mutex<Option<Vec<IpAddr>>>,
        asked: AtomicUsize,
        hangs: Mutex<bool>,
        released: Notify,
    }

    impl Told {
        fn says(&self, addresses: Option<&[&str]>) {
            let parsed = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
            *lock(&self.answer) = addresses.map(parsed);
        }
    }

    impl Resolve for Told {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
            Box::pin(async move {
                self.asked.fetch_add(1, Relaxed);
                if *lock(&self.hangs) {
                    self.released.notified().await;
                }
                lock(&self.answer).clone().ok_or_else(|| io::Error::other("no such name"))
            })
        }
    }

    fn names() -> (Arc<Told>, SetClock, Names) {
        let (told, clock) = (Arc::new(Told::default()), SetClock::default());
        let names = Names::new(told.clone(), Arc::new(clock.clone()), REFRESH);
        (told, clock, names)
    }

    async fn looked_up(names: &Names) -> Result<String, NoAnswer> {
        names.look_up("db.example").await.map(|addresses| addresses[0].to_string())
    }

    #[tokio::test]
    async fn a_fresh_answer_is_used_without_asking_and_an_old_one_is_not() {
        let (told, clock, names) = names();
        told.says(Some(&["10.0.0.1"]));
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        told.says(Some(&["10.0.0.2"]));

        clock.advance(REFRESH - Duration::from_secs(1));
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        clock.advance(Duration::from_secs(1));
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.2");

        assert_eq!(told.asked.load(Relaxed), 2);
        assert_eq!(names.last("db.example").unwrap()[0].to_string(), "10.0.0.2");
    }

    #[tokio::test]
    async fn a_suspend_makes_an_answer_old() {
        let (told, clock, names) = names();
        told.says(Some(&["10.0.0.1"]));
        looked_up(&names).await.unwrap();

        clock.suspend(12 * 3600 * Duration::from_secs(1));
        told.says(Some(&["10.0.0.9"]));

        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.9");
    }

    #[tokio::test]
    async fn the_last_good_answer_serves_while_asking_fails() {
        let (told, clock, names) = names();
        assert!(matches!(looked_up(&names).await, Err(NoAnswer::Failed(_))));
        told.says(Some(&["10.0.0.1"]));
        looked_up(&names).await.unwrap();

        told.says(None);
        clock.advance(REFRESH);
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        assert_eq!(told.asked.load(Relaxed), 3, "not asked again at once");
        told.says(Some(&["10.0.0.2"]));
        clock.advance(RETRY_AFTER);

        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_is_asked_once_and_waited_for_briefly_where_an_answer_is_at_hand() {
        let (told, clock, names) = names();
        *lock(&told.hangs) = true;

        let start = tokio::time::Instant::now();
        let (one, other) = tokio::join!(looked_up(&names), looked_up(&names));
        assert!(matches!((one, other), (Err(NoAnswer::Late), Err(NoAnswer::Late))));
        assert_eq!(start.elapsed(), LIMIT);
        told.says(Some(&["10.0.0.1"]));
        told.released.notify_one();
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        assert_eq!(told.asked.load(Relaxed), 1);

        // With an answer at hand only the first one waits, and not for long.
        clock.advance(REFRESH);
        let hesitating = tokio::time::Instant::now();
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        assert_eq!(hesitating.elapsed(), LIMIT_WITH_A_LAST_ANSWER);
        let late = tokio::time::Instant::now();
        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        assert_eq!((late.elapsed(), told.asked.load(Relaxed)), (Duration::ZERO, 2));
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_end_the_question() {
        let (told, _, names) = names();
        *lock(&told.hangs) = true;
        told.says(Some(&["10.0.0.1"]));
        let impatient = timeout(Duration::from_millis(1), names.look_up("db.example")).await;
        assert!(impatient.is_err());

        told.released.notify_one();

        assert_eq!(looked_up(&names).await.unwrap(), "10.0.0.1");
        assert_eq!(told.asked.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn only_names_of_the_settings_are_kept_and_addresses_need_none() {
        let (told, _, names) = names();
        told.says(Some(&["10.0.0.1"]));
        looked_up(&names).await.unwrap();

        assert_eq!(names.look_up("::1").await.unwrap()[0].to_string(), "::1");
        names.keep_only(["other.example"].into_iter());

        assert!(names.last("db.example").is_none() && lock(&names.known).is_empty());
    }
}
