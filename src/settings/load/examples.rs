//! The annotated files of `config/` are what they say: each loads, and the defaults are the defaults.

use super::*;
use crate::settings::{ListenAddress, keys::SCALARS};
use std::fs;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/config"))
}

fn loaded(path: &Path) -> Loaded {
    // Whoever checked the repository out may share it with a group, which the daemon would refuse.
    let own = tempfile::tempdir().unwrap();
    let copy = own.path().join(path.file_name().unwrap());
    fs::write(&copy, fs::read(path).unwrap()).unwrap();
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut inputs = Inputs { working_folder: folder(), cores: 4, ..Inputs::default() };
    inputs.home = Some("/home/app".into());
    inputs.flags.config = Some(copy);
    load(&inputs).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn every_example_loads() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(files.len() >= 4, "only {files:?}");

    for file in files {
        let loaded = loaded(&file);

        assert_eq!(loaded.warnings, Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn the_annotated_example_sets_every_key_of_the_first_block_to_its_default() {
    let path = folder().join("crdb-proxy.toml");
    let tree = parse(&fs::read_to_string(&path).unwrap(), "crdb-proxy.toml").ok().unwrap();
    let loaded = loaded(&path);

    let first_block = tree.entries.iter().map(|entry| entry.key.as_str());
    let first_block: Vec<&str> = first_block.filter(|key| !["cluster", "listener"].contains(key)).collect();
    let known: Vec<&str> = SCALARS.iter().map(|key| key.name).collect();
    assert_eq!(first_block, known);
    let defaults = defaults(4);
    let shown = Settings { file: None, clusters: Vec::new(), listeners: Vec::new(), ..loaded.settings.clone() };
    assert_eq!(shown, defaults);
}

#[test]
fn the_annotated_example_sets_a_listeners_keys_to_their_defaults() {
    let path = folder().join("crdb-proxy.toml");
    let example = loaded(&path).settings;

    let minimal = loaded(&folder().join("minimal.toml")).settings;

    let (annotated, plain) = (&*example.listeners[0], &*minimal.listeners[0]);
    let same = super::super::Listener { name: plain.name.clone(), cluster: plain.cluster.clone(), ..annotated.clone() };
    assert_eq!(same, *plain);
    assert_eq!(annotated.name.as_str(), "main");
}

#[test]
fn the_sidecar_listens_on_a_unix_socket() {
    let sidecar = loaded(&folder().join("sidecar.toml")).settings;

    assert!(matches!(&sidecar.listeners[0].address, ListenAddress::Unix(_)), "{sidecar:?}");
}
