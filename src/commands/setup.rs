//! `setup`: from a cluster's name to a settings file, with what the Cloud API says and, at a terminal, a few
//! questions. Everything is fetched and checked before anything is written.

mod ask;
mod choice;
mod cluster;
mod outcome;
mod password;
mod text;
mod ways;
mod wishes;

use self::{choice::Choice, cluster::Found, outcome::Outcome, wishes::Wishes};
use super::{
    CommandError, block_on, note,
    questions::{self, Interrupt},
    say,
};
use crate::{cli::SetupFlags, cloud::Cloud, settings::Inputs};
use std::path::Path;

/// Writes the settings of one cluster, and ends with what to do next.
///
/// # Errors
/// The Cloud API does not tell, the cluster is none that can be connected to, something is missing or wrong that
/// nobody can be asked for, or what is there would have to be replaced.
pub fn setup(flags: &SetupFlags, inputs: &Inputs) -> Result<u8, CommandError> {
    let wishes = Wishes::read(flags, inputs)?;
    let outcome = block_on(async { Interrupt::new()?.or(prepare(&wishes)).await })?;
    outcome.write()?;
    look_at(&wishes.file, inputs.usual_files.contains(&wishes.file))
}

/// All that takes time, and writes nothing.
async fn prepare(wishes: &Wishes<'_>) -> Result<Outcome, CommandError> {
    let cloud = Cloud::from_env()?;
    let found = Found::ask(&cloud, &wishes.cluster).await?;
    say(&format!("{}{}", found.told(), found.ca.told()))?;
    let can_ask = questions::can_be_asked();
    if can_ask && !wishes.force && wishes.file.exists() {
        let file = wishes.file.display();
        note(&format!("{file} is there already: what would change in it is shown, and only --force replaces it"));
    }
    let choice = Choice::settle(wishes, &found, can_ask).await?;
    Outcome::compare(wishes, &found, choice)
}

/// What comes last: whether the settings work. Signals end nothing by themselves here, as [`Interrupt`] has it.
fn look_at(file: &Path, is_usual: bool) -> Result<u8, CommandError> {
    let config = format!(" --config {}", outcome::quoted(file));
    // What the daemon finds by itself needs no flag.
    let by_itself = if is_usual { "" } else { config.as_str() };
    say(&format!("next: crdb-proxy check{config}\nthen: crdb-proxy{by_itself}\n"))?;
    Ok(0)
}

#[cfg(test)]
mod tests;
