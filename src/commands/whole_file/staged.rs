//! A file that is complete on disk before it gets its name, so that a full disk or a kill leaves no half of it, and
//! mostly not even a temporary name.

use super::{super::CommandError, target};
use crate::commands::note;
use rustix::fs::{Gid, Uid, fchown};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What it takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Instead {
    /// Nothing: whatever is there by then stays.
    OfNothing,
    /// What is there, whose owner, group and mode it takes over.
    OfOld,
}

/// Written, but not in its place; dropped, it is gone.
pub(in crate::commands) struct Staged {
    /// As it is told.
    path: PathBuf,
    place: PathBuf,
    instead: Instead,
    file: File,
    /// Its name until then, where the file system has no files without one.
    temporary: Option<PathBuf>,
    mode: u32,
}

/// In its place.
pub(in crate::commands) struct Put {
    pub(in crate::commands) mode: u32,
    place: PathBuf,
    identity: Option<(u64, u64)>,
    instead: Instead,
}

impl Staged {
    /// Writes all of it. The mode is that of a new file.
    ///
    /// # Errors
    /// The folder or the disk takes none.
    pub(in crate::commands) fn new(
        path: &Path,
        bytes: &[u8],
        mode: u32,
        instead: Instead,
    ) -> Result<Self, CommandError> {
        let refused = |error: io::Error| cannot_be_written(path, &error);
        let place = target(path);
        let (file, temporary) =
            nameless(&place).map_or_else(|| named(&place), |file| Ok((file, None))).map_err(refused)?;
        let mut staged = Self { path: path.to_owned(), place, instead, file, temporary, mode };
        staged.fill(bytes).map_err(refused)?;
        Ok(staged)
    }

    fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        if self.instead == Instead::OfOld
            && let Ok(old) = fs::metadata(&self.place)
        {
            let (mode, lost) = take_over(&self.file, &old, self.mode)?;
            self.mode = mode;
            if let Some(lost) = lost {
                note(&format!("{} {lost}", self.path.display()));
            }
        }
        // Whatever the umask says; and after the owner, who may not have what the old one had.
        self.file.set_permissions(Permissions::from_mode(self.mode))?;
        self.file.sync_all()
    }

    /// Gives it its name, in one step.
    ///
    /// # Errors
    /// It was to be new, and something is there.
    pub(in crate::commands) fn put(mut self) -> Result<Put, CommandError> {
        let done = match self.instead {
            Instead::OfNothing => self.name_new(),
            Instead::OfOld => self.rename_over(),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let path = self.path.display();
                return Err(CommandError::Said(
                    2,
                    format!("{path} came to be meanwhile, so it was left as it is; look who made it, then try again"),
                ));
            }
            done => done.map_err(|error| cannot_be_written(&self.path, &error))?,
        }
        // So that the name survives a power cut too; not every file system can.
        let _ = self.place.parent().map(|folder| File::open(folder).and_then(|folder| folder.sync_all()));
        let identity = self.file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        Ok(Put { mode: self.mode, place: self.place.clone(), identity, instead: self.instead })
    }

    fn name_new(&self) -> io::Result<()> {
        let Some(temporary) = &self.temporary else { return link(&self.file, &self.place) };
        match fs::hard_link(temporary, &self.place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => rename_new(temporary, &self.place, error),
            done => done,
        }
    }

    fn rename_over(&mut self) -> io::Result<()> {
        if self.temporary.is_none() {
            // For a moment only: a rename needs a name.
            let temporary = beside(&self.place)?;
            link(&self.file, &temporary)?;
            self.temporary = Some(temporary);
        }
        self.temporary.as_ref().map_or(Ok(()), |temporary| fs::rename(temporary, &self.place))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // A rename has taken it away.
            let _ = fs::remove_file(temporary);
        }
    }
}

impl Put {
    /// Removes it where it was new; nothing that others have put there since.
    pub(in crate::commands) fn take_back(&self) {
        let is_there = fs::symlink_metadata(&self.place).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if self.instead == Instead::OfNothing && self.identity.is_some() && is_there == self.identity {
            let _ = fs::remove_file(&self.place);
        }
    }
}

/// Owner, group and mode of the old file, as far as this process may give them; and what it may not.
fn take_over(file: &File, old: &Metadata, mode: u32) -> io::Result<(u32, Option<String>)> {
    let (new, old_mode) = (file.metadata()?, old.mode() & 0o777);
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok((old_mode, None));
    }
    let (owner, group) = (Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
    if fchown(file, Some(owner), Some(group)).is_ok() {
        return Ok((old_mode, None));
    }
    let is_group_kept = new.gid() == old.gid() || fchown(file, None, Some(group)).is_ok();
    // What one group might read, another might not.
    let mode = if is_group_kept { old_mode } else { mode };
    let lost = format!(
        "belonged to user {} and group {}, which this process may not give, and belongs to user {} now with mode \
         {mode:04o}; can the daemon's user read it?",
        old.uid(),
        old.gid(),
        new.uid()
    );
    Ok((mode, Some(lost)))
}

/// A file that is gone when this process is, until it is given a name. Not every file system has such.
#[cfg(target_os = "linux")]
fn nameless(place: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(place.parent()?, flags, Mode::RUSR | Mode::WUSR).ok()?);
    // By which it gets its name.
    fs::metadata(of_descriptor(&file)).is_ok().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_place: &Path) -> Option<File> {
    None
}

#[cfg(target_os = "linux")]
fn link(file: &File, place: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, of_descriptor(file), CWD, place, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _place: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn of_descriptor(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn named(place: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let temporary = beside(place)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    Ok((file, Some(temporary)))
}

/// Where the file system has no second names.
#[cfg(target_os = "linux")]
fn rename_new(temporary: &Path, place: &Path, _no_link: io::Error) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, temporary, CWD, place, RenameFlags::NOREPLACE)?)
}

#[cfg(not(target_os = "linux"))]
fn rename_new(_temporary: &Path, _place: &Path, no_link: io::Error) -> io::Result<()> {
    Err(no_link)
}

/// A name in the same folder, since neither a link nor a rename crosses file systems.
fn beside(place: &Path) -> io::Result<PathBuf> {
    let name = place.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    Ok(place.with_file_name(format!(".{name}.{:08x}.new", fastrand::u32(..))))
}

fn cannot_be_written(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Said(2, format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};
    use tempfile::{TempDir, tempdir};

    fn put(path: &Path, text: &str, mode: u32, instead: Instead) -> Result<Put, String> {
        Staged::new(path, text.as_bytes(), mode, instead).and_then(Staged::put).map_err(|error| error.to_string())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_file_has_its_mode_and_a_later_one_the_mode_of_the_old() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("new");

        put(&path, "one", 0o640, Instead::OfNothing).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("one", 0o640));

        assert_eq!(put(&path, "two", 0o600, Instead::OfOld).unwrap().mode, 0o640);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("two", 0o640));
        assert_eq!(names(&folder), ["new"]);
    }

    #[test]
    fn what_came_to_be_meanwhile_stays() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("new");
        let staged = Staged::new(&path, b"mine", 0o600, Instead::OfNothing).unwrap();
        assert_eq!(names(&folder).len(), usize::from(staged.temporary.is_some()), "a kill would leave it");
        fs::write(&path, "theirs").unwrap();

        let told = staged.put().err().unwrap().to_string();

        assert!(told.contains("new came to be meanwhile, so it was left as it is"), "{told}");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(&folder).len()), ("theirs", 1));
    }

    #[test]
    fn where_only_names_can_be_had_nothing_is_replaced_or_left_either() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("new");
        let staged = |instead| {
            let (file, temporary) = named(&path).unwrap();
            let mut staged = Staged { path: path.clone(), place: path.clone(), instead, file, temporary, mode: 0o600 };
            staged.fill(b"mine").unwrap();
            staged
        };

        staged(Instead::OfNothing).put().unwrap();
        assert!(staged(Instead::OfNothing).put().err().unwrap().to_string().contains("came to be meanwhile"));
        staged(Instead::OfOld).put().unwrap();
        drop(staged(Instead::OfOld));

        assert_eq!(names(&folder), ["new"]);
    }

    #[test]
    fn a_link_stays_a_link_also_one_that_leads_to_nothing_yet() {
        let folder = tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        symlink("real", &link).unwrap();

        for (text, instead) in [("first", Instead::OfNothing), ("second", Instead::OfOld)] {
            put(&link, text, 0o600, instead).unwrap();

            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
        }
    }

    #[test]
    fn where_nothing_can_be_written_nothing_changes() {
        let folder = tempdir().unwrap();
        fs::create_dir(folder.path().join("taken")).unwrap();

        let told = put(&folder.path().join("taken"), "text", 0o600, Instead::OfOld).err().unwrap();
        let gone = put(&folder.path().join("no/file"), "text", 0o600, Instead::OfNothing).err().unwrap();

        assert!(told.contains("taken cannot be written: "), "{told}");
        assert!(gone.contains("No such file or directory"), "{gone}");
        assert_eq!(names(&folder), ["taken"]);
    }

    #[test]
    fn what_was_new_can_be_taken_back_and_nothing_else() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("new");
        let new = put(&path, "one", 0o600, Instead::OfNothing).unwrap();
        let replaced = put(&path, "two", 0o600, Instead::OfOld).unwrap();

        new.take_back();
        replaced.take_back();
        assert_eq!(names(&folder), ["new"]);

        fs::remove_file(&path).unwrap();
        put(&path, "one", 0o600, Instead::OfNothing).unwrap().take_back();
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn owner_and_group_stay_where_this_process_may_give_them_and_are_told_where_not() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("old");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(1000), Some(1001)).unwrap();
            put(&path, "new", 0o600, Instead::OfOld).unwrap();
            let now = fs::metadata(&path).unwrap();
            assert_eq!((now.uid(), now.gid(), mode(&path)), (1000, 1001, 0o640));
        }
        // Of the first process's user, which a test that runs as another one may not give.
        let of_root = fs::metadata("/").unwrap();
        let file = File::create(folder.path().join("file")).unwrap();
        chown(folder.path().join("file"), None, None).unwrap();
        let told = std::thread::spawn(move || {
            if rustix::process::geteuid().is_root() {
                let (user, group) = (Uid::from_raw(1000), Gid::from_raw(1000));
                fchown(&file, Some(user), Some(group)).unwrap();
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(group, group, group).unwrap();
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            }
            take_over(&file, &of_root, 0o600).unwrap()
        });
        let (mode, lost) = told.join().unwrap();
        assert_eq!(mode, 0o600);
        assert!(lost.unwrap().starts_with("belonged to user 0 and group 0, which this process may not give"));
    }
}
