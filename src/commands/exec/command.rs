//! The command, and what it is given of our environment: the way to the daemon, and none of its secrets.

use super::CommandError;
use crate::{
    cli::ExecOrder,
    commands::{environment, url::unknown_listener},
    daemon::Control,
    settings::{Settings, secret_variables},
};
use std::{env, ffi::OsStr, io, os::unix::ffi::OsStrExt, process::Command};

/// Whether there is the listener that it is to be led to.
///
/// # Errors
/// There is none of this name.
pub(super) fn check_listener(settings: &Settings, order: &ExecOrder) -> Result<(), CommandError> {
    let names = || settings.listeners.iter().map(|listener| listener.name.as_str());
    match order.listener.as_deref() {
        Some(meant) if names().all(|name| name != meant) => Err(unknown_listener(names())),
        _ => Ok(()),
    }
}

/// The command with its environment, for a daemon that has bound its sockets.
///
/// # Errors
/// There is no way to it that variables could hold.
pub(super) fn command(settings: &Settings, order: &ExecOrder, control: &Control) -> Result<Command, CommandError> {
    let no_way = |reason| CommandError::Said(1, format!("the command cannot be told where the daemon is: {reason}"));
    let parameters = control.connection_parameters(order.listener.as_deref());
    let parameters = parameters.ok_or_else(|| no_way("the listener has no address".to_owned()))?;
    let (program, arguments) = order.words.split_first().ok_or_else(|| no_way("there is no command".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in env::vars_os() {
        if is_withheld(&name, settings, order) {
            command.env_remove(name);
        }
    }
    command.envs(environment::variables(&parameters).map_err(no_way)?);
    Ok(command)
}

/// What is about this daemon, its secrets, and what would lead the command elsewhere.
fn is_withheld(name: &OsStr, settings: &Settings, order: &ExecOrder) -> bool {
    // Where the listener asks for a password, it is the command that needs to know one.
    let is_password = name == "PGPASSWORD" && !asks_for_password(settings, order);
    is_password
        || name.as_bytes().starts_with(OURS)
        || environment::MISLEADING.iter().any(|misleading| name == *misleading)
        || secret_variables(settings).iter().any(|secret| name == *secret)
}

fn asks_for_password(settings: &Settings, order: &ExecOrder) -> bool {
    let is_meant = |name: &str| order.listener.as_deref().is_none_or(|meant| meant == name);
    let meant = settings.listeners.iter().find(|listener| is_meant(listener.name.as_str()));
    meant.is_some_and(|listener| {
        let cluster = settings.clusters.iter().find(|cluster| cluster.name == listener.cluster);
        cluster.is_some_and(|cluster| listener.asks_for(cluster).is_some())
    })
}

/// Why it was not run, with the exit code that a shell would give. What does not look like the name of a program may be
/// something else that was put in its place, and is not repeated.
pub(super) fn unstartable(program: &OsStr, error: &io::Error) -> CommandError {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(byte);
    let shown = match program.to_str() {
        Some(name) if name.bytes().all(|byte| is_plain(&byte)) => format!("`{name}`"),
        _ => "(name not shown)".to_owned(),
    };
    let is_path = program.as_bytes().contains(&b'/');
    match error.kind() {
        io::ErrorKind::NotFound if is_path => CommandError::Said(
            NOT_FOUND,
            format!("the command {shown} is not there, or the program that its first line names is not"),
        ),
        io::ErrorKind::NotFound => {
            CommandError::Said(NOT_FOUND, format!("the command {shown} is in no folder of PATH"))
        }
        _ => CommandError::Said(NOT_RUNNABLE, format!("the command {shown} cannot be run: {error}")),
    }
}

const OURS: &[u8] = b"CRDB_PROXY_";
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
