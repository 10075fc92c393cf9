//! Reading a secret's file when it changed, and telling cheaply that it did not.

use super::{error::Fault, source::READ_MAX};
use crate::{
    stamp::Stamp,
    trusted_file::{self, Doubt, Kinds, OpenError},
};
use std::{io::Read, os::unix::fs::MetadataExt, path::Path, sync::Arc};
use zeroize::Zeroizing;

pub(super) struct Found {
    pub(super) text: Zeroizing<Vec<u8>>,
    pub(super) stamp: Stamp,
    pub(super) mode: u32,
    pub(super) doubts: Vec<Doubt>,
}

/// Reads the file unless it still is what `seen` says. Blocks, so it belongs off the event loop.
pub(super) fn read(path: &Path, seen: Option<Stamp>) -> Result<Option<Found>, Fault> {
    // Cheaper than to open. What shows as unchanged was judged when it was read: a new mode or owner is a change.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Fault::NotAFile);
    }
    if seen == Some(Stamp::settled(&metadata)) {
        return Ok(None);
    }
    // The metadata is that of what was opened, and of before it is read: a later write then shows as a change.
    let trusted_file::Opened { file, metadata, doubts } = trusted_file::open(path, Kinds::Regular)?;
    // With room to spare, so that the buffer never moves and leaves a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(READ_MAX.saturating_add(64)));
    let limit = u64::try_from(READ_MAX).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut text)?;
    Ok(Some(Found { text, stamp: Stamp::now(&metadata), mode: metadata.mode() & 0o7777, doubts }))
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(cause) => Self::Unreadable(Arc::new(cause)),
            OpenError::NotAFile => Self::NotAFile,
            OpenError::Distrusted(distrust) => Self::Distrusted(distrust),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_file_written_a_moment_ago_is_read_once_more_and_an_old_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        std::fs::write(&path, "one").unwrap();
        let young = read(&path, None).unwrap().unwrap().stamp;
        assert!(read(&path, Some(young)).unwrap().is_some());

        let file = File::options().append(true).open(&path).unwrap();
        let long_ago = SystemTime::now().checked_sub(Duration::from_secs(60)).unwrap();
        file.set_modified(long_ago).unwrap();
        let old = read(&path, None).unwrap().unwrap().stamp;

        assert!(read(&path, Some(old)).unwrap().is_none());
    }
}
