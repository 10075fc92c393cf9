//! `PREPARE`, `EXECUTE` and `DEALLOCATE`, read. What drivers prepare by the protocol never comes here.

use super::{Query, Statement, lexer::Token, query, type_name};
use crate::demo::error::SqlError;

/// `PREPARE name [(type, …)] AS query`.
///
/// # Errors
/// 42601 where a part is missing, 0A000 where it is no query that is prepared.
pub(super) fn prepare(tokens: Vec<Token>) -> Result<Statement, SqlError> {
    let name = name(tokens.get(1))?;
    let at = tokens.iter().position(|token| token.is("as")).ok_or_else(|| syntax("AS"))?;
    let declared = tokens.get(2..at).unwrap_or_default();
    let mut types = Vec::new();
    let mut rest = declared;
    while let [_mark, after @ ..] = rest
        && let Some((known, taken)) = type_name::leading(after)
    {
        types.push(known.pg);
        rest = after.get(taken..).unwrap_or_default();
    }
    if !declared.is_empty() && !matches!(rest, [close] if close.is_mark(")")) {
        return Err(syntax("a list of types"));
    }
    let tokens: Vec<_> = tokens.into_iter().skip(at + 1).collect();
    match tokens.first() {
        Some(first) if PREPARED.iter().any(|word| first.is(word)) => (),
        Some(_) => return Err(SqlError::unsupported("PREPARE of anything but queries and changes of rows")),
        None => return Err(syntax("a query")),
    }
    let mut query = query(tokens);
    if query.parameter_types.len() < types.len() {
        query.parameter_types.resize(types.len(), None);
    }
    for (slot, pg) in query.parameter_types.iter_mut().zip(types) {
        *slot = Some(pg);
    }
    Ok(Statement::Prepare { name, query: Box::new(query) })
}

/// `EXECUTE name [(value, …)]`.
///
/// # Errors
/// 42601 without a name or with half a list, 0A000 with parameters among the values.
pub(super) fn execute(tokens: &[Token]) -> Result<Statement, SqlError> {
    let name = name(tokens.get(1))?;
    let arguments = match tokens.get(2..).unwrap_or_default() {
        [] => None,
        [open, values @ .., close] if open.is_mark("(") && close.is_mark(")") && !values.is_empty() => {
            Some(Box::new(arguments(values)?))
        }
        _ => return Err(syntax("a list of values")),
    };
    Ok(Statement::Execute { name, arguments })
}

/// `DEALLOCATE [PREPARE] {name | ALL}`.
///
/// # Errors
/// 42601 without a name.
pub(super) fn deallocate(tokens: &[Token]) -> Result<Statement, SqlError> {
    let last = tokens.last().filter(|_| tokens.len() > 1);
    if last.is_some_and(|last| last.is("all")) {
        return Ok(Statement::Deallocate(None));
    }
    name(last).map(|name| Statement::Deallocate(Some(name)))
}

/// SQLite works the values out, in one row.
fn arguments(values: &[Token]) -> Result<Query, SqlError> {
    let select = [Token::word("SELECT")].into_iter().chain(values.iter().cloned());
    let query = query(select.collect());
    if query.parameter_types.is_empty() { Ok(query) } else { Err(SqlError::unsupported("parameters within EXECUTE")) }
}

fn name(token: Option<&Token>) -> Result<String, SqlError> {
    token.and_then(Token::name).ok_or_else(|| syntax("a name"))
}

fn syntax(missing: &str) -> SqlError {
    SqlError::new("42601", format!("syntax error: {missing} is missing"))
}

const PREPARED: [&str; 8] = ["select", "values", "with", "table", "insert", "upsert", "update", "delete"];

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use pgwire::api::Type;

    fn one(sql: &str) -> Result<Statement, SqlError> {
        parse(sql).map(|mut statements| statements.remove(0))
    }

    #[test]
    fn declared_types_and_casts_tell_what_a_prepared_query_takes() {
        let Ok(Statement::Prepare { name, query }) = one("PREPARE P (numeric(10, 2), text) AS SELECT $1, $2, $3::int4")
        else {
            panic!("not read");
        };

        assert_eq!(name, "p");
        assert_eq!(query.parameter_types, [Some(Type::FLOAT8), Some(Type::TEXT), Some(Type::INT4)]);
        assert_eq!(query.tag, "SELECT");
    }

    #[test]
    fn what_cannot_be_read_or_prepared_is_refused() {
        let cases = [
            ("PREPARE", "42601"),
            ("PREPARE p SELECT 1", "42601"),
            ("PREPARE p AS", "42601"),
            ("PREPARE p (int AS SELECT 1", "42601"),
            ("PREPARE p AS PREPARE q AS SELECT 1", "0A000"),
            ("EXECUTE", "42601"),
            ("EXECUTE p (", "42601"),
            ("EXECUTE p ($1)", "0A000"),
            ("DEALLOCATE", "42601"),
        ];

        for (sql, code) in cases {
            assert_eq!(one(sql).unwrap_err().code(), code, "{sql}");
        }
        assert_eq!(one("DEALLOCATE PREPARE ALL").unwrap(), Statement::Deallocate(None));
    }
}
