//! Just enough Markdown to hold the documentation to its word: code blocks, tables, headings, links.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A fenced block.
pub(crate) struct Block {
    /// The word after the fence.
    pub(crate) language: String,
    /// Without the fences and the last line feed.
    pub(crate) text: String,
}

/// A table with the heading that it stands under.
pub(crate) struct Table {
    pub(crate) heading: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The cells of the column with this title, if there is one.
    pub(crate) fn column(&self, title: &str) -> Option<usize> {
        self.header.iter().position(|cell| cell == title)
    }
}

/// The root of the package.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the package, by its path from the root.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Markdown files of the documentation.
pub(crate) fn files() -> Vec<PathBuf> {
    let in_folder = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = in_folder(root().to_owned()).chain(in_folder(root().join("docs")));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The fenced blocks, in order.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => open = Some(Block { language: language.to_owned(), text: String::new() }),
            (None, Some(block)) => {
                let separator = if block.text.is_empty() { "" } else { "\n" };
                block.text += &format!("{separator}{line}");
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The text without its fenced blocks.
pub(crate) fn prose(text: &str) -> String {
    let mut inside = false;
    let mut outside = |line: &&str| {
        let is_fence = line.starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    };
    text.lines().filter(|line| outside(line)).collect::<Vec<_>>().join("\n")
}

/// The tables, in order. No cell may contain a vertical bar.
pub(crate) fn tables(text: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let (mut heading, mut is_inside) = (String::new(), false);
    for line in prose(text).lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
        }
        let Some(row) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            is_inside = false;
            continue;
        };
        let cells = row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        match tables.last_mut().filter(|_| is_inside) {
            None => tables.push(Table { heading: heading.clone(), header: cells, rows: Vec::new() }),
            Some(_) if cells.iter().all(|cell| cell.chars().all(|c| c == '-')) && !row.trim().is_empty() => {}
            Some(table) => {
                assert_eq!(cells.len(), table.header.len(), "{line}");
                table.rows.push(cells);
            }
        }
        is_inside = true;
    }
    tables
}

/// What stands in backticks.
pub(crate) fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of links, as written.
pub(crate) fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// What a link to a heading says after `#`, for each heading.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|&c| c.is_alphanumeric() || "-_ ".contains(c)).collect::<String>();
    kept.replace(' ', "-")
}
