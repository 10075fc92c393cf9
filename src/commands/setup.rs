//! `setup`: from a cluster's name to a settings file, with what the Cloud API says and, at a terminal, a few
//! questions. Everything is fetched and checked before anything is written.

mod ask;
mod choice;
mod cluster;
mod outcome;
mod password;
#[cfg(test)]
mod tests;
mod text;
mod ways;
mod wishes;

use self::{choice::Choice, cluster::Found, outcome::Outcome, wishes::Wishes};
use super::{
    CommandError, block_on,
    ca::in_words,
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
    look_at(&wishes.file)
}

/// All that takes time, and writes nothing.
async fn prepare(wishes: &Wishes) -> Result<Outcome, CommandError> {
    let cloud = Cloud::from_env().map_err(in_words)?;
    let found = Found::ask(&cloud, &wishes.cluster).await?;
    say(&format!("{}{}", found.told(), found.ca.told()))?;
    let choice = Choice::settle(wishes, &found, questions::can_be_asked()).await?;
    Outcome::compare(wishes, &found, choice)
}

/// What comes last: whether the settings work. Signals end nothing by themselves here, as [`Interrupt`] has it.
fn look_at(file: &Path) -> Result<u8, CommandError> {
    say(&format!("next: crdb-proxy check --config {}\n", outcome::quoted(file)))?;
    Ok(0)
}
