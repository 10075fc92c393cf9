//! Other users of this machine: work that a thread does as one, so that what it opens is theirs.

use super::wire::Wire;
use rustix::{
    fs::{Gid, Uid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};
use std::{
    fs::Permissions,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    thread,
};
use tempfile::TempDir;

/// Whether tests may act as other users; says so on the screen where not.
pub(crate) fn can_be_others() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can act as other users");
    }
    is_root
}

/// Does `work` as another user, in a thread of its own that ends with it.
#[track_caller]
pub(crate) fn as_user<T: Send + 'static>(uid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let acting = thread::spawn(move || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(uid)).unwrap();
        set_thread_uid(Uid::from_raw(uid)).unwrap();
        work()
    });
    acting.join().unwrap()
}

/// A connection of another user.
#[track_caller]
pub(crate) fn connect_as(uid: u32, address: SocketAddr) -> Wire {
    as_user(uid, move || Wire::new(TcpStream::connect(address).unwrap()))
}

/// The same to a Unix socket.
#[track_caller]
pub(crate) fn connect_unix_as(uid: u32, path: &Path) -> Wire {
    let path = path.to_owned();
    as_user(uid, move || Wire::new(UnixStream::connect(path).unwrap()))
}

/// A folder that everybody may enter, and the path of a socket in it.
pub(crate) fn open_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::Builder::new().prefix("crdb-proxy-it-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join(".s.PGSQL.26257");
    (folder, path)
}
