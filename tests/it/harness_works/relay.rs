//! The relay in front of a scripted cluster, as clients see it.

use crate::harness::{
    DEADLINE, FakeUpstream, Front, Script,
    relay::{Mode, Relay},
    settings::Cluster,
    wire::{SSL_REQUEST, Wire},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

#[test]
fn the_first_answer_takes_a_round_trip_for_the_connect_and_one_for_itself() {
    let echo = echo();
    let round_trip = Duration::from_millis(200);
    let relay = Relay::to(echo, round_trip);

    let start = Instant::now();
    let mut wire = connect(&relay);
    let first = answered_after(&mut wire, start);
    let second = answered_after(&mut wire, Instant::now());
    relay.set_round_trip(Duration::ZERO);
    let near = answered_after(&mut wire, Instant::now());

    // A busy machine may take longer, never shorter.
    assert!(first >= 2 * round_trip, "{first:?}");
    assert!((round_trip..2 * round_trip).contains(&second), "{second:?}");
    assert!(near < round_trip, "{near:?}");
}

#[test]
fn many_pieces_are_under_way_at_once_and_stay_in_order() {
    let relay = Relay::to(echo(), Duration::from_millis(200));
    let mut reading = TcpStream::connect(relay.address()).unwrap();
    reading.set_nodelay(true).unwrap();
    let mut writing = reading.try_clone().unwrap();
    let sent = (0..4_000_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>();

    let start = Instant::now();
    let expected = sent.clone();
    thread::spawn(move || {
        for piece in sent.chunks(100_000) {
            writing.write_all(piece).unwrap();
        }
    });
    let mut arrived = vec![0; expected.len()];
    reading.set_read_timeout(Some(DEADLINE)).unwrap();
    reading.read_exact(&mut arrived).unwrap();

    assert!(arrived == expected, "something was lost or overtaken");
    // A thousand pieces one after the other would take minutes.
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
}

#[test]
fn a_refusing_relay_resets_what_is_open_if_asked_and_comes_back_on_its_port() {
    let relay = Relay::to(echo(), Duration::ZERO);
    let mut open = connect(&relay);
    answered_after(&mut open, Instant::now());

    relay.set_new(Mode::Refuse);
    assert_eq!(TcpStream::connect(relay.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    answered_after(&mut open, Instant::now());
    relay.set_all(Mode::Refuse);
    assert_eq!(open.try_bytes::<1>().unwrap_err().kind(), ErrorKind::ConnectionReset);

    relay.set_all(Mode::Up);
    answered_after(&mut connect(&relay), Instant::now());
    assert_eq!(relay.connections(), 2);
}

#[test]
fn a_black_hole_accepts_and_says_nothing_until_it_is_up_again() {
    let relay = Relay::to(echo(), Duration::ZERO);
    let mut open = connect(&relay);
    answered_after(&mut open, Instant::now());

    relay.set_all(Mode::BlackHole);
    let mut new = connect(&relay);
    for wire in [&mut open, &mut new] {
        wire.send(b"x");
    }
    relay.wait_for_connections(2);
    assert!(open.stays_silent(Duration::from_millis(100)));
    assert!(new.stays_silent(Duration::from_millis(100)));

    relay.set_all(Mode::Up);
    for wire in [&mut open, &mut new] {
        assert_eq!(wire.bytes(), *b"x");
    }
}

#[test]
fn the_ends_of_connections_pass_as_they_are() {
    let server = FakeUpstream::start(Script { front: Front::Says(b"N".into()), ..Script::default() });
    let relay = Relay::to(server.address(), Duration::from_millis(20));

    let mut closing = connect(&relay);
    closing.send(&SSL_REQUEST);
    assert_eq!(closing.bytes(), *b"N");
    closing.half_close();
    closing.assert_closed();

    server.change(|script| script.front = Front::Resets);
    let mut reset = connect(&relay);
    reset.send(&SSL_REQUEST);
    assert_eq!(reset.try_bytes::<1>().unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn connect(relay: &Relay) -> Wire {
    Wire::new(TcpStream::connect(relay.address()).unwrap())
}

fn answered_after(wire: &mut Wire, start: Instant) -> Duration {
    wire.send(b"?");
    assert_eq!(wire.bytes(), *b"?");
    start.elapsed()
}

/// A server that sends back what it reads; its threads end with their clients, and one with the process.
fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || std::io::copy(&mut socket.try_clone().unwrap(), &mut socket).ok());
        }
    });
    address
}
