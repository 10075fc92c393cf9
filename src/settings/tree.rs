//! The settings file as a tree in which every value knows its line. Owns reading the file and TOML's
//! own faults; knows no key and no rule. Flags and variables are laid over the same tree.

use super::source::{Fault, Source};
use crate::{
    secret::Secret,
    trusted_file::{self, Doubt, Kinds, OpenError, Stakes},
};
use std::{fs::File, io, io::Read, num::NonZero, ops::Range, path::Path, sync::Arc};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A value and who said it. Has no `Debug`: a literal password may stand anywhere.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) source: Source,
}

/// What was said.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    /// Text of a flag, variable or connection string, whose type is the reader's to tell.
    Plain(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
    /// A password out of a connection string.
    Secret(Secret),
    /// Certificates out of a connection string, PEM.
    Pem(String),
    /// A TOML type that no key takes, in words.
    Other(&'static str),
}

/// Keys in the order in which they were written.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands, which may be lines above its value.
    pub(super) source: Source,
    pub(super) node: Node,
}

impl Table {
    /// The value of a key, to be changed in place.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    /// Takes a key out.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }

    /// Puts a value in the place of the key's present one, or at the end.
    pub(super) fn set(&mut self, key: &str, node: Node) {
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => {
                entry.source = node.source.clone();
                entry.node = node;
            }
            None => {
                let source = node.source.clone();
                self.entries.push(Entry { key: key.to_owned(), source, node });
            }
        }
    }

    /// Whether the key was set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }
}

/// Reads a settings file. `path` is opened, `shown` stands in faults.
///
/// # Errors
/// One fault when the file cannot be read or others could have written it; one for each line that is not TOML.
pub(super) fn read_file(path: &Path, shown: &str) -> Result<(Table, Vec<Doubt>), Vec<Fault>> {
    let opened = trusted_file::open(path, Kinds::Any).map_err(|error| match error {
        OpenError::Io(error) => vec![whole_file(shown, unreadable(&error))],
        OpenError::Distrusted(distrust) => vec![whole_file(shown, distrust.told(Stakes::Settings))],
        OpenError::NotAFile => vec![whole_file(shown, IS_A_FOLDER.to_owned())],
    })?;
    Ok((parse(&read_text(opened.file, shown)?, shown)?, opened.doubts))
}

/// What can be understood of a settings file, beside lines that are not TOML, whoever wrote it.
///
/// # Errors
/// One fault when the file cannot be read.
pub(super) fn read_the_good_of(path: &Path, shown: &str) -> Result<Table, Vec<Fault>> {
    let file = File::open(path).map_err(|error| vec![whole_file(shown, unreadable(&error))])?;
    let text = read_text(file, shown)?;
    let (root, _) = DeTable::parse_recoverable(&text);
    Ok(table(root.into_inner(), &Lines::new(&text, shown)))
}

/// A fault of the file as a whole.
pub(super) fn whole_file(shown: &str, rule: String) -> Fault {
    let source = Source::File { path: shown.into(), line: None, column: None };
    Fault { source, key: String::new(), value: None, rule }
}

fn read_text(file: File, shown: &str) -> Result<String, Vec<Fault>> {
    let refused = |rule: String| vec![whole_file(shown, rule)];
    let bytes = read_bytes(file).map_err(refused)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        refused(format!("line {line} is not UTF-8; save the file in that encoding"))
    })
}

/// Parses the text of a settings file; `shown` is its name in sources and faults.
///
/// # Errors
/// One fault for each line that is not TOML, at most ten.
pub(super) fn parse(text: &str, shown: &str) -> Result<Table, Vec<Fault>> {
    let lines = Lines::new(text, shown);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Fault> = Vec::new();
    for error in errors {
        // The parser's words never quote the text, which may hold a literal password.
        let source = lines.place(error.span().unwrap_or_default());
        let same_line = |fault: &Fault| without_column(&fault.source) == without_column(&source);
        if faults.len() < SYNTAX_FAULTS_MAX && !faults.iter().any(same_line) {
            let span = error.span().unwrap_or_default();
            let rule = if lines.begins_bare_value(span.clone()) {
                // The parser guesses a type by the first letter, and says what that type must look like.
                "not valid TOML: this value cannot be read; is the text in quotes?".to_owned()
            } else if error.message().starts_with(NOT_A_TABLE) && lines.names_table_of_user(span) {
                USER_IS_A_NAME.to_owned()
            } else {
                format!("not valid TOML: {}", error.message())
            };
            faults.push(Fault { source, key: String::new(), value: None, rule });
        }
    }
    if faults.is_empty() { Ok(table(root.into_inner(), &lines)) } else { Err(faults) }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read the file; check its owner and mode".to_owned(),
        io::ErrorKind::IsADirectory => IS_A_FOLDER.to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

fn read_bytes(file: File) -> Result<Vec<u8>, String> {
    let explain = |error: io::Error| unreadable(&error);
    let metadata = file.metadata().map_err(explain)?;
    if metadata.is_dir() {
        return Err(IS_A_FOLDER.to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(explain)?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read <= FILE_BYTES_MAX) {
        Ok(bytes)
    } else {
        Err("larger than 1 MiB, so it cannot be a settings file".to_owned())
    }
}

fn without_column(source: &Source) -> Source {
    match source {
        Source::File { path, line, .. } => Source::File { path: Arc::clone(path), line: *line, column: None },
        other => other.clone(),
    }
}

fn table(parsed: DeTable<'_>, lines: &Lines<'_>) -> Table {
    // The parser sorts keys by name; people wrote them in an order.
    let mut entries: Vec<_> = parsed.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries
        .into_iter()
        .map(|(key, value)| Entry {
            source: lines.line_of(key.span()),
            key: key.into_inner().into_owned(),
            node: node(value, lines),
        })
        .collect();
    Table { entries }
}

fn node(parsed: Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Node {
    let source = lines.line_of(parsed.span());
    let value = match parsed.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number beyond all bounds"), Value::Integer),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Boolean(yes) => Value::Boolean(yes),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(item, lines)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
    };
    Node { value, source }
}

/// Turns byte offsets into lines and columns.
struct Lines<'t> {
    text: &'t str,
    path: Arc<str>,
    ends: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str, shown: &str) -> Self {
        let ends = text.match_indices('\n').map(|(offset, _)| offset).collect();
        Self { text, path: shown.into(), ends }
    }

    fn line_of(&self, span: Range<usize>) -> Source {
        let line = NonZero::new(self.ends_before(span.start) + 1);
        Source::File { path: Arc::clone(&self.path), line, column: None }
    }

    fn place(&self, span: Range<usize>) -> Source {
        let above = self.ends_before(span.start);
        let begin = above.checked_sub(1).and_then(|last| self.ends.get(last)).map_or(0, |end| end + 1);
        let column = self.text.get(begin..span.start).map_or(0, |before| before.chars().count()) + 1;
        Source::File { path: Arc::clone(&self.path), line: NonZero::new(above + 1), column: NonZero::new(column) }
    }

    /// Whether a value that is neither quoted nor a list or table stands where the parser stopped.
    fn begins_bare_value(&self, span: Range<usize>) -> bool {
        let above = self.ends_before(span.start);
        let begin = above.checked_sub(1).and_then(|last| self.ends.get(last)).map_or(0, |end| end + 1);
        let before = self.text.get(begin..span.start).unwrap_or_default();
        let after_equals = before.rfind('=').filter(|equals| {
            let quotes = before.bytes().take(*equals).filter(|byte| matches!(byte, b'"' | b'\'')).count();
            quotes.is_multiple_of(2)
        });
        let value = after_equals.and_then(|equals| self.text.get(begin + equals + 1..)).unwrap_or_default();
        let first = value.lines().next().unwrap_or_default().trim_start().chars().next();
        first.is_some_and(|first| !"\"'[{#".contains(first))
    }

    /// Whether the parser stopped in `[cluster.NAME.user.…]`, at `user`.
    fn names_table_of_user(&self, span: Range<usize>) -> bool {
        let begin = self.text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
        let (header, key) = (self.text.get(begin..span.start), self.text.get(span.start..));
        let is_user = key.is_some_and(|key| key.trim_start_matches(['"', '\'']).starts_with("user"));
        is_user && header.is_some_and(|header| header.trim_start().starts_with("[cluster."))
    }

    fn ends_before(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset)
    }
}

const FILE_BYTES_MAX: u64 = 1 << 20;
const SYNTAX_FAULTS_MAX: usize = 10;
/// The parser's words where a key that has a value is made a table.
const NOT_A_TABLE: &str = "cannot extend value of type";
const USER_IS_A_NAME: &str = "not valid TOML: \"user\" of this cluster is a name already, and cannot be a table of users as well. \
                              Take `user = …` away, and give that user a table of its own, with the credentials that stand \
                              beside it: [cluster.NAME.user.SQLUSER]";
const IS_A_FOLDER: &str = "a folder, not a file; name the file in it";

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = parse(text, "prod.toml").err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_syntax_fault_tells_file_line_and_column_and_no_text() {
        let faults = faults("admin = \"off\"\nuser = hunter2\n");

        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("prod.toml:2:8: not valid TOML: "), "{faults:?}");
        assert!(!faults[0].contains("hunter2"), "{faults:?}");
    }

    #[test]
    fn every_line_that_is_not_toml_is_reported() {
        let faults = faults("a = \nb = 1\nb = 2\nc = \"x\n");

        assert_eq!(faults.len(), 3, "{faults:?}");
    }

    #[test]
    fn values_know_their_lines() {
        let mut root = parse("\n[cluster.prod]\nuser = \"app\"\n", "f").ok().unwrap();
        let Value::Table(clusters) = &mut root.get_mut("cluster").unwrap().value else { panic!() };
        let Value::Table(prod) = &mut clusters.get_mut("prod").unwrap().value else { panic!() };

        assert_eq!(prod.get_mut("user").unwrap().source.to_string(), "f:3");
        assert_eq!(clusters.entries[0].source.to_string(), "f:2");
    }

    #[test]
    fn keys_keep_the_order_in_which_they_were_written() {
        let root = parse("b = 1\na = 2\n[z]\n[y]\n", "f").ok().unwrap();

        let keys: Vec<_> = root.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "z", "y"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large.toml");
        std::fs::write(&large, vec![b'#'; (1 << 20) + 1]).unwrap();
        let latin = folder.path().join("latin.toml");
        std::fs::write(&latin, b"# \n# caf\xe9\n").unwrap();
        let said = |path: &Path| match read_file(path, "f.toml") {
            Ok(_) => panic!("read"),
            Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        };

        assert_eq!(said(folder.path()), ["f.toml: a folder, not a file; name the file in it"]);
        assert_eq!(said(&large), ["f.toml: larger than 1 MiB, so it cannot be a settings file"]);
        assert_eq!(said(&latin), ["f.toml: line 2 is not UTF-8; save the file in that encoding"]);
        assert_eq!(said(&folder.path().join("none")), ["f.toml: no such file; check the path"]);
    }
}
