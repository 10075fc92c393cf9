//! A private folder for the files that settings can name. Gone when dropped.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

/// A new folder among the temporary files, for this user alone.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it, under a name that nobody can have prepared.
    ///
    /// # Errors
    /// When it cannot be made, with its path.
    pub(super) fn new() -> io::Result<Self> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_unspecified| io::Error::other("no random bytes"))?;
        let path = std::env::temp_dir().join(format!("crdb-proxy-demo-{:016x}", u64::from_be_bytes(random)));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("the folder {} cannot be made: {error}", path.display()))
        })?;
        Ok(Self(path))
    }

    /// Writes a new file, mode 0600, and gives its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(bytes)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // Nothing can be done about it any more.
    }
}
