//! Which column a parameter without a type is stored in or compared with: clients send most of
//! their parameters as text and leave the type to the server. A guess from the text, never a check.

use super::lexer::Token;

/// The columns that parameters meet, all of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::demo) struct Meetings {
    /// As SQLite reads it.
    pub(in crate::demo) table: String,
    /// By the parameter's number from zero.
    pub(in crate::demo) columns: Vec<Option<Column>>,
}

/// A column, by one of its two handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::demo) enum Column {
    /// In lower case.
    Name(String),
    /// From zero, in the table's own order.
    Place(usize),
}

/// Finds the meetings; none where no parameter meets a column or there is no table.
pub(super) fn meetings(tokens: &[Token], count: usize) -> Option<Meetings> {
    let before_table = |token: &Token| TABLES.iter().any(|word| token.is(word));
    let table = tokens.iter().position(before_table)? + 1;
    let table_name = tokens.get(table).filter(|token| token.name().is_some())?.text();
    let mut columns = vec![None; count];
    for triple in tokens.windows(3) {
        let [left, mark, right] = triple else {
            continue;
        };
        if !COMPARISONS.iter().any(|known| mark.is_mark(known)) {
            continue;
        }
        for (parameter, other) in [(left, right), (right, left)] {
            if let (Some(slot), Some(name)) = (slot(&mut columns, parameter), other.name()) {
                slot.get_or_insert(Column::Name(name));
            }
        }
    }
    if tokens.first().is_some_and(|token| token.is("insert")) {
        inserted(tokens.get(table + 1..).unwrap_or_default(), &mut columns);
    }
    columns.iter().any(Option::is_some).then_some(Meetings { table: table_name, columns })
}

/// `[(a, b)] VALUES (?1, ?2), (?3, ?4) …`
fn inserted(tokens: &[Token], columns: &mut [Option<Column>]) {
    let Some(values) = tokens.iter().position(|token| token.is("values")) else {
        return;
    };
    let names: Vec<_> = tokens.get(..values).unwrap_or_default().iter().filter_map(Token::name).collect();
    let (mut depth, mut place) = (0_usize, 0);
    for pair in tokens.get(values..).unwrap_or_default().windows(3) {
        let [before, token, after] = pair else {
            continue;
        };
        if before.is_mark("(") {
            depth += 1;
            place = if depth == 1 { 0 } else { place };
        } else if before.is_mark(")") {
            depth = depth.saturating_sub(1);
        } else if before.is_mark(",") && depth == 1 {
            place += 1;
        }
        let alone =
            depth == 1 && (before.is_mark("(") || before.is_mark(",")) && (after.is_mark(")") || after.is_mark(","));
        if alone && let Some(slot) = slot(columns, token) {
            *slot = match names.get(place) {
                Some(name) => Some(Column::Name(name.clone())),
                None if names.is_empty() => Some(Column::Place(place)),
                None => None,
            };
        }
    }
}

fn slot<'a>(columns: &'a mut [Option<Column>], token: &Token) -> Option<&'a mut Option<Column>> {
    match token {
        Token::Parameter(number) => columns.get_mut(number.checked_sub(1)?),
        _ => None,
    }
}

const TABLES: [&str; 3] = ["into", "update", "from"];
const COMPARISONS: [&str; 7] = ["=", "<", ">", "<=", ">=", "<>", "!="];

#[cfg(test)]
mod tests {
    use super::super::lexer::statements;
    use super::*;

    fn found(sql: &str, count: usize) -> Option<(String, Vec<Option<Column>>)> {
        let tokens = statements(sql).unwrap().concat();
        meetings(&tokens, count).map(|meetings| (meetings.table, meetings.columns))
    }

    fn name(text: &str) -> Option<Column> {
        Some(Column::Name(text.to_owned()))
    }

    #[test]
    fn parameters_meet_the_columns_that_they_are_stored_in_or_compared_with() {
        let t = "t".to_owned();
        assert_eq!(
            found("INSERT INTO t (a, B) VALUES ($1, $2), ($3, f($4, $5))", 5),
            Some((t.clone(), vec![name("a"), name("b"), name("a"), None, None]))
        );
        assert_eq!(found("INSERT INTO t VALUES (1, $1)", 1), Some((t.clone(), vec![Some(Column::Place(1))])));
        assert_eq!(
            found("UPDATE t SET a = $1 WHERE x.b >= $2 AND $3 <> c AND d = $4 + 1", 4),
            Some((t, vec![name("a"), name("b"), name("c"), name("d")]))
        );
        assert_eq!(found("SELECT $1", 1), None);
        assert_eq!(found("SELECT 1 FROM", 1), None);
    }
}
