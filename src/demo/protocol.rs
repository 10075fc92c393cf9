//! The simple and the extended query protocol of one session: statements, portals, descriptions,
//! rows. What a statement does is `sql`'s business.

use super::{
    cancel::Running,
    dialect::{self, Statement},
    error::SqlError,
    functions::Identity,
    login,
    region::Shared,
    sql::{Block, Column, Outcome, Sql},
    types,
};
use async_trait::async_trait;
use futures::{Sink, SinkExt, stream};
use pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, METADATA_DATABASE, METADATA_USER, Type,
    portal::{Format, Portal},
    query::{ExtendedQueryHandler, SimpleQueryHandler},
    results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag},
    stmt::{QueryParser, StoredStatement},
    store::{Entry, PortalStore},
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{
    PgWireBackendMessage,
    data::{NoData, ParameterDescription, RowDescription},
    extendedquery::{Describe, Execute, TARGET_TYPE_BYTE_STATEMENT},
    response::TransactionStatus,
    simplequery::Query as SimpleQuery,
    startup::ParameterStatus,
};
use rusqlite::types::Value;
use std::{
    fmt::Debug,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool},
};

/// Both query protocols of one session.
pub(super) struct Protocol {
    shared: Arc<Shared>,
    running: Arc<Running>,
    process: i32,
    sql: OnceLock<Sql>,
}

impl Protocol {
    /// A session that can be cancelled through `running`; `process` is what `pg_backend_pid()` says.
    pub(super) fn new(shared: Arc<Shared>, running: Arc<Running>, process: i32) -> Self {
        Self { shared, running, process, sql: OnceLock::new() }
    }

    /// The session's database, opened at the first statement: user and database are known by then.
    fn sql(&self, client: &impl ClientInfo) -> &Sql {
        self.sql.get_or_init(|| {
            let told = |name: &str| client.metadata().get(name).cloned();
            let user = told(METADATA_USER).unwrap_or_default();
            let identity = Identity {
                region: self.shared.name.clone(),
                database: told(METADATA_DATABASE).filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone()),
                user,
                process: self.process,
                variables: Mutex::default(),
                running: Arc::clone(&self.running),
                dry_run: AtomicBool::new(false),
            };
            for (name, value) in client.metadata() {
                let special = [METADATA_USER, METADATA_DATABASE, "options"].contains(&name.as_str());
                if !special && identity.set_variable(name, value).is_err() {
                    break;
                }
            }
            Sql::new(Arc::clone(&self.shared.store), Arc::new(identity))
        })
    }

    /// Lets pgwire's idea of the transaction and ours agree before a statement: pgwire knows of
    /// malformed messages, and only we know of savepoints.
    fn agree(&self, client: &mut impl ClientInfo, first: Option<&Statement>) {
        if client.transaction_status() == TransactionStatus::Error {
            self.sql(client).fail();
            if matches!(first, Some(Statement::RollbackTo(_))) {
                // pgwire has no way back from a failed transaction. Should this fail too, the error
                // brings the old status back.
                client.set_transaction_status(TransactionStatus::Transaction);
            }
        }
    }

    async fn report<C>(&self, client: &mut C, outcome: &Outcome) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let Outcome::Changed { name, value } = outcome
            && let Some(name) = login::reported(name)
        {
            let status = ParameterStatus::new(name.to_owned(), value.clone());
            client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl SimpleQueryHandler for Protocol {
    async fn on_query<C>(&self, client: &mut C, query: SimpleQuery) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let first = dialect::parse(&query.query).ok().and_then(|statements| statements.into_iter().next());
        self.agree(client, first.as_ref());
        self._on_query(client, query).await
    }

    /// Several statements in one text are one transaction, unless they say otherwise.
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let sql = self.sql(client);
        let statements = dialect::parse(query).inspect_err(|_| sql.fail())?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]); // Nothing but comments.
        }
        let several = statements.len() > 1;
        let mut implicit = false;
        let mut responses = Vec::with_capacity(statements.len());
        for statement in &statements {
            if several && sql.block() == Block::None {
                sql.begin_implicit();
                implicit = true;
            }
            implicit &= !matches!(statement, Statement::Begin);
            match sql.run(statement, Vec::new(), None).await {
                Ok(outcome) => {
                    self.report(client, &outcome).await?;
                    responses.push(response(outcome, &Format::UnifiedText));
                }
                Err(error) => {
                    responses.push(Response::Error(error.into_info()));
                    if implicit {
                        sql.end(false).await?;
                    }
                    return Ok(responses);
                }
            }
        }
        if implicit && let Err(error) = sql.end(true).await {
            responses.push(Response::Error(error.into_info()));
        }
        Ok(responses)
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    statement: Statement,
    /// What clients were told of its columns: they remember, so it holds from then on.
    columns: Mutex<Option<Vec<Column>>>,
}

impl Prepared {
    fn columns(&self) -> std::sync::MutexGuard<'_, Option<Vec<Column>>> {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parameter_type(&self, told: &[Option<Type>], index: usize) -> Type {
        let told = told.get(index).cloned().flatten().filter(|pg| *pg != Type::UNKNOWN);
        let known = match &self.statement {
            Statement::Query(query) => query.parameter_types.get(index).cloned().flatten(),
            _ => None,
        };
        told.or(known).unwrap_or(Type::TEXT)
    }

    fn parameter_count(&self) -> usize {
        match &self.statement {
            Statement::Query(query) => query.parameter_types.len(),
            _ => 0,
        }
    }
}

/// Reads the text of a Parse message.
pub(super) struct Parser;

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
        Ok(statements.pop().map(|statement| Arc::new(Prepared { statement, columns: Mutex::default() })))
    }

    fn get_parameter_types(&self, prepared: &Arc<Prepared>) -> PgWireResult<Vec<Type>> {
        Ok((0..prepared.parameter_count()).map(|index| prepared.parameter_type(&[], index)).collect())
    }

    fn get_result_schema(&self, prepared: &Arc<Prepared>, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let columns = prepared.columns().clone().unwrap_or_default();
        Ok(fields(&columns, format.unwrap_or(&Format::UnifiedText)))
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
        let parameters = parameters(portal)?;
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
            let types = stored.as_ref().map(|stored| parameter_oids(stored)).unwrap_or_default();
            let description = ParameterDescription::new(types);
            client.feed(PgWireBackendMessage::ParameterDescription(description)).await?;
            (stored, Vec::new(), Format::UnifiedText)
        } else {
            match client.portal_store().get_portal(name) {
                Some(Entry::Value(portal)) => {
                    let values = parameters(&portal)?;
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
}

fn parameter_oids(stored: &StoredStatement<Arc<Prepared>>) -> Vec<u32> {
    let prepared = &stored.statement;
    (0..prepared.parameter_count()).map(|index| prepared.parameter_type(&stored.parameter_types, index).oid()).collect()
}

fn parameters(portal: &Portal<Arc<Prepared>>) -> Result<Vec<Value>, SqlError> {
    let prepared = &portal.statement.statement;
    let (given, wanted) = (portal.parameters.len(), prepared.parameter_count());
    if given != wanted {
        let text = format!("bind message supplies {given} parameters, but the prepared statement requires {wanted}");
        return Err(SqlError::new("08P01", text));
    }
    let mut values = Vec::with_capacity(given);
    for (index, bytes) in portal.parameters.iter().enumerate() {
        values.push(match bytes {
            None => Value::Null,
            Some(bytes) => {
                let pg = prepared.parameter_type(&portal.statement.parameter_types, index);
                types::decode(bytes, &pg, format_of(&portal.parameter_format, index) == FieldFormat::Binary)?
            }
        });
    }
    Ok(values)
}

/// pgwire's own look-up panics where a Bind gave too few formats.
fn format_of(format: &Format, index: usize) -> FieldFormat {
    match format {
        Format::UnifiedText => FieldFormat::Text,
        Format::UnifiedBinary => FieldFormat::Binary,
        Format::Individual(codes) => FieldFormat::from(codes.get(index).copied().unwrap_or(0)),
    }
}

fn fields(columns: &[Column], format: &Format) -> Vec<FieldInfo> {
    let field = |(index, column): (usize, &Column)| {
        let size = match column.pg {
            Type::BOOL => 1,
            Type::INT2 => 2,
            Type::INT4 => 4,
            Type::INT8 | Type::FLOAT8 => 8,
            _ => -1,
        };
        FieldInfo::new(column.name.clone(), None, None, column.pg.clone(), format_of(format, index))
            .with_type_size(size)
    };
    columns.iter().enumerate().map(field).collect()
}

fn response(outcome: Outcome, format: &Format) -> Response {
    match outcome {
        Outcome::Rows { columns, rows, tag } => {
            let fields = Arc::new(fields(&columns, format));
            let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
            let schema = Arc::clone(&fields);
            let encode = move |row: Vec<Value>| {
                for (value, field) in row.iter().zip(schema.iter()) {
                    types::encode(&mut encoder, value, field.datatype(), field.format())?;
                }
                Ok(encoder.take_row())
            };
            let mut response = QueryResponse::new(fields, stream::iter(rows.into_iter().map(encode)));
            response.set_command_tag(tag);
            Response::Query(response)
        }
        Outcome::Done(tag, None) => Response::Execution(Tag::new(tag)),
        Outcome::Done(tag, Some(rows)) => Response::Execution(Tag::new(tag).with_rows(rows)),
        Outcome::Begun => Response::TransactionStart(Tag::new("BEGIN")),
        Outcome::Ended(tag) => Response::TransactionEnd(Tag::new(tag)),
        Outcome::Changed { .. } => Response::Execution(Tag::new("SET")),
    }
}

const ROWS_AT_ONCE_MAX: i32 = 1_000_000;
