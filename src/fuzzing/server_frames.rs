//! What a server sends after its login, to a client that has asked for something: the pieces change nothing.

use super::{
    bytes::{Cuts, first},
    client_frames::Known,
};
use crate::wire::{Conversation, SqlState, messages::frame};

pub(super) fn run(input: &[u8]) {
    let (how, input) = first(input);
    let (seed, stream) = first(input);
    let whole = follow(how, stream, None);
    let cut = follow(how, stream, Some(seed));

    assert_eq!(whole.errors, cut.errors, "errors that were told");
    match (whole.end, cut.end) {
        (None, None) => assert_eq!(Known::of(&whole.talk), Known::of(&cut.talk)),
        (Some(at), Some((from, to))) => {
            assert!((from..=to).contains(&at.0), "malformed from {at:?}, or somewhere in {from}..={to}");
            assert!(!whole.talk.is_idle() && !cut.talk.is_idle(), "idle after what is no message");
        }
        ends => panic!("in pieces it ends otherwise: {ends:?}"),
    }
    same_reports(whole, cut, stream);
}

struct Followed {
    talk: Conversation,
    errors: Vec<SqlState>,
    /// As for a client's frames.
    end: Option<(usize, usize)>,
}

fn follow(how: u8, stream: &[u8], seed: Option<u8>) -> Followed {
    let mut talk = if how & 1 != 0 { Conversation::after_login_for_reuse() } else { Conversation::after_login() };
    for kind in ASKED[usize::from(how >> 1) % ASKED.len()].bytes() {
        assert_eq!(talk.follow_client(&frame(kind, b"")), Ok(()));
    }
    let (mut rest, mut done, mut cuts) = (stream, 0_usize, seed.map(Cuts::of));
    let (mut errors, mut end) = (Vec::new(), None);
    while !rest.is_empty() && end.is_none() {
        let piece = match &mut cuts {
            Some(cuts) => cuts.next(&mut rest),
            None => std::mem::take(&mut rest),
        };
        if let Err(error) = talk.follow_server(piece, &mut |sqlstate| errors.push(sqlstate)) {
            assert!(error.sound_bytes.is_none_or(|sound| sound < piece.len()) && !error.reason.is_empty());
            assert_eq!(talk.client_can_read_a_message(), error.sound_bytes.is_some(), "a half message is out");
            end = Some(error.sound_bytes.map_or((done.saturating_sub(4), done), |sound| (done + sound, done + sound)));
        }
        done += piece.len();
    }
    Followed { talk, errors, end }
}

/// An upstream is given on only where the same is known of it however it was read: as it was at login, or not.
fn same_reports(mut whole: Followed, mut cut: Followed, stream: &[u8]) {
    let (Some(whole), Some(cut)) = (whole.talk.take_reported(), cut.talk.take_reported()) else { return };
    assert_eq!(whole.is_as_at_login(&[]), cut.is_as_at_login(&[]));
    assert_eq!(whole.is_as_at_login(&[stream]), cut.is_as_at_login(&[stream]));
}

/// What the client sent before.
const ASKED: [&str; 6] = ["", "Q", "PBDES", "QQS", "PBESdcS", "QcS"];
