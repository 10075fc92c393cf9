//! Opening a file that decides whom the daemon trusts: settings, secrets, CAs, certificates, keys.
//!
//! Owns the rule about who may be able to change such a file. It goes by what was opened, never by what a
//! path led to a moment before, and follows no symbolic link of somebody else. Does not read, and knows nothing
//! of what the file holds.

mod folders;
mod told;
mod walk;

use folders::Folders;
use std::{
    error::Error,
    fmt,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use walk::{Last, walk};

/// A file, open for reading.
#[derive(Debug)]
pub struct Opened {
    /// What was opened.
    pub file: File,
    /// Of what was opened.
    pub metadata: Metadata,
    /// What the operator should look at although it works.
    pub doubts: Vec<Doubt>,
}

/// What may stand at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// A regular file; nothing else is opened, since the open of a pipe would block.
    Regular,
    /// Whatever can be opened, such as a pipe that the shell put there. The rule is about regular files.
    Any,
}

/// What whoever can change a file could do by it: the end of a sentence that begins with "who could".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stakes {
    /// Of the settings.
    Settings,
    /// Of a secret.
    Secret,
    /// Of a program that the daemon runs.
    Program,
    /// Of a CA.
    Ca,
    /// Of a certificate or its key.
    Identity,
}

/// Why there is no open file.
#[derive(Debug)]
pub enum OpenError {
    /// The system's reason.
    Io(io::Error),
    /// Something else than a regular file stands there.
    NotAFile,
    /// Others could change it.
    Distrusted(Distrust),
}

/// How others than root and the daemon's user could change a file, for which it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// Its mode lets them.
    Writable {
        /// As it was named.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// The mode of a folder on the way to it lets everybody put another in its place.
    Folder {
        /// The folder, links followed.
        folder: PathBuf,
        /// The folder's permission bits.
        mode: u32,
    },
    /// It is reached by a symbolic link of theirs.
    Link {
        /// Where the link is.
        link: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// There is a doubt, and doubts are to be refused.
    Doubted(Doubt),
    /// It has become theirs since it was read last.
    Since(Doubt),
}

/// How others could change a file, or know a key, for which it is warned about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It belongs to another user. Common where a folder is mounted into a container.
    Owner {
        /// As it was named.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The group of a folder on the way to it can put another file in its place.
    Folder {
        /// The folder, links followed.
        folder: PathBuf,
        /// The folder's permission bits.
        mode: u32,
    },
    /// A folder on the way to it belongs to another user.
    FolderOwner {
        /// The folder, links followed.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others can read what nobody else should know.
    Readable {
        /// As it was named.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
}

/// Opens the file for reading, unless others could have written what it says.
///
/// A descriptor that the daemon was started with (`/dev/stdin`, `/dev/fd/3`) was handed over by whoever starts
/// it, and is taken as it is. Blocks, on a pipe until it has a writer.
///
/// # Errors
/// The system's reason, something that is not of these kinds, or a file that others could change.
pub fn open(path: &Path, kinds: Kinds) -> Result<Opened, OpenError> {
    let found = walk(path)?;
    // A device does something when it is merely opened.
    if kinds == Kinds::Regular && !found.is_regular()? {
        return Err(OpenError::NotAFile);
    }
    let file = found.open(kinds)?;
    let metadata = file.metadata()?;
    if kinds == Kinds::Regular && !metadata.is_file() {
        // Swapped since it was looked at.
        return Err(OpenError::NotAFile);
    }
    let is_judged = found.last == Last::Named && metadata.is_file();
    let doubts = if is_judged { judge(path, metadata.mode(), metadata.uid(), found.folders)? } else { Vec::new() };
    Ok(Opened { file, metadata, doubts })
}

/// Judges a program that is to be run, which its user may not be allowed to read.
///
/// # Errors
/// As [`open`]'s.
pub fn look_at_program(path: &Path) -> Result<Vec<Doubt>, OpenError> {
    let found = walk(path)?;
    if found.last == Last::HandedOver {
        return Ok(Vec::new());
    }
    let status = found.status()?;
    judge(path, status.st_mode, status.st_uid, found.folders)
}

fn judge(path: &Path, mode: u32, owner: u32, folders: Folders) -> Result<Vec<Doubt>, OpenError> {
    let mode = mode & PERMISSIONS;
    if mode & OTHERS_WRITE != 0 {
        return Err(OpenError::Distrusted(Distrust::Writable { path: path.to_owned(), mode }));
    }
    let of_folders = folders.judge()?;
    let own = (!is_trusted(owner)).then(|| Doubt::Owner { path: path.to_owned(), owner });
    Ok(own.into_iter().chain(of_folders).collect())
}

/// Whether others can read what nobody else should know.
pub fn exposed(path: &Path, mode: u32) -> Option<Doubt> {
    let mode = mode & PERMISSIONS;
    (mode & OTHERS_READ != 0).then(|| Doubt::Readable { path: path.to_owned(), mode })
}

/// Whether this user could do anyhow whatever the file says.
fn is_trusted(owner: u32) -> bool {
    crate::sys::is_own_user(owner)
}

/// What of these doubts is a reason to refuse a file where the operator wants it strict: any.
pub fn refused(doubts: &[Doubt]) -> Option<Distrust> {
    doubts.first().cloned().map(Distrust::Doubted)
}

/// What of these doubts is a reason not to read a file again that had only `known` ones: somebody else has got it.
pub fn refused_since(known: &[Doubt], doubts: &[Doubt]) -> Option<Distrust> {
    let is_new = |doubt: &&Doubt| doubt.is_about_owner() && !known.contains(doubt);
    doubts.iter().find(is_new).cloned().map(Distrust::Since)
}

impl Doubt {
    fn is_about_owner(&self) -> bool {
        matches!(self, Self::Owner { .. } | Self::FolderOwner { .. })
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for OpenError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io(_) => "it cannot be opened",
            Self::NotAFile => "it is not a regular file",
            Self::Distrusted(_) => "others could change it",
        })
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if let Self::Io(error) = self { Some(error) } else { None }
    }
}

const PERMISSIONS: u32 = 0o7777;
const OTHERS_WRITE: u32 = 0o022;
/// Of a secret.
pub const OTHERS_READ: u32 = 0o044;
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests;
