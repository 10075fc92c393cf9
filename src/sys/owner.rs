//! Which process listens at a port, as far as this user may know.

#[cfg(target_os = "linux")]
use super::peer::table_address;
#[cfg(target_os = "linux")]
use crate::diagnostics::printable;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::{fs, path::Path};

/// `NAME (PID)` of the process that listens there; `None` when nobody does, or this user may not look at it.
#[cfg(target_os = "linux")]
pub fn listening_process(address: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| inode_in(&fs::read_to_string(table).ok()?, address))?;
    let target = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let holds = |folder: &Path| {
        let descriptors = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
        descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| link.as_os_str() == target.as_str())
    };
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let mut folders = processes.filter(|entry| entry.file_name().to_str().is_some_and(is_process));
    let found = folders.find(|entry| holds(&entry.path()))?.path();
    let pid = found.file_name()?.to_str()?.to_owned();
    let name = fs::read(found.join("comm")).unwrap_or_default();
    Some(format!("{} ({pid})", printable(String::from_utf8_lossy(&name).trim())))
}

/// The same; this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn listening_process(_: SocketAddr) -> Option<String> {
    None
}

/// The socket that listens at a port, by the kernel's table (proc(5)): `sl local remote st … inode`.
#[cfg(target_os = "linux")]
fn inode_in(table: &str, wanted: SocketAddr) -> Option<String> {
    // Who listens at all addresses listens at this one, too.
    let is_meant =
        |local: SocketAddr| local.port() == wanted.port() && (local.ip() == wanted.ip() || local.ip().is_unspecified());
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let inode = fields.nth(5)?;
        (state == LISTENING && table_address(local).is_some_and(is_meant)).then(|| inode.to_owned())
    })
}

#[cfg(target_os = "linux")]
const LISTENING: &str = "0A";

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_listens_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        let owner = listening_process(address).unwrap();

        assert!(owner.ends_with(&format!("({})", std::process::id())), "{owner}");
        // Another address has another owner.
        assert_eq!(listening_process(SocketAddr::new([127, 0, 0, 9].into(), address.port())), None);
        drop(listener);
        assert_eq!(listening_process(address), None);
    }
}
