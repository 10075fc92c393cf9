//! What a client sends after its startup, followed in pieces: the pieces change nothing.

use super::bytes::{Cuts, first};
use crate::wire::{Conversation, conversation::Activity};

pub(super) fn run(input: &[u8]) {
    let (how, input) = first(input);
    let (seed, stream) = first(input);
    let is_for_reuse = how & 1 != 0;
    let (whole, end) = follow(is_for_reuse, stream, None);
    let (cut, cut_end) = follow(is_for_reuse, stream, Some(seed));

    match (end, cut_end) {
        (None, None) => assert_eq!(Known::of(&whole), Known::of(&cut)),
        (Some(at), Some((from, to))) => {
            assert!((from..=to).contains(&at.0), "malformed from {at:?}, or somewhere in {from}..={to}");
            assert_eq!(whole.client_said_goodbye(), cut.client_said_goodbye());
            // A header that is half out leaves the cut one with more to mend.
            assert!(whole.is_idle() || !cut.is_idle(), "in pieces it is idle");
        }
        ends => panic!("in pieces it ends otherwise: {ends:?}"),
    }
    if whole.is_idle() {
        assert_eq!(whole.activity(), Activity::Idle);
        assert!(!whole.is_answer_owed() && whole.server_can_read_a_message());
    }
    assert!(whole.withholds_goodbye() == is_for_reuse && !whole.server_said_fatal());
}

/// Where the malformed message begins, as far as its reader knows: at a byte, or in what went before this piece.
type End = Option<(usize, usize)>;

fn follow(is_for_reuse: bool, stream: &[u8], seed: Option<u8>) -> (Conversation, End) {
    let mut talk = if is_for_reuse { Conversation::after_login_for_reuse() } else { Conversation::after_login() };
    let (mut rest, mut done, mut cuts) = (stream, 0_usize, seed.map(Cuts::of));
    while !rest.is_empty() {
        let piece = match &mut cuts {
            Some(cuts) => cuts.next(&mut rest),
            None => std::mem::take(&mut rest),
        };
        if let Err(error) = talk.follow_client(piece) {
            assert!(error.sound_bytes.is_none_or(|sound| sound < piece.len()) && !error.reason.is_empty());
            let end = error.sound_bytes.map_or((done.saturating_sub(4), done), |sound| (done + sound, done + sound));
            assert_eq!(talk.server_can_read_a_message(), error.sound_bytes.is_some(), "a half message is out");
            return (talk, Some(end));
        }
        done += piece.len();
    }
    (talk, None)
}

/// All that can be asked of a conversation.
#[derive(Debug, PartialEq)]
pub(super) struct Known {
    idle_owed: (bool, bool),
    boundaries: (bool, bool),
    goodbye_fatal: (bool, bool),
    named_plain: (bool, bool),
    statements: u64,
    activity: Activity,
}

impl Known {
    pub(super) fn of(talk: &Conversation) -> Self {
        Self {
            idle_owed: (talk.is_idle(), talk.is_answer_owed()),
            boundaries: (talk.client_can_read_a_message(), talk.server_can_read_a_message()),
            goodbye_fatal: (talk.client_said_goodbye(), talk.server_said_fatal()),
            named_plain: (talk.has_named_statement(), talk.was_plain()),
            statements: talk.statements(),
            activity: talk.activity(),
        }
    }
}
