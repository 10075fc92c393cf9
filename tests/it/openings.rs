//! Any client from its first byte: random legal and illegal openings, whole, cut and half, that end in every way. Whatever it
//! does, it reads what the protocol allows there and nothing else, and is counted once.

use crate::harness::{
    DEADLINE, FakeUpstream, SettingsFile,
    wire::{
        GSSENC_REQUEST, SSL_REQUEST, cancel_request, message, parameters, query, startup, sync, terminate, untyped,
    },
};
use fastrand::Rng;
use socket2::SockRef;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

const OPENINGS: usize = 800;
/// Every eighth goes to the listener with a local password.
const ASKED: usize = OPENINGS / 8;
const PROTOCOL_2_0: u32 = 0x0002_0000;
const VERSIONS: [u32; 4] = [0x0003_0000, 0x0003_0001, 0x0003_0002, 0x0003_270f];

#[test]
fn any_opening_reads_what_the_protocol_allows_and_is_counted_once() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "the local password of this listener");
    let proxy = settings
        .global("startup_limit = \"30s\"\nlogins_max = 64")
        .another_listener("asks", "local_password = { file = \"local.pw\" }")
        .start();
    let (open, asks) = (proxy.listener("main").parse().unwrap(), proxy.listener("asks").parse().unwrap());
    proxy.client();
    proxy.wait_for_active(0.0);
    let seed = std::env::var("OPENINGS_SEED").map_or(11, |seed| seed.parse().unwrap());

    thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed + worker);
                for number in 0..OPENINGS / 8 {
                    let address = if (number + worker as usize) % 8 == 7 { asks } else { open };
                    let opening = Opening::any(&mut rng, address == asks);
                    opening.play(address, &mut rng, &format!("OPENINGS_SEED={seed}, worker {worker}, number {number}"));
                }
            });
        }
    });

    // One may still be on its way in when its client has gone.
    for (listener, count) in [("main", OPENINGS - ASKED + 1), ("asks", ASKED)] {
        let listener = [("listener", listener)];
        proxy.wait_for_metric("crdb_proxy_client_connections_accepted_total", &listener, count as f64);
        proxy.wait_for_metric("crdb_proxy_client_connections_active", &listener, 0.0);
    }
    let metrics = proxy.metrics();
    let ends = ["client_connections_closed_total{", "client_connections_refused_total{", "cancels_total{"];
    let ended = ends.map(|name| sum(&metrics, name));
    assert_eq!(ended.iter().sum::<f64>(), (OPENINGS + 1) as f64, "{ended:?}");
    assert!(ended.iter().all(|&count| count > 10.0), "too few of a kind: {ended:?}");
}

/// Of all series whose names begin so.
fn sum(metrics: &str, name: &str) -> f64 {
    let name = format!("crdb_proxy_{name}");
    let values = metrics.lines().filter(|line| line.starts_with(&name)).map(|line| line.rsplit_once(' ').unwrap().1);
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

/// What a client does.
struct Opening {
    /// Each is sent once what came before has been answered, where it is answered at all.
    requests: Vec<[u8; 8]>,
    /// Then this.
    last: Last,
    /// Only so much of what follows the requests is sent.
    cut: Option<usize>,
    /// Requests are not waited for.
    is_hasty: bool,
    end: End,
}

enum Last {
    Nothing,
    Startup { version: u32, then: Vec<u8>, queries: Option<usize> },
    Malformed(Vec<u8>),
    OldProtocol,
    Cancel,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It says that it has nothing more to send, and reads to the end.
    Reads,
    Closes,
    Resets,
}

impl Opening {
    fn any(rng: &mut Rng, asks: bool) -> Self {
        let requests = (0..rng.usize(..3)).map(|_| if rng.bool() { SSL_REQUEST } else { GSSENC_REQUEST }).collect();
        let last = match rng.u8(..12) {
            0 => Last::Nothing,
            1 => Last::Cancel,
            2 => Last::OldProtocol,
            3 => Last::Malformed(untyped(VERSIONS[0], &parameters(&[(b"database", b"d")]))),
            4 => Last::Malformed([&100_000_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat()),
            5 => Last::Malformed((0..rng.usize(8..60)).map(|_| rng.u8(..)).collect()),
            _ => {
                let (then, queries) = session(rng, asks);
                Last::Startup { version: VERSIONS[rng.usize(..VERSIONS.len())], then, queries }
            }
        };
        let end = [End::Reads, End::Reads, End::Closes, End::Resets][rng.usize(..4)];
        Self { requests, last, cut: (rng.u8(..5) == 0).then(|| rng.usize(..40)), is_hasty: rng.u8(..6) == 0, end }
    }

    fn play(&self, address: SocketAddr, rng: &mut Rng, which: &str) {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut read = Vec::new();
        let mut is_open = true;
        for request in &self.requests {
            is_open &= send_in_pieces(&mut socket, request, rng);
            if !self.is_hasty && is_open {
                let mut answer = [0];
                is_open = socket.read_exact(&mut answer).is_ok() && answer == *b"N";
                read.extend(answer);
            }
        }
        let mut bytes = self.last.bytes();
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        let _ = is_open && send_in_pieces(&mut socket, &bytes, rng);
        match self.end {
            End::Closes => {}
            End::Resets => SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap(),
            End::Reads => {
                // Who says that it has nothing more to send while its login is under way has left.
                if let Some(answers) = self.answers() {
                    while answered(&read) < answers && read_some(&mut socket, &mut read) {}
                }
                let _ = socket.shutdown(Shutdown::Write);
                // A reset is an end too: what the daemon does not want to read may have been on its way.
                let _ = socket.read_to_end(&mut read);
                self.judge(&read, which);
            }
        }
    }

    /// How often such a session is ready for a query: once at first, and once after each. None where it is no session, or
    /// nobody can say how far it comes.
    fn answers(&self) -> Option<usize> {
        let is_sound = self.requests.iter().collect::<BTreeSet<_>>().len() == self.requests.len();
        match self.last {
            Last::Startup { queries: Some(queries), .. } if is_sound && !self.is_hasty && self.cut.is_none() => {
                Some(queries + 1)
            }
            _ => None,
        }
    }

    /// What was read must be what may be read there.
    fn judge(&self, read: &[u8], which: &str) {
        let shown = || format!("{which}: {}", read.escape_ascii());
        let answers = read.iter().take_while(|&&byte| byte == b'N').count();
        assert!(answers <= self.requests.len(), "{}", shown());
        let rest = &read[answers..];
        if rest.starts_with(b"Ecrdb-proxy refused") && matches!(self.last, Last::OldProtocol | Last::Malformed(_)) {
            // As protocol 2 has it: text to a NUL.
            assert!(rest.ends_with(b"\n\0"), "{}", shown());
            return;
        }
        let tags = tags_of(rest).unwrap_or_else(|| panic!("no whole messages: {}", shown()));
        if let Some(place) = tags.iter().position(|&tag| tag == b'E') {
            assert_eq!(place + 1, tags.len(), "something follows the last word: {}", shown());
        }
        match &self.last {
            Last::Startup { .. } => {
                if let Some(answers) = self.answers() {
                    assert!(matches!(tags.first(), Some(b'v' | b'R')), "{}", shown());
                    assert_eq!(tags.iter().filter(|&&tag| tag == b'Z').count(), answers, "{}", shown());
                }
            }
            _ => assert!(!tags.contains(&b'Z'), "a session without a startup: {}", shown()),
        }
    }
}

impl Last {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Startup { version, then, .. } => {
                let mut bytes =
                    untyped(*version, &parameters(&[(b"user", b"anyone"), (b"application_name", b"openings")]));
                bytes.extend(then);
                bytes
            }
            Self::Malformed(bytes) => bytes.clone(),
            Self::OldProtocol => untyped(PROTOCOL_2_0, &startup(&[("user", "anyone")])),
            Self::Cancel => cancel_request(&[0, 0, 0, 1, 9, 9, 9, 9]),
        }
    }
}

/// What follows a startup, and how many answers it must get.
fn session(rng: &mut Rng, asks: bool) -> (Vec<u8>, Option<usize>) {
    if asks {
        // Nobody has been asked yet, so whatever comes is out of place.
        return ([message(b'p', b"SCRAM-SHA-256\0\0\0\0\x05n,,n="), query("select 1")].concat(), None);
    }
    let queries = rng.usize(..4);
    let mut bytes = (0..queries).flat_map(|_| if rng.bool() { query("select 1") } else { sync() }).collect::<Vec<_>>();
    match rng.u8(..4) {
        0 => (bytes, Some(queries)),
        1 => {
            bytes.extend(terminate());
            (bytes, Some(queries))
        }
        2 => {
            // A length that cannot be, behind what is in order.
            bytes.extend([b'Q', 0, 0, 0, 3]);
            (bytes, None)
        }
        _ => {
            bytes.extend([b'Q', 0xff, 0xff, 0xff, 0xff]);
            (bytes, None)
        }
    }
}

fn send_in_pieces(socket: &mut TcpStream, bytes: &[u8], rng: &mut Rng) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.usize(1..=rest.len()));
        if socket.write_all(piece).is_err() {
            return false;
        }
        rest = behind;
    }
    true
}

fn read_some(socket: &mut TcpStream, read: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 4096];
    let count = socket.read(&mut bytes).unwrap_or(0);
    read.extend(&bytes[..count]);
    count > 0
}

/// How often the daemon was ready for a query, in what has come so far.
fn answered(read: &[u8]) -> usize {
    let answers = read.iter().take_while(|&&byte| byte == b'N').count();
    messages(&read[answers..]).0.iter().filter(|&&tag| tag == b'Z').count()
}

/// The types of these messages, if they are whole.
fn tags_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let (tags, rest) = messages(bytes);
    rest.is_empty().then_some(tags)
}

/// The types of the messages that are whole, and what is left.
fn messages(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut tags = Vec::new();
    while let Some((&tag, rest)) = bytes.split_first()
        && let Some((length, _)) = rest.split_first_chunk::<4>()
        && let Some(behind) = rest.get(u32::from_be_bytes(*length) as usize..)
    {
        tags.push(tag);
        bytes = behind;
    }
    (tags, bytes)
}
