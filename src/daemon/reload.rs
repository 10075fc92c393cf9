//! Reading settings and files again while serving: all of it is taken, or none.

use super::{
    Built, StartError,
    serving::{Prepared, Serving},
};
use crate::{
    admin::{Admin, Demand, News, Outcome},
    diagnostics,
    listener::Inherited,
    metrics::labels::ReloadResult,
    settings::{self, Inputs, Loaded},
};
use std::sync::Arc;
use tokio::{runtime::Handle, task::spawn_blocking};
use tracing::{info, warn};

/// Why a reload begins.
enum Cause {
    /// SIGHUP.
    Signal,
    /// Somebody asked for it.
    Demand,
    /// The settings file has changed.
    Settings,
    /// Other files have; settings are not read.
    Files,
}

/// Reads again what `demand` says, settings and all if it is a signal (`None`). Dropping the future before the
/// end leaves everything as it was.
pub(super) async fn reload(admin: &Admin, serving: &mut Serving, inputs: Option<&Arc<Inputs>>, demand: Option<Demand>) {
    let (cause, dry_run, done) = match demand {
        Some(Demand::Reload { dry_run, done }) => (Cause::Demand, dry_run, Some(done)),
        Some(Demand::Changed { settings: true }) => (Cause::Settings, false, None),
        Some(Demand::Changed { settings: false }) => (Cause::Files, false, None),
        Some(Demand::Drain) => return,
        None => (Cause::Signal, false, None),
    };
    let inputs = inputs.filter(|_| !matches!(cause, Cause::Files)).cloned();
    let outcome = match read_again(serving, inputs).await.and_then(|built| consider(serving, built)) {
        Ok((_, news)) if dry_run => Outcome::DryRun(news),
        Ok((prepared, news)) => take_over(admin, serving, prepared, news, &cause),
        Err(faults) if dry_run => Outcome::Refused { faults },
        Err(faults) => refuse(admin, faults, &cause),
    };
    // Whoever asked may be gone.
    let _ = done.map(|done| done.send(outcome));
}

async fn read_again(serving: &Serving, inputs: Option<Arc<Inputs>>) -> Result<Built, Vec<String>> {
    let Some(loaded) = serving.loaded().cloned() else { return Err(vec!["nothing is served".to_owned()]) };
    let runtime = Handle::current();
    // Files of a hung file system must not hold up the loop that hears signals.
    let reading = spawn_blocking(move || runtime.block_on(read(inputs.as_deref(), loaded)));
    reading.await.unwrap_or_else(|error| Err(vec![error.to_string()]))
}

/// What taking it over would change, and all that can fail of it.
fn consider(serving: &Serving, built: Built) -> Result<(Prepared, News), Vec<String>> {
    let known = serving.loaded();
    let mut changes: Vec<_> = known
        .iter()
        .flat_map(|known| settings::changes(known, &built.loaded))
        .map(|change| change.to_string())
        .collect();
    changes.extend(serving.news(&built));
    let (warnings, needs_restart) = (built.warnings.clone(), serving.needs_restart(&built.settings));
    let prepared = serving.prepare(built, &mut Inherited::default()).map_err(|error| lines(&error))?;
    Ok((prepared, News { changes, needs_restart, warnings }))
}

fn take_over(admin: &Admin, serving: &mut Serving, prepared: Prepared, news: News, cause: &Cause) -> Outcome {
    let view = Arc::new(serving.commit(prepared));
    diagnostics::set_level(view.settings.log_level);
    admin.metrics.has_loaded(view.loaded_at);
    admin.show(view);
    let changes = news.changes.len();
    if changes == 0 && matches!(cause, Cause::Files) {
        // Written again as it was.
        return Outcome::Reloaded(news);
    }
    admin.metrics.reloads.at(ReloadResult::Ok).inc();
    for warning in &news.warnings {
        warn!("{warning}");
    }
    for change in &news.changes {
        info!(change, "changed");
    }
    let needs_restart = news.needs_restart.join(", ");
    info!(cause = cause.text(), changes, needs_restart, "reloaded");
    Outcome::Reloaded(news)
}

fn refuse(admin: &Admin, faults: Vec<String>, cause: &Cause) -> Outcome {
    admin.metrics.reloads.at(ReloadResult::Failed).inc();
    let text = faults.join("; ");
    warn!(cause = cause.text(), faults = text, "reload failed");
    admin.show_fault(text);
    Outcome::Refused { faults }
}

impl Cause {
    fn text(&self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Demand => "POST /reload",
            Self::Settings => "the settings file has changed",
            Self::Files => "a certificate's file has changed",
        }
    }
}

/// Settings from `inputs`, or those of before, and the files that they name.
async fn read(inputs: Option<&Inputs>, before: Arc<Loaded>) -> Result<Built, Vec<String>> {
    let loaded = match inputs {
        Some(inputs) => Arc::new(settings::load(inputs).map_err(|faults| lines(&faults))?),
        None => before,
    };
    Built::read(loaded).await.map_err(|error: StartError| lines(&error))
}

fn lines(error: &impl std::fmt::Display) -> Vec<String> {
    error.to_string().lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}
