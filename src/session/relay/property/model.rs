//! What must be true of a case, found out from the log of what the relay was told and by reading both streams anew.

use super::pipe::{Side, Told};
use crate::metrics::labels::CloseReason;

/// One direction as it was read.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    /// Place in the log and first byte of each piece.
    pieces: Vec<(usize, usize)>,
    pub(super) messages: Vec<Message>,
    /// So many bytes may be passed on: all that are no part of a malformed message, but for those that were out already.
    pub(super) sound: usize,
    pub(super) is_malformed: bool,
    /// Whether what may be passed on ends between two messages.
    pub(super) at_boundary: bool,
    pub(super) told_end: bool,
    pub(super) read_failed: bool,
    pub(super) write_failed: bool,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
    pub(super) is_whole: bool,
    /// When the relay knew of it: a place in the log.
    pub(super) at: usize,
}

/// All that was said in a case.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) client: Stream,
    pub(super) server: Stream,
    pub(super) said_goodbye: bool,
    pub(super) said_fatal: bool,
}

impl Model {
    pub(super) fn of(log: &[(Side, Told)], is_for_reuse: bool) -> Self {
        let is_refused = |kind: u8, _: u32| kind == b'p' || (kind == b'X' && is_for_reuse);
        let client = Stream::read(log, Side::Client, is_refused);
        let server = Stream::read(log, Side::Server, |kind, length| kind == b'Z' && length != 5);
        let said_goodbye = client.messages.iter().any(|message| message.kind == b'X');
        let said_fatal = server.messages.iter().any(|message| message.is_whole && is_fatal(message));
        Self { client, server, said_goodbye, said_fatal }
    }

    /// What no idle point can be without, whatever nonsense was said.
    pub(super) fn may_be_idle(&self) -> bool {
        let is_synchronous = |message: &&Message| !matches!(message.kind, b'N' | b'S' | b'A');
        let last = self.server.messages.iter().rev().find(is_synchronous);
        let is_asking =
            |message: &&Message| matches!(message.kind, b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H');
        let asked = self.client.messages.iter().rev().find(is_asking).map(|message| message.at);
        let is_answered = match last {
            Some(ready) => ready.kind == b'Z' && ready.body == b"I" && asked.is_none_or(|asked| asked < ready.at),
            None => asked.is_none(),
        };
        is_answered && self.client.at_boundary && self.server.at_boundary
    }

    pub(super) fn allows(&self, reason: CloseReason, by_rule: ByRule) -> bool {
        let Self { client, server, said_goodbye, said_fatal } = self;
        match reason {
            CloseReason::ClientTerminate => *said_goodbye,
            CloseReason::ClientEof => client.told_end && !said_goodbye,
            CloseReason::ClientReset => (client.read_failed || client.write_failed) && !said_goodbye,
            CloseReason::ClientProtocol => client.is_malformed && !said_goodbye,
            CloseReason::UpstreamFatal => *said_fatal,
            CloseReason::UpstreamEof => server.told_end && !said_fatal,
            CloseReason::UpstreamReset => (server.read_failed || server.write_failed) && !said_fatal,
            CloseReason::UpstreamProtocol => server.is_malformed,
            CloseReason::IdleLimit => by_rule.idle_limit && self.may_be_idle(),
            CloseReason::AgeLimit => by_rule.is_too_old && self.may_be_idle(),
            CloseReason::Drain => by_rule.is_draining && self.may_be_idle(),
            CloseReason::DrainLimit => by_rule.is_cut,
            // The streams here always answer the kernel's probes; and no fault of ours is allowed.
            CloseReason::UpstreamTimeout | CloseReason::Internal => false,
        }
    }

    /// The SQLSTATE that a client must read at the end, where it can read anything.
    pub(super) fn last_words(&self, reason: CloseReason) -> Option<&'static str> {
        if !self.server.at_boundary || self.said_fatal {
            return None;
        }
        match reason.by() {
            "client" if reason != CloseReason::ClientProtocol => None,
            _ => match reason {
                CloseReason::UpstreamEof | CloseReason::UpstreamReset => Some("08006"),
                CloseReason::ClientProtocol | CloseReason::UpstreamProtocol => Some("08P01"),
                CloseReason::IdleLimit => Some("57P05"),
                CloseReason::AgeLimit | CloseReason::Drain | CloseReason::DrainLimit => Some("57P01"),
                _ => None,
            },
        }
    }
}

/// Which rules of the daemon's were in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByRule {
    pub(super) idle_limit: bool,
    pub(super) is_too_old: bool,
    pub(super) is_draining: bool,
    pub(super) is_cut: bool,
}

impl Stream {
    fn read(log: &[(Side, Told)], side: Side, is_refused: impl Fn(u8, u32) -> bool) -> Self {
        let mut stream = Self { at_boundary: true, ..Self::default() };
        for (place, (_, told)) in log.iter().enumerate().filter(|(_, (of, _))| *of == side) {
            match told {
                Told::Bytes(piece) => {
                    stream.pieces.push((place, stream.bytes.len()));
                    stream.bytes.extend(piece);
                }
                Told::End => stream.told_end = true,
                Told::ReadFailed => stream.read_failed = true,
                Told::WriteFailed => stream.write_failed = true,
            }
        }
        stream.sound = stream.bytes.len();
        stream.follow(is_refused);
        stream
    }

    fn follow(&mut self, is_refused: impl Fn(u8, u32) -> bool) {
        let mut start = 0;
        while start < self.sound {
            let Some(&[kind, a, b, c, d]) = self.bytes[start..].first_chunk() else {
                self.at_boundary = false;
                return;
            };
            let length = u32::from_be_bytes([a, b, c, d]);
            let (at, piece_start) = self.piece_of(start + 4);
            let is_impossible = length < 4 || length > i32::MAX as u32;
            if is_impossible || is_refused(kind, length) {
                if !is_impossible {
                    self.messages.push(Message { kind, body: Vec::new(), is_whole: false, at });
                }
                self.is_malformed = true;
                self.sound = start.max(piece_start);
                // Part of its header is out already.
                self.at_boundary = start >= piece_start;
                return;
            }
            let end = start + 1 + length as usize;
            let is_whole = end <= self.bytes.len();
            let body = self.bytes[start + 5..end.min(self.bytes.len())].to_vec();
            self.messages.push(Message { kind, body, is_whole, at });
            self.at_boundary = is_whole;
            start = end;
        }
    }

    /// Place in the log and first byte of the piece that holds this byte.
    fn piece_of(&self, byte: usize) -> (usize, usize) {
        *self.pieces.iter().rev().find(|(_, start)| *start <= byte).unwrap()
    }
}

fn is_fatal(error: &Message) -> bool {
    let fields = || error.body.split(|&byte| byte == 0);
    let severity = fields().find(|field| field.first() == Some(&b'V'));
    let severity = severity.or_else(|| fields().find(|field| field.first() == Some(&b'S')));
    error.kind == b'E' && severity.is_some_and(|severity| severity[1..].starts_with(b"F"))
}
