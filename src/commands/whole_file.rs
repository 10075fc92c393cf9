//! Files that a command leaves behind: each is there as a whole or as it was before, whatever happens half-way.

mod staged;

pub(super) use self::staged::{Instead, Put, Staged};

use super::CommandError;
use crate::settings::Inputs;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Component, Path, PathBuf},
};

/// Where a path leads that a flag or an answer names: from the working folder on, and a leading `~/` or `$HOME/` is
/// the user's own folder, which no shell may have put there.
pub(super) fn placed(path: &Path, inputs: &Inputs) -> PathBuf {
    let below = ["~", "$HOME"].iter().find_map(|home| path.strip_prefix(home).ok());
    match (below, &inputs.home) {
        (Some(below), Some(home)) => home.join(below),
        _ => inputs.working_folder.join(path),
    }
}

/// Where a file is or would be, symbolic links followed, also one that leads to nothing yet.
pub(super) fn target(path: &Path) -> PathBuf {
    let mut place = settled(path);
    for _ in 0..LINKS_MAX {
        let Ok(to) = fs::read_link(&place) else { break };
        // Where it is absolute, it stands alone.
        place = settled(&place.parent().unwrap_or(Path::new("/")).join(to));
    }
    place
}

/// Absolute and without `..`, which must not be taken away before a link to its left is followed.
fn settled(path: &Path) -> PathBuf {
    let mut settled = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => {
                settled.pop();
            }
            part => settled.push(part),
        }
        settled = fs::canonicalize(&settled).unwrap_or(settled);
    }
    settled
}

/// Whether both are one file, or would be.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    target(one) == target(other) || identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// What stands in a file's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// A file that holds this.
    Text(Vec<u8>),
}

/// Reads what stands in a file's place, up to [`BYTES_MAX`].
///
/// # Errors
/// Something that is no readable file of that size: it is never replaced.
pub(super) fn before(path: &Path) -> Result<Before, CommandError> {
    let refused = |why: String| CommandError::Said(2, format!("{} {why}", path.display()));
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Before::Nothing),
        Err(error) => return Err(refused(format!("cannot be looked at: {error}"))),
        // A pipe would block the open itself.
        Ok(metadata) if !metadata.is_file() => {
            return Err(refused("is not a regular file; name another place".to_owned()));
        }
        Ok(_) => {}
    }
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut text));
    match read {
        Err(error) => Err(refused(format!("cannot be read: {error}; who owns it?"))),
        Ok(length) if u64::try_from(length).is_ok_and(|length| length > BYTES_MAX) => {
            Err(refused("is over 1 MiB, so it is something else; name another place".to_owned()))
        }
        Ok(_) => Ok(Before::Text(text)),
    }
}

/// Puts a file in its place, in one step. Where a symbolic link leads to it, the link stays.
///
/// # Errors
/// The folder takes none, or it was to be new and is there; everything is as it was then.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32, instead: Instead) -> Result<(), CommandError> {
    Staged::new(path, bytes, mode, instead)?.put().map(|_| ())
}

/// Makes a folder, and those above it, that only this user may enter; one that is there stays as it is.
///
/// # Errors
/// The system's reason.
pub(super) fn make_folder(folder: &Path) -> Result<(), CommandError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| CommandError::Said(2, format!("the folder {} cannot be made: {error}", folder.display())))
}

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;
/// As much as a settings file and a CA file may have.
const BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_path_counts_from_the_working_folder_or_from_the_users_own() {
        let inputs = Inputs { working_folder: "/srv".into(), home: Some("/home/app".into()), ..Inputs::default() };
        let placed = |path: &str| placed(Path::new(path), &inputs);

        assert_eq!(placed("a/b"), Path::new("/srv/a/b"));
        assert_eq!(placed("/a"), Path::new("/a"));
        assert_eq!(placed("~/a"), Path::new("/home/app/a"));
        assert_eq!(placed("$HOME/a"), Path::new("/home/app/a"));
        assert_eq!(placed("~other/a"), Path::new("/srv/~other/a"));
    }

    #[test]
    fn what_is_no_file_of_reasonable_size_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        fs::write(&large, vec![b'x'; 1024 * 1024 + 1]).unwrap();

        assert!(before(folder.path()).unwrap_err().to_string().contains("is not a regular file"));
        assert!(before(&large).unwrap_err().to_string().contains("is over 1 MiB"));
        assert_eq!(before(&folder.path().join("none")).unwrap(), Before::Nothing);
    }

    #[test]
    fn a_new_folder_is_this_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");

        make_folder(&inner).unwrap();
        make_folder(&inner).unwrap();

        assert_eq!((mode(&inner), mode(&folder.path().join("a"))), (0o700, 0o700));
    }
}
