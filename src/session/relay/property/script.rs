//! What a case does, as values that proptest makes, shrinks and prints.

use crate::wire::messages::frame;
use proptest::{collection::vec, prelude::*, sample::select};
use std::time::Duration;

/// A whole case.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// The client does as libpq and drivers do, and the server as PostgreSQL: then an idle point must be known as one.
    pub(super) is_behaved: bool,
    /// The upstream is to be used again: Terminate does not reach it.
    pub(super) is_for_reuse: bool,
    pub(super) buffer_bytes: usize,
    /// The most that one write takes, of the client and of the server.
    pub(super) bites: (usize, usize),
    /// So many of the client's first bytes were read ahead.
    pub(super) read_ahead: usize,
    pub(super) idle_limit: Option<Duration>,
    pub(super) age_limit: Option<Duration>,
    pub(super) steps: Vec<Step>,
    pub(super) finale: Finale,
    /// Whoever did not read begins to, before the end.
    pub(super) opens_windows: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// The relay is stopped, looked at, and run again.
    Look,
    /// Time passes.
    Pause(Duration),
    /// The client does the next thing that a client does.
    Next(Exchange, Cuts),
    /// The client sends any messages.
    Client(Vec<Said>, Cuts),
    /// The server reads so many messages, and answers.
    Answer(Vec<Choice>, Cuts),
    /// The server says what nobody asked for, and is allowed to.
    Aside(Aside, Cuts),
    /// The server says what it must not.
    Server(Vec<Said>, Cuts),
    ClientReads(bool),
    ServerReads(bool),
    ClientEnds(End),
    ServerEnds(End),
    Drain,
    Cut,
}

/// Sizes of the first piece and of those behind it; what they cut is sent whole when they are 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cuts(pub(super) u8, pub(super) u8);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Exchange {
    Query,
    /// So many queries at once.
    Pipeline(u8),
    Extended,
    Flushed,
    FunctionCall,
    Terminate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Done,
    Nothing,
    Error,
    /// BEGIN, or COMMIT.
    Turn,
    Copy,
    CopyOut,
    Die,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aside {
    Notice,
    Parameter,
    Notification,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Half,
    Close,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finale {
    ClientEnds,
    ServerEnds,
    Cut,
}

/// A message, or what is none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Whole(u8, Vec<u8>),
    /// A header that says so much, and these bytes behind it.
    Lying(u8, u32, Vec<u8>),
}

impl Said {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Whole(kind, _) | Self::Lying(kind, ..) => *kind,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Whole(kind, body) => frame(*kind, body),
            Self::Lying(kind, length, body) => [&[*kind][..], &length.to_be_bytes(), body].concat(),
        }
    }
}

impl Cuts {
    pub(super) fn of(self, mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut pieces = Vec::new();
        let mut size = usize::from(self.0);
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(if size == 0 { bytes.len() } else { size.min(bytes.len()) });
            pieces.push(piece);
            (bytes, size) = (rest, usize::from(self.1));
        }
        pieces
    }
}

pub(super) fn scripts() -> impl Strategy<Value = Script> {
    any::<bool>().prop_flat_map(|is_behaved| {
        let steps = if is_behaved { vec(behaved(), 0..40).boxed() } else { scenes().boxed() };
        let limit = || proptest::option::weighted(0.3, (1_u64..60).prop_map(Duration::from_secs));
        let sizes = (16_usize..300, 1_usize..200, 1_usize..200, 0_usize..30);
        let finale = select(vec![Finale::ClientEnds, Finale::ServerEnds, Finale::Cut]);
        (any::<bool>(), sizes, limit(), limit(), steps, finale, any::<bool>()).prop_map(
            move |(is_for_reuse, sizes, idle_limit, age_limit, steps, finale, opens_windows)| Script {
                is_behaved,
                is_for_reuse,
                buffer_bytes: sizes.0,
                bites: (sizes.1, sizes.2),
                read_ahead: sizes.3.saturating_sub(15),
                idle_limit,
                age_limit,
                steps,
                finale,
                opens_windows,
            },
        )
    })
}

fn cuts() -> impl Strategy<Value = Cuts> {
    (0_u8..20, 0_u8..20).prop_map(|(first, then)| Cuts(first, then))
}

fn behaved() -> impl Strategy<Value = Step> {
    let exchange = prop_oneof![
        6 => Just(Exchange::Query),
        2 => (2_u8..5).prop_map(Exchange::Pipeline),
        6 => Just(Exchange::Extended),
        2 => Just(Exchange::Flushed),
        1 => Just(Exchange::FunctionCall),
        1 => Just(Exchange::Terminate),
    ];
    prop_oneof![
        30 => (exchange, cuts()).prop_map(|(exchange, cuts)| Step::Next(exchange, cuts)),
        40 => answers(),
        20 => either(),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (vec(from_client(), 1..6), cuts()).prop_map(|(said, cuts)| Step::Client(said, cuts)),
        40 => answers(),
        3 => (vec(from_server(), 1..4), cuts()).prop_map(|(said, cuts)| Step::Server(said, cuts)),
        20 => either(),
    ]
}

/// Any steps, and among them those that chance alone would hardly put together.
fn scenes() -> impl Strategy<Value = Vec<Step>> {
    let scene = prop_oneof![20 => any_step().prop_map(|step| vec![step]), 1 => copy_with_more_behind()];
    vec(scene, 0..40).prop_map(|scenes| scenes.concat())
}

/// A COPY that fails, or not, at its first data, when more than data is on its way already.
fn copy_with_more_behind() -> impl Strategy<Value = Vec<Step>> {
    let behind = vec(select(b"dScfQH".to_vec()), 0..4);
    (select(vec![Choice::Error, Choice::Done]), behind, cuts()).prop_map(|(choice, behind, cuts)| {
        let sent = [b'd'].into_iter().chain(behind).map(|kind| Said::Whole(kind, Vec::new())).collect();
        vec![
            Step::Client(vec![Said::Whole(b'Q', b"copy\0".to_vec())], cuts),
            Step::Answer(vec![Choice::Copy], cuts),
            Step::Client(sent, cuts),
            Step::Answer(vec![choice], cuts),
            Step::Look,
        ]
    })
}

fn answers() -> impl Strategy<Value = Step> {
    let choice = prop_oneof![
        20 => Just(Choice::Done),
        3 => Just(Choice::Nothing),
        6 => Just(Choice::Error),
        8 => Just(Choice::Turn),
        16 => Just(Choice::Copy),
        3 => Just(Choice::CopyOut),
        1 => Just(Choice::Die),
    ];
    (vec(choice, 1..8), cuts()).prop_map(|(choices, cuts)| Step::Answer(choices, cuts))
}

/// What happens to those who behave as well as to others.
fn either() -> impl Strategy<Value = Step> {
    let end = || select(vec![End::Half, End::Close, End::Reset]);
    let pause = prop_oneof![6 => 1_u64..300, 1 => 300_u64..90_000];
    let pause = pause.prop_map(|ms| Step::Pause(Duration::from_millis(ms)));
    let aside = select(vec![Aside::Notice, Aside::Parameter, Aside::Notification]);
    prop_oneof![
        40 => Just(Step::Look),
        10 => pause,
        8 => (aside, cuts()).prop_map(|(aside, cuts)| Step::Aside(aside, cuts)),
        3 => proptest::bool::weighted(0.7).prop_map(Step::ClientReads),
        3 => proptest::bool::weighted(0.7).prop_map(Step::ServerReads),
        1 => end().prop_map(Step::ClientEnds),
        1 => end().prop_map(Step::ServerEnds),
        1 => Just(Step::Drain),
        1 => Just(Step::Cut),
    ]
}

fn from_client() -> impl Strategy<Value = Said> {
    let kinds = select(b"QQQQPBDEESSSSHCFdddccfX".to_vec());
    said(prop_oneof![40 => kinds, 1 => any::<u8>()])
}

fn from_server() -> impl Strategy<Value = Said> {
    let kinds = select(b"ZZZTDCIGHWdcEENSA123stnV".to_vec());
    prop_oneof![
        6 => said(prop_oneof![20 => kinds, 1 => any::<u8>()]),
        4 => select(b"IITE?".to_vec()).prop_map(|status| Said::Whole(b'Z', vec![status])),
        1 => Just(Said::Whole(b'E', b"SFATAL\0C57P01\0\0".to_vec())),
        1 => Just(Said::Whole(b'E', b"SERROR\0VERROR\0C00000\0\0".to_vec())),
    ]
}

fn said(kinds: impl Strategy<Value = u8>) -> impl Strategy<Value = Said> {
    let length = prop_oneof![4 => 0_u32..40, 1 => select(vec![3, 1 << 31, u32::MAX, i32::MAX as u32, 1 << 20])];
    // No severity begins with it, so that an ErrorResponse of these bytes is no FATAL by chance.
    let body = || vec(select(b"\0\0ax\xff".to_vec()), 0..30);
    (kinds, body(), length, 0_u8..40).prop_map(|(kind, body, length, lies)| {
        if lies == 0 { Said::Lying(kind, length, body) } else { Said::Whole(kind, body) }
    })
}
