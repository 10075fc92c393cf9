//! `url [LISTENER]`: the connection string by which an application reaches a listener.

use super::{CommandError, block_on, note, say};
use crate::{
    control::{
        Client, ControlError,
        status::{Listening, Status},
    },
    diagnostics::printable,
    settings::{self, FoundAdmin, Inputs, ListenAddress, Listener, Settings},
};
use std::{fs, path::Path};

/// Prints one for each listener, or for the one of this name: as the running daemon listens, which may be at passed
/// sockets or by settings that have changed since; where none answers, as the settings say.
///
/// # Errors
/// There is no such listener; the daemon does not tell; or none answers, and the settings break a rule or do not say
/// where it would listen.
pub fn url(inputs: &Inputs, name: Option<&str>) -> Result<u8, CommandError> {
    let found = settings::load_admin(inputs)?;
    let urls = match status(&found)? {
        Ok(status) => of_daemon(&status, name)?,
        Err(error @ (ControlError::Refused(_) | ControlError::Untold(_))) => return Err(error.into()),
        Err(error) => {
            let urls = match settings::load(inputs) {
                Ok(loaded) => of_settings(&loaded.settings, name, &error)?,
                Err(faults) if faults.is_nothing_given() => return Err(error.into()),
                Err(faults) => return Err(faults.into()),
            };
            note(&format!("{error}; what follows is what the settings say"));
            urls
        }
    };
    say(&urls.iter().map(|url| format!("{url}\n")).collect::<String>())?;
    Ok(0)
}

/// What the daemon of these settings says, if it is there.
fn status(found: &FoundAdmin) -> Result<Result<Status, ControlError>, CommandError> {
    let daemon = match Client::new(found.clone()) {
        Ok(daemon) => daemon,
        Err(error) => return Ok(Err(error)),
    };
    let status = block_on(async { Ok(daemon.status().await) })?;
    // Several may be running, and a file that leaves "admin" at the default speaks of one of them only.
    let is_ours = |status: &Status| {
        let theirs = status.config.file.as_deref().map(Path::new);
        found.by_file.as_deref().is_none_or(|ours| theirs.is_some_and(|theirs| is_same(ours, theirs)))
    };
    let another = || ControlError::Another { address: daemon.address().to_owned() };
    Ok(status.and_then(|status| if is_ours(&status) { Ok(status) } else { Err(another()) }))
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

fn of_daemon(status: &Status, name: Option<&str>) -> Result<Vec<String>, CommandError> {
    let is_meant = |listener: &&Listening| name.is_none_or(|name| listener.name == name);
    let meant: Vec<_> = status.listeners.iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(unknown(status.listeners.iter().map(|listener| listener.name.as_str())));
    }
    let url = |listener: &Listening| {
        let cluster = status.clusters.iter().find(|cluster| cluster.name == listener.cluster);
        let names = (cluster.map_or("", |cluster| cluster.user.as_str()), listener.database.as_str());
        let address = ListenAddress::of_sockets(&listener.addresses)?;
        settings::connection_string(&address, listener.tls == "require", names, None)
    };
    Ok(meant.into_iter().filter_map(url).collect())
}

/// What they say for a daemon that was not found, for this reason.
fn of_settings(settings: &Settings, name: Option<&str>, reason: &ControlError) -> Result<Vec<String>, CommandError> {
    let is_meant = |listener: &&Listener| name.is_none_or(|name| listener.name.as_str() == name);
    let meant: Vec<_> = settings.listeners.iter().map(AsRef::as_ref).filter(is_meant).collect();
    if meant.is_empty() {
        return Err(unknown(settings.listeners.iter().map(|listener| listener.name.as_str())));
    }
    let url = |listener: &Listener| {
        let cluster = settings.clusters.iter().find(|cluster| cluster.name == listener.cluster);
        let url = listener.connection_string(cluster.map_or("", |cluster| &cluster.user), None);
        url.ok_or_else(|| CommandError::Said(1, portless(listener, reason)))
    };
    meant.into_iter().map(url).collect()
}

fn unknown<'n>(names: impl Iterator<Item = &'n str>) -> CommandError {
    let names: Vec<_> = names.map(|name| format!("\"{}\"", printable(name))).collect();
    CommandError::Said(2, format!("there is no such listener, but there are: {}", names.join(", ")))
}

fn portless(listener: &Listener, reason: &ControlError) -> String {
    format!(
        "the settings leave the port of listener \"{}\" open (port 0), and no daemon says which it is: {reason}",
        listener.name
    )
}
