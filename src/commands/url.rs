//! `url [LISTENER]`: the connection string by which an application reaches a listener.

use super::{CommandError, block_on, daemon_of, say};
use crate::{
    control::status::{Listening, Status},
    diagnostics::printable,
    settings::{self, Inputs, ListenAddress, Listener, Settings},
};
use std::net::SocketAddr;

/// Prints one for each listener, or for the one of this name: from the settings, and from the running daemon where
/// they leave a port open or there are none.
///
/// # Errors
/// The settings break a rule, there is no such listener, or the daemon is needed and does not answer.
pub fn url(inputs: &Inputs, name: Option<&str>) -> Result<u8, CommandError> {
    let urls = match settings::load(inputs) {
        Ok(loaded) => of_settings(&loaded.settings, inputs, name)?,
        Err(faults) if faults.is_nothing_given() => of_daemon(&status(inputs)?, name)?,
        Err(faults) => return Err(faults.into()),
    };
    say(&urls.iter().map(|url| format!("{url}\n")).collect::<String>())?;
    Ok(0)
}

fn of_settings(settings: &Settings, inputs: &Inputs, name: Option<&str>) -> Result<Vec<String>, CommandError> {
    let is_meant = |listener: &&Listener| name.is_none_or(|name| listener.name.as_str() == name);
    let meant: Vec<_> = settings.listeners.iter().map(AsRef::as_ref).filter(is_meant).collect();
    if meant.is_empty() {
        return Err(unknown(settings.listeners.iter().map(|listener| listener.name.as_str())));
    }
    let status = meant.iter().any(|listener| listener.has_any_port()).then(|| status(inputs)).transpose()?;
    let url = |listener: &Listener| {
        let cluster = settings.clusters.iter().find(|cluster| cluster.name == listener.cluster);
        let port = status.as_ref().and_then(|status| real_port(status, listener.name.as_str()));
        let url = listener.connection_string(cluster.map_or("", |cluster| &cluster.user), port);
        url.ok_or_else(|| CommandError::Said(1, portless(listener)))
    };
    meant.into_iter().map(url).collect()
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

fn status(inputs: &Inputs) -> Result<Status, CommandError> {
    let daemon = daemon_of(inputs)?;
    block_on(async { Ok(daemon.status().await?) })
}

/// Where a listener really is.
fn real_port(status: &Status, name: &str) -> Option<u16> {
    let listener = status.listeners.iter().find(|listener| listener.name == name)?;
    let address = listener.addresses.iter().find_map(|address| address.parse::<SocketAddr>().ok())?;
    Some(address.port())
}

fn unknown<'n>(names: impl Iterator<Item = &'n str>) -> CommandError {
    let names: Vec<_> = names.map(|name| format!("\"{}\"", printable(name))).collect();
    CommandError::Said(2, format!("there is no such listener, but there are: {}", names.join(", ")))
}

fn portless(listener: &Listener) -> String {
    format!(
        "the settings leave the port of listener \"{}\" open (port 0), and the daemon does not serve one of this name; \
         is it the right daemon (--admin, --config)?",
        listener.name
    )
}
