//! What differs between two sets of settings, for people. Built on what `config show` shows, so that a
//! secret's place may stand here and a secret never.

use super::{
    Loaded,
    show::{Table, tables},
};
use std::{collections::BTreeMap, fmt};

/// A value that is another one, or that is there only before or only after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Table and key: `listener "main": database`.
    pub place: String,
    /// What it was.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// What would be another value with `after`; in the order of the settings file.
pub fn changes(before: &Loaded, after: &Loaded) -> Vec<Change> {
    let (old, new) = (values(before), values(after));
    let known: BTreeMap<_, _> = old.iter().map(|(place, value)| (place.as_str(), value.as_str())).collect();
    let mut changes = Vec::new();
    for (place, value) in &new {
        let before = known.get(place.as_str()).copied();
        if before != Some(value) {
            let before = before.map(str::to_owned);
            changes.push(Change { place: place.clone(), before, after: Some(value.clone()) });
        }
    }
    let kept: BTreeMap<_, _> = new.iter().map(|(place, value)| (place.as_str(), value)).collect();
    let gone = old.iter().filter(|(place, _)| !kept.contains_key(place.as_str()));
    changes.extend(gone.map(|(place, value)| Change {
        place: place.clone(),
        before: Some(value.clone()),
        after: None,
    }));
    changes
}

/// Every value under its place.
fn values(loaded: &Loaded) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for table in tables(loaded) {
        let title = title(&table);
        for line in table.lines {
            let place = if title.is_empty() { line.key.to_owned() } else { format!("{title}: {}", line.key) };
            values.push((place, line.value.map_or_else(|| "not shown".to_owned(), |value| value.to_string())));
        }
    }
    values
}

/// A table's header without brackets, and its name where several have that header.
fn title(table: &Table) -> String {
    let bare = table.header.trim_matches(['[', ']']).to_owned();
    let name = table.lines.iter().find(|line| line.key == "name" && table.header.starts_with("[["));
    match name.and_then(|line| line.value.as_ref()) {
        Some(name) => format!("{bare} {name}"),
        None => bare,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, before, after } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "{place}: {before} becomes {after}"),
            (None, Some(after)) => write!(f, "{place}: {after} is new"),
            (Some(before), None) => write!(f, "{place}: {before} is gone"),
            (None, None) => f.write_str(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Inputs, load};
    use super::*;

    fn loaded(text: &str) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        std::fs::write(&file, text).unwrap();
        let flags = Flags { config: Some(file), ..Flags::default() };
        load(&Inputs { flags, working_folder: "/".into(), cores: 1, ..Inputs::default() }).unwrap()
    }

    const CLUSTER: &str = "[cluster.c]\nca = \"system\"\nuser = \"app\"\npassword = { file = \"/pw\" }\n\
        [[cluster.c.endpoint]]\nname = \"e\"\nhost = \"db.example\"\n";

    #[test]
    fn each_value_that_differs_is_told_once_with_its_place() {
        let before = loaded(&format!("drain_limit = \"25s\"\n{CLUSTER}[[listener]]\nname = \"a\"\n"));
        let after = loaded(&format!(
            "drain_limit = \"30s\"\n{}[[listener]]\nname = \"b\"\n",
            CLUSTER.replace("app", "other").replace("db.example", "db2.example")
        ));

        let told: Vec<_> = changes(&before, &after).iter().map(ToString::to_string).collect();

        for expected in [
            "drain_limit: \"25s\" becomes \"30s\"",
            "cluster.c: user: \"app\" becomes \"other\"",
            "cluster.c.endpoint \"e\": host: \"db.example\" becomes \"db2.example\"",
            "listener \"b\": name: \"b\" is new",
            "listener \"a\": name: \"a\" is gone",
        ] {
            assert!(told.iter().any(|line| line == expected), "{expected}: {told:#?}");
        }
        assert_eq!(told.iter().filter(|line| line.contains("drain_limit")).count(), 1);
    }

    #[test]
    fn the_same_settings_have_no_changes() {
        let (one, other) = (loaded(CLUSTER), loaded(CLUSTER));

        assert_eq!(changes(&one, &other), Vec::new());
    }
}
