//! The folders on the way to a file. Whoever can write one of them can put something else in the way, however deep
//! below it the file lies.

use super::{Distrust, Doubt, EVERYBODY_WRITES, OTHERS_WRITE, OpenError, PERMISSIONS, STICKY, is_trusted};
use rustix::fs::fstat;
use std::{os::fd::AsFd, path::Path};

/// What is wrong with those that were passed, of each kind the outermost: it says what is worst.
#[derive(Debug, Default)]
pub(super) struct Folders {
    open: Option<Distrust>,
    doubt: Option<Doubt>,
}

impl Folders {
    /// Passes a folder by a name in it.
    pub(super) fn pass(&mut self, folder: impl AsFd, place: &Path) -> Result<(), OpenError> {
        let found = fstat(folder)?;
        let (mode, folder) = (found.st_mode & PERMISSIONS, || place.to_owned());
        // In a sticky one only the owner of a name can replace it, and the owner of the folder.
        let writers = if mode & STICKY == 0 { mode & OTHERS_WRITE } else { 0 };
        if writers & EVERYBODY_WRITES != 0 {
            self.open.get_or_insert_with(|| Distrust::Folder { folder: folder(), mode });
        } else if !is_trusted(found.st_uid) {
            self.doubt.get_or_insert_with(|| Doubt::FolderOwner { folder: folder(), owner: found.st_uid });
        } else if writers != 0 {
            self.doubt.get_or_insert_with(|| Doubt::Folder { folder: folder(), mode });
        }
        Ok(())
    }

    /// What they mean for a regular file that they lead to.
    pub(super) fn judge(self) -> Result<Option<Doubt>, OpenError> {
        self.open.map_or(Ok(self.doubt), |open| Err(OpenError::Distrusted(open)))
    }
}
