//! Telling cheaply that a file has not changed.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime},
};

/// What tells one content of a file from the next, through renames and swapped symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Moves even where a copy keeps the times of its original.
    changed: (i64, i64),
    /// False when the file was read so soon after a write that another write could leave the same
    /// times: then it is read once more.
    settled: bool,
}

impl Stamp {
    /// Of a file whose content is read after this.
    pub(crate) fn now(metadata: &Metadata) -> Self {
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        Self { settled: age.is_some_and(|age| age > SETTLED_AFTER), ..Self::settled(metadata) }
    }

    /// As [`Stamp::now`] says it of a file that was not written lately.
    pub(crate) fn settled(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled: true,
        }
    }
}

/// Coarser than the times of any file system in use (FAT: two seconds).
const SETTLED_AFTER: Duration = Duration::from_secs(2);
