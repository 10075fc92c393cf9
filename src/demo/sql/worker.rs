//! A session's connection and the turn that it holds: what lives on the threads that may block.

use crate::demo::{error::SqlError, functions::Identity, store::Store};
use rusqlite::Connection;
use std::sync::Arc;
use tokio::sync::OwnedRwLockWriteGuard;

/// Connection and turn. The connection comes first, so that it takes back its
/// changes before the next one gets its turn.
#[derive(Debug, Default)]
pub(super) struct Worker {
    connection: Option<Connection>,
    /// Held from the first change of a transaction to its end.
    pub(super) turn: Option<OwnedRwLockWriteGuard<()>>,
}

impl Worker {
    /// The connection, opened if it was not yet.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn open(
        &mut self,
        store: &Store,
        identity: &Arc<Identity>,
    ) -> Result<&Connection, SqlError> {
        if self.connection.is_none() {
            self.connection = Some(store.connect(identity)?);
        }
        self.connection
            .as_ref()
            .ok_or_else(|| SqlError::new("XX000", "no connection to SQLite"))
    }

    /// Ends what `BEGIN IMMEDIATE` began, if anything, and gives the turn back in any case.
    pub(super) fn end(&mut self, keep: bool) -> Result<(), SqlError> {
        let turn = self.turn.take();
        let Some(connection) = self
            .connection
            .as_ref()
            .filter(|connection| !connection.is_autocommit())
        else {
            return if keep && turn.is_some() {
                Err(SqlError::new("40001", LOST))
            } else {
                Ok(())
            };
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
