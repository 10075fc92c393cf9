//! What was found about the owners of files, so that a file which has come to belong to somebody else since is not
//! read again.

use super::files::FileFault;
use crate::{
    credentials::Credentials,
    settings::{CaSource, CertificateFiles, Loaded, SecretSource},
    tls::Doubts,
    trusted_file::{self, Doubt, Stakes},
};
use std::path::{Path, PathBuf};

/// Files of one reading, each with how others could change it.
#[derive(Debug, Default)]
pub(super) struct LookedAt(Vec<(PathBuf, Vec<Doubt>)>);

impl LookedAt {
    /// The settings file.
    pub(super) fn of(loaded: &Loaded) -> Self {
        let file = loaded.settings.file.clone();
        Self(file.into_iter().map(|file| (file, loaded.doubts.clone())).collect())
    }

    pub(super) fn note_ca(&mut self, ca: &CaSource, doubts: &Doubts) {
        if let CaSource::File(file) = ca {
            self.note(file, doubts.of(file).cloned().collect());
        }
    }

    pub(super) fn note_certificate(&mut self, files: &CertificateFiles, doubts: &Doubts) {
        for file in [&files.cert, &files.key] {
            self.note(file, doubts.of(file).cloned().collect());
        }
    }

    pub(super) fn note_secret(&mut self, source: Option<&SecretSource>, credentials: Option<&Credentials>) {
        let file = match source {
            Some(SecretSource::File(file)) => Some(file.as_path()),
            Some(SecretSource::Command { argv, .. }) => argv.first().map(Path::new),
            _ => None,
        };
        if let (Some(file), Some(credentials)) = (file, credentials) {
            self.note(file, credentials.doubts());
        }
    }

    fn note(&mut self, file: &Path, doubts: Vec<Doubt>) {
        self.0.push((file.to_owned(), doubts));
    }

    /// Which of them were in use already, as `known` says, and belong to somebody else now.
    pub(super) fn taken_since(&self, known: &Self) -> Vec<FileFault> {
        let fault = |(file, doubts): &(PathBuf, Vec<Doubt>)| {
            let (_, before) = known.0.iter().find(|(known, _)| known == file)?;
            // The sentence is the same whatever the file is for.
            let fault = trusted_file::refused_since(before, doubts)?.told(Stakes::Settings);
            Some(FileFault { place: file.display().to_string(), fault })
        };
        let mut faults: Vec<_> = self.0.iter().filter_map(fault).collect();
        faults.dedup_by(|one, other| one.place == other.place);
        faults
    }
}
