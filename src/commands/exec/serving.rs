//! The daemon beside the command.

use super::{CommandError, signals::Relayed};
use crate::daemon::{Daemon, Ended, Ender, StartError};
use tokio::task::{JoinError, JoinHandle};

/// A daemon that serves until it is ended here, or ends by itself.
pub(super) struct Serving {
    task: JoinHandle<Ended>,
    ender: Ender,
    ended: Option<Result<Ended, JoinError>>,
}

impl Serving {
    /// On other threads than this one, so that whatever the daemon starts is waited for there.
    pub(super) fn begin(daemon: Daemon, ender: Ender) -> Self {
        Self { task: tokio::spawn(daemon.serve()), ender, ended: None }
    }

    /// Waits until it has ended. Cancel safe.
    pub(super) async fn ended(&mut self) {
        if self.ended.is_none() {
            self.ended = Some((&mut self.task).await);
        }
    }

    /// Whether it has ended as it never should.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.ended, Some(Err(_)))
    }

    /// Why there is nothing that serves.
    pub(super) fn fault(&self) -> CommandError {
        let text = match &self.ended {
            Some(Err(error)) => format!("a fault of crdb-proxy has ended the daemon: {error}"),
            _ => "the daemon was told to stop before the command was run".to_owned(),
        };
        StartError::Internal(text).into()
    }

    /// Lets sessions end that somebody still has, for as long as a drain takes; at the next signal, at once.
    pub(super) async fn end(&mut self, signals: &mut Relayed) {
        self.ender.stop();
        tokio::select! {
            biased;
            () = self.ended() => return,
            _ = signals.next_to_end() => self.ender.stop(),
        }
        self.ended().await;
    }
}
