//! From a path to the folder that holds a file, step by step, so that each symbolic link on the way is seen.
//!
//! Each step goes out from an open folder: what was judged is what is used, whatever happens to names meanwhile.

use super::{Distrust, Kinds, OpenError, folders::Folders, is_trusted};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

/// Where a file is.
pub(super) struct Found {
    folder: OwnedFd,
    name: OsString,
    /// All on the way.
    pub(super) folders: Folders,
    pub(super) last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// A name in a folder.
    Named,
    /// An open descriptor of a process, by its link in /proc, which has no path to walk.
    HandedOver,
}

/// Follows a path up to its last step.
pub(super) fn walk(path: &Path) -> Result<Found, OpenError> {
    let path = std::path::absolute(path)?;
    let mut folder = openat(CWD, "/", FOLDER, Mode::empty())?;
    let mut place = PathBuf::from("/");
    // The next step is the last.
    let mut steps = steps(&path);
    let mut links: u32 = 0;
    let mut folders = Folders::default();
    while let Some(name) = steps.pop() {
        if name == "/" {
            (folder, place) = (openat(CWD, "/", FOLDER, Mode::empty())?, PathBuf::from("/"));
            continue;
        }
        // The way up is no name that anybody could replace.
        if name != ".." {
            folders.pass(&folder, &place)?;
        }
        let is_last = steps.is_empty();
        if !is_last || name == ".." {
            match openat(&folder, name.as_os_str(), FOLDER, Mode::empty()) {
                Ok(next) => {
                    folder = next;
                    if name == ".." {
                        _ = place.pop()
                    } else {
                        place.push(&name)
                    }
                    continue;
                }
                // What a link answers.
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(link) = Link::at(&folder, &name)? else {
            return if is_last {
                Ok(Found { folder, name, folders, last: Last::Named })
            } else {
                Err(Errno::NOTDIR.into())
            };
        };
        if !is_trusted(link.owner) {
            return Err(OpenError::Distrusted(Distrust::Link { link: place.join(&name), owner: link.owner }));
        }
        links = links.saturating_add(1);
        if links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        if !link.is_of_proc {
            steps.extend(self::steps(&link.target));
        } else if is_last {
            return Ok(Found { folder, name, folders, last: Last::HandedOver });
        } else {
            let followed = FOLDER.difference(OFlags::NOFOLLOW);
            folder = openat(&folder, name.as_os_str(), followed, Mode::empty())?;
            place.push(&name);
        }
    }
    // A path that ends in a folder.
    Ok(Found { folder, name: ".".into(), folders, last: Last::Named })
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_owned()).rev().collect()
}

impl Found {
    pub(super) fn is_regular(&self) -> Result<bool, OpenError> {
        let follow = match self.last {
            Last::Named => AtFlags::SYMLINK_NOFOLLOW,
            Last::HandedOver => AtFlags::empty(),
        };
        Ok(file_type(&statat(&self.folder, self.name.as_os_str(), follow)?) == FileType::RegularFile)
    }

    pub(super) fn open(&self, kinds: Kinds) -> Result<File, OpenError> {
        let flags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOCTTY);
        // A name that has become a link since is not followed.
        let flags = if self.last == Last::Named { flags.union(OFlags::NOFOLLOW) } else { flags };
        // Only a pipe that is wanted is waited for. Where none is, a second look must not decide: one may stand
        // there since the first.
        let waits = kinds == Kinds::Any && !self.is_regular()?;
        let flags = if waits { flags } else { flags.union(OFlags::NONBLOCK) };
        Ok(File::from(openat(&self.folder, self.name.as_os_str(), flags, Mode::empty())?))
    }

    /// Of what stands there now.
    pub(super) fn status(&self) -> Result<Stat, OpenError> {
        Ok(statat(&self.folder, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

struct Link {
    owner: u32,
    target: PathBuf,
    /// The kernel makes up where these lead, and their text may be no path at all.
    is_of_proc: bool,
}

impl Link {
    #[cfg(target_os = "linux")]
    fn at(folder: impl AsFd, name: &OsStr) -> Result<Option<Self>, OpenError> {
        use std::os::unix::ffi::OsStringExt;
        let flags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let link = openat(folder, name, flags, Mode::empty())?;
        let found = fstat(&link)?;
        if file_type(&found) != FileType::Symlink {
            return Ok(None);
        }
        // Of the very link that was looked at.
        let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        let is_of_proc = rustix::fs::fstatfs(&link)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
        Ok(Some(Self { owner: found.st_uid, target, is_of_proc }))
    }

    #[cfg(not(target_os = "linux"))]
    fn at(folder: impl AsFd, name: &OsStr) -> Result<Option<Self>, OpenError> {
        use std::os::unix::ffi::OsStringExt;
        let look = || statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let found = look()?;
        if file_type(&found) != FileType::Symlink {
            return Ok(None);
        }
        let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
        let again = look()?;
        if (again.st_ino, again.st_ctime, again.st_uid) != (found.st_ino, found.st_ctime, found.st_uid) {
            return Err(Errno::AGAIN.into());
        }
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        Ok(Some(Self { owner: found.st_uid, target, is_of_proc: false }))
    }
}

fn file_type(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

/// As many as Linux follows.
const LINKS_MAX: u32 = 40;

/// A folder that may be entered but perhaps not listed.
#[cfg(target_os = "linux")]
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
