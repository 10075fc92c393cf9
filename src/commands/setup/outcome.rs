//! What `setup` leaves behind: the settings, the CA beside them and, where it was typed, the password. All of it is
//! held against what is there before the first file is written.

use super::{
    choice::Choice,
    cluster::Found,
    places, text,
    wishes::{PasswordAt, Wishes},
};
use crate::{
    commands::{
        CommandError,
        ca::{self, Kept},
        difference::difference,
        note, say,
        whole_file::{self, Before, Instead, Put, Staged},
    },
    diagnostics::printable,
    secret::Secret,
    settings,
};
use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Files to write, in this order: the settings come last, since they name the others.
pub(super) struct Outcome {
    files: Vec<File>,
}

struct File {
    path: PathBuf,
    bytes: Secret,
    mode: u32,
    what: &'static str,
    instead: Instead,
}

impl Outcome {
    /// Makes the texts, has the daemon's own reader check them, and looks at what is there.
    pub(super) fn compare(wishes: &Wishes<'_>, found: &Found, choice: Choice) -> Result<Self, CommandError> {
        let folder = wishes.file.parent().unwrap_or(Path::new("/")).to_owned();
        let ca_file = places::ca_file(&wishes.file, found.name.as_str());
        if let Some(why) = places::clash(&wishes.file, Some(&ca_file), Some(&choice.password.at)) {
            return Err(CommandError::Said(2, why));
        }
        let text = text::text(found, &choice, &folder, &ca_file)?;
        let loaded = settings::load_text(&text, &wishes.file, wishes.inputs.home.as_deref());
        let loaded = loaded.map_err(|faults| CommandError::Said(2, format!("{BREAKS}\n{faults}")))?;
        loaded.warnings.iter().for_each(|warning| note(warning));

        let settings_before = whole_file::before(&wishes.file)?;
        let is_settled = match &settings_before {
            Before::Nothing => false,
            Before::Text(old) if old == text.as_bytes() => true,
            Before::Text(old) => {
                let is_shown = show_difference(&wishes.file, old, &text)?;
                let why = if is_shown { IN_THE_WAY } else { SOMETHING_ELSE };
                if !wishes.force {
                    return Err(CommandError::Said(2, format!("{} {why}", wishes.file.display())));
                }
                false
            }
        };
        let kept = found.ca.judged(&ca_file, wishes.force)?;
        found.ca.note_doubts(&kept);

        let mut files = Vec::new();
        if let (PasswordAt::File(path), Some(bytes)) = (choice.password.at, choice.password.typed) {
            files.push(File { path, bytes, mode: 0o600, what: "the password", instead: Instead::OfNothing });
        }
        if kept != Kept::Unchanged {
            let bytes = Secret::new(found.ca.text.clone().into_bytes());
            files.push(File {
                path: ca_file,
                bytes,
                mode: ca::MODE,
                what: "the CA certificate",
                instead: kept.instead(),
            });
        }
        if !is_settled {
            let (path, bytes) = (wishes.file.clone(), Secret::new(text.into_bytes()));
            let instead = if settings_before == Before::Nothing { Instead::OfNothing } else { Instead::OfOld };
            files.push(File { path, bytes, mode: 0o600, what: "the settings", instead });
        }
        Ok(Self { files })
    }

    /// Writes each as a whole. Room for all of them is found before the first is put in its place; should one not
    /// get there after all, those that are new go again.
    pub(super) fn write(self) -> Result<(), CommandError> {
        if self.files.is_empty() {
            return say("nothing has changed\n");
        }
        let mut staged = Vec::new();
        for File { path, bytes, mode, instead, .. } in &self.files {
            path.parent().map_or(Ok(()), whole_file::make_folder)?;
            staged.push(Staged::new(path, bytes.expose(), *mode, *instead)?);
        }
        let mut done: Vec<Put> = Vec::new();
        for staged in staged {
            match staged.put() {
                Ok(put) => done.push(put),
                Err(error) => {
                    done.iter().for_each(Put::take_back);
                    return Err(error);
                }
            }
        }
        for (File { path, what, instead, .. }, Put { mode, .. }) in self.files.iter().zip(&done) {
            let done = if *instead == Instead::OfNothing { "written" } else { "replaced" };
            say(&format!("{done} {}: {what} (mode {mode:04o})\n", printable(&path.display().to_string())))?;
        }
        Ok(())
    }
}

/// As `diff -u` has it, to standard output; not where the file is something else, which may be secret.
fn show_difference(file: &Path, old: &[u8], new: &str) -> Result<bool, CommandError> {
    let shown = printable(&file.display().to_string());
    let Some(difference) = difference(old, new) else { return Ok(false) };
    let difference = if difference.is_empty() { ONLY_COMMENTS } else { &difference };
    say(&format!("--- {shown} as it is\n+++ {shown} as it would be\n{difference}"))?;
    Ok(true)
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:,@".contains(letter);
    let text = path.to_str().filter(|text| printable(text) == *text);
    match text {
        Some(text) if text.chars().all(is_plain) => return text.to_owned(),
        Some(text) => return format!("'{}'", text.replace('\'', "'\\''")),
        None => {}
    }
    let mut quoted = "$'".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\'' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted += &format!("\\{byte:03o}"),
        }
    }
    quoted + "'"
}

const BREAKS: &str = "what the Cloud says makes no sound settings, so nothing was written:";
const SOMETHING_ELSE: &str = "holds something else than settings of crdb-proxy, so it is not shown and nothing was \
                              written: --force replaces it, --config names another place";
const ONLY_COMMENTS: &str = "only comments and the order of lines differ\n";
const IN_THE_WAY: &str = "is there already and would change as shown, so nothing was written: --force replaces it, \
                          --config names another place";

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_shell_reads_a_quoted_path_as_it_is() {
        for bytes in [&b"/a/b.toml"[..], b"/a b/it's", b"/a\x1b[2J'\\", b"/a\xff\n1", "/\u{e9}\u{202e}".as_bytes()] {
            let quoted = quoted(Path::new(OsStr::from_bytes(bytes)));

            assert_eq!(printable(&quoted), quoted);
            let command = format!("printf %s {quoted}");
            let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
            assert_eq!(output.stdout, bytes, "{quoted}");
        }
        assert_eq!(quoted(Path::new("/a/b.toml")), "/a/b.toml");
    }
}
