//! One session's statements and transactions. Owns the transaction state and the session's SQLite
//! connection; knows nothing of the wire.
//!
//! A transaction begins in SQLite at its first change only: before that a session that sits idle in
//! a transaction stands in nobody's way.

mod prepared;
mod statement;
mod worker;

pub(super) use statement::Column;

use super::{
    cancel::Running,
    dialect::{Access, Query, Statement},
    error::SqlError,
    functions::{self, Identity},
    store::Store,
};
use pgwire::api::Type;
use prepared::Prepared;
use rusqlite::{Connection, types::Value};
use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};
use worker::Worker;

/// A session's side of the database.
#[derive(Debug)]
pub(super) struct Sql {
    store: Arc<Store>,
    identity: Arc<Identity>,
    worker: Arc<Mutex<Worker>>,
    block: Mutex<Block>,
    prepared: Prepared,
}

/// Where the session stands, as ReadyForQuery tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Each statement by itself.
    None,
    /// In a transaction.
    Open,
    /// In a transaction that failed.
    Failed,
}

/// What a statement gave.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Rows, even if none.
    Rows {
        /// At least one.
        columns: Vec<Column>,
        /// Each with one value per column.
        rows: Vec<Vec<Value>>,
        /// Without the number of rows.
        tag: &'static str,
    },
    /// No rows: the whole command tag, and a number for it.
    Done(&'static str, Option<usize>),
    /// A transaction has begun.
    Begun,
    /// A transaction has ended; the command tag.
    Ended(&'static str),
    /// A session variable has changed.
    Changed {
        /// In lower case.
        name: String,
        /// Its value now.
        value: String,
    },
}

impl Sql {
    /// A session that has not run anything; the connection opens at the first statement.
    pub(super) fn new(store: Arc<Store>, identity: Arc<Identity>) -> Self {
        let worker = Arc::new(Mutex::new(Worker::default()));
        Self { store, identity, worker, block: Mutex::new(Block::None), prepared: Prepared::default() }
    }

    /// Where the session stands.
    pub(super) fn block(&self) -> Block {
        *self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a failure outside of SQLite, such as a malformed Bind.
    pub(super) fn fail(&self) {
        if self.block() == Block::Open {
            self.set_block(Block::Failed);
        }
    }

    /// Runs one statement. With `columns` the types that the client was told hold; without, they are
    /// found from the rows. Cancel safety: the statement may still run to its end on its thread.
    ///
    /// # Errors
    /// What the client shall read; a transaction is marked as failed.
    pub(super) async fn run(
        &self,
        statement: &Statement,
        parameters: Vec<Value>,
        columns: Option<Vec<Column>>,
    ) -> Result<Outcome, SqlError> {
        self.identity.running.begin();
        let outcome = self.dispatch(statement, parameters, columns).await;
        self.identity.running.end();
        if outcome.is_err() {
            self.fail();
        }
        outcome
    }

    /// The columns that a statement will give, without running it for good: none for a statement that
    /// gives no rows. Parameters that are not known yet count as null.
    ///
    /// # Errors
    /// As for running it.
    pub(super) async fn describe(
        &self,
        statement: &Statement,
        parameters: Vec<Value>,
    ) -> Result<Vec<Column>, SqlError> {
        match statement {
            Statement::Show(name) => return Ok(vec![Column { name: name.clone(), pg: Type::TEXT }]),
            Statement::Query(_) | Statement::Execute { .. } if self.block() == Block::Failed => {
                return Err(SqlError::failed_transaction());
            }
            _ => (),
        }
        self.identity.running.begin();
        let columns = match statement {
            Statement::Query(query) => self.learn_columns(query.as_ref().clone(), parameters).await,
            Statement::Execute { name, arguments } => match self.executed(name, arguments.as_deref()).await {
                Ok((query, parameters)) => self.learn_columns(query, parameters).await,
                Err(error) => Err(error),
            },
            _ => Ok(Vec::new()),
        };
        self.identity.running.end();
        if columns.is_err() {
            self.fail();
        }
        columns
    }

    async fn learn_columns(&self, query: Query, parameters: Vec<Value>) -> Result<Vec<Column>, SqlError> {
        let access = if query.access == Access::Nothing { Access::Nothing } else { Access::Read };
        let identity = Arc::clone(&self.identity);
        let learn = move |connection: &Connection| {
            identity.dry_run.store(true, Ordering::Relaxed);
            let columns = statement::describe(connection, &query, &parameters);
            identity.dry_run.store(false, Ordering::Relaxed);
            columns
        };
        self.on_thread(access, learn).await
    }

    /// The types of a statement's parameters as far as its text and the tables tell.
    ///
    /// # Errors
    /// 40001 or 57014 while waiting for another session.
    pub(super) async fn parameter_types(&self, statement: &Statement) -> Result<Vec<Option<Type>>, SqlError> {
        let Statement::Query(query) = statement else {
            return Ok(Vec::new());
        };
        if self.block() == Block::Failed {
            return Ok(query.parameter_types.clone());
        }
        self.identity.running.begin();
        let types = self.learn_types(query).await;
        self.identity.running.end();
        types
    }

    async fn learn_types(&self, query: &Query) -> Result<Vec<Option<Type>>, SqlError> {
        let mut known = query.parameter_types.clone();
        let Some(meetings) = query.meetings.clone() else {
            return Ok(known);
        };
        let learn = move |connection: &Connection| Ok(statement::column_types(connection, &meetings));
        for (slot, learned) in known.iter_mut().zip(self.on_thread(Access::Read, learn).await?) {
            *slot = slot.take().or(learned);
        }
        Ok(known)
    }

    /// Opens a transaction around several statements that came as one text.
    pub(super) fn begin_implicit(&self) {
        self.set_block(Block::Open);
    }

    /// Ends a transaction: keeps the changes, or takes them back where it failed.
    ///
    /// # Errors
    /// 40001 where SQLite cannot commit; the changes are gone then.
    pub(super) async fn end(&self, keep: bool) -> Result<(), SqlError> {
        let keep = keep && self.block() == Block::Open;
        self.set_block(Block::None);
        let worker = Arc::clone(&self.worker);
        blocking(move || worker.lock().unwrap_or_else(PoisonError::into_inner).end(keep)).await
    }

    async fn dispatch(
        &self,
        statement: &Statement,
        parameters: Vec<Value>,
        columns: Option<Vec<Column>>,
    ) -> Result<Outcome, SqlError> {
        let block = self.block();
        let ends = matches!(statement, Statement::Commit | Statement::Rollback | Statement::RollbackTo(_));
        if block == Block::Failed && !ends {
            return Err(SqlError::failed_transaction());
        }
        match statement {
            Statement::Begin => {
                self.set_block(Block::Open);
                Ok(Outcome::Begun)
            }
            Statement::Commit => {
                self.end(true).await?;
                Ok(Outcome::Ended(if block == Block::Failed { "ROLLBACK" } else { "COMMIT" }))
            }
            Statement::Rollback => {
                self.end(false).await?;
                Ok(Outcome::Ended("ROLLBACK"))
            }
            Statement::Savepoint { .. } | Statement::RollbackTo(_) if block == Block::None => {
                Err(SqlError::new("25P01", "savepoints can only be used in transaction blocks"))
            }
            Statement::Savepoint { sql, tag } => self.in_transaction(sql.clone(), tag).await,
            Statement::RollbackTo(sql) => {
                let outcome = self.in_transaction(sql.clone(), "ROLLBACK").await?;
                self.set_block(Block::Open);
                Ok(outcome)
            }
            Statement::Discard if block == Block::Open => {
                Err(SqlError::new("25001", "DISCARD ALL cannot run inside a transaction block"))
            }
            Statement::Query(query) => self.query(query, parameters, columns).await,
            Statement::Prepare { name, query } => {
                self.learn_columns(query.as_ref().clone(), Vec::new()).await?; // Finds what is wrong with it now.
                self.prepared.keep(name, query)?;
                Ok(Outcome::Done("PREPARE", None))
            }
            Statement::Execute { name, arguments } => {
                let (query, parameters) = self.executed(name, arguments.as_deref()).await?;
                self.query(&query, parameters, columns).await
            }
            other => self.variables(other),
        }
    }

    fn variables(&self, statement: &Statement) -> Result<Outcome, SqlError> {
        match statement {
            Statement::Set { name, value } => {
                let encoding = value.to_ascii_lowercase().replace('-', "");
                if name == "client_encoding" && !matches!(encoding.as_str(), "utf8" | "unicode" | "default") {
                    return Err(SqlError::new("22023", format!("the demo speaks UTF8 only, not {value}")));
                }
                self.identity.set_variable(name, value)?;
                Ok(Outcome::Changed { name: name.clone(), value: value.clone() })
            }
            Statement::Reset(name) => {
                self.identity.reset_variables(name.as_deref());
                Ok(Outcome::Done("RESET", None))
            }
            Statement::Deallocate(name) => {
                self.prepared.forget(name.as_deref());
                Ok(Outcome::Done(if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" }, None))
            }
            Statement::Discard => {
                self.identity.reset_variables(None);
                self.prepared.forget(None);
                Ok(Outcome::Done("DISCARD ALL", None))
            }
            Statement::Show(name) => {
                let value = self.identity.variable(name).ok_or_else(|| functions::unknown_variable(name))?;
                let columns = vec![Column { name: name.clone(), pg: Type::TEXT }];
                Ok(Outcome::Rows { columns, rows: vec![vec![Value::Text(value)]], tag: "SHOW" })
            }
            Statement::Nothing(tag) => Ok(Outcome::Done(tag, None)),
            _ => Err(SqlError::new("XX000", "statement of an unexpected kind")),
        }
    }

    async fn in_transaction(&self, sql: String, tag: &'static str) -> Result<Outcome, SqlError> {
        self.on_thread(Access::Write, move |connection| {
            connection.execute_batch(&sql)?;
            Ok(Outcome::Done(tag, None))
        })
        .await
    }

    async fn query(
        &self,
        query: &Query,
        parameters: Vec<Value>,
        columns: Option<Vec<Column>>,
    ) -> Result<Outcome, SqlError> {
        let query = query.clone();
        self.on_thread(query.access, move |connection| statement::execute(connection, &query, &parameters, columns))
            .await
    }

    /// What EXECUTE runs: the prepared query, and its parameters from the one row of `arguments`.
    async fn executed(&self, name: &str, arguments: Option<&Query>) -> Result<(Query, Vec<Value>), SqlError> {
        let query = self.prepared.find(name)?;
        let values = match arguments {
            Some(arguments) => match self.query(arguments, Vec::new(), None).await? {
                Outcome::Rows { mut rows, .. } if rows.len() == 1 => rows.pop().unwrap_or_default(),
                _ => return Err(SqlError::new("42601", "syntax error in the values of EXECUTE")),
            },
            None => Vec::new(),
        };
        let parameters = prepared::fitted(name, values, &self.learn_types(&query).await?)?;
        Ok((query, parameters))
    }

    /// Runs `work` on a thread that may block, in the turn that it needs, inside the transaction if
    /// there is one.
    async fn on_thread<T: Send + 'static>(
        &self,
        access: Access,
        work: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let running: &Running = &self.identity.running;
        let writes = access == Access::Write;
        let has_turn = self.worker.lock().unwrap_or_else(PoisonError::into_inner).turn.is_some();
        let read_turn = match access {
            Access::Read if !has_turn => Some(self.store.read_turn(running).await?),
            _ => None,
        };
        let write_turn = if writes && !has_turn { Some(self.store.write_turn(running).await?) } else { None };
        let in_block = self.block() != Block::None;
        let (worker, store, identity) = (Arc::clone(&self.worker), Arc::clone(&self.store), Arc::clone(&self.identity));
        blocking(move || {
            let _read_turn = read_turn;
            let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = worker.open(&store, &identity, access)?;
            if !in_block || write_turn.is_none() {
                let done = work(connection);
                drop(write_turn);
                return done;
            }
            connection.execute_batch("BEGIN IMMEDIATE")?;
            worker.turn = write_turn;
            work(worker.open(&store, &identity, access)?)
        })
        .await
    }

    fn set_block(&self, block: Block) {
        *self.block.lock().unwrap_or_else(PoisonError::into_inner) = block;
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.identity.running.abandon();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SqlError> + Send + 'static,
) -> Result<T, SqlError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_joined) => Err(SqlError::new("XX000", "the demo could not finish this statement")),
    }
}
