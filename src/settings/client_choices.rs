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
}

/// Reads the keys of one listener.
pub(super) fn read_client_choices(reader: &mut Reader<'_>, section: &mut Section) -> ClientChoices {
    let cluster_option = reader.read(section, "allow_cluster_option", boolean);
    ClientChoices { cluster_option: cluster_option.unwrap_or(false) }
}

impl ClientChoices {
    /// The keys, as a settings file says them.
    pub(super) fn show(&self) -> Vec<(&'static str, toml::Value)> {
        vec![("allow_cluster_option", self.cluster_option.into())]
    }
}
