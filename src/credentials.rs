//! Every secret that the daemon presents or checks: where it is read, when it is read again, and
//! which one is in use.
//!
//! Owns the reading and the last good secret. It must never print a secret, a command's arguments
//! or what a command wrote, and never read on the event loop.

mod command;
mod error;
mod file;
mod source;
mod turns;

pub use error::SecretError;

use crate::{
    secret::Secret,
    settings::SecretSource,
    trusted_file::{self, Doubt},
};
use error::{Fault, chain};
use source::{Reading, Source};
use std::{
    ffi::OsString,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{sync::OwnedMutexGuard, time::timeout};
use tracing::{info, warn};
use turns::{Reader, Turn, Turns};

/// One secret with its source; cheap to clone, and clones share what was read.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

/// A secret as it was at one moment.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What to log in with.
    pub secret: Arc<Secret>,
    /// From 1, and one more whenever the secret's bytes changed.
    pub generation: u64,
}

impl Credentials {
    /// Reads nothing yet. `strict` refuses a file that others can read, instead of warning about it.
    pub fn new(source: SecretSource, strict: bool) -> Self {
        Self::with(source, strict, Surroundings::real())
    }

    /// The secret for the next login.
    ///
    /// A file is looked at each time and read when it changed; a command runs when its last output
    /// is older than its lifetime, one run at a time, shared by all that wait. While reading fails,
    /// the last good secret is returned and the failure is logged once.
    ///
    /// # Errors
    /// Nothing could be read yet. Bounded in time: 5 s for a file, about twice a command's limit.
    ///
    /// Cancel safety: safe; a reading that has begun goes on and serves the next caller.
    pub async fn current(&self) -> Result<Lease, SecretError> {
        match self.0.fresh() {
            Some(lease) => Ok(lease),
            None => self.0.renew(Wish::Current).await,
        }
    }

    /// The secret after the server refused generation `seen` (SQLSTATE 28P01).
    ///
    /// Reads the source anew, a command by running it again, unless a newer generation is there
    /// already. Generation `seen` again means that the source still says the same, or could not
    /// be read (which is logged): then the server's own error is the answer.
    ///
    /// # Errors
    /// As [`Credentials::current`].
    ///
    /// Cancel safety: safe, as [`Credentials::current`].
    pub async fn reread(&self, seen: u64) -> Result<Lease, SecretError> {
        let newer = self.0.known().lease.clone();
        match newer.filter(|lease| lease.generation > seen) {
            Some(lease) => Ok(lease),
            None => self.0.renew(Wish::Anew).await,
        }
    }

    /// Reads the secret for the first time, so that a source which cannot work shows at once. A command is not run: it
    /// may need what is not there yet, a network; but whether others could change its program is looked at.
    ///
    /// # Errors
    /// As [`Credentials::current`].
    pub async fn try_out(&self) -> Result<(), SecretError> {
        if self.0.source.is_command() { self.0.examine_program().await } else { self.current().await.map(drop) }
    }

    /// How others could change the file that was read last.
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        self.0.known().doubts.clone()
    }

    /// Whether a file that others can read is refused.
    pub fn is_strict(&self) -> bool {
        self.0.strict
    }

    /// The source in a few words: `file prod.pw`, `variable NAME`, `credential NAME`,
    /// `command prog`, `the connection string`.
    pub fn describe(&self) -> String {
        self.0.source.to_string()
    }

    /// The generation of the secret that is in use; 0 before the first reading. Reads nothing.
    pub fn generation(&self) -> u64 {
        self.0.known().lease.as_ref().map_or(0, |lease| lease.generation)
    }

    /// When the source was last read with success.
    pub fn read_at(&self) -> Option<SystemTime> {
        self.0.known().read_at
    }

    /// Why the source could not be read the last time, with its cause; `None` when it could, or before the
    /// first reading. Reads nothing.
    pub fn fault(&self) -> Option<String> {
        self.0.known().fault.as_ref().map(chain)
    }

    /// Whether a reading has not ended that others have given up waiting for.
    pub(crate) fn hangs(&self) -> bool {
        self.0.known().is_given_up
    }

    fn with(source: SecretSource, strict: bool, surroundings: Surroundings) -> Self {
        Self(Arc::new(Inner {
            source: Source(source),
            strict,
            surroundings,
            turns: Turns::new(),
            known: std::sync::Mutex::default(),
        }))
    }
}

/// What the daemon's process gives to a source; tests give their own.
struct Surroundings {
    variable: Box<Lookup>,
    /// A clock that counts suspend: a token dies while the machine sleeps.
    now: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl Surroundings {
    fn real() -> Self {
        Self { variable: Box::new(|name| std::env::var_os(name)), now: Box::new(SystemTime::now) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Whatever is good enough for a login.
    Current,
    /// Nothing that was read before now.
    Anew,
}

struct Inner {
    source: Source,
    strict: bool,
    surroundings: Surroundings,
    turns: Turns,
    known: std::sync::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    lease: Option<Lease>,
    read_at: Option<SystemTime>,
    /// Since when and for how long the lease may be used without another look at the source.
    rest: Option<(SystemTime, Duration)>,
    /// How others could change the file, as the operator was told last.
    doubts: Vec<Doubt>,
    warned_about_mode: bool,
    /// Readings are numbered from 1; all but one that are under way were given up.
    started: u64,
    finished: u64,
    /// The reading under way does not end, as far as was waited.
    is_given_up: bool,
    /// How reading number `finished` ended.
    outcome: Option<SecretError>,
    /// The same, or why there is no end of a later reading.
    fault: Option<SecretError>,
    /// The failure that was logged last.
    logged: Option<String>,
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        // What it holds is replaced whole, so it is good even if a holder panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease, if the source need not be looked at.
    fn fresh(&self) -> Option<Lease> {
        let known = self.known();
        let (since, span) = known.rest?;
        // A clock that was set back tells nothing, so the source is asked again.
        let age = (self.surroundings.now)().duration_since(since).ok()?;
        (age < span).then(|| known.lease.clone()).flatten()
    }

    async fn renew(self: &Arc<Self>, wish: Wish) -> Result<Lease, SecretError> {
        let (waits_for, hangs) = {
            let known = self.known();
            let any = wish == Wish::Current && self.source.shares_a_reading_under_way();
            let hangs = known.fault.clone().filter(|_| known.is_given_up && known.lease.is_some());
            (if any { known.finished } else { known.started }, hangs)
        };
        let turn = self.turns.now();
        if let Some(error) = hangs {
            // Who logs in need not wait again for what has just been waited for in vain.
            if let Ok(reader) = Arc::clone(&turn).try_lock_owned() {
                tokio::spawn(Arc::clone(self).read_beside(turn, reader));
            }
            return self.fall_back(&error);
        }
        let reading = async {
            let reader = Arc::clone(&turn).lock_owned().await;
            let inner = Arc::clone(self);
            // A task of its own: a client that leaves must not end the reading for all others,
            // and a hung file system must hold one thread, not one for each login.
            tokio::spawn(async move { inner.read_in_turn(reader, waits_for, wish).await }).await
        };
        let limit = self.source.patience();
        match timeout(limit, reading).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => self.give_up(Fault::Interrupted, waits_for),
            Err(_) => {
                self.turns.give_up(&turn);
                self.give_up(Fault::Hangs { limit }, waits_for)
            }
        }
    }

    /// A reading that nobody waits for, while the last good secret is used.
    async fn read_beside(self: Arc<Self>, turn: Turn, reader: OwnedMutexGuard<Reader>) {
        let waits_for = self.known().started;
        let inner = Arc::clone(&self);
        let reading = tokio::spawn(async move { inner.read_in_turn(reader, waits_for, Wish::Anew).await });
        if timeout(self.source.patience(), reading).await.is_err() {
            self.turns.give_up(&turn);
        }
    }

    /// No reading came to an end in time that would do for who waited.
    fn give_up(&self, fault: Fault, waits_for: u64) -> Result<Lease, SecretError> {
        let is_given_up = matches!(fault, Fault::Hangs { .. });
        let error = self.error(fault);
        {
            let mut known = self.known();
            // One that has ended at this very moment knows better.
            if known.finished <= waits_for {
                (known.fault, known.is_given_up) = (Some(error.clone()), is_given_up);
            }
        }
        self.fall_back(&error)
    }

    async fn read_in_turn(
        &self,
        mut reader: OwnedMutexGuard<Reader>,
        waits_for: u64,
        wish: Wish,
    ) -> Result<Lease, SecretError> {
        // It may have become fresh between the first look and the wait's beginning.
        if let Some(lease) = self.fresh().filter(|_| wish == Wish::Current) {
            return Ok(lease);
        }
        let is_answered = self.known().finished > waits_for;
        if !is_answered {
            let Some(_place) = self.turns.begin() else {
                return self.give_up(Fault::Hangs { limit: self.source.patience() }, waits_for);
            };
            let number = self.known().begin();
            let seen = reader.stamp.filter(|_| wish == Wish::Current);
            let outcome = self.source.read(seen, &self.surroundings).await;
            self.finish(&mut reader, number, outcome);
        }
        // Taken apart from the match: falling back locks again.
        let outcome = self.known().outcome.clone();
        match outcome {
            Some(error) => self.fall_back(&error),
            None => {
                let lease = self.known().lease.clone();
                lease.ok_or_else(|| self.error(Fault::Interrupted))
            }
        }
    }

    fn finish(&self, reader: &mut Reader, number: u64, outcome: Result<Reading, Fault>) {
        let now = (self.surroundings.now)();
        let mut known = self.known();
        if !known.end(number) {
            return;
        }
        match outcome.and_then(|reading| self.check_file(&mut known, reading)) {
            Ok(Reading::Unchanged) => known.outcome = None,
            Ok(Reading::Text { secret, stamp, .. }) => {
                reader.stamp = stamp;
                known.outcome = None;
                known.read_at = Some(now);
                known.rest = self.source.rest().map(|span| (now, span));
                self.adopt(&mut known, secret);
            }
            Err(fault) => {
                // Else each login would wait for a command that keeps failing.
                known.rest = self.source.rest().map(|span| (now, span.min(RETRY_PAUSE)));
                let error = self.error(fault);
                (known.outcome, known.fault) = (Some(error.clone()), Some(error));
                return;
            }
        }
        if known.logged.take().is_some() {
            info!(secret.source = %self.source, "secret can be read again");
        }
    }

    fn adopt(&self, known: &mut Known, secret: Secret) {
        let generation = match &known.lease {
            Some(lease) if *lease.secret == secret => return,
            Some(lease) => lease.generation.saturating_add(1),
            None => FIRST_GENERATION,
        };
        if generation > FIRST_GENERATION {
            info!(secret.source = %self.source, secret.generation = generation, "secret changed");
        }
        known.lease = Some(Lease { secret: Arc::new(secret), generation });
    }

    fn check_file(&self, known: &mut Known, reading: Reading) -> Result<Reading, Fault> {
        let Reading::Text { open_mode, doubts, .. } = &reading else { return Ok(reading) };
        self.judge(known, doubts)?;
        if let Some(mode) = *open_mode {
            if self.strict {
                return Err(Fault::ReadableByOthers { mode });
            }
            if !std::mem::replace(&mut known.warned_about_mode, true) {
                let mode = format!("{mode:04o}");
                warn!(secret.source = %self.source, mode, "secret file is readable by others; make it 0600");
            }
        }
        Ok(reading)
    }

    fn judge(&self, known: &mut Known, doubts: &[Doubt]) -> Result<(), Fault> {
        let new = known.lease.as_ref().and_then(|_| trusted_file::refused_since(&known.doubts, doubts));
        let strict = trusted_file::refused(doubts).filter(|_| self.strict);
        if let Some(distrust) = strict.or(new) {
            return Err(self.source.distrusted(distrust));
        }
        if known.doubts != doubts {
            for doubt in doubts {
                warn!(secret.source = %self.source, "{} {doubt}", self.source.thing());
            }
            doubts.clone_into(&mut known.doubts);
        }
        Ok(())
    }

    async fn examine_program(&self) -> Result<(), SecretError> {
        let doubts = self.source.examine_program().await.map_err(|fault| self.error(fault))?;
        self.judge(&mut self.known(), &doubts).map_err(|fault| self.error(fault))
    }

    /// The last good lease, if there is one; says once why no newer one is used.
    fn fall_back(&self, error: &SecretError) -> Result<Lease, SecretError> {
        let mut known = self.known();
        let Some(lease) = known.lease.clone() else {
            return Err(error.clone());
        };
        let text = chain(error);
        if known.logged.as_ref() != Some(&text) {
            warn!(secret.source = %self.source, error = text, "secret could not be read again; the last one stays in use");
            known.logged = Some(text);
        }
        Ok(lease)
    }

    fn error(&self, fault: Fault) -> SecretError {
        SecretError::new(&self.source, fault)
    }
}

const FIRST_GENERATION: u64 = 1;

/// After a failed run, the last good output is used for so long before the next run.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
