//! One statement on a connection: bound, run or described, its rows collected. Knows nothing of
//! transactions and turns.

use super::Outcome;
use crate::demo::{
    dialect::{
        Query,
        columns::ColumnHint,
        parameters::{self, Meetings},
        type_name,
    },
    error::SqlError,
    types,
};
use pgwire::api::Type;
use rusqlite::{Connection, Statement, types::Value};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::demo) struct Column {
    /// As the client reads it.
    pub(in crate::demo) name: String,
    /// As the client reads it.
    pub(in crate::demo) pg: Type,
}

/// Runs a statement to its end and keeps all rows. With `columns` the types that the client was told
/// hold; without, they are found from the rows.
///
/// # Errors
/// SQLite's, and 54000 for a result of more than 64 MiB.
pub(super) fn execute(
    connection: &Connection,
    query: &Query,
    parameters: &[Value],
    columns: Option<Vec<Column>>,
) -> Result<Outcome, SqlError> {
    let mut statement = prepare(connection, query)?;
    bind(&mut statement, parameters)?;
    if statement.column_count() == 0 {
        let changed = statement.raw_execute()?;
        return Ok(Outcome::Done(query.tag, query.counted.then_some(changed)));
    }
    let mut shown = shown_columns(&statement, &query.columns);
    let width = shown.len();
    let mut rows = Vec::new();
    let mut bytes = 0_usize;
    let mut cursor = statement.raw_query();
    while let Some(row) = cursor.next()? {
        let values: Vec<Value> = (0..width).map(|index| row.get(index)).collect::<Result<_, _>>()?;
        bytes = values.iter().map(size).fold(bytes, usize::saturating_add);
        if bytes > RESULT_BYTES_MAX {
            return Err(SqlError::new("54000", "the result is larger than the demo can hold (64 MiB)")
                .hint("Add a LIMIT, or select fewer columns."));
        }
        note_types(&mut shown, &values);
        rows.push(values);
    }
    let columns = columns.unwrap_or_else(|| named(shown));
    if columns.len() != width {
        return Err(SqlError::new("0A000", "cached plan must not change result type"));
    }
    Ok(Outcome::Rows { columns, rows, tag: query.tag })
}

/// Learns columns by preparing, and where SQLite knows no type, from the first row that a run gives.
pub(super) fn describe(connection: &Connection, query: &Query, parameters: &[Value]) -> Result<Vec<Column>, SqlError> {
    let mut statement = prepare(connection, query)?;
    let mut shown = shown_columns(&statement, &query.columns);
    if shown.iter().any(|column| column.guessed) && statement.readonly() {
        bind(&mut statement, parameters)?;
        let mut cursor = statement.raw_query();
        // A failure is no news yet: the statement has not been run, and null parameters prove nothing.
        if let Ok(Some(row)) = cursor.next() {
            let values: Result<Vec<Value>, _> = (0..shown.len()).map(|index| row.get(index)).collect();
            note_types(&mut shown, &values?);
        }
    }
    Ok(named(shown))
}

fn prepare<'a>(connection: &'a Connection, query: &Query) -> Result<Statement<'a>, SqlError> {
    connection.prepare(&query.sql).map_err(|error| {
        let error = SqlError::from(error);
        let of_catalogue = query.sql.contains(" pg_") || query.sql.contains(" information_schema_");
        if of_catalogue { error.about_catalogue() } else { error }
    })
}

/// Types of the columns that parameters meet; none where there is no such table or column.
pub(super) fn column_types(connection: &Connection, meetings: &Meetings) -> Vec<Option<Type>> {
    let Ok(statement) = connection.prepare(&format!("SELECT * FROM {}", meetings.table)) else {
        return Vec::new();
    };
    let columns: Vec<_> = statement.columns().collect();
    let declared = |column: &parameters::Column| {
        let found = match column {
            parameters::Column::Place(place) => columns.get(*place),
            parameters::Column::Name(name) => columns.iter().find(|known| known.name().eq_ignore_ascii_case(name)),
        };
        found.and_then(rusqlite::Column::decl_type).map(type_name::declared)
    };
    meetings.columns.iter().map(|column| column.as_ref().and_then(declared)).collect()
}

fn bind(statement: &mut Statement<'_>, parameters: &[Value]) -> Result<(), SqlError> {
    let wanted = statement.parameter_count();
    for (index, value) in parameters.iter().take(wanted).enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

/// A column of which the type may still be open.
struct Shown {
    name: String,
    pg: Option<Type>,
    /// Whether the type is from a value, so that other values may widen it.
    guessed: bool,
}

fn shown_columns(statement: &Statement<'_>, hints: &[ColumnHint]) -> Vec<Shown> {
    let matched = hints.len() == statement.column_count();
    let hint = |index: usize| hints.get(index).filter(|_| matched).cloned().unwrap_or_default();
    let columns = statement.columns().enumerate();
    columns
        .map(|(index, column)| {
            let hint = hint(index);
            let declared = column.decl_type().filter(|text| !text.is_empty()).map(type_name::declared);
            let pg = hint.pg.or(declared);
            Shown { name: hint.name.unwrap_or_else(|| column.name().to_owned()), guessed: pg.is_none(), pg }
        })
        .collect()
}

fn note_types(shown: &mut [Shown], values: &[Value]) {
    for (column, value) in shown.iter_mut().zip(values).filter(|(column, _)| column.guessed) {
        let Some(seen) = types::of_value(value) else {
            continue;
        };
        column.pg = Some(match column.pg.take() {
            None => seen,
            Some(known) if known == seen => known,
            Some(Type::INT8 | Type::FLOAT8) if matches!(seen, Type::INT8 | Type::FLOAT8) => Type::FLOAT8,
            Some(_) => Type::TEXT,
        });
    }
}

fn named(shown: Vec<Shown>) -> Vec<Column> {
    shown.into_iter().map(|column| Column { name: column.name, pg: column.pg.unwrap_or(Type::TEXT) }).collect()
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() + VALUE_BYTES,
        Value::Blob(bytes) => bytes.len() + VALUE_BYTES,
        _ => VALUE_BYTES,
    }
}

const VALUE_BYTES: usize = size_of::<Value>();
const RESULT_BYTES_MAX: usize = 64 << 20;
