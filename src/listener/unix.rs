//! Unix sockets: a stale file is replaced, a live one is not, and the file goes with the socket.

use crate::{
    settings::{Account, SocketRights},
    sys,
};
use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat};
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

/// Binds a socket at `path`, whose file has these rights before anybody can connect.
pub(super) fn bind(path: &Path, rights: &SocketRights) -> io::Result<(UnixListener, SocketFile)> {
    let (owner, group) = accounts(rights)?;
    let cleared = has_stale(path).and_then(|is_stale| if is_stale { fs::remove_file(path) } else { Ok(()) });
    cleared.map_err(|error| in_the_way(path, error))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let address = SockAddr::unix(path)?;
    // The mode is there from the first moment, and no path is followed to set it.
    let before = rustix::process::umask(Mode::from_raw_mode(!rights.mode & 0o777));
    let bound = socket.bind(&address);
    rustix::process::umask(before);
    bound?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path).ok() };
    if owner.is_some() || group.is_some() {
        hand_over(path, owner, group)?;
    }
    // Until here a client is refused by the kernel.
    socket.listen(super::BACKLOG)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// The numbers of a socket file's owner and group, where they are set.
pub(crate) fn accounts(rights: &SocketRights) -> io::Result<(Option<u32>, Option<u32>)> {
    let number = |account: &Option<Account>, look_up: fn(&str) -> io::Result<u32>| match account {
        None => Ok(None),
        Some(Account::Id(id)) => Ok(Some(*id)),
        Some(Account::Name(name)) => look_up(name).map(Some),
    };
    Ok((number(&rights.owner, sys::user_id)?, number(&rights.group, sys::group_id)?))
}

/// Gives the file another owner and group. Whoever may write to the folder could have put another file in its
/// place: no link is followed, and what is no socket of ours is left alone.
fn hand_over(path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket || found.st_uid != sys::own_uid() {
        return Err(io::Error::other("its file was replaced before its owner was set; who may write to its folder?"));
    }
    let set = |what, owner, group| {
        chownat(&file, "", owner, group, AtFlags::EMPTY_PATH).map_err(|error| match error {
            rustix::io::Errno::PERM => io::Error::other(format!(
                "its {what} cannot be set: root may set any, another user only a group that it is in"
            )),
            error => error.into(),
        })
    };
    // The group first: who has given the file away may no longer set it.
    group.map_or(Ok(()), |group| set("group", None, Some(Gid::from_raw(group))))?;
    owner.map_or(Ok(()), |owner| set("owner", Some(Uid::from_raw(owner)), None))
}

/// What is wrong with the folder of a socket: whoever may write to it can put a socket of their own there, and
/// be taken for this daemon.
pub(crate) fn folder_fault(path: &Path) -> Option<String> {
    let folder = path.parent()?;
    let found = fs::metadata(folder).ok()?;
    let (mode, owner) = (found.mode(), found.uid());
    let shown = folder.display();
    if mode & 0o022 != 0 {
        let shown_mode = format!("{:04o}", mode & 0o7777);
        let (when, what_to_do) = if mode & 0o1000 == 0 {
            ("", format!("chmod go-w {shown}, or use a folder of root's"))
        } else {
            (", while crdb-proxy is down,", "use a folder of root's or of crdb-proxy's own user".to_owned())
        };
        return Some(format!(
            "users other than its owner can write to the folder {shown} (mode {shown_mode}), and so{when} put a \
             socket of their own in this one's place and be taken for crdb-proxy; {what_to_do}"
        ));
    }
    (!sys::is_own_user(owner)).then(|| {
        format!(
            "the folder {shown} belongs to user ID {owner}, who can put a socket of their own in this one's place and \
             be taken for crdb-proxy; use a folder of root's or of crdb-proxy's own user"
        )
    })
}

/// Whether a socket could be bound at `path` now. Changes nothing there.
pub(super) fn rehearse(path: &Path) -> io::Result<()> {
    has_stale(path).map_err(|error| in_the_way(path, error))?;
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

/// Says whose file is in the way, where it is another user's.
fn in_the_way(path: &Path, error: io::Error) -> io::Error {
    // One that is no right is said by its words alone: what else is said about missing rights does not help here.
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => io::ErrorKind::Other,
        io::ErrorKind::AddrInUse => io::ErrorKind::AddrInUse,
        _ => return error,
    };
    let owner = fs::symlink_metadata(path).map(|found| found.uid());
    let Some(owner) = owner.ok().filter(|owner| *owner != sys::own_uid()) else { return error };
    let told = format!(
        "{error}: a socket of user ID {owner} is in the way there; have that user or root remove it, or use a folder \
         in which crdb-proxy's own user and root alone can put files"
    );
    io::Error::new(kind, told)
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

        let (_socket, file) = bind(&path, &SocketRights::of_mode(0o660)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        assert_eq!(bind(&path, &SocketRights::of_mode(0o600)).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(file);
        assert!(!path.exists());

        fs::write(&path, "mine").unwrap();
        assert_eq!(bind(&path, &SocketRights::of_mode(0o600)).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn what_could_not_be_set_is_named() {
        const OTHER: Option<u32> = Some(54_321);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.1");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let told = std::thread::spawn(move || {
            // As somebody who is not root, in this thread alone.
            let mut rights = rustix::thread::capabilities(None).unwrap();
            rights.effective.remove(rustix::thread::CapabilitySet::CHOWN);
            rustix::thread::set_capabilities(None, rights).unwrap();
            [(None, OTHER), (OTHER, None), (OTHER, OTHER)]
                .map(|(owner, group)| hand_over(&path, owner, group).unwrap_err().to_string())
        });

        let told = told.join().unwrap();

        let expected = ["its group cannot", "its owner cannot", "its group cannot"];
        assert!(told.iter().zip(expected).all(|(told, start)| told.starts_with(start)), "{told:?}");
    }

    #[tokio::test]
    async fn a_file_that_another_process_put_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.1");
        let (_socket, file) = bind(&path, &SocketRights::of_mode(0o600)).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();

        drop(file);

        assert!(path.exists());
    }
}
