//! The functions and catalogue views that clients expect of PostgreSQL or CockroachDB and SQLite
//! lacks. Owns their definitions; each is installed into one session's connection.

use super::{cancel::Running, error::SqlError, time, types};
use rusqlite::{
    Connection, Result,
    functions::{Context, FunctionFlags},
    types::{Type, Value, ValueRef},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What functions may tell about the session that calls them.
#[derive(Debug)]
pub(super) struct Identity {
    /// The region that the session is in.
    pub(super) region: String,
    /// The name that the client asked for; there is one database under any name.
    pub(super) database: String,
    /// The user who logged in.
    pub(super) user: String,
    /// The first four bytes of the cancel key.
    pub(super) process: i32,
    /// What `SET` changed, by name in lower case.
    pub(super) variables: Mutex<BTreeMap<String, String>>,
    /// What a cancel stops.
    pub(super) running: Arc<Running>,
    /// Set while a statement runs only to learn its column types: nothing may sleep then.
    pub(super) dry_run: std::sync::atomic::AtomicBool,
}

impl Identity {
    /// The value of a session variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let set = self.lock().get(&name).cloned();
        set.or_else(|| match name.as_str() {
            "database" => Some(self.database.clone()),
            "session_authorization" | "role" | "session_user" => Some(self.user.clone()),
            _ => DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        })
    }

    /// Sets a session variable; any name is taken, as long as there are not too many.
    ///
    /// # Errors
    /// 53200 beyond a few hundred variables.
    pub(super) fn set_variable(&self, name: &str, value: &str) -> std::result::Result<(), SqlError> {
        let mut variables = self.lock();
        if variables.len() >= VARIABLES_MAX && !variables.contains_key(name) {
            return Err(SqlError::new("53200", "too many session variables"));
        }
        variables.insert(name.to_ascii_lowercase(), value.to_owned());
        Ok(())
    }

    /// Forgets one variable, or all.
    pub(super) fn reset_variables(&self, name: Option<&str>) {
        let mut variables = self.lock();
        match name {
            Some(name) => drop(variables.remove(&name.to_ascii_lowercase())),
            None => variables.clear(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Installs all functions.
pub(super) fn install(connection: &Connection, identity: &Arc<Identity>) -> Result<()> {
    install_identity(connection, identity)?;
    install_variables(connection, identity)?;
    install_casts(connection)?;
    install_catalogue_functions(connection)
}

/// Installs the catalogue's views. Reads the database.
pub(super) fn install_catalogue(connection: &Connection) -> Result<()> {
    connection.execute_batch(VIEWS)
}

fn install_identity(connection: &Connection, identity: &Arc<Identity>) -> Result<()> {
    let tell = |name: &str, tell: fn(&Identity) -> Value| {
        let identity = Arc::clone(identity);
        connection.create_scalar_function(name, 0, FunctionFlags::SQLITE_UTF8, move |_| Ok(tell(&identity)))
    };
    tell("version", |_| Value::Text(VERSION.to_owned()))?;
    tell("gateway_region", |identity| Value::Text(identity.region.clone()))?;
    tell("current_database", |identity| Value::Text(identity.database.clone()))?;
    tell("current_catalog", |identity| Value::Text(identity.database.clone()))?;
    tell("current_schema", |_| Value::Text("public".to_owned()))?;
    for name in ["current_user", "session_user", "current_role"] {
        tell(name, |identity| Value::Text(identity.user.clone()))?;
    }
    tell("pg_backend_pid", |identity| Value::Integer(identity.process.into()))?;
    tell("txid_current", |_| Value::Integer(1))?;
    for name in ["now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"] {
        tell(name, |_| Value::Text(now()))?;
    }
    tell("current_date", |_| Value::Text(now().chars().take(10).collect()))?;

    let sleeper = Arc::clone(identity);
    connection.create_scalar_function("pg_sleep", 1, FunctionFlags::SQLITE_UTF8, move |context| {
        let seconds = types::as_float(&argument(context, 0)?)?;
        let span = Duration::try_from_secs_f64(seconds.clamp(0.0, SLEEP_MAX_SECONDS)).unwrap_or_default();
        if !sleeper.dry_run.load(std::sync::atomic::Ordering::Relaxed) {
            sleeper.running.sleep(span)?;
        }
        Ok(Value::Text(String::new()))
    })
}

fn install_variables(connection: &Connection, identity: &Arc<Identity>) -> Result<()> {
    let setter = Arc::clone(identity);
    connection.create_scalar_function("set_config", 3, FunctionFlags::SQLITE_UTF8, move |context| {
        let (name, value) = (argument(context, 0)?, argument(context, 1)?);
        setter.set_variable(&types::as_text(&name), &types::as_text(&value))?;
        Ok(value)
    })?;
    let getter = Arc::clone(identity);
    connection.create_scalar_function("current_setting", -1, FunctionFlags::SQLITE_UTF8, move |context| {
        let name = types::as_text(&argument(context, 0)?);
        match getter.variable(&name) {
            Some(value) => Ok(Value::Text(value)),
            None if context.len() > 1 => Ok(Value::Null),
            None => Err(unknown_variable(&name).into()),
        }
    })
}

/// A variable that was never set and has no default.
pub(super) fn unknown_variable(name: &str) -> SqlError {
    SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\""))
}

fn install_casts(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let cast = |name: &str, cast: fn(&Value) -> std::result::Result<Value, SqlError>| {
        connection.create_scalar_function(name, 1, flags, move |context| match argument(context, 0)? {
            Value::Null => Ok(Value::Null),
            value => Ok(cast(&value)?),
        })
    };
    cast("to_text", |value| Ok(Value::Text(types::as_text(value))))?;
    cast("to_int8", |value| types::as_integer(value).map(Value::Integer))?;
    cast("to_float8", |value| types::as_float(value).map(Value::Real))?;
    cast("to_bool", |value| types::as_boolean(value).map(|truth| Value::Integer(truth.into())))?;
    cast("to_bytea", |value| types::as_bytes(value).map(Value::Blob))?;
    cast("nonzero", |divisor| match types::as_float(divisor) {
        Ok(0.0) => Err(SqlError::new("22012", "division by zero")),
        _ => Ok(divisor.clone()),
    })?;
    connection.create_scalar_function("regexp", 2, flags, |context| {
        let (pattern, text) = (argument(context, 0)?, argument(context, 1)?);
        if matches!(text, Value::Null) {
            return Ok(Value::Null);
        }
        let matched = matches_simply(&types::as_text(&pattern), &types::as_text(&text))?;
        Ok(Value::Integer(matched.into()))
    })
}

fn install_catalogue_functions(connection: &Connection) -> Result<()> {
    let answer = |name: &str, arguments: i32, answer: fn() -> Value| {
        connection.create_scalar_function(name, arguments, FunctionFlags::SQLITE_UTF8, move |_| Ok(answer()))
    };
    answer("pg_table_is_visible", 1, || Value::Integer(1))?;
    answer("pg_get_userbyid", 1, || Value::Text("demo".to_owned()))?;
    for name in
        ["obj_description", "col_description", "shobj_description", "array_to_string", "to_regtype", "to_regclass"]
    {
        answer(name, -1, || Value::Null)?;
    }
    connection.create_scalar_function("pg_get_expr", -1, FunctionFlags::SQLITE_UTF8, |context| argument(context, 0))?;
    connection.create_scalar_function("format_type", 2, FunctionFlags::SQLITE_UTF8, |context| {
        let oid = types::as_integer(&argument(context, 0)?)?;
        let name = TYPE_NAMES.iter().find(|(known, _)| *known == oid).map_or("text", |(_, name)| name);
        Ok(Value::Text(name.to_owned()))
    })?;
    for name in ["has_schema_privilege", "has_table_privilege", "has_database_privilege"] {
        answer(name, -1, || Value::Integer(1))?;
    }
    for name in ["pg_is_in_recovery", "pg_advisory_unlock_all"] {
        answer(name, 0, || Value::Integer(0))?;
    }
    answer("pg_encoding_to_char", 1, || Value::Text("UTF8".to_owned()))?;
    connection.create_scalar_function("gen_random_uuid", 0, FunctionFlags::SQLITE_UTF8, |_| {
        let mut bytes = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| SqlError::new("XX000", "no random bytes"))?;
        bytes[6] = bytes[6] & 0x0f | 0x40; // Version 4, and below its variant.
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(types::uuid(bytes))
    })?;
    connection.create_scalar_function("unique_rowid", 0, FunctionFlags::SQLITE_UTF8, |_| {
        let mut bytes = [0_u8; 8];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| SqlError::new("XX000", "no random bytes"))?;
        Ok(i64::from_be_bytes(bytes) & i64::MAX)
    })
}

fn argument(context: &Context<'_>, index: usize) -> Result<Value> {
    if index >= context.len() {
        return Err(SqlError::new("42883", "an argument is missing").into());
    }
    match context.get_raw(index) {
        ValueRef::Text(bytes) => Ok(Value::Text(String::from_utf8_lossy(bytes).into_owned())),
        other => Value::try_from(other).map_err(|_from| rusqlite::Error::InvalidParameterType(index, Type::Null)),
    }
}

/// Regular expressions as clients' own catalogue queries use them: plain text, `^`, `$` and one
/// level of alternatives.
fn matches_simply(pattern: &str, text: &str) -> std::result::Result<bool, SqlError> {
    let (pattern, from_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (pattern, to_end) = pattern.strip_suffix('$').map_or((pattern, false), |rest| (rest, true));
    let inner = pattern.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(pattern);
    if inner.contains(['.', '*', '+', '?', '[', '{', '(', ')', '\\', '^', '$']) {
        return Err(SqlError::unsupported("regular expressions beyond ^, $ and |"));
    }
    Ok(inner.split('|').any(|part| match (from_start, to_end) {
        (true, true) => text == part,
        (true, false) => text.starts_with(part),
        (false, true) => text.ends_with(part),
        (false, false) => text.contains(part),
    }))
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time::timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// What `version()` and the parameter `crdb_version` say.
pub(super) const VERSION: &str = concat!(
    "crdb-proxy demo ",
    env!("CARGO_PKG_VERSION"),
    " (SQLite underneath; not CockroachDB, only for trying things out)"
);

/// Variables that drivers ask for.
pub(super) const DEFAULTS: [(&str, &str); 18] = [
    ("server_version", "13.0.0"),
    ("server_version_num", "130000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("application_name", ""),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("is_superuser", "on"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("default_transaction_read_only", "off"),
    ("search_path", "\"$user\", public"),
    ("max_identifier_length", "128"),
    ("crdb_version", VERSION),
];

/// Types as people write them, by their numbers in `pg_type`.
const TYPE_NAMES: [(i64, &str); 6] =
    [(16, "boolean"), (17, "bytea"), (20, "bigint"), (21, "smallint"), (23, "integer"), (701, "double precision")];

const VARIABLES_MAX: usize = 500;
const SLEEP_MAX_SECONDS: f64 = 1e9;

/// Enough of the catalogue for psql's `\dt`, `\d TABLE` and `\l`, and for JDBC's and Django's lists of tables.
const VIEWS: &str = "
CREATE TEMP VIEW pg_namespace AS
  SELECT 2200 AS oid, 'public' AS nspname, 10 AS nspowner, NULL AS nspacl;
CREATE TEMP VIEW pg_class AS
  SELECT CAST(rowid + 16384 AS INTEGER) AS oid, name AS relname, 2200 AS relnamespace, 10 AS relowner, 0 AS relam,
         CASE type WHEN 'table' THEN 'r' WHEN 'view' THEN 'v' ELSE 'i' END AS relkind,
         'p' AS relpersistence, 0 AS relispartition, 0 AS reltuples, 0 AS relpages, 0 AS relhasindex,
         0 AS reltoastrelid, 0 AS reltablespace, 0 AS reloftype, 0 AS relchecks, 0 AS relhasrules,
         0 AS relhastriggers, 0 AS relrowsecurity, 0 AS relforcerowsecurity, 'd' AS relreplident,
         NULL AS relpartbound
  FROM main.sqlite_schema WHERE name NOT LIKE 'sqlite_%';
CREATE TEMP VIEW pg_am AS SELECT 2 AS oid, 'heap' AS amname WHERE 0;
CREATE TEMP VIEW pg_inherits AS SELECT 0 AS inhrelid, 0 AS inhparent, 0 AS inhseqno WHERE 0;
CREATE TEMP VIEW pg_attribute AS
  SELECT CAST(t.rowid + 16384 AS INTEGER) AS attrelid, c.name AS attname, c.cid + 1 AS attnum,
         CASE c.type WHEN 'BOOLEAN' THEN 16 WHEN 'BLOB' THEN 17 WHEN 'INTEGER' THEN 20 WHEN 'INT2' THEN 21
                     WHEN 'INT4' THEN 23 WHEN 'REAL' THEN 701 ELSE 25 END AS atttypid,
         -1 AS atttypmod, CASE WHEN c.\"notnull\" OR c.pk THEN 't' ELSE 'f' END AS attnotnull,
         c.dflt_value IS NOT NULL AS atthasdef, 0 AS attisdropped, 0 AS attcollation, '' AS attidentity,
         '' AS attgenerated
  FROM main.sqlite_schema t, pragma_table_info(t.name, 'main') c WHERE t.type IN ('table', 'view');
CREATE TEMP VIEW pg_attrdef AS
  SELECT CAST(t.rowid + 16384 AS INTEGER) AS adrelid, c.cid + 1 AS adnum, c.dflt_value AS adbin
  FROM main.sqlite_schema t, pragma_table_info(t.name, 'main') c WHERE c.dflt_value IS NOT NULL;
CREATE TEMP VIEW pg_collation AS SELECT 0 AS oid, '' AS collname WHERE 0;
CREATE TEMP VIEW pg_description AS
  SELECT 0 AS objoid, 0 AS classoid, 0 AS objsubid, '' AS description WHERE 0;
CREATE TEMP VIEW pg_tables AS
  SELECT 'public' AS schemaname, name AS tablename, 'demo' AS tableowner
  FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%';
CREATE TEMP VIEW pg_database AS SELECT 1 AS oid, current_database() AS datname, 10 AS datdba,
  6 AS encoding, 'C.UTF-8' AS datcollate, 'C.UTF-8' AS datctype, NULL AS datacl;
CREATE TEMP VIEW pg_settings AS SELECT '' AS name, '' AS setting WHERE 0;
CREATE TEMP VIEW pg_range AS SELECT 0 AS rngtypid, 0 AS rngsubtype WHERE 0;
CREATE TEMP VIEW pg_enum AS SELECT 0 AS oid, 0 AS enumtypid, 0.0 AS enumsortorder, '' AS enumlabel WHERE 0;
CREATE TEMP VIEW pg_type AS
  SELECT column1 AS oid, column2 AS typname, 11 AS typnamespace, column3 AS typarray, 0 AS typelem,
         ',' AS typdelim, 'b' AS typtype, 0 AS typrelid, 0 AS typbasetype, column4 AS typcategory,
         0 AS typcollation
  FROM (VALUES (16,'bool',1000,'B'), (17,'bytea',1001,'U'), (20,'int8',1016,'N'), (21,'int2',1005,'N'),
               (23,'int4',1007,'N'), (25,'text',1009,'S'), (701,'float8',1022,'N'));
CREATE TEMP VIEW information_schema_tables AS
  SELECT current_database() AS table_catalog, 'public' AS table_schema, name AS table_name,
         CASE type WHEN 'view' THEN 'VIEW' ELSE 'BASE TABLE' END AS table_type
  FROM main.sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%';
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_expressions_match_and_others_are_refused() {
        assert!(matches_simply("^(a|b)$", "b").unwrap());
        assert!(!matches_simply("^pg_toast", "t").unwrap());
        assert_eq!(matches_simply("a.*", "a").unwrap_err().code(), "0A000");
    }
}
