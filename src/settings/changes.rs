//! What differs between two sets of settings, for people. Built on what `config show` shows, so that a
//! secret's place may stand here and a secret never.

use super::{
    Loaded,
    show::{Line, Table, tables},
};
use std::fmt;

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value that is another one, or that is there only before or only after.
    Value {
        /// Table and key: `listener "main": database`.
        place: String,
        /// What it was.
        before: Option<String>,
        /// What it is.
        after: Option<String>,
    },
    /// A whole cluster, endpoint or listener.
    Table {
        /// `listener "main"`.
        place: String,
        /// It is there only after, else only before.
        is_new: bool,
        /// What somebody has set there: `database = "shop"`.
        set: Vec<String>,
    },
}

impl Change {
    /// The table, and the key if it is a value's.
    pub fn place(&self) -> &str {
        match self {
            Self::Value { place, .. } | Self::Table { place, .. } => place,
        }
    }
}

/// What would be another value with `after`; in the order of the settings file, and what is gone at the end.
pub fn changes(before: &Loaded, after: &Loaded) -> Vec<Change> {
    let (old, new) = (tables(before), tables(after));
    let mut changes = Vec::new();
    for table in &new {
        match counterpart(table, &old) {
            Some(before) => compare(before, table, &mut changes),
            None => changes.push(whole(table, true)),
        }
    }
    let gone = old.iter().filter(|table| counterpart(table, &new).is_none());
    changes.extend(gone.map(|table| whole(table, false)));
    changes
}

fn counterpart<'t>(table: &Table, others: &'t [Table]) -> Option<&'t Table> {
    let title = title(table);
    others.iter().find(|other| self::title(other) == title)
}

/// Each value that differs.
fn compare(before: &Table, after: &Table, changes: &mut Vec<Change>) {
    let title = title(after);
    let place = |key: &str| if title.is_empty() { key.to_owned() } else { format!("{title}: {key}") };
    let value = |table: &Table, key: &str| table.lines.iter().find(|line| line.key == key).map(text);
    let mut differs = |key: &str| {
        let (before, after) = (value(before, key), value(after, key));
        if before != after {
            changes.push(Change::Value { place: place(key), before, after });
        }
    };
    after.lines.iter().for_each(|line| differs(line.key));
    let gone = before.lines.iter().filter(|line| after.lines.iter().all(|kept| kept.key != line.key));
    gone.for_each(|line| differs(line.key));
}

fn whole(table: &Table, is_new: bool) -> Change {
    let set = table.lines.iter().filter(|line| line.is_set && line.key != "name");
    let set = set.map(|line| format!("{} = {}", line.key, text(line))).collect();
    Change::Table { place: title(table), is_new, set }
}

fn text(line: &Line) -> String {
    line.value.as_ref().map_or_else(|| "not shown".to_owned(), ToString::to_string)
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
        match self {
            Self::Value { place, before: Some(before), after: Some(after) } => {
                write!(f, "{place}: {before} becomes {after}")
            }
            Self::Value { place, before: None, after: Some(after) } => write!(f, "{place}: {after} is new"),
            Self::Value { place, before: Some(before), after: None } => write!(f, "{place}: {before} is gone"),
            Self::Value { place, before: None, after: None } => f.write_str(place),
            Self::Table { place, is_new, set } => {
                let what = if *is_new { "is new" } else { "is gone" };
                let colon = if set.is_empty() { "" } else { ": " };
                write!(f, "{place} {what}{colon}{}", set.join(", "))
            }
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
            "cluster.c.endpoint \"e\": tls_server_name: \"db.example\" becomes \"db2.example\"",
            "listener \"b\" is new",
            "listener \"a\" is gone",
        ] {
            assert!(told.iter().any(|line| line == expected), "{expected}: {told:#?}");
        }
        assert_eq!(told.len(), 6, "{told:#?}");
    }

    #[test]
    fn a_whole_table_is_one_line_with_what_is_set_there() {
        let more = "[cluster.d]\nca = \"system\"\nuser = \"x\"\npassword = { file = \"/pw2\" }\n\
            [[cluster.d.endpoint]]\nname = \"f\"\nhost = \"d.example\"\nport = 5\n\
            [[listener]]\nname = \"b\"\naddress = \"localhost:7\"\ncluster = \"d\"\n";
        let first = format!("{CLUSTER}[[listener]]\nname = \"a\"\ncluster = \"c\"\n");
        let (before, after) = (loaded(&first), loaded(&format!("{first}{more}")));
        let told = |before, after| changes(before, after).iter().map(ToString::to_string).collect::<Vec<_>>();

        let (new, gone) = (told(&before, &after), told(&after, &before));

        let expected = [
            "cluster.d is new: ca = \"system\", user = \"x\", password = { file = \"/pw2\" }",
            "cluster.d.endpoint \"f\" is new: host = \"d.example\", port = 5",
            "listener \"b\" is new: address = \"localhost:7\", cluster = \"d\"",
        ];
        assert_eq!(new, expected);
        assert_eq!(gone, expected.map(|line| line.replace("is new", "is gone")));
    }

    #[test]
    fn a_key_that_a_table_has_only_before_or_only_after_is_told_as_such() {
        let (without, with) = (loaded(CLUSTER), loaded(&CLUSTER.replace("host =", "region = \"r\"\nhost =")));
        let told = |before, after| changes(before, after).iter().map(ToString::to_string).collect::<Vec<_>>();

        assert_eq!(told(&without, &with), ["cluster.c.endpoint \"e\": region: \"r\" is new"]);
        assert_eq!(told(&with, &without), ["cluster.c.endpoint \"e\": region: \"r\" is gone"]);
    }

    #[test]
    fn the_same_settings_have_no_changes() {
        let (one, other) = (loaded(CLUSTER), loaded(CLUSTER));

        assert_eq!(changes(&one, &other), Vec::new());
    }
}
