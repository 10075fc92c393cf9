//! The extended query protocol: prepared statements, portals, descriptions.

use super::{Protocol, fields, format_of, response};
use crate::demo::{
    dialect::{self, Statement},
    error::SqlError,
    sql::Column,
    types,
};
use async_trait::async_trait;
use futures::{Sink, SinkExt};
use pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, Type,
    portal::{Format, Portal},
    query::ExtendedQueryHandler,
    results::{FieldFormat, FieldInfo, Response},
    stmt::{QueryParser, StoredStatement},
    store::{Entry, PortalStore},
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{
    PgWireBackendMessage,
    data::{NoData, ParameterDescription, RowDescription},
    extendedquery::{Describe, Execute, TARGET_TYPE_BYTE_STATEMENT},
};
use rusqlite::types::Value;
use std::{
    fmt::Debug,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// A prepared statement.
#[derive(Debug)]
pub(in crate::demo) struct Prepared {
    statement: Statement,
    /// What clients were told of its columns: they remember, so it holds from then on.
    columns: Mutex<Option<Vec<Column>>>,
    /// What the text and the tables tell of its parameters, once asked.
    types: OnceLock<Vec<Option<Type>>>,
}

impl Prepared {
    fn columns(&self) -> std::sync::MutexGuard<'_, Option<Vec<Column>>> {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parameter_count(&self) -> usize {
        match &self.statement {
            Statement::Query(query) => query.parameter_types.len(),
            _ => 0,
        }
    }
}

/// Reads the text of a Parse message.
pub(in crate::demo) struct Parser;

#[async_trait]
impl QueryParser for Parser {
    type Statement = Arc<Prepared>;

    async fn parse_sql<C>(&self, _client: &C, sql: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Arc<Prepared>>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = dialect::parse(sql)?;
        if statements.len() > 1 {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new("42601", text).into());
        }
        Ok(statements
            .pop()
            .map(|statement| Arc::new(Prepared { statement, columns: Mutex::default(), types: OnceLock::new() })))
    }

    /// Nobody asks: `on_describe` is our own.
    fn get_parameter_types(&self, _prepared: &Arc<Prepared>) -> PgWireResult<Vec<Type>> {
        Ok(Vec::new())
    }

    /// Nobody asks, as above.
    fn get_result_schema(&self, _prepared: &Arc<Prepared>, _format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl ExtendedQueryHandler for Protocol {
    type Statement = Arc<Prepared>;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser)
    }

    async fn on_execute<C>(&self, client: &mut C, mut message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // pgwire reserves memory for as many rows as asked for, and takes a negative number as huge.
        message.max_rows = message.max_rows.clamp(0, ROWS_AT_ONCE_MAX);
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => Some(portal),
            _ => None,
        };
        self.agree(client, portal.as_ref().map(|portal| &portal.statement.statement.statement));
        self._on_execute(client, message).await
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let parameters = self.parameters(client, portal).await?;
        let columns = prepared.columns().clone();
        let outcome = self.sql(client).run(&prepared.statement, parameters, columns).await?;
        self.report(client, &outcome).await?;
        Ok(response(outcome, &portal.result_column_format))
    }

    /// Replaces pgwire's own, which tells of a row without columns where there is no row at all.
    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.agree(client, None);
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let (stored, parameters, format) = if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let stored = match client.portal_store().get_statement(name) {
                Some(Entry::Value(stored)) => Some(stored),
                Some(Entry::Empty) => None,
                None => return Err(PgWireError::StatementNotFound(name.to_owned())),
            };
            let types = match &stored {
                Some(stored) => self.parameter_types(client, stored).await?,
                None => Vec::new(),
            };
            let description = ParameterDescription::new(types.iter().map(Type::oid).collect());
            client.feed(PgWireBackendMessage::ParameterDescription(description)).await?;
            (stored, Vec::new(), Format::UnifiedText)
        } else {
            match client.portal_store().get_portal(name) {
                Some(Entry::Value(portal)) => {
                    let values = self.parameters(client, &portal).await?;
                    (Some(Arc::clone(&portal.statement)), values, portal.result_column_format.clone())
                }
                Some(Entry::Empty) => (None, Vec::new(), Format::UnifiedText),
                None => return Err(PgWireError::PortalNotFound(name.to_owned())),
            }
        };
        let columns = match stored {
            Some(stored) => self.columns(client, &stored.statement, parameters).await?,
            None => Vec::new(),
        };
        let answer = if columns.is_empty() {
            PgWireBackendMessage::NoData(NoData::new())
        } else {
            let fields = fields(&columns, &format);
            PgWireBackendMessage::RowDescription(RowDescription::new(fields.iter().map(Into::into).collect()))
        };
        client.feed(answer).await?;
        Ok(())
    }
}

impl Protocol {
    async fn columns(
        &self,
        client: &impl ClientInfo,
        prepared: &Prepared,
        parameters: Vec<Value>,
    ) -> PgWireResult<Vec<Column>> {
        if let Some(columns) = prepared.columns().clone() {
            return Ok(columns);
        }
        let columns = self.sql(client).describe(&prepared.statement, parameters).await?;
        if !columns.is_empty() {
            *prepared.columns() = Some(columns.clone());
        }
        Ok(columns)
    }

    /// What the client said, then what the statement says, then text.
    async fn parameter_types(
        &self,
        client: &impl ClientInfo,
        stored: &StoredStatement<Arc<Prepared>>,
    ) -> PgWireResult<Vec<Type>> {
        let prepared = &stored.statement;
        let told = |index: usize| {
            let told = stored.parameter_types.get(index).cloned().flatten();
            told.filter(|pg| *pg != Type::UNKNOWN)
        };
        let count = prepared.parameter_count();
        if (0..count).any(|index| told(index).is_none()) && prepared.types.get().is_none() {
            let types = self.sql(client).parameter_types(&prepared.statement).await?;
            let _ = prepared.types.set(types); // Nobody else is here: a session does one thing at a time.
        }
        let known = |index: usize| prepared.types.get()?.get(index)?.clone();
        Ok((0..count).map(|index| told(index).or_else(|| known(index)).unwrap_or(Type::TEXT)).collect())
    }

    async fn parameters(&self, client: &impl ClientInfo, portal: &Portal<Arc<Prepared>>) -> PgWireResult<Vec<Value>> {
        let (given, wanted) = (portal.parameters.len(), portal.statement.statement.parameter_count());
        if given != wanted {
            let text =
                format!("bind message supplies {given} parameters, but the prepared statement requires {wanted}");
            return Err(SqlError::new("08P01", text).into());
        }
        let types = self.parameter_types(client, &portal.statement).await?;
        let mut values = Vec::with_capacity(given);
        for (index, (bytes, pg)) in portal.parameters.iter().zip(&types).enumerate() {
            let binary = format_of(&portal.parameter_format, index) == FieldFormat::Binary;
            values.push(match bytes {
                None => Value::Null,
                Some(bytes) => types::decode(bytes, pg, binary)?,
            });
        }
        Ok(values)
    }
}

const ROWS_AT_ONCE_MAX: i32 = 1_000_000;
