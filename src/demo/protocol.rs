//! One session's query protocols: the simple one here, the extended one in `extended`, and what both
//! share, such as rows. What a statement does is `sql`'s business.

mod extended;

use super::{
    cancel::Running,
    dialect::{self, Statement},
    functions::Identity,
    login,
    region::Shared,
    sql::{Block, Column, Outcome, Sql},
    types,
};
use async_trait::async_trait;
use futures::{Sink, SinkExt, stream};
use pgwire::api::{
    ClientInfo, ClientPortalStore, METADATA_DATABASE, METADATA_USER, Type,
    portal::Format,
    query::SimpleQueryHandler,
    results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag},
    store::PortalStore,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::{
    PgWireBackendMessage, response::TransactionStatus, simplequery::Query as SimpleQuery, startup::ParameterStatus,
};
use rusqlite::types::Value;
use std::{
    fmt::Debug,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicBool},
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
