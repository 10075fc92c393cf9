//! The files of `setup`: settings, CA and password must be three, since each would be written over another else, or
//! a password shown as settings.

use super::wishes::PasswordAt;
use crate::commands::whole_file::is_same;
use std::path::{Path, PathBuf};

/// Where the CA of a cluster of this name goes.
pub(super) fn ca_file(settings: &Path, cluster: &str) -> PathBuf {
    settings.with_file_name(format!("{cluster}-ca.crt"))
}

/// Why these cannot be the files; a CA file that nobody knows yet is left out.
pub(super) fn clash(settings: &Path, ca: Option<&Path>, password: Option<&PasswordAt>) -> Option<String> {
    let password = match password {
        Some(PasswordAt::File(file)) => Some(file.as_path()),
        _ => None,
    };
    let all = [("the settings", Some(settings)), ("the CA certificate", ca), ("the password", password)];
    let files: Vec<_> = all.into_iter().filter_map(|(what, file)| Some((what, file?))).collect();
    for (index, (what, file)) in files.iter().enumerate() {
        if let Some((other, _)) = files.iter().take(index).find(|(_, other)| is_same(file, other)) {
            let shown = file.display();
            return Some(format!(
                "{shown} would hold both {other} and {what}, so nothing was written: each needs a file of its own \
                 (--config and --password-file name them, the CA certificate goes beside the settings)"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn files_that_are_one_in_whatever_spelling_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("inner")).unwrap();
        fs::write(path("pw"), "secret").unwrap();
        fs::hard_link(path("pw"), path("hard")).unwrap();
        symlink("pw", path("soft")).unwrap();
        symlink("not-yet", path("dangling")).unwrap();
        let told = |settings: &str, ca: &str, password: &str| {
            clash(&path(settings), Some(&path(ca)), Some(&PasswordAt::File(path(password))))
        };

        assert_eq!(told("a", "b", "c"), None);
        assert_eq!(told("pw", "b", "not-yet"), None);
        for same in ["pw", "./inner/../pw", "hard", "soft"] {
            let why = told(same, "b", "pw").unwrap();
            assert!(why.contains("pw would hold both the settings and the password"), "{why}");
        }
        for same in ["not-yet", "none/../not-yet", "dangling"] {
            let why = told("a", same, "not-yet").unwrap();
            assert!(why.contains("not-yet would hold both the CA certificate and the password"), "{why}");
        }
        assert!(told("b", "./b", "c").unwrap().contains("both the settings and the CA certificate"));
        assert_eq!(clash(&path("a"), None, Some(&PasswordAt::Env("A".to_owned()))), None);
    }
}
