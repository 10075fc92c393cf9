//! `check`: every way to the cluster, tried stage by stage, with progress on a terminal.

mod progress;
mod told;

use super::{CommandError, block_on, look, note, say};
use crate::{
    check::{self, CheckError, Wish},
    control::Client,
    settings::{self, Inputs},
    upstream::World,
};
use progress::Progress;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Tries what the settings speak of, and prints what was found, as JSON if so wanted.
///
/// # Errors
/// The settings break a rule, or a file that they name cannot be used.
pub fn check(inputs: &Inputs, wish: &Wish, json: bool, world: &World) -> Result<u8, CommandError> {
    block_on(walk(inputs, wish, json, world))
}

/// The same in a runtime of the caller's.
pub(super) async fn walk(inputs: &Inputs, wish: &Wish, json: bool, world: &World) -> Result<u8, CommandError> {
    let loaded = settings::load(inputs).map_err(|faults| match &wish.cluster {
        Some(said) if faults.is_nothing_given() => CommandError::Said(2, no_settings(said)),
        _ => faults.into(),
    })?;
    let running = running(inputs).await;
    let progress = Arc::new(Progress::new(!json));
    let watch: Arc<dyn check::Watch + Send + Sync> = Arc::<Progress>::clone(&progress);
    let checked = check::check(&loaded, wish, world, &running, &watch).await;
    progress.end();
    let report = checked.map_err(|error| failed(&error))?;
    if json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| CommandError::Said(1, format!("the report cannot be written: {error}")))?;
        say(&format!("{}\n", look::ascii(&text)))?;
    } else {
        report.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
        say(&told::told(&report, wish, &look::of_stdout()))?;
    }
    Ok(report.exit)
}

/// What was typed is the name of a cluster, in a file that is not there; or it was meant to be a connection string.
fn no_settings(said: &str) -> String {
    let is_name = settings::Name::new(said).is_some() && !said.contains('.');
    let shown = if is_name { format!("\"{said}\"") } else { "the argument (not shown)".to_owned() };
    format!(
        "{shown} is no connection string, which begins with postgresql://, and there is no settings file that could have a \
         cluster of that name; crdb-proxy setup makes one, --config names one, and --host does without"
    )
}

/// Where the daemon of these settings listens, if it runs.
async fn running(inputs: &Inputs) -> Vec<String> {
    let Ok(client) = settings::load_admin(inputs).map_err(drop).and_then(|found| Client::new(found).map_err(drop))
    else {
        return Vec::new();
    };
    match timeout(STATUS_LIMIT, client.status()).await {
        Ok(Ok(status)) => status.listeners.into_iter().flat_map(|listener| listener.addresses).collect(),
        _ => Vec::new(),
    }
}

fn failed(error: &CheckError) -> CommandError {
    match error {
        CheckError::NoCluster(wanted, names) => {
            let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
            CommandError::Said(2, format!("the settings have no cluster \"{wanted}\", but {}", names.join(", ")))
        }
        CheckError::Files(text, None) => CommandError::Said(2, text.clone()),
        CheckError::Files(text, Some(advice)) => {
            CommandError::Said(2, format!("{text}. Likely {}. {}", advice.cause, advice.fix))
        }
        CheckError::Internal(text) => CommandError::Said(1, text.clone()),
    }
}

const STATUS_LIMIT: Duration = Duration::from_secs(2);
