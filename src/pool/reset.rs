//! Makes an upstream that a session has used as good as new, or says that it cannot be.
//!
//! `DISCARD ALL` returns to the connection's own startup parameters. `RESET ROLE` goes before it, since
//! CockroachDB leaves the role alone from v25.4 on; it must be a query of its own, since `DISCARD ALL` runs
//! in no transaction. A random word is asked for last: its answer shows which answers are to the reset, so
//! that an answer which the session before still had coming can never pass for one of them. What the server
//! reports of itself must then be what it reported at login.

use crate::{
    metrics::labels::ResetResult,
    upstream::Upstream,
    wire::{messages::frame, reported::Reported},
};
use aws_lc_rs::rand;
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
    let Some(word) = random_word() else { return Ok(Err(ResetResult::Failed)) };
    let last = format!("SELECT '{word}'\0");
    let questions = [&b"RESET ROLE\0"[..], b"DISCARD ALL\0", last.as_bytes()].map(|sql| frame(b'Q', sql));
    upstream.stream.write_all(&questions.concat()).await?;
    upstream.stream.flush().await?;
    let mut answers = Answers { word: &word, completed: 0, ready: 0, has_word: false };
    let mut bytes = Vec::with_capacity(1024);
    let mut all = 0_usize;
    while answers.ready < questions.len() {
        let read = upstream.stream.read_buf(&mut bytes).await?;
        all = all.saturating_add(read);
        if read == 0 || all > ANSWER_BYTES_MAX {
            return Ok(Err(ResetResult::Failed));
        }
        while let Some((kind, body, size)) = whole_message(&bytes) {
            if kind == b'S' {
                reported.note(body);
            } else if !answers.take(kind, body) {
                return Ok(Err(ResetResult::Failed));
            }
            bytes.drain(..size);
        }
    }
    // Nothing may follow the last answer.
    if !bytes.is_empty() {
        return Ok(Err(ResetResult::Failed));
    }
    let greeting = &upstream.login.greeting;
    let is_same = reported.is_as_at_login(&[&greeting.before_key[..], &greeting.after_key[..]]);
    Ok(if is_same { Ok(upstream) } else { Err(ResetResult::Changed) })
}

/// How far the answers to the three questions have come.
struct Answers<'a> {
    word: &'a str,
    completed: usize,
    ready: usize,
    has_word: bool,
}

impl Answers<'_> {
    /// Whether this message can be part of the answers.
    fn take(&mut self, kind: u8, body: &[u8]) -> bool {
        match kind {
            // Each query is completed once before its ReadyForQuery, and the word comes with the third.
            b'C' if self.completed == self.ready && (self.completed < 2 || self.has_word) => {
                self.completed = self.completed.saturating_add(1);
                true
            }
            b'Z' if body == b"I" && self.completed == self.ready.saturating_add(1) => {
                self.ready = self.completed;
                true
            }
            b'D' if self.ready == 2 && self.completed == 2 && !self.has_word => {
                self.has_word = body.ends_with(self.word.as_bytes());
                self.has_word
            }
            b'T' => self.ready == 2,
            // A notification for the session before comes ahead of `DISCARD ALL`, which unlistens.
            b'A' => self.ready < 2,
            b'N' => true,
            _ => false,
        }
    }
}

/// `None` when the system has no random bytes to give.
fn random_word() -> Option<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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

    /// Whether the reset ends well for a server that says this, each message by its type and body.
    fn ends_well(said: &[(u8, &[u8])]) -> bool {
        let mut answers = Answers { word: "word", completed: 0, ready: 0, has_word: false };
        said.iter().all(|(kind, body)| answers.take(*kind, body)) && answers.ready == 3
    }

    const C: (u8, &[u8]) = (b'C', b"OK\0");
    const Z: (u8, &[u8]) = (b'Z', b"I");
    const WORD: (u8, &[u8]) = (b'D', b"\0\x01\0\0\0\x04word");

    #[test]
    fn only_the_answers_to_the_reset_pass_for_them() {
        assert!(ends_well(&[C, Z, C, Z, (b'T', b""), WORD, C, Z]));
        assert!(ends_well(&[(b'A', b"for the session before"), C, Z, (b'N', b"notice"), C, Z, WORD, C, Z]));

        // What the session before still had coming, in front.
        for stale in [&[Z][..], &[C, Z], &[C, Z, C, Z], &[(b'D', b"row"), C, Z], &[(b'E', b"error"), Z]] {
            assert!(!ends_well(&[stale, &[C, Z, C, Z, WORD, C, Z]].concat()), "{stale:?}");
        }
        assert!(!ends_well(&[C, Z, C, (b'Z', b"T"), WORD, C, Z]), "a transaction");
        assert!(!ends_well(&[C, Z, C, Z, C, Z]), "no word");
        assert!(!ends_well(&[C, Z, C, Z, (b'D', b"other"), C, Z]), "another word");
    }

    #[test]
    fn only_whole_messages_are_read() {
        assert_eq!(whole_message(b"Z\0\0\0\x05I"), Some((b'Z', &b"I"[..], 6)));
        for half in [&b""[..], b"Z\0\0\0", b"Z\0\0\0\x05", b"Z\0\0\0\x03I"] {
            assert_eq!(whole_message(half), None);
        }
    }
}
