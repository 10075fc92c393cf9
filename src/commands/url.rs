//! `url [LISTENER]`: the connection string by which an application reaches a listener.

use super::{CommandError, block_on, daemon_of, say};
use crate::{
    control::status::Listening,
    settings::{self, Inputs, Listener, Settings},
};
use std::net::SocketAddr;

/// Prints one for each listener, or for the one of this name.
///
/// # Errors
/// The settings break a rule, there is no such listener, or only the daemon knows its port and it does not answer.
pub fn url(inputs: &Inputs, name: Option<&str>) -> Result<u8, CommandError> {
    let settings = settings::load(inputs)?.settings;
    let is_meant = |listener: &&Listener| name.is_none_or(|name| listener.name.as_str() == name);
    let meant: Vec<_> = settings.listeners.iter().map(AsRef::as_ref).filter(is_meant).collect();
    if meant.is_empty() {
        return Err(CommandError::Said(2, unknown(&settings)));
    }
    let real = if meant.iter().any(|listener| listener.has_any_port()) { real_ports(inputs)? } else { Vec::new() };
    let mut text = String::new();
    for listener in meant {
        let port = real.iter().find(|(name, _)| name == listener.name.as_str()).map(|(_, port)| *port);
        let user = user_of(&settings, listener);
        let url = listener.connection_string(user, port).ok_or_else(|| CommandError::Said(1, portless(listener)))?;
        text += &format!("{url}\n");
    }
    say(&text)?;
    Ok(0)
}

fn user_of<'s>(settings: &'s Settings, listener: &Listener) -> &'s str {
    let cluster = settings.clusters.iter().find(|cluster| cluster.name == listener.cluster);
    cluster.map_or("", |cluster| &cluster.user)
}

/// Where the daemon's listeners really are.
fn real_ports(inputs: &Inputs) -> Result<Vec<(String, u16)>, CommandError> {
    let daemon = daemon_of(inputs)?;
    let status = block_on(async { Ok(daemon.status().await?) })?;
    let port = |address: &String| address.parse::<SocketAddr>().ok().map(|address| address.port());
    let of_listener = |listener: Listening| Some((listener.name, listener.addresses.iter().find_map(port)?));
    Ok(status.listeners.into_iter().filter_map(of_listener).collect())
}

fn unknown(settings: &Settings) -> String {
    let names: Vec<_> = settings.listeners.iter().map(|listener| format!("\"{}\"", listener.name)).collect();
    format!("there is no such listener, but there are: {}", names.join(", "))
}

fn portless(listener: &Listener) -> String {
    format!(
        "the settings leave the port of listener \"{}\" open (port 0), and the daemon does not serve one of this name; \
         is it the right daemon (--admin, --config)?",
        listener.name
    )
}
