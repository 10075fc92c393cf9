//! The one in-memory SQLite database of the cluster, and the turns that sessions take on it.
//!
//! Owns how it is opened and how long a statement waits for another session. Never touches a file.
//!
//! SQLite's in-memory file system lets one transaction write and nobody read meanwhile, and answers
//! everyone else with "busy" at once. So nobody asks it out of turn: readers share, a writer is alone
//! from its first change to the end of its transaction. Transactions read what is committed at each
//! statement, as in READ COMMITTED, until their own first change. SQLite itself bounds the database, to
//! 1 GiB.

use super::{
    cancel::Running,
    error::SqlError,
    functions::{self, Identity},
};
use rusqlite::{
    Connection, OpenFlags, Result,
    config::DbConfig,
    hooks::{AuthAction, AuthContext, Authorization},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock},
    time::timeout,
};

/// The database that all sessions share.
#[derive(Debug)]
pub(super) struct Store {
    uri: String,
    turns: Arc<RwLock<()>>,
    turn_limit: Duration,
    /// The database lives as long as one connection to it.
    _anchor: Mutex<Connection>,
}

impl Store {
    /// Makes an empty database. A statement waits up to `turn_limit` for another session.
    pub(super) fn open(turn_limit: Duration) -> Result<Self> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_unspecified| rusqlite::Error::InvalidQuery)?;
        // The slash makes the name common to all connections of this process.
        let uri = format!("file:/crdb-proxy-demo-{:016x}?vfs=memdb", u64::from_be_bytes(random));
        let anchor = connect(&uri)?;
        Ok(Self { uri, turns: Arc::default(), turn_limit, _anchor: Mutex::new(anchor) })
    }

    /// Opens a session's own connection. Blocks, and reads the database: the caller has its turn.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn connect(&self, identity: &Arc<Identity>) -> Result<Connection> {
        let connection = connect(&self.uri)?;
        functions::install_catalogue(&connection)?;
        guarded(connection, identity)
    }

    /// Opens a connection to a database of its own, always empty. SQLite reads the schema even for
    /// `SELECT 1`; here that waits for nobody. Blocks.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn connect_without_tables(&self, identity: &Arc<Identity>) -> Result<Connection> {
        guarded(Connection::open_in_memory()?, identity)
    }

    /// Waits until nobody writes.
    ///
    /// # Errors
    /// 40001 after the limit, 57014 when cancelled. Cancel safety: leaves the queue.
    pub(super) async fn read_turn(&self, running: &Running) -> std::result::Result<OwnedRwLockReadGuard<()>, SqlError> {
        self.wait(Arc::clone(&self.turns).read_owned(), running).await
    }

    /// Waits until nobody reads or writes.
    ///
    /// # Errors
    /// 40001 after the limit, 57014 when cancelled. Cancel safety: leaves the queue.
    pub(super) async fn write_turn(
        &self,
        running: &Running,
    ) -> std::result::Result<OwnedRwLockWriteGuard<()>, SqlError> {
        self.wait(Arc::clone(&self.turns).write_owned(), running).await
    }

    async fn wait<T>(&self, turn: impl Future<Output = T>, running: &Running) -> std::result::Result<T, SqlError> {
        tokio::select! {
            biased;
            () = running.cancelled() => Err(SqlError::cancelled()),
            turn = timeout(self.turn_limit, turn) => turn.map_err(|_elapsed| SqlError::conflict()),
        }
    }
}

fn connect(uri: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    // For the moment in which a reader that has its result still holds SQLite's own lock.
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY")?;
    Ok(connection)
}

fn guarded(mut connection: Connection, identity: &Arc<Identity>) -> Result<Connection> {
    functions::install(&connection, identity)?;
    connection.authorizer(Some(allowed))?;
    let running = Arc::clone(&identity.running);
    connection.progress_handler(CANCEL_CHECK_STEPS, Some(move || running.is_cancelled()))?;
    // A misspelt "column" must not turn into a string.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    Ok(connection)
}

/// Keeps clients away from the machine's files and from the settings that the turns rely on.
fn allowed(context: AuthContext<'_>) -> Authorization {
    match context.action {
        // What the catalogue's view of columns reads.
        AuthAction::Pragma { pragma_name: "table_info", .. } => Authorization::Allow,
        AuthAction::Attach { .. } | AuthAction::Detach { .. } | AuthAction::Pragma { .. } => Authorization::Deny,
        AuthAction::Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

/// Steps of SQLite's machine between two looks at the cancel mark: well under a millisecond.
const CANCEL_CHECK_STEPS: i32 = 1000;
