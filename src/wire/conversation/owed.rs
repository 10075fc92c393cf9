//! The ReadyForQuery messages that a server still owes, in the order in which they will come.

use std::collections::VecDeque;

/// What a client sent that matters for the count of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A Query or FunctionCall: one ReadyForQuery.
    Query,
    /// A Sync: one ReadyForQuery, or none when the server reads it inside a COPY.
    Sync,
    /// CopyDone or CopyFail, sent before the server said that it waits for data: no answer, but the
    /// Syncs behind it are not swallowed.
    CopyEnd,
}

/// Runs of equal answers, so that a pipeline of any length takes one entry.
#[derive(Debug, Default)]
pub(super) struct Owed {
    runs: VecDeque<(Answer, u64)>,
}

/// So many changes between kinds of messages are in flight that they are no longer told apart.
#[derive(Debug)]
pub(super) struct TooManyRuns;

/// A COPY that a CopyInResponse has opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// CopyDone or CopyFail is still to be sent.
    pub(super) awaits_end: bool,
    /// More than the Sync of the copying query itself was sent behind it before it was known as one: the server reads
    /// that inside the COPY, and takes it for the end of it, or not.
    pub(super) has_more_inside: bool,
}

impl Owed {
    pub(super) fn push(&mut self, answer: Answer) -> Result<(), TooManyRuns> {
        let is_full = self.runs.len() >= RUNS_MAX;
        match self.runs.back_mut() {
            Some((last, count)) if *last == answer => *count = count.saturating_add(1),
            _ if is_full => return Err(TooManyRuns),
            _ => self.runs.push_back((answer, 1)),
        }
        Ok(())
    }

    /// A ReadyForQuery came: the oldest query or sync is answered.
    pub(super) fn answered(&mut self) {
        self.drop_leading_copy_ends();
        if let Some((_, count)) = self.runs.front_mut() {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// A CopyInResponse came: Syncs up to the end of the COPY are swallowed by the server and owe nothing
    /// (libpq's extended COPY sends two Syncs, and one ReadyForQuery returns).
    pub(super) fn open_copy(&mut self) -> Opened {
        let query = match self.runs.front().copied() {
            Some((Answer::CopyEnd, _)) => {
                self.drop_leading_copy_ends();
                return Opened { awaits_end: false, has_more_inside: false };
            }
            // The copying query itself is answered when the COPY has ended, those behind it later still.
            Some((Answer::Query, count)) => {
                self.runs.pop_front();
                Some((Answer::Query, count))
            }
            _ => None,
        };
        let mut syncs = 0_u64;
        while let Some((Answer::Sync, count)) = self.runs.front() {
            syncs = syncs.saturating_add(*count);
            self.runs.pop_front();
        }
        let is_pipelined = query.is_some_and(|(_, count)| count > 1 || syncs > 0) || syncs > 1;
        let has_more_inside = is_pipelined || matches!(self.runs.front(), Some((Answer::Query, _)));
        let ended = matches!(self.runs.front(), Some((Answer::CopyEnd, _)));
        if ended {
            self.drop_leading_copy_ends();
        }
        if let Some(query) = query {
            self.runs.push_front(query);
        }
        Opened { awaits_end: !ended, has_more_inside }
    }

    /// Whether every query and sync is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.iter().all(|(answer, _)| *answer == Answer::CopyEnd)
    }

    fn drop_leading_copy_ends(&mut self) {
        while let Some((Answer::CopyEnd, _)) = self.runs.front() {
            self.runs.pop_front();
        }
    }
}

const RUNS_MAX: usize = 64;
