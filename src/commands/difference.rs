//! What would change in a file, as `diff -u` shows it. Literal secrets, which a settings file must not have but may,
//! are not shown.

use crate::diagnostics::printable;
use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};

/// Removed lines begin with `-`, added ones with `+`; empty where both texts have the same lines.
pub(super) fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let mut shown = String::new();
    for group in group_diff_ops(capture_diff_slices(Algorithm::Myers, &old, &new), CONTEXT_LINES) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let span = |from: usize, to: usize| format!("{},{}", from.saturating_add(1), to.saturating_sub(from));
        let old_span = span(first.old_range().start, last.old_range().end);
        let new_span = span(first.new_range().start, last.new_range().end);
        shown += &format!("@@ -{old_span} +{new_span} @@\n");
        for change in group {
            let (removed, added) = match change {
                DiffOp::Equal { .. } => {
                    write(&mut shown, ' ', old.get(change.old_range()));
                    continue;
                }
                _ => (change.old_range(), change.new_range()),
            };
            write(&mut shown, '-', old.get(removed));
            write(&mut shown, '+', new.get(added));
        }
    }
    shown
}

fn write(shown: &mut String, sign: char, lines: Option<&[&str]>) {
    for line in lines.unwrap_or_default() {
        shown.push(sign);
        shown.push_str(&printable(&without_secret(line)));
        shown.push('\n');
    }
}

/// A line that names a secret by anything but a source, or a password in a connection string.
fn without_secret(line: &str) -> String {
    if let Some((key, value)) = line.split_once('=') {
        let name = key.trim().trim_start_matches('#').trim().trim_matches('"');
        let is_secret = SECRET_KEYS.iter().any(|secret| name == *secret || name.ends_with(&format!(".{secret}")));
        if is_secret && !value.trim_start().starts_with('{') {
            return format!("{key}= ***");
        }
    }
    match line.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => format!("{scheme}://***"),
        _ => line.to_owned(),
    }
}

const SECRET_KEYS: [&str; 3] = ["password", "local_password", "api_key"];
/// As `diff -u` shows around a change.
const CONTEXT_LINES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_stand_below_each_other_with_what_is_around_them() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n";

        let shown = difference(old, "1\n2\n3\n4\nfive\n6\n7\n8\n");

        assert_eq!(shown, "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
        assert_eq!(difference(old, old), "");
        assert_eq!(difference("", "new\n"), "@@ -1,0 +1,1 @@\n+new\n");
    }

    #[test]
    fn nothing_secret_and_nothing_that_moves_the_cursor_is_shown() {
        for line in [
            "password = \"hunter2\"",
            "# password = 'hunter2'",
            "cluster.prod.password = 'hunter2'",
            "local_password = hunter2",
            "api_key=\"hunter2\"",
            "postgresql://app:hunter2@host/d",
            "url = 'postgresql://app@h?password=hunter2'",
        ] {
            let shown = difference(line, "");

            assert!(!shown.contains("hunter2") && shown.contains("***"), "{line}: {shown}");
        }
        let source = "password = { file = \"prod.pw\" }";
        assert!(difference(source, "").contains(source));
        assert!(!difference("a\u{1b}[2Jb", "").contains('\u{1b}'));
    }
}
