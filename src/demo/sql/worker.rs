//! A session's connection and the turn that it holds: what lives on the threads that may block.

use crate::demo::{dialect::Access, error::SqlError, functions::Identity, store::Store};
use rusqlite::Connection;
use std::sync::Arc;
use tokio::sync::OwnedRwLockWriteGuard;

/// Connection and turn. The connection comes first, so that it takes back its
/// changes before the next one gets its turn.
#[derive(Debug, Default)]
pub(super) struct Worker {
    connection: Option<Connection>,
    /// For statements that touch no table: they wait for nobody.
    tableless: Option<Connection>,
    /// Held from the first change of a transaction to its end.
    pub(super) turn: Option<OwnedRwLockWriteGuard<()>>,
}

impl Worker {
    /// The connection for a statement, opened if it was not yet. Where tables are touched, opening
    /// reads the database, in the caller's turn.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn open(
        &mut self,
        store: &Store,
        identity: &Arc<Identity>,
        access: Access,
    ) -> Result<&Connection, SqlError> {
        let slot = match access {
            Access::Nothing => &mut self.tableless,
            Access::Read | Access::Write => &mut self.connection,
        };
        let connection = match slot.take() {
            Some(connection) => connection,
            None if access == Access::Nothing => store.connect_without_tables(identity)?,
            None => store.connect(identity)?,
        };
        Ok(slot.insert(connection))
    }

    /// Ends what `BEGIN IMMEDIATE` began, if anything, and gives the turn back in any case.
    pub(super) fn end(&mut self, keep: bool) -> Result<(), SqlError> {
        let turn = self.turn.take();
        let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_autocommit()) else {
            return if keep && turn.is_some() { Err(SqlError::new("40001", LOST)) } else { Ok(()) };
        };
        if keep && let Err(error) = connection.execute_batch("COMMIT") {
            connection.execute_batch("ROLLBACK")?;
            return Err(error.into());
        }
        if !keep {
            connection.execute_batch("ROLLBACK")?;
        }
        drop(turn);
        Ok(())
    }
}

const LOST: &str = "restart transaction: SQLite took back this transaction's changes";
