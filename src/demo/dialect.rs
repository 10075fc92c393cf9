//! The client's SQL, read: what kind of statement it is and what SQLite shall run.
//!
//! Owns everything lexical. Opens no database and keeps no state.

pub(super) mod columns;
mod lexer;
pub(super) mod parameters;
mod prepare;
mod rewrite;
pub(super) mod type_name;

use super::error::SqlError;
use columns::ColumnHint;
use lexer::Token;
use parameters::Meetings;
use pgwire::api::Type;

/// One statement of a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Statement {
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `SAVEPOINT`, `RELEASE`: SQLite's own words, and the command tag.
    Savepoint {
        /// For SQLite.
        sql: String,
        /// For the client.
        tag: &'static str,
    },
    /// `ROLLBACK TO`: leaves a failed transaction usable again.
    RollbackTo(String),
    /// `SET name = value`.
    Set {
        /// In lower case.
        name: String,
        /// As text, without quotes.
        value: String,
    },
    /// `RESET name`; without a name `RESET ALL`.
    Reset(Option<String>),
    /// `SHOW name`, in lower case.
    Show(String),
    /// `DISCARD ALL`.
    Discard,
    /// `PREPARE name AS query`.
    Prepare {
        /// As other statements name it.
        name: String,
        /// With the declared types.
        query: Box<Query>,
    },
    /// `EXECUTE name (…)`.
    Execute {
        /// As PREPARE named it.
        name: String,
        /// A query for one row of values.
        arguments: Option<Box<Query>>,
    },
    /// `DEALLOCATE name`; without a name `DEALLOCATE ALL`.
    Deallocate(Option<String>),
    /// Accepted and without effect; the command tag.
    Nothing(&'static str),
    /// Anything that SQLite runs.
    Query(Box<Query>),
}

/// A statement for SQLite.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    /// What SQLite runs, with parameters as `?1`.
    pub(super) sql: String,
    /// What it may touch.
    pub(super) access: Access,
    /// The command tag, without the count.
    pub(super) tag: &'static str,
    /// Whether the tag ends in a number of rows.
    pub(super) counted: bool,
    /// Names and types of result columns that the text shows.
    pub(super) columns: Vec<ColumnHint>,
    /// Types of parameters that casts show; as many as there are parameters.
    pub(super) parameter_types: Vec<Option<Type>>,
    /// The columns that parameters meet.
    pub(super) meetings: Option<Meetings>,
}

/// What a statement may touch; decides which turn it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// No table: constants and functions only.
    Nothing,
    /// Reads tables.
    Read,
    /// May change something.
    Write,
}

/// Reads all statements of a text, in order.
///
/// # Errors
/// 42601 for what cannot be read, 0A000 for what this demo does not have.
pub(super) fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    lexer::statements(sql)?.into_iter().map(statement).collect()
}

fn statement(tokens: Vec<Token>) -> Result<Statement, SqlError> {
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(text)) => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    let (first, second) = (word(0), word(1));
    Ok(match (first.as_str(), second.as_str()) {
        ("begin", _) | ("start", "transaction") => Statement::Begin,
        ("commit" | "end", _) => Statement::Commit,
        ("rollback" | "abort", _) => match tokens.iter().position(|token| token.is("to")) {
            Some(at) => Statement::RollbackTo(format!("ROLLBACK TO {}", last_name(&tokens, at)?)),
            None => Statement::Rollback,
        },
        ("savepoint", _) => {
            Statement::Savepoint { sql: format!("SAVEPOINT {}", last_name(&tokens, 0)?), tag: "SAVEPOINT" }
        }
        ("release", _) => Statement::Savepoint { sql: format!("RELEASE {}", last_name(&tokens, 0)?), tag: "RELEASE" },
        ("set", _) => set(&tokens)?,
        ("use", _) => Statement::Set { name: "database".to_owned(), value: last_name(&tokens, 0)? },
        ("reset", "all") => Statement::Reset(None),
        ("reset", _) => Statement::Reset(Some(dotted(tokens.get(1..).unwrap_or_default()))),
        ("show", "tables") => Statement::Query(Box::new(query(lexer::statements(SHOW_TABLES)?.concat()))),
        ("show", "databases") => Statement::Query(Box::new(query(lexer::statements(SHOW_DATABASES)?.concat()))),
        ("show", _) => Statement::Show(show(tokens.get(1..).unwrap_or_default())),
        ("discard", _) => Statement::Discard,
        ("unlisten", _) => Statement::Nothing("UNLISTEN"),
        ("prepare", "transaction") => return Err(SqlError::unsupported("PREPARE TRANSACTION")),
        ("prepare", _) => prepare::prepare(tokens)?,
        ("execute", _) => prepare::execute(&tokens)?,
        ("deallocate", _) => prepare::deallocate(&tokens)?,
        ("comment", "on") => Statement::Nothing("COMMENT"),
        ("analyze" | "vacuum", _) if !tokens.iter().any(|token| token.is("into")) => Statement::Nothing("ANALYZE"),
        ("grant", _) => Statement::Nothing("GRANT"),
        ("create", "schema" | "extension") if tokens.iter().any(|token| token.is("exists")) => {
            Statement::Nothing("CREATE SCHEMA")
        }
        (_, "database" | "schema" | "extension" | "sequence" | "function" | "procedure" | "role" | "user" | "type")
            if matches!(first.as_str(), "create" | "alter" | "drop") =>
        {
            return Err(SqlError::unsupported(&format!("{} {second}", first.to_ascii_uppercase())));
        }
        ("copy", _) => {
            let hint = "Use INSERT; one statement takes many rows: INSERT INTO t VALUES (1, 'a'), (2, 'b').";
            return Err(SqlError::unsupported("COPY").hint(hint));
        }
        (
            "listen" | "notify" | "declare" | "fetch" | "move" | "lock" | "do" | "call" | "import" | "export"
            | "backup" | "restore" | "revoke",
            _,
        ) => return Err(SqlError::unsupported(&first.to_ascii_uppercase())),
        _ => Statement::Query(Box::new(query(tokens))),
    })
}

fn last_name(tokens: &[Token], after: usize) -> Result<String, SqlError> {
    match tokens.last() {
        Some(token @ (Token::Word(_) | Token::Quoted(_))) if tokens.len() > after + 1 => Ok(token.text()),
        _ => Err(SqlError::new("42601", "syntax error: a name is missing")),
    }
}

/// `SET [SESSION|LOCAL] name {=|TO} value`, `SET TIME ZONE value`, and the forms about transactions.
fn set(tokens: &[Token]) -> Result<Statement, SqlError> {
    let rest = tokens.get(1..).unwrap_or_default();
    let rest = match rest {
        [first, more @ ..] if first.is("local") || first.is("session") => more,
        _ => rest,
    };
    match rest {
        [first, ..] if first.is("transaction") || first.is("characteristics") || first.is("constraints") => {
            Ok(Statement::Nothing("SET"))
        }
        [first, second, value @ ..] if first.is("time") && second.is("zone") => {
            Ok(Statement::Set { name: "timezone".to_owned(), value: joined(value) })
        }
        [first, value @ ..] if first.is("names") => {
            Ok(Statement::Set { name: "client_encoding".to_owned(), value: joined(value) })
        }
        _ => {
            let at = rest
                .iter()
                .position(|token| token.is_mark("=") || token.is("to"))
                .ok_or_else(|| SqlError::new("42601", "syntax error in SET"))?;
            let (name, value) = rest.split_at(at);
            Ok(Statement::Set { name: dotted(name), value: joined(value.get(1..).unwrap_or_default()) })
        }
    }
}

fn show(tokens: &[Token]) -> String {
    let isolation = tokens.iter().any(|token| token.is("isolation"));
    match tokens {
        _ if isolation => "transaction_isolation".to_owned(),
        [first, second] if first.is("time") && second.is("zone") => "timezone".to_owned(),
        [first, rest @ ..] if first.is("session") => dotted(rest),
        _ => dotted(tokens),
    }
}

fn dotted(tokens: &[Token]) -> String {
    tokens.iter().map(Token::text).collect::<String>().replace('"', "").to_ascii_lowercase()
}

fn joined(tokens: &[Token]) -> String {
    let parts: Vec<_> = tokens.iter().filter_map(Token::value).collect();
    parts.join(", ")
}

fn query(tokens: Vec<Token>) -> Query {
    let (tag, counted, access) = command(&tokens);
    let columns = columns::hints(&tokens);
    let tokens = shortcuts(tokens);
    let rewritten = rewrite::rewrite(tokens);
    let meetings = parameters::meetings(&rewritten.tokens, rewritten.parameter_types.len());
    let sql: Vec<_> = rewritten.tokens.iter().map(Token::text).collect();
    Query { sql: sql.join(" "), access, tag, counted, columns, parameter_types: rewritten.parameter_types, meetings }
}

/// Whole statements that SQLite spells otherwise.
fn shortcuts(mut tokens: Vec<Token>) -> Vec<Token> {
    let first = tokens.first().cloned().unwrap_or_else(|| Token::word(""));
    if first.is("truncate") {
        let names = tokens.into_iter().skip(1).filter(|token| !token.is("table"));
        return ["DELETE", "FROM"].map(Token::word).into_iter().chain(names).collect();
    }
    if first.is("table") {
        let names = tokens.into_iter().skip(1);
        let select = [Token::word("SELECT"), Token::mark("*"), Token::word("FROM")];
        return select.into_iter().chain(names).collect();
    }
    if first.is("select") && tokens.iter().any(|token| ALWAYS_EMPTY.iter().any(|name| token.is(name))) {
        return ["SELECT", "NULL", "WHERE", "false"].map(Token::word).into();
    }
    if first.is("explain") {
        tokens.splice(0..1, ["EXPLAIN", "QUERY", "PLAN"].map(Token::word));
        tokens.retain(|token| !token.is("analyze") && !token.is("verbose"));
    }
    tokens
}

/// The command tag, whether it counts rows, and what the statement may touch.
fn command(tokens: &[Token]) -> (&'static str, bool, Access) {
    let has = |word: &str| tokens.iter().any(|token| token.is(word));
    let first = tokens.first().and_then(Token::name).unwrap_or_default();
    let verb = match first.as_str() {
        "with" => ["insert", "update", "delete", "upsert"].into_iter().find(|verb| has(verb)).unwrap_or("select"),
        other => other,
    };
    match verb {
        "select" if !has("from") && !has("with") && !has("table") => ("SELECT", true, Access::Nothing),
        "select" | "values" | "table" => ("SELECT", true, Access::Read),
        "explain" => ("EXPLAIN", false, Access::Read),
        "insert" | "upsert" | "replace" => ("INSERT 0", true, Access::Write),
        "update" => ("UPDATE", true, Access::Write),
        "delete" => ("DELETE", true, Access::Write),
        "truncate" => ("TRUNCATE TABLE", false, Access::Write),
        _ => (definition_tag(&first, tokens), false, Access::Write),
    }
}

fn definition_tag(first: &str, tokens: &[Token]) -> &'static str {
    let kind = |word: &str| tokens.iter().take(4).any(|token| token.is(word));
    match first {
        "create" if kind("index") => "CREATE INDEX",
        "create" if kind("view") => "CREATE VIEW",
        "create" => "CREATE TABLE",
        "drop" if kind("index") => "DROP INDEX",
        "drop" if kind("view") => "DROP VIEW",
        "drop" => "DROP TABLE",
        "alter" => "ALTER TABLE",
        _ => "OK",
    }
}

/// Parts of the catalogue about what the demo has none of. psql's `\d TABLE` asks for each, in SQL that
/// SQLite cannot read.
const ALWAYS_EMPTY: [&str; 3] = ["pg_policy", "pg_statistic_ext", "pg_publication"];

const SHOW_TABLES: &str =
    "SELECT table_schema AS schema_name, table_name FROM information_schema.tables ORDER BY table_name";
const SHOW_DATABASES: &str = "SELECT current_database() AS database_name";

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> Statement {
        let mut statements = parse(sql).unwrap();
        assert_eq!(statements.len(), 1, "{sql}");
        statements.remove(0)
    }

    #[test]
    fn what_drivers_send_by_themselves_is_understood() {
        let set = |name: &str, value: &str| Statement::Set { name: name.to_owned(), value: value.to_owned() };
        let cases = [
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("SET application_name = 'PostgreSQL JDBC Driver'", set("application_name", "PostgreSQL JDBC Driver")),
            ("SET SESSION DateStyle TO ISO, MDY", set("datestyle", "ISO, MDY")),
            ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Statement::Nothing("SET")),
            ("SHOW TRANSACTION ISOLATION LEVEL", Statement::Show("transaction_isolation".to_owned())),
            ("show standard_conforming_strings", Statement::Show("standard_conforming_strings".to_owned())),
            ("BEGIN READ WRITE", Statement::Begin),
            ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", Statement::Begin),
            ("END", Statement::Commit),
            ("ROLLBACK TO SAVEPOINT \"s 1\"", Statement::RollbackTo("ROLLBACK TO \"s 1\"".to_owned())),
            ("DISCARD ALL", Statement::Discard),
            ("RESET ALL", Statement::Reset(None)),
        ];

        for (sql, expected) in cases {
            assert_eq!(one(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_query_says_what_it_touches_and_how_its_tag_reads() {
        let cases = [
            ("SELECT pg_sleep(1)", Access::Nothing, "SELECT"),
            ("SELECT * FROM t", Access::Read, "SELECT"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", Access::Read, "SELECT"),
            ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", Access::Write, "INSERT 0"),
            ("UPDATE t SET a = 1", Access::Write, "UPDATE"),
            ("CREATE UNIQUE INDEX i ON t (a)", Access::Write, "CREATE INDEX"),
            ("VALUES (1)", Access::Read, "SELECT"),
        ];

        for (sql, access, tag) in cases {
            let Statement::Query(query) = one(sql) else { panic!("{sql}") };
            assert_eq!((query.access, query.tag), (access, tag), "{sql}");
        }
    }

    #[test]
    fn what_the_demo_lacks_is_said_in_words() {
        for sql in ["COPY t FROM STDIN", "CREATE DATABASE x", "LISTEN a", "SAVEPOINT", "SET a"] {
            let code = parse(sql).unwrap_err().code().to_owned();
            assert!(matches!(code.as_str(), "0A000" | "42601"), "{sql}: {code}");
        }
    }
}
