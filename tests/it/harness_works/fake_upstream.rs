//! What the scripted cluster does with sessions, and how it fails some logins and not others.

use super::log_in_in_clear;
use crate::harness::{
    FakeUpstream, Front, Login, PASSWORD, Script, Session, TestClient,
    settings::Cluster,
    wire::{SSL_REQUEST, Wire},
};
use std::{
    io::ErrorKind,
    net::TcpStream,
    time::{Duration, Instant},
};

#[test]
fn queries_are_noted_with_their_connections_and_answered() {
    let cluster = answering();
    let (mut first, mut second) = (log_in(&cluster), log_in(&cluster));

    let answers = [first.query("DISCARD ALL"), second.query("select 1"), first.query("reset role")];

    let tags = answers.map(|answer| String::from_utf8_lossy(&answer[0].body).into_owned());
    assert_eq!(tags, ["DISCARD ALL\0", "SELECT 0\0", "RESET\0"]);
    let noted = [(1, "DISCARD ALL".into()), (2, "select 1".into()), (1, "reset role".into())];
    assert_eq!(cluster.seen().queries, noted);
}

#[test]
fn open_sessions_are_counted_drained_with_a_word_and_closed_without() {
    let cluster = answering();
    let (mut first, mut second) = (log_in(&cluster), log_in(&cluster));
    cluster.wait_until(|seen| seen.open == 2);

    cluster.drain_sessions();
    for client in [&mut first, &mut second] {
        assert_eq!(client.refusal().sqlstate(), "57P01");
    }
    cluster.wait_until(|seen| seen.open == 0);

    let mut third = log_in(&cluster);
    cluster.wait_until(|seen| seen.open == 1);
    cluster.close_sessions();
    assert_eq!(third.next_message().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    cluster.wait_until(|seen| seen.open == 0);
}

#[test]
fn only_the_next_logins_fail() {
    let cluster = answering();

    cluster.fail_next(2, "53300");
    for _ in 0..2 {
        let mut refused = log_in_in_clear(&cluster);
        assert_eq!(refused.until(b'E')[0].sqlstate(), "53300");
    }
    log_in(&cluster);

    cluster.change_next(1, |script| script.front = Front::Closes);
    assert_eq!(answer_to_ssl_request(&cluster), Err(ErrorKind::UnexpectedEof));
    cluster.change_next(1, |script| script.front = Front::Resets);
    assert_eq!(answer_to_ssl_request(&cluster), Err(ErrorKind::ConnectionReset));
    assert_eq!(answer_to_ssl_request(&cluster), Ok(*b"S"));
}

#[test]
fn answers_take_as_long_as_the_script_says() {
    let (front_delay, login_delay) = (Duration::from_millis(50), Duration::from_millis(100));
    let cluster = FakeUpstream::start(Script { front_delay, login_delay, ..script() });

    let start = Instant::now();
    answer_to_ssl_request(&cluster).unwrap();
    let front = start.elapsed();
    log_in(&cluster);

    assert!(front >= front_delay, "{front:?}");
    assert!(start.elapsed() >= 2 * front_delay + login_delay, "{:?}", start.elapsed());
}

fn answering() -> FakeUpstream {
    FakeUpstream::start(script())
}

fn script() -> Script {
    Script { session: Session::Answers, login: Login::Cleartext(PASSWORD.into()), ..Script::default() }
}

fn log_in(cluster: &FakeUpstream) -> TestClient {
    TestClient::ready(log_in_in_clear(cluster))
}

fn answer_to_ssl_request(cluster: &FakeUpstream) -> Result<[u8; 1], ErrorKind> {
    let mut wire = Wire::new(TcpStream::connect(cluster.address()).unwrap());
    wire.send(&SSL_REQUEST);
    wire.try_bytes().map_err(|error| error.kind())
}
