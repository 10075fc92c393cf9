//! Makes an upstream that a session has used as good as new, or says that it cannot be.
//!
//! `DISCARD ALL` returns to the connection's own startup parameters. `RESET ROLE` goes before it, since
//! CockroachDB leaves the role alone from v25.4 on; it must be a query of its own, since `DISCARD ALL` runs
//! in no transaction. What the server reports of itself must then be what it reported at login.

use crate::{
    metrics::labels::ResetResult,
    upstream::Upstream,
    wire::{messages::frame, reported::Reported},
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// What a session has left in its upstream.
pub(crate) struct Used {
    /// The upstream.
    pub(crate) upstream: Upstream,
    /// What the server reported last of each parameter.
    pub(crate) reported: Reported,
}

/// Resets an upstream. On any doubt it is not given back.
pub(super) async fn reset(used: Used) -> Result<Upstream, ResetResult> {
    match timeout(LIMIT, converse(used)).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) | Err(_) => Err(ResetResult::Failed),
    }
}

async fn converse(used: Used) -> io::Result<Result<Upstream, ResetResult>> {
    let Used { mut upstream, mut reported } = used;
    let questions = [frame(b'Q', b"RESET ROLE\0"), frame(b'Q', b"DISCARD ALL\0")];
    upstream.stream.write_all(&questions.concat()).await?;
    upstream.stream.flush().await?;
    let mut answers_left = questions.len();
    let mut bytes = Vec::with_capacity(1024);
    let mut all = 0_usize;
    while answers_left > 0 {
        let read = upstream.stream.read_buf(&mut bytes).await?;
        all = all.saturating_add(read);
        if read == 0 || all > ANSWER_BYTES_MAX {
            return Ok(Err(ResetResult::Failed));
        }
        while let Some((kind, body, size)) = whole_message(&bytes) {
            match kind {
                b'Z' if body == b"I" => answers_left = answers_left.saturating_sub(1),
                b'S' => reported.note(body),
                // A notification for the session before comes ahead of `DISCARD ALL`, which unlistens.
                b'C' | b'N' | b'A' => {}
                _ => return Ok(Err(ResetResult::Failed)),
            }
            bytes.drain(..size);
            if answers_left == 0 {
                break;
            }
        }
    }
    // Nothing may follow the last answer.
    if !bytes.is_empty() {
        return Ok(Err(ResetResult::Failed));
    }
    let is_same =
        reported.is_as_at_login(&[&upstream.login.greeting.before_key[..], &upstream.login.greeting.after_key[..]]);
    Ok(if is_same { Ok(upstream) } else { Err(ResetResult::Changed) })
}

/// Type, body and size of the message at the front, once it is whole.
fn whole_message(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (header, after) = bytes.split_first_chunk::<5>()?;
    let [kind, length @ ..] = *header;
    let body = usize::try_from(u32::from_be_bytes(length)).ok()?.checked_sub(4)?;
    Some((kind, after.get(..body)?, body.checked_add(5)?))
}

const LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_messages_are_read() {
        assert_eq!(whole_message(b"Z\0\0\0\x05I"), Some((b'Z', &b"I"[..], 6)));
        for half in [&b""[..], b"Z\0\0\0", b"Z\0\0\0\x05", b"Z\0\0\0\x03I"] {
            assert_eq!(whole_message(half), None);
        }
    }
}
