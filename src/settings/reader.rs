//! Reads keys out of the tree: applies a rule to a value, and collects faults, warnings and sources on
//! the way, so that everything broken is told at once. Knows no key by name.

use super::{
    shown::{CONNECTION_STRING, is_connection_string, shown, shown_name},
    source::{Fault, Provenance, Source, did_you_mean},
    tree::{Entry, Node, Table, Value},
};
use std::path::{Path, PathBuf};

/// What reading has found so far.
pub(super) struct Reader<'i> {
    pub(super) places: Places<'i>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<String>,
    pub(super) provenance: Provenance,
}

/// What relative paths and `~/` count from.
pub(super) struct Places<'i> {
    pub(super) home: Option<&'i Path>,
    pub(super) working_folder: &'i Path,
    /// The folder of the settings file, absolute.
    pub(super) file_folder: PathBuf,
}

/// One table while it is read: keys are taken out, what is left at the end is unknown.
pub(super) struct Section {
    /// As faults name it: `listener "main"`; empty for the root.
    pub(super) label: String,
    /// As [`Provenance`] names it: `listener.main`; empty for the root.
    pub(super) path: String,
    pub(super) source: Source,
    table: Table,
    asked: Vec<&'static str>,
}

impl Section {
    /// A table that nothing has been read from.
    pub(super) fn new(label: String, path: String, source: Source, table: Table) -> Self {
        Self { label, path, source, table, asked: Vec::new() }
    }

    /// Whether the key is set and not read yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.has(key)
    }

    /// The value of a key that is set and not read yet, for rules between keys.
    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        let entry = self.table.entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.node.value)
    }

    /// The source of a key that is set and not read yet, else that of the table.
    pub(super) fn source_of(&self, key: &str) -> Source {
        let entry = self.table.entries.iter().find(|entry| entry.key == key);
        entry.map_or(&self.source, |entry| &entry.source).clone()
    }

    /// Takes a key out; from then on it is known.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.asked.push(key);
        self.table.take(key)
    }

    /// `listener "main": database`.
    pub(super) fn key(&self, key: &str) -> String {
        if self.label.is_empty() { key.to_owned() } else { format!("{}: {key}", self.label) }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl Reader<'_> {
    /// Reads a key by a rule. `None` when it is absent, or when it broke the rule (which is then
    /// among the faults, with the value).
    pub(super) fn read<T>(
        &mut self,
        section: &mut Section,
        key: &'static str,
        rule: impl FnOnce(&Node, &Places<'_>) -> Result<T, String>,
    ) -> Option<T> {
        self.read_showing(section, key, rule, true)
    }

    /// As [`Self::read`], but the value may contain a secret and is never shown.
    pub(super) fn read_hidden<T>(
        &mut self,
        section: &mut Section,
        key: &'static str,
        rule: impl FnOnce(&Node, &Places<'_>) -> Result<T, String>,
    ) -> Option<T> {
        self.read_showing(section, key, rule, false)
    }

    /// As [`Self::read`], but absence is a fault that says `missing`.
    pub(super) fn require<T>(
        &mut self,
        section: &mut Section,
        key: &'static str,
        missing: &str,
        rule: impl FnOnce(&Node, &Places<'_>) -> Result<T, String>,
    ) -> Option<T> {
        if !section.has(key) {
            self.fault_in(section, key, format!("missing; {missing}"));
        }
        self.read(section, key, rule)
    }

    /// A fault of the section as a whole, or of a key that is absent.
    pub(super) fn fault_in(&mut self, section: &Section, key: &str, rule: impl Into<String>) {
        let made_by = match &section.source {
            Source::Flag(_) | Source::Variable(_) | Source::ConnectionString if !section.has(key) => &section.source,
            _ => return self.fault(section.source_of(key), section.key(key), rule),
        };
        // Whoever gave one value is not at fault for another one that nobody gave.
        self.fault(Source::Default, format!("{} (from {made_by}): {key}", section.label), rule);
    }

    /// A fault that shows no value.
    pub(super) fn fault(&mut self, source: Source, key: String, rule: impl Into<String>) {
        self.faults.push(Fault { source, key, value: None, rule: rule.into() });
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(&mut self, mut section: Section) {
        for entry in std::mem::take(&mut section.table.entries) {
            let known = section.asked.iter().copied();
            let rule = format!("unknown key{}", did_you_mean(&entry.key, known));
            self.fault(entry.source, section.key(shown_name(&entry.key)), rule);
        }
    }

    fn read_showing<T>(
        &mut self,
        section: &mut Section,
        key: &'static str,
        rule: impl FnOnce(&Node, &Places<'_>) -> Result<T, String>,
        show: bool,
    ) -> Option<T> {
        let Entry { node, .. } = section.take(key)?;
        let read = if is_misplaced(&node) { Err(CONNECTION_STRING.to_owned()) } else { rule(&node, &self.places) };
        match read {
            Ok(value) => {
                self.provenance.record(section.path_of(key), node.source);
                Some(value)
            }
            Err(rule) => {
                let value = if show { shown(&node.value) } else { None };
                self.faults.push(Fault { source: node.source, key: section.key(key), value, rule });
                None
            }
        }
    }
}

/// Whether a connection string stands where one of its parts belongs.
fn is_misplaced(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) | Value::Plain(text) => node.source != Source::ConnectionString && is_connection_string(text),
        _ => false,
    }
}
