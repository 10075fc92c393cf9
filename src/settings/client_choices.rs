//! What a listener's clients may choose for themselves, of what its settings could decide for them.

use super::{
    reader::{Reader, Section},
    values::boolean,
};

/// What clients of a listener may choose for themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientChoices {
    /// A virtual cluster: `cluster` in `options`, or in front of the database.
    pub cluster_option: bool,
    /// No database: the listener's it is, whatever a client asks for.
    pub database_locked: bool,
}

/// Reads the keys of one listener.
pub(super) fn read_client_choices(reader: &mut Reader<'_>, section: &mut Section) -> ClientChoices {
    let mut switch = |key| reader.read(section, key, boolean).unwrap_or(false);
    ClientChoices { cluster_option: switch("allow_cluster_option"), database_locked: switch("database_locked") }
}

impl ClientChoices {
    /// The keys, as a settings file says them.
    pub(super) fn show(&self) -> Vec<(&'static str, toml::Value)> {
        vec![("database_locked", self.database_locked.into()), ("allow_cluster_option", self.cluster_option.into())]
    }
}
