//! What a session has prepared with `PREPARE`. Owns the names; drivers' own prepared statements are
//! pgwire's.

use crate::demo::{dialect::Query, error::SqlError, types};
use pgwire::api::Type;
use rusqlite::types::Value;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The prepared queries of a session, by name.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<BTreeMap<String, Query>>);

impl Prepared {
    /// Keeps a query.
    ///
    /// # Errors
    /// 42P05 where the name is taken, 53200 beyond a hundred queries.
    pub(super) fn keep(&self, name: &str, query: &Query) -> Result<(), SqlError> {
        let mut known = self.lock();
        if known.contains_key(name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists"))
                .hint("DEALLOCATE it first, or take another name."));
        }
        if known.len() >= QUERIES_MAX {
            return Err(SqlError::new("53200", "too many prepared statements").hint("DEALLOCATE some of them first."));
        }
        known.insert(name.to_owned(), query.clone());
        Ok(())
    }

    /// The query of that name.
    ///
    /// # Errors
    /// 26000 where there is none.
    pub(super) fn find(&self, name: &str) -> Result<Query, SqlError> {
        self.lock().get(name).cloned().ok_or_else(|| {
            SqlError::new("26000", format!("prepared statement \"{name}\" does not exist"))
                .hint("In the demo, EXECUTE knows what PREPARE made, and nothing that a driver prepared.")
        })
    }

    /// Forgets one query or all. An unknown name is no error: drivers deallocate by name what they
    /// prepared by the protocol.
    pub(super) fn forget(&self, name: Option<&str>) {
        let mut known = self.lock();
        match name {
            Some(name) => drop(known.remove(name)),
            None => known.clear(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Query>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes `values` what a query of these parameter types takes.
///
/// # Errors
/// 42601 for a wrong number of values, 22P02 or 22003 for one that is not of its type.
pub(super) fn fitted(name: &str, values: Vec<Value>, known: &[Option<Type>]) -> Result<Vec<Value>, SqlError> {
    if values.len() != known.len() {
        let (given, wanted) = (values.len(), known.len());
        let text = format!("prepared statement \"{name}\" takes {wanted} values, and EXECUTE gives {given}");
        return Err(SqlError::new("42601", text));
    }
    values.into_iter().zip(known).map(|(value, pg)| fit(value, pg.as_ref())).collect()
}

fn fit(value: Value, pg: Option<&Type>) -> Result<Value, SqlError> {
    Ok(match (value, pg) {
        (Value::Null, _) => Value::Null,
        (value, Some(&Type::INT2 | &Type::INT4 | &Type::INT8)) => Value::Integer(types::as_integer(&value)?),
        (value, Some(&Type::FLOAT8)) => Value::Real(types::as_float(&value)?),
        (value, Some(&Type::BOOL)) => Value::Integer(types::as_boolean(&value)?.into()),
        (value, Some(&Type::BYTEA)) => Value::Blob(types::as_bytes(&value)?),
        (value, Some(&Type::TEXT)) => Value::Text(types::as_text(&value)),
        (value, _) => value,
    })
}

const QUERIES_MAX: usize = 100;
