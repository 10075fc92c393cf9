//! This machine: whether listeners' addresses are free, and where else CA files lie.

use super::{Advice, advice};
use crate::{
    settings::{ListenAddress, Listener, SecretSource},
    sys, trusted_file,
};
use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

/// What stands in the way of a listener, unless it is the daemon itself, which says that it listens at `running`.
pub(super) fn look(listener: &Listener, running: &[String]) -> Option<Advice> {
    let taken = match &listener.address {
        ListenAddress::Localhost(port) => {
            let families = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            families.into_iter().map(|address| SocketAddr::new(address, *port)).find(is_taken)?
        }
        ListenAddress::Tcp(address) => Some(*address).filter(is_taken)?,
        ListenAddress::Unix(path) => return of_socket(listener, path, running),
    };
    if running.iter().any(|address| *address == taken.to_string()) {
        return None;
    }
    let owner = sys::listening_process(taken);
    let by = owner.as_deref().map_or("another process, of another user".to_owned(), |owner| format!("process {owner}"));
    Some(Advice::new(
        "port_taken",
        format!("{taken}, where listener \"{}\" is to listen, is taken by {by}", listener.name),
        "a local CockroachDB, another proxy, or a crdb-proxy that is run with other settings",
        "stop it, or give the listener another port (--listen localhost:PORT)",
    ))
}

fn is_taken(address: &SocketAddr) -> bool {
    // Port 0 is never taken; a family that this machine has not is nobody's.
    TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn of_socket(listener: &Listener, path: &Path, running: &[String]) -> Option<Advice> {
    let is_ours = running.iter().any(|address| Path::new(address.trim_start_matches("unix:")) == path);
    // One that nobody listens at is replaced at the start.
    if is_ours || UnixStream::connect(path).is_err() {
        return None;
    }
    Some(Advice::new(
        "port_taken",
        format!("{}, where listener \"{}\" is to listen, is taken by another process", path.display(), listener.name),
        "a local PostgreSQL, another proxy, or a crdb-proxy that is run with other settings",
        "stop it, or give the listener another folder or port",
    ))
}

/// A password file that others can read, by the rule of the daemon. A systemd credential's mode shows its ACL, and is not
/// looked at.
pub(super) fn exposed(source: &SecretSource) -> Option<Advice> {
    let SecretSource::File(file) = source else { return None };
    let mode = file.metadata().ok()?.permissions().mode() & 0o7777;
    trusted_file::exposed(file, mode).map(|_| advice::secret_exposed(file, mode))
}

/// Files that may be the CA that was not found: beside it, and where the Cloud Console's command puts it.
pub(super) fn other_cas(missing: &Path) -> Vec<PathBuf> {
    let documented = std::env::var_os("HOME").map(|home| Path::new(&home).join("Library/CockroachCloud/certs"));
    let folders = missing.parent().map(Path::to_owned).into_iter().chain(documented);
    let files = folders.filter_map(|folder| folder.read_dir().ok()).flat_map(|files| files.take(ENTRIES_MAX).flatten());
    let is_ca = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with("-ca.crt") || name == "ca.crt" || name == "root.crt"
    };
    files.map(|entry| entry.path()).filter(is_ca).take(CANDIDATES_MAX).collect()
}

const ENTRIES_MAX: usize = 1000;
const CANDIDATES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_exposed_by_the_rule_of_the_daemon_and_what_others_can_write_is_not_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        std::fs::write(&path, "x").unwrap();

        let told = [0o640, 0o604, 0o622, 0o611, 0o600].map(|mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            exposed(&SecretSource::File(path.clone())).is_some()
        });

        assert_eq!(told, [true, true, false, false, false]);
    }
}
