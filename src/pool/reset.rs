//! Makes an upstream that a session has used as good as new, or says that it cannot be.
//!
//! `DISCARD ALL` returns to the connection's own startup parameters. `RESET ROLE` goes before it, since
//! CockroachDB leaves the role alone from v25.4 on; it must be a query of its own, since `DISCARD ALL` runs
//! in no transaction. With it a random word is asked for: its answer shows where the answers to the reset begin,
//! so that one which the session before still had coming can never pass for one of them. After a session of simple
//! queries none can be, and the server is spared the word. What the server reports of itself must then be what it
//! reported at login.

use crate::{
    metrics::labels::ResetResult,
    upstream::Upstream,
    wire::{
        messages::{self, frame},
        reported::Reported,
    },
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
    /// The session can have left no answer on its way.
    pub(crate) was_plain: bool,
}

/// Resets an upstream. On any doubt it is not given back.
pub(super) async fn reset(used: Used) -> Result<Upstream, ResetResult> {
    match timeout(LIMIT, converse(used)).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) | Err(_) => Err(ResetResult::Failed),
    }
}

async fn converse(used: Used) -> io::Result<Result<Upstream, ResetResult>> {
    let Used { mut upstream, mut reported, was_plain } = used;
    let word = if was_plain { None } else { Some(random_word().ok_or(io::ErrorKind::Unsupported)?) };
    let first = match &word {
        Some(word) => format!("RESET ROLE; SELECT '{word}'\0"),
        None => "RESET ROLE\0".to_owned(),
    };
    let questions = [first.as_bytes(), b"DISCARD ALL\0"].map(|sql| frame(b'Q', sql));
    upstream.stream.write_all(&questions.concat()).await?;
    upstream.stream.flush().await?;
    let mut answers = Answers { word: word.as_deref(), next: Next::RoleReset };
    let mut bytes = Vec::with_capacity(1024);
    let mut all = 0_usize;
    while answers.next != Next::Nothing {
        let read = upstream.stream.read_buf(&mut bytes).await?;
        all = all.saturating_add(read);
        if read == 0 || all > ANSWER_BYTES_MAX {
            return Ok(Err(ResetResult::Failed));
        }
        while let Some((kind, body, size)) = messages::whole(&bytes) {
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

/// How far the answers to the two queries have come.
struct Answers<'a> {
    word: Option<&'a str>,
    next: Next,
}

/// What is to be answered next. Each query has its commands completed before its ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    RoleReset,
    Word,
    WordDone,
    FirstReady,
    Discarded,
    SecondReady,
    Nothing,
}

impl Answers<'_> {
    /// Whether this message can be part of the answers.
    fn take(&mut self, kind: u8, body: &[u8]) -> bool {
        let is_word = self.word.is_some_and(|word| body.ends_with(word.as_bytes()));
        self.next = match (self.next, kind) {
            (Next::RoleReset, b'C') if self.word.is_none() => Next::FirstReady,
            (Next::RoleReset, b'C') => Next::Word,
            (Next::Word, b'D') if is_word => Next::WordDone,
            (Next::WordDone, b'C') => Next::FirstReady,
            (Next::FirstReady, b'Z') if body == b"I" => Next::Discarded,
            (Next::Discarded, b'C') => Next::SecondReady,
            (Next::SecondReady, b'Z') if body == b"I" => Next::Nothing,
            // The row's description; and a notification for the session before, until `DISCARD ALL` unlistens.
            (Next::Word, b'T') | (_, b'A' | b'N') => self.next,
            _ => return false,
        };
        true
    }
}

/// `None` when the system has no random bytes to give.
fn random_word() -> Option<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

const LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the reset ends well for a server that says this, each message by its type and body.
    fn ends_well(said: &[(u8, &[u8])]) -> bool {
        ends_well_with(Some("word"), said)
    }

    fn ends_well_with(word: Option<&str>, said: &[(u8, &[u8])]) -> bool {
        let mut answers = Answers { word, next: Next::RoleReset };
        said.iter().all(|(kind, body)| answers.take(*kind, body)) && answers.next == Next::Nothing
    }

    const A: (u8, &[u8]) = (b'A', b"for the session before");
    const C: (u8, &[u8]) = (b'C', b"OK\0");
    const N: (u8, &[u8]) = (b'N', b"notice");
    const T: (u8, &[u8]) = (b'T', b"");
    const Z: (u8, &[u8]) = (b'Z', b"I");
    const WORD: (u8, &[u8]) = (b'D', b"\0\x01\0\0\0\x04word");

    #[test]
    fn only_the_answers_to_the_reset_pass_for_them() {
        const WELL: &[(u8, &[u8])] = &[C, T, WORD, C, Z, C, Z];
        assert!(ends_well(WELL));
        assert!(ends_well(&[A, C, T, WORD, N, C, Z, A, C, N, Z]));
        for end in 0..WELL.len() {
            assert!(!ends_well(&WELL[..end]), "the first {end}");
        }

        // What the session before still had coming, in front.
        for stale in
            [&[Z][..], &[C, Z], &[C], &[C, T, (b'D', b"row"), C, Z], &[(b'D', b"row"), C, Z], &[(b'E', b""), Z]]
        {
            assert!(!ends_well(&[stale, WELL].concat()), "{stale:?}");
        }
        assert!(!ends_well(&[C, T, WORD, C, (b'Z', b"T"), C, Z]), "a transaction");
        assert!(!ends_well(&[C, T, WORD, C, Z, C, (b'Z', b"T")]), "a transaction");
        assert!(!ends_well(&[C, C, Z, C, Z]), "no word");
        assert!(!ends_well(&[C, T, (b'D', b"other"), C, Z, C, Z]), "another word");
        assert!(!ends_well(&[C, T, WORD, WORD, C, Z, C, Z]), "two rows");
        assert!(!ends_well(&[WELL, &[Z]].concat()), "one more");
    }

    #[test]
    fn without_a_word_the_two_queries_are_answered() {
        assert!(ends_well_with(None, &[C, Z, N, C, Z]));
        for other in [&[C, Z][..], &[Z, C, Z], &[C, C, Z], &[C, T, WORD, C, Z, C, Z], &[C, Z, C, Z, Z]] {
            assert!(!ends_well_with(None, other), "{other:?}");
        }
    }
}
