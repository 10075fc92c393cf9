//! Opening a file that decides whom the daemon trusts: settings, secrets, CAs, certificates, keys.
//!
//! Owns the rule about who may be able to change such a file. It goes by what was opened, never by what a
//! path led to a moment before, and follows no symbolic link of somebody else. Does not read, and knows nothing
//! of what the file holds.

mod walk;

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
    /// It is reached by a symbolic link of theirs.
    Link {
        /// Where the link is.
        link: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is theirs, and [`Doubt::Owner`] is to be refused.
    Owner(Doubt),
}

/// How others could change a file, for which it is warned about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It belongs to another user. Common where a folder is mounted into a container.
    Owner {
        /// As it was named.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others can put another file in its place.
    Folder {
        /// The folder that holds it, links followed.
        folder: PathBuf,
        /// The folder's permission bits.
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
    if kinds == Kinds::Regular && !found.is_regular()? {
        return Err(OpenError::NotAFile);
    }
    let file = found.open()?;
    let metadata = file.metadata()?;
    if kinds == Kinds::Regular && !metadata.is_file() {
        // Swapped since it was looked at.
        return Err(OpenError::NotAFile);
    }
    let doubts = match found.last {
        Last::HandedOver => Vec::new(),
        Last::Named if metadata.is_file() => judge(path, &metadata, found.folder()?)?,
        Last::Named => Vec::new(),
    };
    Ok(Opened { file, metadata, doubts })
}

fn judge(path: &Path, metadata: &Metadata, (folder, folder_mode): (PathBuf, u32)) -> Result<Vec<Doubt>, OpenError> {
    let mode = metadata.mode() & PERMISSIONS;
    if mode & OTHERS_WRITE != 0 {
        return Err(OpenError::Distrusted(Distrust::Writable { path: path.to_owned(), mode }));
    }
    let mut doubts = Vec::new();
    if !is_trusted(metadata.uid()) {
        doubts.push(Doubt::Owner { path: path.to_owned(), owner: metadata.uid() });
    }
    let mode = folder_mode & PERMISSIONS;
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        doubts.push(Doubt::Folder { folder, mode });
    }
    Ok(doubts)
}

/// Whether this user could do anyhow whatever the file says.
fn is_trusted(owner: u32) -> bool {
    crate::sys::is_own_user(owner)
}

/// What of these doubts is a reason to refuse a file where the operator wants it strict.
pub fn refused(doubts: &[Doubt]) -> Option<Distrust> {
    doubts.iter().find(|doubt| matches!(doubt, Doubt::Owner { .. })).cloned().map(Distrust::Owner)
}

impl Distrust {
    /// Goes on after the file's name: what is wrong, what could happen, what to do.
    pub fn told(&self, stakes: Stakes) -> String {
        match self {
            Self::Writable { path, mode } => format!(
                "can be written by {} (mode {mode:04o}), who could {stakes}, so it is refused; take that right away: chmod go-w {}",
                who(*mode),
                path.display()
            ),
            Self::Link { link, owner } => format!(
                "is reached by the symbolic link {}, which belongs to user {owner}, who could {stakes}, so the link is not followed; \
                 make the link as root or as the daemon's user, or name the file itself",
                link.display()
            ),
            Self::Owner(doubt) => format!("{doubt}, which strict_secrets refuses"),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { path, owner } => write!(
                f,
                "belongs to user {owner}, who can change it; give it to root or to the daemon's user: chown root {}",
                path.display()
            ),
            Self::Folder { folder, mode } => {
                let (shown, who) = (folder.display(), who(*mode));
                write!(
                    f,
                    "lies in {shown}, where {who} can put another in its place (mode {mode:04o}); chmod go-w {shown}"
                )
            }
        }
    }
}

fn who(mode: u32) -> &'static str {
    if mode & EVERYBODY_WRITES == 0 { "its group" } else { "every user" }
}

impl fmt::Display for Stakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "run commands as the daemon's user or send its secrets elsewhere",
            Self::Secret => "put another secret there",
            Self::Ca => "have the daemon trust another server with its password",
            Self::Identity => "have the daemon show another certificate",
        })
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
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests;
