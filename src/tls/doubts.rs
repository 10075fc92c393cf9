//! How others could change the files of a TLS configuration.

use super::error::{Place, TlsSetupError};
use crate::trusted_file::{self, Doubt, Stakes};
use std::path::Path;

/// Each with the file that it is about; usually none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts(Vec<(Place, Doubt)>);

impl Doubts {
    pub(super) fn add(&mut self, place: &Place, doubts: Vec<Doubt>) {
        self.0.extend(doubts.into_iter().map(|doubt| (place.clone(), doubt)));
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Those about one file.
    pub fn of(&self, file: &Path) -> impl Iterator<Item = &Doubt> {
        self.0.iter().filter(move |(place, _)| place.file() == Some(file)).map(|(_, doubt)| doubt)
    }

    /// A warning each.
    pub fn told(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(place, doubt)| format!("{place} {doubt}"))
    }

    /// Why the files are refused where the operator wants them strict.
    pub fn refused(&self) -> Option<TlsSetupError> {
        self.0.iter().find_map(|(place, doubt)| {
            let distrust = trusted_file::refused(std::slice::from_ref(doubt))?;
            Some(TlsSetupError::Distrusted { place: place.clone(), distrust })
        })
    }
}

impl Place {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::CaFile(file) | Self::CertificateFile(file) | Self::KeyFile(file) => Some(file),
            Self::CaInline | Self::CaFetched(_) => None,
        }
    }

    /// What whoever can change the file could do by it.
    pub(super) fn stakes(&self) -> Stakes {
        match self {
            Self::CaFile(_) | Self::CaInline | Self::CaFetched(_) => Stakes::Ca,
            Self::CertificateFile(_) | Self::KeyFile(_) => Stakes::Identity,
        }
    }
}
