//! What PostgreSQL would call the columns of a SELECT and which of them are plainly of one type.
//! SQLite gives expressions neither. Reads tokens as the client wrote them; a guess, never a check.

use super::{lexer::Token, type_name};
use pgwire::api::Type;

/// What the text of one item of a select list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::demo) struct ColumnHint {
    /// The column's name, where it is not the one that SQLite gives.
    pub(in crate::demo) name: Option<String>,
    /// The type, where the text shows one.
    pub(in crate::demo) pg: Option<Type>,
}

/// One hint for each item of the select list, or none at all where a `*` makes counting impossible.
pub(super) fn hints(tokens: &[Token]) -> Vec<ColumnHint> {
    let list = match tokens.first() {
        Some(token) if token.is("select") => tokens.get(1..).unwrap_or_default(),
        _ => match tokens.iter().position(|token| token.is("returning")) {
            Some(at) => tokens.get(at + 1..).unwrap_or_default(),
            None => return Vec::new(),
        },
    };
    let list = match list.first() {
        Some(token) if token.is("distinct") || token.is("all") => list.get(1..).unwrap_or_default(),
        _ => list,
    };
    let items = items(list);
    let starred = |item: &[Token]| item.last().is_some_and(|token| token.is_mark("*"));
    if items.iter().any(|item| starred(item)) {
        return Vec::new();
    }
    items.iter().map(|item| hint(item)).collect()
}

fn items(list: &[Token]) -> Vec<&[Token]> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    let mut end = list.len();
    for (index, token) in list.iter().enumerate() {
        if token.is_mark("(") || token.is("case") {
            depth += 1;
        } else if token.is_mark(")") || token.is("end") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && token.is_mark(",") {
            items.push(list.get(start..index).unwrap_or_default());
            start = index + 1;
        } else if depth == 0 && ENDS.iter().any(|word| token.is(word)) {
            end = index;
            break;
        }
    }
    items.push(list.get(start..end).unwrap_or_default());
    items
}

fn hint(item: &[Token]) -> ColumnHint {
    let (expression, alias) = split_alias(item);
    let cast = expression
        .iter()
        .rposition(|token| token.is_mark("::"))
        .and_then(|at| Some((at, type_name::leading(expression.get(at + 1..)?)?)))
        .filter(|(at, (_, taken))| at + 1 + taken == expression.len());
    let (pg, named_by) = match &cast {
        Some((at, (name, _))) => (Some(name.pg.clone()), expression.get(..*at).unwrap_or_default()),
        None if is_boolean(expression) => (Some(Type::BOOL), expression),
        None => (None, expression),
    };
    let typed_name = pg.as_ref().filter(|_| cast.is_some() || expression.len() == 1);
    let name = derived_name(named_by)
        .or_else(|| typed_name.map(|pg| pg.name().to_owned()))
        .unwrap_or_else(|| "?column?".to_owned());
    let name = (!alias).then_some(name);
    ColumnHint { name, pg }
}

/// The item without its alias, and whether it has one.
fn split_alias(item: &[Token]) -> (&[Token], bool) {
    let end = item.len();
    if end >= 3 && item.get(end - 2).is_some_and(|token| token.is("as")) {
        return (item.get(..end - 2).unwrap_or_default(), true);
    }
    let named = item.last().is_some_and(|token| token.name().is_some() && !token.is("end"));
    let after_operand = end >= 2
        && item.get(end - 2).is_some_and(|token| match token {
            Token::Symbol(mark) => mark == ")",
            Token::Word(_) => !OPERATOR_WORDS.iter().any(|word| token.is(word)),
            _ => true,
        });
    let literal = item.last().is_some_and(|token| LITERAL_WORDS.iter().any(|word| token.is(word)));
    if named && after_operand && !literal {
        return (item.get(..end - 1).unwrap_or_default(), true);
    }
    (item, false)
}

/// A column gives its own name, a function call the function's, `CASE` its keyword.
fn derived_name(expression: &[Token]) -> Option<String> {
    let first = expression.first()?;
    if first.is("case") {
        return Some("case".to_owned());
    }
    if LITERAL_WORDS.iter().any(|word| first.is(word)) {
        return None;
    }
    let dotted = expression.iter().skip(1).step_by(2).all(|token| token.is_mark("."));
    if dotted && expression.len() % 2 == 1 {
        return expression.last()?.name();
    }
    let open = expression.iter().position(|token| token.is_mark("("))?;
    let called = open > 0 && items(expression.get(open..)?).len() == 1 && closes_last(expression.get(open..)?);
    if called { expression.get(open - 1)?.name() } else { None }
}

fn closes_last(call: &[Token]) -> bool {
    let mut depth = 0_usize;
    for (index, token) in call.iter().enumerate() {
        depth += usize::from(token.is_mark("("));
        depth -= usize::from(token.is_mark(")")).min(depth);
        if depth == 0 {
            return index + 1 == call.len();
        }
    }
    false
}

fn is_boolean(expression: &[Token]) -> bool {
    if expression.first().is_some_and(|token| token.is("exists") || token.is("not")) {
        return true;
    }
    if let [only] = expression {
        return only.is("true") || only.is("false");
    }
    let mut depth = 0_usize;
    expression.iter().any(|token| {
        depth += usize::from(token.is_mark("(") || token.is("case"));
        depth -= usize::from(token.is_mark(")") || token.is("end")).min(depth);
        depth == 0
            && (COMPARISONS.iter().any(|mark| token.is_mark(mark))
                || COMPARISON_WORDS.iter().any(|word| token.is(word)))
    })
}

const ENDS: [&str; 11] =
    ["from", "where", "group", "having", "window", "union", "except", "intersect", "order", "limit", "offset"];
const COMPARISONS: [&str; 8] = ["=", "<", ">", "<=", ">=", "<>", "!=", "~"];
const COMPARISON_WORDS: [&str; 7] = ["is", "in", "like", "ilike", "between", "and", "or"];
const OPERATOR_WORDS: [&str; 8] = ["is", "not", "and", "or", "like", "in", "between", "collate"];
const LITERAL_WORDS: [&str; 3] = ["null", "true", "false"];

#[cfg(test)]
mod tests {
    use super::super::lexer::statements;
    use super::*;

    fn read(sql: &str) -> Vec<(Option<String>, Option<Type>)> {
        hints(&statements(sql).unwrap().concat()).into_iter().map(|hint| (hint.name, hint.pg)).collect()
    }

    fn named(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn columns_are_called_what_postgresql_calls_them() {
        let read =
            read("SELECT count(*), t.id, 1 + 1, max(a, b) AS top, max(id) n, id::text, $1::int4, version() FROM t");

        let names: Vec<_> = read.into_iter().map(|(name, _)| name).collect();
        let expected = ["count", "id", "?column?", "", "", "id", "int4", "version"];
        let expected = expected.map(|name| (!name.is_empty()).then(|| name.to_owned()));
        assert_eq!(names, expected);
    }

    #[test]
    fn comparisons_and_casts_show_their_type() {
        assert_eq!(
            read("SELECT 1 = 1, EXISTS (SELECT 1), true, id IS NULL AS missing, (a = b)::int8, length(a = b)"),
            [
                (named("?column?"), Some(Type::BOOL)),
                (named("exists"), Some(Type::BOOL)),
                (named("bool"), Some(Type::BOOL)),
                (None, Some(Type::BOOL)),
                (named("int8"), Some(Type::INT8)),
                (named("length"), None),
            ]
        );
    }

    #[test]
    fn a_star_leaves_naming_to_sqlite() {
        assert!(read("SELECT 1, * FROM t").is_empty());
        assert!(read("INSERT INTO t VALUES (1) RETURNING *").is_empty());
    }
}
