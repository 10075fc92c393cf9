//! A server as PostgreSQL documents it (chapters 53.2.2 to 53.2.7 and what its message loop does): it reads what has
//! reached it, message by message, and knows for certain whether it waits for the client outside a transaction.

use super::script::Choice;
use crate::wire::messages::{frame, whole};

#[derive(Debug)]
pub(super) struct Server {
    mode: Mode,
    transaction: u8,
    /// Messages of the extended protocol came after the last Sync.
    is_extended_open: bool,
    /// Bytes of the client that were read.
    taken: usize,
    is_last_word_ready: bool,
    pub(super) has_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    /// After an error in the extended protocol.
    UntilSync,
    CopyIn {
        is_extended: bool,
    },
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Normal,
            transaction: b'I',
            is_extended_open: false,
            taken: 0,
            is_last_word_ready: true,
            has_closed: false,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether everything that reached it, and what will, is answered, and nothing is open.
    pub(super) fn is_idle(&self, got: &[u8], will_get: &[u8]) -> bool {
        let rest = [got.get(self.taken..).unwrap_or_default(), will_get].concat();
        is_passed_over(&rest)
            && self.mode == Mode::Normal
            && self.transaction == b'I'
            && !self.is_extended_open
            && self.is_last_word_ready
            && !self.has_closed
    }

    /// Reads the next whole message of `got` and says what it has to say to that; `None` when there is none.
    /// `may_copy` whether a client would let a COPY begin now.
    pub(super) fn answer(&mut self, got: &[u8], choice: Choice, may_copy: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        if self.has_closed {
            return None;
        }
        let rest = got.get(self.taken..)?;
        let (kind, _, size) = whole(rest)?;
        self.taken += size;
        let choice = if choice == Choice::Copy && !may_copy(&rest[size..]) { Choice::Done } else { choice };
        let said = match self.mode {
            _ if kind == b'X' => {
                self.has_closed = true;
                Vec::new()
            }
            Mode::Normal => self.serve(kind, choice),
            Mode::UntilSync if kind == b'S' => self.sync(),
            Mode::UntilSync => Vec::new(),
            Mode::CopyIn { is_extended } => self.copy(kind, is_extended, choice),
        };
        if !said.is_empty() {
            self.is_last_word_ready = said.ends_with(&self.ready());
            // A simple query ends what was begun without a Sync.
            self.is_extended_open &= !self.is_last_word_ready;
        }
        Some(said)
    }

    fn serve(&mut self, kind: u8, choice: Choice) -> Vec<u8> {
        match kind {
            b'Q' => self.query(choice),
            b'F' if choice == Choice::Error => [self.error(), self.ready()].concat(),
            b'F' => [frame(b'V', b"\0\0\0\x011"), self.ready()].concat(),
            b'S' => self.sync(),
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                self.is_extended_open = true;
                self.extended(kind, choice)
            }
            // It counts as the extended protocol although it asks for no answer.
            b'H' => {
                self.is_extended_open = true;
                Vec::new()
            }
            // The end of a COPY that has failed.
            b'd' | b'c' | b'f' => Vec::new(),
            _ => self.die(b"SFATAL\0VFATAL\0C08P01\0Minvalid frontend message type\0\0"),
        }
    }

    fn query(&mut self, choice: Choice) -> Vec<u8> {
        match choice {
            Choice::Done => [rows(), self.ready()].concat(),
            Choice::Nothing => [frame(b'I', b""), self.ready()].concat(),
            Choice::Error => [self.error(), self.ready()].concat(),
            Choice::Turn => {
                self.transaction = if self.transaction == b'I' { b'T' } else { b'I' };
                [complete(), self.ready()].concat()
            }
            Choice::Copy => {
                self.mode = Mode::CopyIn { is_extended: false };
                [if self.transaction == b'T' { complete() } else { Vec::new() }, COPY_IN.to_vec()].concat()
            }
            Choice::CopyOut => [copy_out(), complete(), self.ready()].concat(),
            Choice::Die => self.die(SHUTDOWN),
        }
    }

    fn extended(&mut self, kind: u8, choice: Choice) -> Vec<u8> {
        match (kind, choice) {
            (_, Choice::Error) => {
                self.mode = Mode::UntilSync;
                self.error()
            }
            (_, Choice::Die) => self.die(SHUTDOWN),
            (b'P', _) => frame(b'1', b""),
            (b'B', _) => frame(b'2', b""),
            (b'C', _) => frame(b'3', b""),
            (b'D', _) => [frame(b't', b"\0\0"), frame(b'n', b"")].concat(),
            (_, Choice::Nothing) => frame(b's', b""),
            (_, Choice::Turn) => {
                self.transaction = if self.transaction == b'I' { b'T' } else { b'I' };
                complete()
            }
            (_, Choice::Copy) => {
                self.mode = Mode::CopyIn { is_extended: true };
                COPY_IN.to_vec()
            }
            (_, Choice::CopyOut) => [copy_out(), complete()].concat(),
            (_, Choice::Done) => rows(),
        }
    }

    fn copy(&mut self, kind: u8, is_extended: bool, choice: Choice) -> Vec<u8> {
        match (kind, choice) {
            (b'd', Choice::Error) | (b'f', _) | (b'c', Choice::Error) => self.end_copy(is_extended, false),
            (b'c', _) => self.end_copy(is_extended, true),
            // For those who send Flush or Sync behind Execute without knowing that it opens a COPY.
            (b'd' | b'H' | b'S', _) => Vec::new(),
            // PostgreSQL ends the session; others take the message for the end of the COPY, and answer it or not.
            (_, Choice::Error) => self.end_copy(is_extended, false),
            (_, Choice::Turn) => {
                let ended = self.end_copy(is_extended, false);
                let answer = if self.mode == Mode::Normal { self.serve(kind, Choice::Done) } else { Vec::new() };
                [ended, answer].concat()
            }
            _ => self.die(b"SFATAL\0VFATAL\0C08P01\0Mprotocol synchronization was lost\0\0"),
        }
    }

    fn end_copy(&mut self, is_extended: bool, is_success: bool) -> Vec<u8> {
        let said = if is_success { complete() } else { self.error() };
        self.mode = if is_extended && !is_success { Mode::UntilSync } else { Mode::Normal };
        if is_extended { said } else { [said, self.ready()].concat() }
    }

    fn sync(&mut self) -> Vec<u8> {
        (self.mode, self.is_extended_open) = (Mode::Normal, false);
        self.ready()
    }

    fn error(&mut self) -> Vec<u8> {
        if self.transaction == b'T' {
            self.transaction = b'E';
        }
        frame(b'E', b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0")
    }

    fn die(&mut self, body: &[u8]) -> Vec<u8> {
        self.has_closed = true;
        frame(b'E', body)
    }

    fn ready(&self) -> Vec<u8> {
        frame(b'Z', &[self.transaction])
    }
}

/// The end of a COPY that has failed, which is not answered.
fn is_passed_over(mut rest: &[u8]) -> bool {
    while let Some((b'd' | b'c' | b'f', _, size)) = whole(rest) {
        rest = &rest[size..];
    }
    rest.is_empty()
}

fn rows() -> Vec<u8> {
    [frame(b'T', b"\0\x01x\0"), frame(b'D', &[9; 40]), frame(b'D', b""), complete()].concat()
}

fn complete() -> Vec<u8> {
    frame(b'C', b"SELECT 2\0")
}

fn copy_out() -> Vec<u8> {
    [frame(b'H', b"\0\0\0"), frame(b'd', b"1\n"), frame(b'd', b"2\n"), frame(b'c', b"")].concat()
}

const COPY_IN: &[u8] = b"G\0\0\0\x07\0\0\0";
// The severity in words of the server's own language, as `lc_messages` has it.
const SHUTDOWN: &[u8] = b"S\xd0\xa4\xd0\x90\xd0\xa2\xd0\x90\xd0\x9b\0VFATAL\0C57P01\0Mbye\0\0";
