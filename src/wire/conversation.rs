//! What client and server owe each other, learned from the messages that pass between them.
//!
//! Knows at every byte whether the session stands at an idle point, where it may be closed or given a
//! new upstream without anybody noticing. Where a stream could be read two ways, it errs towards "not
//! idle". Follows headers; of bodies it reads a ReadyForQuery's state, an ErrorResponse's severity and
//! code, and whether a Parse names its statement.

mod error_scan;
mod owed;

use super::{
    SqlState,
    frames::{FrameError, Frames, Watch},
    reported::Reported,
};
use error_scan::ErrorScan;
use owed::{Answer, Owed};

/// Both directions of one session, from the ReadyForQuery that ended its login.
#[derive(Debug)]
pub struct Conversation {
    from_client: Frames,
    from_server: Frames,
    state: State,
}

/// What a session does, as `/status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// At an idle point, or waiting for the client outside a transaction.
    Idle,
    /// The server is at work.
    Active,
    /// Waiting for the client inside a transaction.
    Transaction,
    /// Waiting for the client inside a failed transaction.
    Failed,
    /// A COPY or a replication stream is under way.
    Copy,
}

impl Conversation {
    /// A conversation that begins with a login's ReadyForQuery.
    pub fn after_login() -> Self {
        Self { from_client: Frames::default(), from_server: Frames::default(), state: State::default() }
    }

    /// The same, for an upstream that is to be used again: Terminate is withheld from it (see
    /// [`Conversation::withholds_goodbye`]), and what the server reports of its parameters is remembered.
    pub fn after_login_for_reuse() -> Self {
        let state = State { withholds_goodbye: true, reported: Some(Box::default()), ..State::default() };
        Self { from_client: Frames::default(), from_server: Frames::default(), state }
    }

    /// Whether [`Conversation::follow_client`] fails at a Terminate, which ends what the server may read.
    pub fn withholds_goodbye(&self) -> bool {
        self.state.withholds_goodbye
    }

    /// What the server has reported of its parameters since login, if that was to be remembered.
    pub fn take_reported(&mut self) -> Option<Reported> {
        self.state.reported.take().map(|watch| watch.reported)
    }

    /// Follows the client's next bytes.
    pub fn follow_client(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        self.from_client.follow(piece, &mut FromClient(&mut self.state))
    }

    /// Follows the server's next bytes; `on_error` is told of every ErrorResponse.
    pub fn follow_server(&mut self, piece: &[u8], on_error: &mut dyn FnMut(SqlState)) -> Result<(), FrameError> {
        let followed = self.from_server.follow(piece, &mut FromServer { state: &mut self.state, on_error });
        // Nobody knows what a server means that sends what is no message.
        self.state.uncertain |= followed.is_err();
        followed
    }

    /// Whether nothing is open, owed or half sent: outside a transaction, with every answer given.
    pub fn is_idle(&self) -> bool {
        let state = &self.state;
        state.ready
            && state.transaction == Transaction::None
            && state.owed.is_empty()
            && !state.unsynced
            && !state.uncertain
            && self.from_client.at_boundary()
            && self.from_server.at_boundary()
    }

    /// Whether the server still has answers to give that do not wait for the client.
    pub fn is_answer_owed(&self) -> bool {
        !self.state.owed.is_empty() && !self.state.copy_in
    }

    /// Whether a message of ours can go to the client without landing inside a server's one.
    pub fn client_can_read_a_message(&self) -> bool {
        self.from_server.at_boundary()
    }

    /// Whether a message of ours can go to the server without landing inside a client's one.
    pub fn server_can_read_a_message(&self) -> bool {
        self.from_client.at_boundary()
    }

    /// Whether the client sent Terminate.
    pub fn client_said_goodbye(&self) -> bool {
        self.state.terminated
    }

    /// Whether the server ended the session itself, with an error of severity FATAL or PANIC.
    pub fn server_said_fatal(&self) -> bool {
        self.state.fatal
    }

    /// Whether the client has prepared a statement under a name, which then lives in this upstream: a
    /// session that moves to another upstream would have to take it along.
    pub fn has_named_statement(&self) -> bool {
        self.state.named_statement
    }

    /// Whether nothing was ever sent but simple queries, and none of them opened a COPY: then each has had exactly one
    /// ReadyForQuery, and at an idle point no answer can be on its way.
    pub fn was_plain(&self) -> bool {
        !self.state.is_intricate
    }

    /// Statements that the server completed: each CommandComplete and EmptyQueryResponse.
    pub fn statements(&self) -> u64 {
        self.state.statements
    }

    /// What the session does just now.
    pub fn activity(&self) -> Activity {
        match self.state {
            State { copying: true, .. } => Activity::Copy,
            State { ready: false, .. } => Activity::Active,
            State { transaction: Transaction::Open, .. } => Activity::Transaction,
            State { transaction: Transaction::Failed, .. } => Activity::Failed,
            _ if self.state.owed.is_empty() => Activity::Idle,
            _ => Activity::Active,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    Failed,
}

#[derive(Debug)]
struct State {
    /// Queries, function calls and syncs that a ReadyForQuery must still answer.
    owed: Owed,
    /// Extended-protocol messages were sent after the last Sync.
    unsynced: bool,
    /// The server waits for CopyData of the client.
    copy_in: bool,
    /// A CopyDone or CopyFail of the client now tells nothing.
    ignores_copy_end: bool,
    /// A Sync was sent inside the COPY that is under way: swallowed, unless the COPY fails.
    sync_in_copy: bool,
    /// Messages flow that only a COPY or replication sends.
    copying: bool,
    /// The messages could be read in two ways; never idle again.
    uncertain: bool,
    /// More was sent than simple queries, or a COPY was opened.
    is_intricate: bool,
    terminated: bool,
    named_statement: bool,
    /// The next byte of the client is the first of a Parse's statement name.
    parse_begins: bool,
    /// The server's last message, but for asynchronous ones, is ReadyForQuery.
    ready: bool,
    transaction: Transaction,
    statements: u64,
    /// Type of the server's current message.
    kind: u8,
    error: ErrorScan,
    fatal: bool,
    withholds_goodbye: bool,
    reported: Option<Box<ReportWatch>>,
}

/// ParameterStatus messages, whose bodies may come in pieces.
#[derive(Debug, Default)]
struct ReportWatch {
    reported: Reported,
    body: Vec<u8>,
}

impl ReportWatch {
    fn body(&mut self, piece: &[u8]) {
        if self.body.len().saturating_add(piece.len()) > REPORT_BYTES_MAX {
            self.reported.lose();
        } else {
            self.body.extend_from_slice(piece);
        }
    }

    fn end(&mut self) {
        self.reported.note(&self.body);
        self.body.clear();
    }
}

/// Longer than any parameter that is reported.
const REPORT_BYTES_MAX: usize = 4096;

impl Default for State {
    fn default() -> Self {
        Self {
            owed: Owed::default(),
            unsynced: false,
            copy_in: false,
            ignores_copy_end: false,
            sync_in_copy: false,
            copying: false,
            uncertain: false,
            is_intricate: false,
            terminated: false,
            named_statement: false,
            parse_begins: false,
            ready: true,
            transaction: Transaction::None,
            statements: 0,
            kind: 0,
            error: ErrorScan::default(),
            fatal: false,
            withholds_goodbye: false,
            reported: None,
        }
    }
}

struct FromClient<'a>(&'a mut State);

impl Watch for FromClient<'_> {
    fn begin(&mut self, kind: u8, _: u32) -> Result<(), &'static str> {
        let state = &mut *self.0;
        state.is_intricate |= !matches!(kind, b'Q' | b'X');
        match kind {
            b'Q' | b'F' => {
                // Inside a COPY this is an error that takes the message with it, or not.
                state.uncertain |= state.copy_in;
                state.owe(Answer::Query);
            }
            b'S' if state.copy_in => state.sync_in_copy = true,
            b'S' => {
                state.unsynced = false;
                state.owe(Answer::Sync);
            }
            b'P' => {
                state.unsynced = true;
                state.parse_begins = true;
            }
            b'B' | b'C' | b'D' | b'E' | b'H' => state.unsynced = true,
            b'c' | b'f' => state.end_copy(),
            b'X' => {
                state.terminated = true;
                if state.withholds_goodbye {
                    return Err("Terminate, which an upstream that is used again must not read");
                }
            }
            // After login no server asks for one; what a client sends unasked goes nowhere.
            b'p' => return Err("a password that nobody asked for"),
            _ => {}
        }
        Ok(())
    }

    fn body(&mut self, piece: &[u8]) {
        if self.0.parse_begins {
            self.0.parse_begins = false;
            self.0.named_statement |= piece.first().is_some_and(|&byte| byte != 0);
        }
    }

    fn end(&mut self) {
        self.0.parse_begins = false;
    }
}

impl State {
    fn owe(&mut self, answer: Answer) {
        self.uncertain |= self.owed.push(answer).is_err();
    }

    /// CopyDone or CopyFail of the client; sent ahead of CopyInResponse by clients that do not wait.
    fn end_copy(&mut self) {
        if self.copy_in {
            self.copy_in = false;
        } else if self.ignores_copy_end {
            // It ends what the server has ended already, or one half of a replication stream.
        } else if self.unsynced || !self.owed.is_empty() {
            self.owe(Answer::CopyEnd);
        }
    }

    fn ready_for_query(&mut self, status: u8) {
        self.ready = true;
        self.copy_in = false;
        self.ignores_copy_end = false;
        self.copying = false;
        self.owed.answered();
        self.transaction = match status {
            b'I' => Transaction::None,
            b'E' => Transaction::Failed,
            // An unknown state is no idle one.
            _ => Transaction::Open,
        };
    }
}

struct FromServer<'a> {
    state: &'a mut State,
    on_error: &'a mut dyn FnMut(SqlState),
}

impl Watch for FromServer<'_> {
    fn begin(&mut self, kind: u8, length: u32) -> Result<(), &'static str> {
        let state = &mut *self.state;
        state.kind = kind;
        match kind {
            // Asynchronous: they may come at any time and change nothing.
            b'N' | b'S' | b'A' => return Ok(()),
            b'Z' if length != 1 => return Err("a ReadyForQuery's body is not one byte"),
            b'Z' => {}
            b'C' | b'I' => {
                state.statements = state.statements.saturating_add(1);
                state.sync_in_copy = false;
            }
            b'G' => {
                (state.copying, state.is_intricate) = (true, true);
                let opened = state.owed.open_copy();
                (state.copy_in, state.sync_in_copy) = (opened.awaits_end, false);
                // As for a query that is sent later.
                state.uncertain |= opened.has_more_inside;
            }
            b'H' => (state.copying, state.is_intricate) = (true, true),
            b'W' => (state.copying, state.is_intricate, state.ignores_copy_end) = (true, true, true),
            b'E' => {
                state.error = ErrorScan::default();
                state.uncertain |= std::mem::take(&mut state.sync_in_copy);
                state.ignores_copy_end |= state.copy_in;
                state.copy_in = false;
            }
            _ => {}
        }
        state.ready = false;
        Ok(())
    }

    fn body(&mut self, piece: &[u8]) {
        match (self.state.kind, piece.first()) {
            (b'Z', Some(&status)) => self.state.ready_for_query(status),
            (b'E', _) => self.state.error.scan(piece),
            (b'S', _) => {
                if let Some(watch) = &mut self.state.reported {
                    watch.body(piece);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        if self.state.kind == b'E' {
            self.state.fatal |= self.state.error.is_fatal();
            (self.on_error)(self.state.error.sqlstate());
        } else if self.state.kind == b'S'
            && let Some(watch) = &mut self.state.reported
        {
            watch.end();
        }
    }
}

#[cfg(test)]
mod tests;
