//! Reading settings and files again while serving: all of it is taken, or none.

use super::{Built, StartError, outlook::RESTART_KEYS, serving::Serving};
use crate::{
    admin::{Admin, Demand, Faults, News, Outcome},
    diagnostics,
    metrics::labels::ReloadResult,
    settings::{self, Inputs, Loaded},
};
use std::{fs::Metadata, path::Path, sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::{info, warn};

/// Reads settings and files again.
pub(super) struct Reloads {
    /// What settings are read from; without them there are only files to be read again.
    pub(super) inputs: Option<Arc<Inputs>>,
    /// Readings that have not ended: those of before that hang, and the one that is waited for.
    reading: Arc<Semaphore>,
}

/// Why a reload begins.
#[derive(Clone, Copy)]
enum Cause {
    /// SIGHUP.
    Signal,
    /// Somebody asked for it: the user, as far as that is known.
    Demand(Option<u32>),
    /// The settings file has changed.
    Settings,
    /// Other files have; settings are not read.
    Files,
}

/// Why what was read is not taken.
struct Failure {
    faults: Vec<String>,
    /// Settings are other ones than those in use, or cannot be read.
    is_of_settings: bool,
}

impl Reloads {
    pub(super) fn new() -> Self {
        Self { inputs: None, reading: Arc::new(Semaphore::new(READINGS_MAX)) }
    }

    /// Reads again what `demand` says, settings and all if it is a signal (`None`). Dropping the future before the
    /// end leaves everything as it was.
    pub(super) async fn carry_out(&self, admin: &Admin, serving: &mut Serving, demand: Option<Demand>) {
        let (cause, dry_run, done) = match demand {
            Some(Demand::Reload { dry_run, uid, done }) => (Cause::Demand(uid), dry_run, Some(done)),
            Some(Demand::Changed { settings: true }) => (Cause::Settings, false, None),
            Some(Demand::Changed { settings: false }) => (Cause::Files, false, None),
            None => (Cause::Signal, false, None),
        };
        let inputs = self.inputs.clone().filter(|_| !matches!(cause, Cause::Files));
        // What nobody asked for leaves some to those who ask.
        let is_looked_at_only = matches!(cause, Cause::Files | Cause::Settings);
        let hanging_max = if is_looked_at_only { 0 } else { READINGS_MAX - 1 };
        let read = self.read_again(serving, inputs, hanging_max).await;
        let outcome = match read {
            Ok(built) if dry_run => rehearse(serving, &built),
            Ok(built) => take_over(admin, serving, built, cause),
            Err(failure) if dry_run => Outcome::Refused { faults: failure.faults },
            Err(failure) => refuse(admin, failure, cause),
        };
        // Whoever asked may be gone.
        let _ = done.map(|done| done.send(outcome));
    }

    async fn read_again(
        &self,
        serving: &Serving,
        inputs: Option<Arc<Inputs>>,
        hanging_max: usize,
    ) -> Result<Built, Failure> {
        let is_of_settings = inputs.is_some();
        let failed = |fault: &str| Err(Failure { faults: vec![fault.to_owned()], is_of_settings });
        let Some(loaded) = serving.loaded().cloned() else { return failed("nothing is served") };
        if READINGS_MAX.saturating_sub(self.reading.available_permits()) > hanging_max {
            return failed(HANGS_STILL);
        }
        let Ok(turn) = Arc::clone(&self.reading).try_acquire_owned() else { return failed(HANGS_STILL) };
        let runtime = Handle::current();
        // Files of a hung file system must not hold up the loop that hears signals.
        let reading = spawn_blocking(move || {
            let _turn = turn;
            runtime.block_on(read(inputs.as_deref(), loaded))
        });
        match timeout(READ_LIMIT, reading).await {
            Ok(Ok(read)) => read.and_then(|built| still_ours(serving, built)),
            Ok(Err(error)) => failed(&error.to_string()),
            Err(_elapsed) => failed(HANGS),
        }
    }
}

/// Refuses files that were in use and belong to somebody else now: what was read before stays.
fn still_ours(serving: &Serving, built: Built) -> Result<Built, Failure> {
    let taken = serving.taken_since(&built);
    if taken.is_empty() {
        return Ok(built);
    }
    let is_file = |path: &Path| taken.iter().any(|fault| fault.place == path.display().to_string());
    let changes = serving.loaded().map(|loaded| settings::changes(loaded, &built.loaded));
    let is_of_settings =
        built.settings.file.as_deref().is_some_and(is_file) || changes.is_some_and(|all| !all.is_empty());
    let faults = taken.iter().map(|fault| format!("{} {}", fault.place, fault.fault)).collect();
    Err(Failure { faults, is_of_settings })
}

/// Settings from `inputs`, or those in use, and the files that they name.
async fn read(inputs: Option<&Inputs>, in_use: Arc<Loaded>) -> Result<Built, Failure> {
    let loaded = match inputs {
        Some(inputs) => {
            let unfit = |faults| Failure { faults, is_of_settings: true };
            in_use.settings.file.as_deref().map_or(Ok(()), can_be_read_again).map_err(|fault| unfit(vec![fault]))?;
            settings::load(inputs).map(Arc::new).map_err(|faults| unfit(lines(&faults)))?
        }
        None => Arc::clone(&in_use),
    };
    let is_of_settings = !settings::changes(&in_use, &loaded).is_empty();
    Built::read(loaded).await.map_err(|error: StartError| Failure { faults: lines(&error), is_of_settings })
}

/// A pipe gives what it holds once, and without a writer it would be waited for without end.
fn can_be_read_again(file: &Path) -> Result<(), String> {
    let is_odd = |found: Metadata| !found.is_file() && !found.is_dir();
    if !std::fs::metadata(file).is_ok_and(is_odd) {
        return Ok(());
    }
    Err(format!(
        "{}: a pipe or a device, which cannot be read a second time; restart crdb-proxy, or start it with --config and a file",
        file.display()
    ))
}

/// What taking it over would change.
fn rehearse(serving: &Serving, built: &Built) -> Outcome {
    match serving.rehearse(built) {
        Ok(()) => Outcome::DryRun(news(serving, built)),
        Err(error) => Outcome::Refused { faults: lines(&error) },
    }
}

fn take_over(admin: &Admin, serving: &mut Serving, built: Built, cause: Cause) -> Outcome {
    let news = news(serving, &built);
    let stood = admin.faults();
    let faults = match cause {
        Cause::Files => Faults { files: None, ..stood.clone() },
        _ => Faults::default(),
    };
    let is_looked_at_only = matches!(cause, Cause::Files | Cause::Settings);
    if is_looked_at_only && news.changes.is_empty() && faults == stood {
        // Written again as it was.
        return Outcome::Reloaded(news);
    }
    let prepared = match serving.prepare(built) {
        Ok(prepared) => prepared,
        Err(error) => {
            let is_of_settings = !matches!(cause, Cause::Files);
            return refuse(admin, Failure { faults: lines(&error), is_of_settings }, cause);
        }
    };
    let view = Arc::new(serving.commit(prepared));
    diagnostics::set_level(view.settings.log_level);
    admin.metrics.has_loaded(view.loaded_at);
    admin.metrics.reloads.at(ReloadResult::Ok).inc();
    admin.show(view);
    admin.show_faults(faults);
    if !is_looked_at_only {
        serving.read_secrets_again();
    }
    tell(&news, cause);
    Outcome::Reloaded(news)
}

fn news(serving: &Serving, built: &Built) -> News {
    let known = serving.loaded();
    let needs_restart = serving.needs_restart(&built.settings);
    let settings = known.iter().flat_map(|known| settings::changes(known, &built.loaded));
    // Back at what it was at the start, such a key changes nothing, now or later.
    let counts = |change: &settings::Change| {
        let key = RESTART_KEYS.iter().find(|key| change.place() == **key);
        key.is_none_or(|key| needs_restart.iter().any(|needed| needed == key))
    };
    let mut changes: Vec<_> = settings.filter(counts).map(|change| change.to_string()).collect();
    changes.extend(serving.news(built));
    let warnings = [built.warnings.clone(), serving.notes(&built.settings)].concat();
    News { changes, needs_restart, warnings }
}

fn tell(news: &News, cause: Cause) {
    for warning in &news.warnings {
        warn!("{warning}");
    }
    let waits = |change: &str, key: &str| change.strip_prefix(key).is_some_and(|rest| rest.starts_with(": "));
    let is_now = |change: &&String| !news.needs_restart.iter().any(|key| waits(change, key));
    let now: Vec<_> = news.changes.iter().filter(is_now).collect();
    for change in &now {
        info!(change, "changed");
    }
    let (changes, needs_restart) = (now.len(), news.needs_restart.join(", "));
    info!(cause = cause.text(), peer.uid = cause.uid(), changes, needs_restart, "reloaded");
}

fn refuse(admin: &Admin, failure: Failure, cause: Cause) -> Outcome {
    let Failure { faults, is_of_settings } = failure;
    let text = faults.join("; ");
    let stands = admin.faults();
    let mut next = stands.clone();
    *(if is_of_settings { &mut next.settings } else { &mut next.files }) = Some(text.clone());
    // What is tried every few seconds is told once.
    if next != stands || !matches!(cause, Cause::Files | Cause::Settings) {
        admin.metrics.reloads.at(ReloadResult::Failed).inc();
        warn!(cause = cause.text(), peer.uid = cause.uid(), faults = text, "reload failed");
    }
    admin.show_faults(next);
    Outcome::Refused { faults }
}

impl Cause {
    fn text(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Demand(_) => "POST /reload",
            Self::Settings => "the settings file has changed",
            Self::Files => "files have changed",
        }
    }

    fn uid(self) -> Option<u32> {
        match self {
            Self::Demand(uid) => uid,
            _ => None,
        }
    }
}

fn lines(error: &impl std::fmt::Display) -> Vec<String> {
    error.to_string().lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// For what takes milliseconds.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Each that hangs keeps a thread. When so many do, a file system is what has to be mended.
const READINGS_MAX: usize = 4;
const HANGS: &str = "the files cannot be read within 30 s; does a file system hang? What was read before stays in use";
const HANGS_STILL: &str =
    "earlier readings of the files have not ended; does a file system hang? What was read before stays in use";
