//! The tree says how a connection goes: imports point one way, files stay short.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms in reading order; a room may use those that stand on later lines, and its own line's.
/// Whatever is not named here is a side room.
const ORDER: [&[&str]; 7] = [
    &["main", "cli", "commands", "demo"],
    &["daemon", "check"],
    &["admin"],
    &["listener"],
    &["session"],
    &["pool"],
    &["upstream"],
];

/// Side rooms that use none of ours but [`FOR_ALL`], so that they can be read, tested and fuzzed alone.
const ALONE: [&str; 2] = ["settings", "wire"];

/// The secret type and the rule for files belong to the settings; they are files of their own because all rooms use them.
const FOR_ALL: [&str; 2] = ["secret", "trusted_file"];

#[test]
fn imports_point_one_way() {
    let (mut edges, mut wrong) = (0, Vec::new());
    for file in sources() {
        let from = room_of(&file);
        for to in imports_of(&production(&file)) {
            edges += 1;
            if !may_use(&from, &to) {
                wrong.push(format!("{}: {from} must not use {to}", file.display()));
            }
        }
    }
    assert!(edges > 50, "only {edges} imports were found; does this test still read the right lines?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short_and_none_is_called_mod() {
    let files = sources();
    assert!(files.len() > 30, "only {} source files were found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let lines = production(&file).lines().count();
        if lines >= 400 || file.ends_with("mod.rs") {
            wrong.push(format!("{}: {lines} lines before its tests", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a session does depends on settings that somebody has read and checked, and on no variable that is set by chance.
#[test]
fn no_variable_of_the_environment_is_asked_on_the_way_of_a_session() {
    let rooms = ["listener", "session", "pool", "upstream", "wire", "scram", "admin"];
    let on_the_way = |file: &Path| {
        let of_tests = file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("property"));
        rooms.contains(&room_of(file).as_str()) && !of_tests
    };
    let files = sources().into_iter().filter(|file| on_the_way(file)).collect::<Vec<_>>();
    assert!(files.len() > 40, "only {} files were found", files.len());

    for file in files {
        assert!(!production(&file).contains("env::var"), "{}", file.display());
    }
}

#[test]
fn the_rule_itself_tells_right_from_wrong() {
    assert!(may_use("session", "upstream") && may_use("session", "tls") && may_use("tls", "settings"));
    assert!(may_use("session", "pool") && may_use("pool", "upstream") && !may_use("upstream", "pool"));
    assert!(!may_use("upstream", "session") && !may_use("tls", "session") && !may_use("wire", "tls"));
    let lines = "use crate::{settings::Settings, tls};\nlet x = crate::wire::query();\nuse std::io;\n";
    assert_eq!(imports_of(lines), ["settings", "tls", "wire"]);
}

fn may_use(from: &str, to: &str) -> bool {
    let step = |room: &str| ORDER.iter().position(|rooms| rooms.contains(&room)).unwrap_or(ORDER.len());
    let alone = ALONE.contains(&from) && !FOR_ALL.contains(&to);
    from == to || (!alone && step(from) <= step(to))
}

/// The rooms named behind `crate::`, in `use` lines (also nested ones) and in paths.
fn imports_of(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => rooms.extend(first_names(group)),
            None => rooms.extend(name_at(after)),
        }
    }
    rooms
}

/// The first name of each entry of `{a::b, c::{d, e}, f}`, given what follows the first brace.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.extend(name_at(group[start..at].trim_start()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// A module's name; items of the crate's root and `$crate` macros are none.
fn name_at(text: &str) -> Option<String> {
    let name = text.chars().take_while(|&c| c.is_ascii_lowercase() || c == '_').collect::<String>();
    (!name.is_empty()).then_some(name)
}

/// The part of a file before its tests; nothing of a file that is all tests.
fn production(file: &Path) -> String {
    if ["tests.rs", "testing.rs"].iter().any(|name| file.ends_with(name)) {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    text.split("\n#[cfg(test)]").next().unwrap().to_owned()
}

/// `src/session/relay.rs` belongs to `session`.
fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(source_folder()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn sources() -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![source_folder()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
