//! Unix sockets: a stale file is replaced, a live one is not, and the file goes with the socket.

use rustix::fs::{Access, FileType, Mode};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// The file of a bound socket; removed when dropped, unless another process has replaced it.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// Binds a socket at `path` with the permission bits `mode`.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    if has_stale(path)? {
        fs::remove_file(path)?;
    }
    // The mode is there from the first moment, and no path is followed to set it.
    let before = rustix::process::umask(Mode::from_raw_mode(!mode & 0o777));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let socket = bound?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path).ok() };
    Ok((socket, file))
}

/// Whether a socket could be bound at `path` now. Changes nothing there.
pub(super) fn rehearse(path: &Path) -> io::Result<()> {
    has_stale(path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether there is what a killed process left behind: a socket that nobody accepts on.
fn has_stale(path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let kind = FileType::from_raw_mode(found.mode());
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("there is something that is no socket ({kind:?})"),
        ));
    }
    match knock(path) {
        Ok(()) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        // A full backlog is a sign of life.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) => Err(error),
    }
}

/// Connects without waiting: a stopped process with a full backlog would be waited for without end.
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path).ok() == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_file_is_replaced_a_live_one_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.26257");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());

        let (_socket, file) = bind(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        assert_eq!(bind(&path, 0o600).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(file);
        assert!(!path.exists());

        fs::write(&path, "mine").unwrap();
        assert_eq!(bind(&path, 0o600).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_file_that_another_process_put_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.1");
        let (_socket, file) = bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();

        drop(file);

        assert!(path.exists());
    }
}
