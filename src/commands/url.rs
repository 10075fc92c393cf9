//! `url [LISTENER] [--format …]`: how an application reaches a listener, in the words of its driver.

mod format;
mod quoting;

use self::format::Format;
use super::{CommandError, block_on, note, say};
use crate::{
    control::{
        Client, ControlError,
        status::{Listening, Status},
    },
    diagnostics::printable,
    settings::{self, AsksFor, ConnectionParameters, FoundAdmin, Inputs, ListenAddress, Listener, Settings, UserMode},
};
use std::{fs, path::Path};

/// How a listener is reached.
struct Way {
    listener: String,
    parameters: ConnectionParameters,
    /// The password that it asks for, as `/status` says it.
    asks_for: Option<String>,
    /// The user is the client's to choose.
    has_any_user: bool,
}

impl Way {
    /// What no format has a place for.
    fn remarks(&self) -> Vec<String> {
        let (listener, user) = (&self.listener, &self.parameters.user);
        let chooses = || {
            format!(
                "listener \"{listener}\": the client chooses the user by its name; \"{user}\" is the cluster's first"
            )
        };
        let what = match self.asks_for.as_deref() {
            Some(asked) if asked == AsksFor::LocalPassword.text() => Some("its own password (\"local_password\")"),
            Some(_) if self.has_any_user => Some("the password of the user, where that has credential = \"client\""),
            Some(_) => Some("the password of the user (credential = \"client\")"),
            None => None,
        };
        let asks = what.map(|what| format!("listener \"{listener}\" asks for {what}, which is never shown here"));
        self.has_any_user.then(chooses).into_iter().chain(asks).collect()
    }
}

/// Prints it for each listener, or for the one of this name: as the running daemon listens, which may be at passed
/// sockets or by settings that have changed since; where none answers, as the settings say.
///
/// # Errors
/// There is no such listener or format, or the format cannot say it; the daemon does not tell; or none answers, and the
/// settings break a rule or do not say where it would listen.
pub fn url(inputs: &Inputs, name: Option<&str>, format: Option<&str>) -> Result<u8, CommandError> {
    let format = format.map_or(Ok(Format::Url), |said| Format::named(said).ok_or_else(no_format))?;
    let found = settings::load_admin(inputs)?;
    let ways = match status(&found)? {
        Ok(status) => of_daemon(&status, name)?,
        Err(error @ (ControlError::Refused(_) | ControlError::Untold(_))) => return Err(error.into()),
        Err(error) => {
            let ways = match settings::load(inputs) {
                Ok(loaded) => of_settings(&loaded.settings, name, &error)?,
                Err(faults) if faults.is_nothing_given() => return Err(error.into()),
                Err(faults) => return Err(faults.into()),
            };
            note(&format!("{error}; what follows is what the settings say"));
            ways
        }
    };
    say(&blocks(&ways, format)?)?;
    ways.iter().flat_map(Way::remarks).for_each(|remark| note(&remark));
    Ok(0)
}

/// One block for each, under its name where there are several.
fn blocks(ways: &[Way], format: Format) -> Result<String, CommandError> {
    let mut blocks = Vec::new();
    let mut unsaid = Vec::new();
    for Way { listener, parameters, asks_for, .. } in ways {
        let name = printable(listener);
        match format.render(parameters, asks_for.is_some()) {
            Ok(text) if ways.len() > 1 => blocks.push(format!("# listener \"{name}\"\n{text}\n")),
            Ok(text) => blocks.push(format!("{text}\n")),
            Err(reason) => unsaid.push(format!("listener \"{name}\": {reason}")),
        }
    }
    if blocks.is_empty() && !unsaid.is_empty() {
        return Err(CommandError::Said(2, unsaid.join("\n")));
    }
    unsaid.iter().for_each(|reason| note(reason));
    Ok(blocks.join("\n"))
}

fn no_format() -> CommandError {
    let names: Vec<_> = Format::ALL.iter().map(|(name, _)| *name).collect();
    CommandError::Said(2, format!("flag --format: must be one of {}", names.join(", ")))
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

fn of_daemon(status: &Status, name: Option<&str>) -> Result<Vec<Way>, CommandError> {
    let is_meant = |listener: &&Listening| name.is_none_or(|name| listener.name == name);
    let meant: Vec<_> = status.listeners.iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(unknown_listener(status.listeners.iter().map(|listener| listener.name.as_str())));
    }
    let way = |listener: &Listening| {
        let cluster = status.clusters.iter().find(|cluster| cluster.name == listener.cluster);
        let of_cluster = || cluster.map_or("", |cluster| cluster.user.as_str());
        let names = (listener.user.as_deref().unwrap_or_else(of_cluster), listener.database.as_str());
        let address = ListenAddress::of_sockets(&listener.addresses)?;
        let parameters = ConnectionParameters::new(&address, listener.tls == "require", names, None)?;
        Some(Way {
            listener: listener.name.clone(),
            parameters,
            asks_for: listener.asks_for.clone(),
            has_any_user: listener.user_mode.as_deref() == Some(UserMode::Map.text()),
        })
    };
    Ok(meant.into_iter().filter_map(way).collect())
}

/// What they say for a daemon that was not found, for this reason.
fn of_settings(settings: &Settings, name: Option<&str>, reason: &ControlError) -> Result<Vec<Way>, CommandError> {
    let is_meant = |listener: &&Listener| name.is_none_or(|name| listener.name.as_str() == name);
    let meant: Vec<_> = settings.listeners.iter().map(AsRef::as_ref).filter(is_meant).collect();
    if meant.is_empty() {
        return Err(unknown_listener(settings.listeners.iter().map(|listener| listener.name.as_str())));
    }
    let way = |listener: &Listener| {
        let parameters = listener.connection_parameters(None);
        let parameters = parameters.ok_or_else(|| CommandError::Said(1, portless(listener, reason)))?;
        let cluster = settings.clusters.iter().find(|cluster| cluster.name == listener.cluster);
        let asks_for = cluster.and_then(|cluster| listener.asks_for(cluster));
        Ok(Way {
            listener: listener.name.to_string(),
            parameters,
            asks_for: asks_for.map(|asked| asked.text().to_owned()),
            has_any_user: listener.user.mode == UserMode::Map,
        })
    };
    meant.into_iter().map(way).collect()
}

/// There is no listener of the name that was said.
pub(super) fn unknown_listener<'n>(names: impl Iterator<Item = &'n str>) -> CommandError {
    let names: Vec<_> = names.map(|name| format!("\"{}\"", printable(name))).collect();
    CommandError::Said(2, format!("there is no such listener, but there are: {}", names.join(", ")))
}

fn portless(listener: &Listener, reason: &ControlError) -> String {
    format!(
        "the settings leave the port of listener \"{}\" open (port 0), and no daemon says which it is: {reason}",
        listener.name
    )
}
