//! Memory of sessions that are gone: the allocator keeps it for the next ones, and after a burst that may be never.

use crate::{sessions::Sessions, sys};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::debug;

/// Gives memory back to the system whenever many sessions have gone. Runs until dropped.
pub(super) async fn give_back(sessions: Arc<Sessions>) {
    loop {
        sleep(LOOK_EVERY).await;
        if let Some(open) = sessions.after_ebb(MANY) {
            // It takes milliseconds for each hundred mebibytes. A panic in there concerns nobody.
            let _ = spawn_blocking(move || {
                let began = Instant::now();
                sys::give_back_memory();
                let duration_ms = began.elapsed().as_millis();
                debug!(duration_ms, sessions.open = open, "memory of sessions that are gone was given back");
            })
            .await;
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// About a megabyte, which is worth the call.
const MANY: usize = 64;
