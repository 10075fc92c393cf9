//! Where a running daemon can be told something: its admin address, from the same flags, variables and file,
//! in the same order. All else that they say is passed over, since whoever gives an order in a hurry may
//! stand in a shell without the daemon's variables, beside a file that was broken since it started.

use super::{
    super::{
        AdminAddress,
        address::{ADMIN_PORT, admin_address},
    },
    Inputs, Layers, choose_file, reader_of, refuse_misplaced,
};
use crate::settings::{
    reader::Section,
    source::{Faults, Source},
    tree::{Table, read_the_good_of},
};
use std::path::{Path, PathBuf};

/// An admin address, and who says it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundAdmin {
    /// The address.
    pub address: AdminAddress,
    /// The settings file that says it, or leaves it at the default; `None` where a flag or a variable does, or there is
    /// no file. It may have been changed since the daemon started.
    pub by_file: Option<PathBuf>,
}

/// The admin address alone, by the rules of [`load`](super::load). Needs no cluster. Reads the settings file only where no
/// flag and no variable says the address.
///
/// # Errors
/// An address that breaks its rule; a file that cannot be read.
pub fn load_admin(inputs: &Inputs) -> Result<FoundAdmin, Faults> {
    let mut reader = reader_of(inputs);
    let layers = Layers::gather(inputs, &mut reader);
    refuse_misplaced(inputs)?;
    let with_host = layers.name_a_host();
    let mut tree = Table::default();
    layers.lay(&mut tree, &Source::CommandLine, &mut reader);
    let mut by_file = None;
    if !tree.has("admin")
        && let Some(file) = choose_file(inputs, with_host)
    {
        reader.places.file_folder = file.path.parent().unwrap_or(Path::new("/")).to_owned();
        tree = read_the_good_of(&file.path, &file.shown).map_err(|faults| file.blame(faults))?;
        by_file = Some(file.path);
    }
    // Those of other keys, which are not read here.
    reader.faults.clear();
    let mut root = Section::new(String::new(), String::new(), Source::CommandLine, tree);
    let admin = reader.read(&mut root, "admin", admin_address);
    if reader.faults.is_empty() {
        return Ok(FoundAdmin { address: admin.unwrap_or(AdminAddress::Localhost(ADMIN_PORT)), by_file });
    }
    Err(Faults::new(reader.faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flag, Flags};
    use std::fs;

    fn inputs(flags: &[(Flag, &str)], variables: &[(&str, &str)], usual: &Path) -> Inputs {
        Inputs {
            flags: Flags {
                given: flags.iter().map(|(flag, said)| (*flag, (*said).to_owned())).collect(),
                ..Flags::default()
            },
            variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            working_folder: "/w".into(),
            usual_files: vec![usual.to_owned()],
            ..Inputs::default()
        }
    }

    #[test]
    fn a_flag_goes_before_a_variable_a_variable_before_the_file_and_the_file_before_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        // Much is missing, which is no matter here.
        fs::write(&file, "admin = \"unix:a.sock\"\n[cluster.c]\nuser = 7\n").unwrap();
        let variable = [("CRDB_PROXY_ADMIN", "localhost:2"), ("CRDB_PROXY_TYPO", "x")];
        let port = |port, by_file: Option<&PathBuf>| {
            Ok(FoundAdmin { address: AdminAddress::Localhost(port), by_file: by_file.cloned() })
        };
        let of_file =
            FoundAdmin { address: AdminAddress::Unix(folder.path().join("a.sock")), by_file: Some(file.clone()) };
        let none = PathBuf::from("/nothing/here");

        assert_eq!(load_admin(&inputs(&[(Flag::Admin, "localhost:1")], &variable, &file)), port(1, None));
        assert_eq!(load_admin(&inputs(&[], &variable, &file)), port(2, None));
        assert_eq!(load_admin(&inputs(&[], &[], &file)), Ok(of_file));
        assert_eq!(load_admin(&inputs(&[], &[], &none)), port(9257, None));
        let silent = folder.path().join("silent.toml");
        fs::write(&silent, "").unwrap();
        assert_eq!(load_admin(&inputs(&[], &[], &silent)), port(9257, Some(&silent)));
        // A daemon with a host of its own reads no usual file either.
        assert_eq!(load_admin(&inputs(&[], &[("CRDB_PROXY_HOST", "h")], &file)), port(9257, None));
    }

    #[test]
    fn a_file_that_somebody_is_amid_editing_still_says_where_the_daemon_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        for text in ["x =\nadmin = \"localhost:5\"\n", "admin = \"localhost:5\"\n[cluster.\nuser = 'x\n"] {
            fs::write(&file, text).unwrap();

            let found = load_admin(&inputs(&[], &[], &file)).unwrap();
            assert_eq!(found.address, AdminAddress::Localhost(5), "{text}");
        }
    }

    #[test]
    fn a_wrong_address_or_file_is_a_fault() {
        let none = PathBuf::from("/nothing/here");

        let faults = load_admin(&inputs(&[(Flag::Admin, "9257")], &[], &none)).unwrap_err();
        assert!(faults.to_string().starts_with("flag --admin = \"9257\": must be localhost:PORT"), "{faults}");

        let mut named = inputs(&[], &[], &none);
        named.flags.config = Some(none);
        assert!(load_admin(&named).unwrap_err().to_string().contains("/nothing/here"));
    }
}
