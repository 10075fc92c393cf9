//! `setup`: from a cluster's name to a settings file, with what the Cloud API says and, at a terminal, a few
//! questions. Everything is fetched and checked before anything is written.

mod ask;
mod choice;
mod cluster;
mod outcome;
mod password;
mod places;
mod text;
mod ways;
mod wishes;

use self::{choice::Choice, cluster::Found, outcome::Outcome, wishes::Wishes};
use super::{
    CommandError, block_on,
    check::walk,
    note,
    questions::{self, Interrupt},
    say,
};
use crate::{
    check::Wish,
    cli::SetupFlags,
    cloud::Cloud,
    settings::{Flags, Inputs},
    upstream::World,
};
use std::path::Path;

/// Writes the settings of one cluster, and tries them out; the exit code is that of the trial.
///
/// # Errors
/// The Cloud API does not tell, the cluster is none that can be connected to, something is missing or wrong that
/// nobody can be asked for, or what is there would have to be replaced.
pub fn setup(flags: &SetupFlags, inputs: &Inputs, world: &World) -> Result<u8, CommandError> {
    let wishes = Wishes::read(flags, inputs)?;
    let outcome = block_on(async { Interrupt::new()?.or(prepare(&wishes), "stopped; nothing was written").await })?;
    outcome.write()?;
    look_at(flags, &wishes.file, inputs, world)
}

/// All that takes time, and writes nothing.
async fn prepare(wishes: &Wishes<'_>) -> Result<Outcome, CommandError> {
    let cloud = Cloud::from_env()?;
    let found = Found::ask(&cloud, &wishes.cluster).await?;
    say(&format!("{}{}", found.told(), found.ca.told()))?;
    let ca_file = places::ca_file(&wishes.file, found.name.as_str());
    if let Some(why) = places::clash(&wishes.file, Some(&ca_file), wishes.password.as_ref()) {
        return Err(CommandError::Said(2, why));
    }
    let can_ask = questions::can_be_asked();
    if can_ask && !wishes.force && wishes.file.exists() {
        let file = wishes.file.display();
        note(&format!("{file} is there already: what would change in it is shown, and only --force replaces it"));
    }
    let choice = Choice::settle(wishes, &found, can_ask).await?;
    Outcome::compare(wishes, &found, choice)
}

/// What comes last: whether the settings work. The files stay, whatever is found.
fn look_at(flags: &SetupFlags, file: &Path, inputs: &Inputs, world: &World) -> Result<u8, CommandError> {
    let config = format!(" --config {}", outcome::quoted(file));
    // What the daemon finds by itself needs no flag.
    let by_itself = if inputs.usual_files.iter().any(|usual| usual == file) { "" } else { config.as_str() };
    if flags.no_check {
        say(&format!("next: crdb-proxy check{config}\nthen: crdb-proxy{by_itself}\n"))?;
        return Ok(0);
    }
    say("\n")?;
    let written = Inputs::of_process(Flags { config: Some(file.to_owned()), ..Flags::default() });
    let exit = block_on(async {
        // A signal that came before ended what there was to end; from here on one ends the check alone.
        let mut interrupt = Interrupt::new()?;
        interrupt.or(walk(&written, &Wish::default(), false, world), "stopped; the files are written").await
    })?;
    match exit {
        0 => say(&format!("\nnext: crdb-proxy{by_itself}\n"))?,
        _ => say(&format!("\nthe files stay; mend what is said above, then: crdb-proxy check{config}\n"))?,
    }
    Ok(exit)
}

#[cfg(test)]
mod tests;
