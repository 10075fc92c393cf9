//! What goes wrong in a statement, as a client reads it.
//!
//! Owns the mapping from SQLite's failures to SQLSTATE. Never shows a path or a secret.

use pgwire::error::{ErrorInfo, PgWireError};
use rusqlite::{Error, ErrorCode, ffi};
use std::fmt;

/// A failed statement: SQLSTATE, one sentence, and mostly a way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SqlError {
    code: String,
    message: String,
    hint: Option<&'static str>,
}

impl SqlError {
    /// An error with `code` as its SQLSTATE.
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None }
    }

    /// Adds what the reader can do.
    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Adds that the catalogue is small, for statements about it.
    pub(super) fn about_catalogue(self) -> Self {
        match self.code.as_str() {
            "42703" | "42P01" | "42883" | "42601" => self.hint(SMALL_CATALOGUE),
            _ => self,
        }
    }

    /// Something that a real cluster has and SQLite or this demo has not.
    pub(super) fn unsupported(what: &str) -> Self {
        Self::new("0A000", format!("the demo has no {what}")).hint(IT_IS_SQLITE)
    }

    /// The statement was cancelled.
    pub(super) fn cancelled() -> Self {
        Self::new("57014", "query execution canceled")
    }

    /// Another session kept its write lock for longer than a statement waits.
    pub(super) fn conflict() -> Self {
        let message = "restart transaction: another session's transaction kept its write lock for too long";
        Self::new("40001", message).hint(
            "The demo serves one writing transaction at a time. Commit or roll back the other one, then try again.",
        )
    }

    /// Any statement but the end of the block in a failed transaction.
    pub(super) fn failed_transaction() -> Self {
        Self::new("25P02", "current transaction is aborted, commands ignored until end of transaction block")
    }

    /// SQLSTATE, five characters.
    #[cfg(test)]
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// As an error that leaves the session open.
    pub(super) fn into_info(self) -> Box<ErrorInfo> {
        let mut info = ErrorInfo::new("ERROR".to_owned(), self.code, self.message);
        info.severity_nonlocalized = Some("ERROR".to_owned());
        info.hint = self.hint.map(str::to_owned);
        Box::new(info)
    }
}

/// An error after which the session ends.
pub(super) fn fatal(code: &str, message: &str) -> PgWireError {
    let mut info = ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.to_owned());
    info.severity_nonlocalized = Some("FATAL".to_owned());
    PgWireError::UserError(Box::new(info))
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<SqlError> for PgWireError {
    fn from(error: SqlError) -> Self {
        Self::UserError(error.into_info())
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        Self::UserFunctionError(Box::new(error))
    }
}

impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        match error {
            Error::SqliteFailure(failure, message) => {
                from_failure(failure, message.unwrap_or_else(|| failure.to_string()))
            }
            Error::SqlInputError { error, msg, .. } => from_failure(error, msg),
            Error::MultipleStatement => Self::new("42601", "one statement at a time"),
            other => Self::new("XX000", format!("SQLite: {other}")),
        }
    }
}

fn from_failure(failure: ffi::Error, message: String) -> SqlError {
    let constraint = match failure.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            Some("23505")
        }
        ffi::SQLITE_CONSTRAINT_NOTNULL => Some("23502"),
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Some("23503"),
        ffi::SQLITE_CONSTRAINT_CHECK => Some("23514"),
        _ => None,
    };
    if let Some(code) = constraint {
        return SqlError::new(code, message);
    }
    match failure.code {
        ErrorCode::OperationInterrupted => SqlError::cancelled(),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => SqlError::conflict(),
        ErrorCode::AuthorizationForStatementDenied => {
            SqlError::new("42501", "the demo does not allow this statement").hint(IT_IS_SQLITE)
        }
        ErrorCode::TypeMismatch => SqlError::new("42804", message),
        ErrorCode::TooBig => SqlError::new("54000", message),
        ErrorCode::DiskFull | ErrorCode::OutOfMemory => SqlError::new("53200", message),
        ErrorCode::ConstraintViolation => SqlError::new("23000", message),
        _ => from_message(message),
    }
}

/// SQLite gives its one generic code for most faults in a statement; only the text tells them apart.
fn from_message(message: String) -> SqlError {
    if let Some((code, text)) = message.split_once(": ")
        && code.len() == 5
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    {
        return SqlError::new(code, text); // One of ours, come back through a function of ours.
    }
    let code = KNOWN_MESSAGES.iter().find(|(part, _)| message.contains(part)).map_or("XX000", |(_, code)| code);
    let error = SqlError::new(code, message);
    match code {
        "42601" | "42883" | "XX000" => error.hint(IT_IS_SQLITE),
        _ => error,
    }
}

const IT_IS_SQLITE: &str =
    "SQLite answers in this demo, which is only for trying things out. A real cluster can do far more.";

const SMALL_CATALOGUE: &str = "The demo's catalogue is small: psql's \\dt, \\d TABLE and \\l work, little else does.";

const KNOWN_MESSAGES: [(&str, &str); 17] = [
    ("syntax error", "42601"),
    ("incomplete input", "42601"),
    ("unrecognized token", "42601"),
    ("no such table", "42P01"),
    ("no such view", "42P01"),
    ("no such column", "42703"),
    ("has no column named", "42703"),
    ("no such function", "42883"),
    ("wrong number of arguments", "42883"),
    ("ambiguous column", "42702"),
    ("duplicate column", "42701"),
    ("already exists", "42P07"),
    ("no such index", "42704"),
    ("no such savepoint", "3B001"),
    ("not authorized", "42501"),
    ("values for", "42601"),
    ("values were supplied", "42601"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn faults_of_sqlite_carry_the_sqlstate_that_drivers_look_for() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL); INSERT INTO t VALUES (1, 'a')")
            .unwrap();
        let cases = [
            ("SELEKT 1", "42601"),
            ("SELECT (", "42601"),
            ("SELECT * FROM missing", "42P01"),
            ("SELECT missing FROM t", "42703"),
            ("INSERT INTO t (missing) VALUES (1)", "42703"),
            ("INSERT INTO t VALUES (1, 'b')", "23505"),
            ("INSERT INTO t VALUES (2, NULL)", "23502"),
            ("INSERT INTO t VALUES (2)", "42601"),
            ("CREATE TABLE t (id INTEGER)", "42P07"),
            ("SELECT nothing_like_it(1)", "42883"),
        ];

        for (sql, code) in cases {
            let error = SqlError::from(connection.execute_batch(sql).unwrap_err());
            assert_eq!(error.code(), code, "{sql}: {error}");
        }
    }

    #[test]
    fn an_error_of_our_own_functions_keeps_its_sqlstate() {
        let error = from_message("22P02: invalid input syntax for type bool: \"x\"".to_owned());

        assert_eq!(error.code(), "22P02");
        assert!(!error.message.contains("22P02"), "{}", error.message);
    }
}
