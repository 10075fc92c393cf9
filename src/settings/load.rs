//! From inputs to checked settings, step by step: file, layers, first block, clusters, listeners,
//! rules between them. Owns the order of the steps and no rule of its own for a value.

mod admin;

pub use admin::{FoundAdmin, load_admin};

use super::{
    SecretSource, Settings,
    clusters::read_clusters,
    inputs::{Inputs, VARIABLE_PREFIX},
    keys::{defaults, read_scalars},
    layers::{Layers, config_file, unknown_variable},
    listeners::read_listeners,
    reader::{Places, Reader, Section},
    shown::{CONNECTION_STRING, is_connection_string},
    source::{Fault, Faults, Provenance, Source},
    tree::{Table, parse, read_file, whole_file},
    withheld::{secret_sources, withhold},
};
use crate::trusted_file::{self, Doubt, Stakes};
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// Settings that keep every rule, and what else is known about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Sentences for the operator, to be logged once logging works.
    pub warnings: Vec<String>,
    /// Who set what.
    pub provenance: Provenance,
    /// How others could change the settings file; the warnings tell it.
    pub doubts: Vec<Doubt>,
}

impl Loaded {
    /// Settings that were not read from anywhere.
    pub fn of(settings: Settings) -> Self {
        Self { settings, warnings: Vec::new(), provenance: Provenance::default(), doubts: Vec::new() }
    }
}

/// Reads the settings file, lays connection string, variables and flags over it, and checks all of it.
/// Reads that one file and opens nothing else: secrets and certificates are only named.
///
/// # Errors
/// Every broken rule at once. A file that cannot be read or is not TOML is the only fault then, since
/// nothing can be said about the rest.
pub fn load(inputs: &Inputs) -> Result<Loaded, Faults> {
    let mut reader = reader_of(inputs);
    let layers = Layers::gather(inputs, &mut reader);
    refuse_misplaced(inputs)?;
    let file = choose_file(inputs, layers.name_a_host());
    if file.is_none() && !layers.name_a_host() && reader.faults.is_empty() {
        return Err(nothing_given(inputs, &layers.unknown_variables));
    }
    let mut doubts = Vec::new();
    let (mut tree, whole) = match &file {
        Some(file) => {
            reader.places.file_folder = file.path.parent().unwrap_or(Path::new("/")).to_owned();
            let (tree, found) = read_file(&file.path, &file.shown).map_err(|faults| file.blame(faults))?;
            doubts = found;
            (tree, Source::File { path: file.shown.as_str().into(), line: None, column: None })
        }
        None => (Table::default(), Source::CommandLine),
    };

    let unknown_variables = layers.unknown_variables.clone();
    layers.lay(&mut tree, &whole, &mut reader);
    let mut settings = read(tree, whole, inputs, &mut reader);
    if let Some(file) = &file {
        doubt(&doubts, &file.shown, settings.strict_secrets, &mut reader);
    }
    settings.file = file.map(|file| file.path);
    refuse_unknown_variables(unknown_variables, &settings, &mut reader);

    let Reader { mut faults, warnings, provenance, .. } = reader;
    if faults.iter().any(|fault| fault.rule == CONNECTION_STRING) {
        // Once the string stands in its place, it may well say what is missing now.
        faults.retain(|fault| fault.source != Source::Default);
    }
    if faults.is_empty() {
        return Ok(Loaded { settings, warnings, provenance, doubts });
    }
    Err(Faults::new(in_order(faults)).in_format(settings.log_format))
}

/// What others could do to the settings file: a warning, or a fault where that was asked for.
fn doubt(doubts: &[Doubt], shown: &str, strict: bool, reader: &mut Reader<'_>) {
    reader.warnings.extend(doubts.iter().map(|doubt| format!("settings file {shown} {doubt}")));
    let refused = trusted_file::refused(doubts).filter(|_| strict);
    reader.faults.extend(refused.map(|distrust| whole_file(shown, distrust.told(Stakes::Settings))));
}

/// Checks the text of a settings file that is to be written there, as a daemon without variables and flags would
/// read it.
///
/// # Errors
/// Every broken rule at once.
pub fn load_text(text: &str, file: &Path, home: Option<&Path>) -> Result<Loaded, Faults> {
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let inputs = Inputs { working_folder: folder, home: home.map(Path::to_owned), cores: 1, ..Inputs::default() };
    let shown = file.display().to_string();
    let tree = parse(text, &shown).map_err(Faults::new)?;
    let mut reader = reader_of(&inputs);
    let whole = Source::File { path: shown.as_str().into(), line: None, column: None };
    let settings = read(tree, whole, &inputs, &mut reader);
    let Reader { faults, warnings, provenance, .. } = reader;
    if faults.is_empty() {
        Ok(Loaded { settings, warnings, provenance, doubts: Vec::new() })
    } else {
        Err(Faults::new(in_order(faults)))
    }
}

/// A reader that has read nothing; paths count from the working folder until a file is known.
fn reader_of(inputs: &Inputs) -> Reader<'_> {
    let places = Places {
        home: inputs.home.as_deref(),
        working_folder: &inputs.working_folder,
        file_folder: inputs.working_folder.clone(),
    };
    Reader { places, faults: Vec::new(), warnings: Vec::new(), provenance: Provenance::default() }
}

fn read(tree: Table, whole: Source, inputs: &Inputs, reader: &mut Reader<'_>) -> Settings {
    let mut root = Section::new(String::new(), String::new(), whole, tree);
    let mut settings = defaults(inputs.cores);
    read_scalars(reader, &mut root, &mut settings);
    let clusters = read_clusters(reader, &mut root);
    settings.listeners = read_listeners(reader, &mut root, &settings, &clusters);
    settings.clusters = clusters.well;
    withhold(&mut settings);
    reader.finish(root);
    settings
}

/// A settings file that is to be read.
struct Chosen {
    path: PathBuf,
    /// As faults name it: the way the operator wrote it.
    shown: String,
    /// The variable that named it, if one did: a missing file is then no matter of the command line.
    named_by: Option<Source>,
}

impl Chosen {
    fn blame(&self, mut faults: Vec<Fault>) -> Faults {
        for fault in &mut faults {
            let whole = matches!(fault.source, Source::File { line: None, .. });
            if let (true, Some(source @ Source::Variable(_))) = (whole, &self.named_by) {
                fault.rule = format!("{} (named by {source})", fault.rule);
            }
        }
        Faults::new(faults)
    }
}

fn choose_file(inputs: &Inputs, with_host: bool) -> Option<Chosen> {
    let chosen = |said: &OsStr, named_by| Chosen {
        path: inputs.working_folder.join(expand_home(said, inputs)),
        shown: said.to_string_lossy().into_owned(),
        named_by,
    };
    if let Some((said, source)) = config_file(inputs) {
        return Some(chosen(&said, Some(source)));
    }
    if with_host {
        return None;
    }
    let usual = inputs.usual_files.iter().find(|file| file.exists())?;
    Some(chosen(usual.as_os_str(), None))
}

/// A variable's `~/` was expanded by no shell.
fn expand_home(said: &OsStr, inputs: &Inputs) -> OsString {
    let below = said.to_str().and_then(|said| said.strip_prefix("~/").or_else(|| said.strip_prefix("$HOME/")));
    match (below, &inputs.home) {
        (Some(below), Some(home)) => home.join(below).into_os_string(),
        _ => said.to_owned(),
    }
}

/// A path is told when nothing is there.
fn refuse_misplaced(inputs: &Inputs) -> Result<(), Faults> {
    match config_file(inputs) {
        Some((said, source)) if is_connection_string(&said.to_string_lossy()) => {
            let (key, rule) = (String::new(), CONNECTION_STRING.to_owned());
            Err(Faults::new(vec![Fault { source, key, value: None, rule }]))
        }
        _ => Ok(()),
    }
}

fn nothing_given(inputs: &Inputs, unknown_variables: &[String]) -> Faults {
    let looked: Vec<String> = inputs.usual_files.iter().map(|file| file.display().to_string()).collect();
    let rule = format!(
        "no cluster to reach; give a connection string, --host or --config (there is no file at {}); \
         see crdb-proxy --help",
        looked.join(" or ")
    );
    let fault = |source, rule| Fault { source, key: String::new(), value: None, rule };
    let unknown = unknown_variables.iter();
    let unknown =
        unknown.map(|name| fault(Source::Variable(format!("{VARIABLE_PREFIX}{name}")), unknown_variable(name)));
    Faults::nothing_given([fault(Source::CommandLine, rule)].into_iter().chain(unknown).collect())
}

fn refuse_unknown_variables(names: Vec<String>, settings: &Settings, reader: &mut Reader<'_>) {
    let secrets: Vec<&SecretSource> = secret_sources(settings).collect();
    for name in names {
        let full = format!("{VARIABLE_PREFIX}{name}");
        let is_secret = |source: &&&SecretSource| matches!(source, SecretSource::Env(env) if *env == full);
        if secrets.iter().find(is_secret).is_none() {
            reader.fault(Source::Variable(full), String::new(), unknown_variable(&name));
        }
    }
}

/// By line within the file, and the others before it, each as it was found.
fn in_order(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by_key(|fault| match &fault.source {
        Source::File { line, .. } => line.map_or(0, std::num::NonZero::get) + 1,
        _ => 0,
    });
    faults.dedup();
    faults
}

#[cfg(test)]
mod access;
#[cfg(test)]
mod endpoint_names;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod precedence;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod users;
