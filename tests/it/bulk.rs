//! Much of everything: gigabytes, stalled readers, thousands of clients; memory and descriptors flat.

use crate::harness::{
    DEADLINE, FakeUpstream, Login, Script, Session, SettingsFile, TestClient, TestProxy,
    wire::{Wire, command_complete, message, notice, query, ready, startup},
};
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

const GIB: usize = 1 << 30;
const MIB: u64 = 1 << 20;

#[test]
fn one_gib_each_way_at_once_arrives_byte_for_byte() {
    let cluster = running(|mut wire| {
        let stream = wire.stream();
        let mut buffer = vec![0; 1 << 17];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    });
    let proxy = TestProxy::before(&cluster);
    let reading = logged_in_socket(proxy.address());
    let mut writing = reading.try_clone().unwrap();

    let sent = thread::spawn(move || {
        let mut digest = Context::new(&SHA256);
        for frame in Frames::new(GIB) {
            digest.update(&frame);
            writing.write_all(&frame).unwrap();
        }
        digest.finish()
    });
    let mut received = Context::new(&SHA256);
    let mut reader = reading.take(GIB as u64);
    let mut buffer = vec![0; 1 << 17];
    loop {
        let length = reader.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        received.update(&buffer[..length]);
    }

    assert_eq!(reader.limit(), 0, "bytes are missing");
    assert_eq!(received.finish().as_ref(), sent.join().unwrap().as_ref());
    for direction in ["to_upstream", "to_client"] {
        let labels = [("listener", "main"), ("direction", direction)];
        let bytes = proxy.metric("crdb_proxy_bytes_total", &labels);
        assert_eq!(bytes, Some(GIB as f64), "{direction}");
    }
}

#[test]
fn one_message_of_a_gigabyte_passes_in_flat_memory() {
    let cluster = running(|mut wire| {
        let stream = wire.stream();
        let mut header = vec![b'D'];
        header.extend(u32::try_from(GIB - 1).unwrap().to_be_bytes());
        stream.write_all(&header).unwrap();
        let chunk = vec![b'x'; 1 << 16];
        let mut left = GIB - 5;
        while left > 0 {
            let length = left.min(chunk.len());
            stream.write_all(&chunk[..length]).unwrap();
            left -= length;
        }
        wire.rest();
    });
    let proxy = TestProxy::before(&cluster);
    let mut socket = logged_in_socket(proxy.address());
    let mut buffer = vec![0; 1 << 16];
    let mut left = GIB - 5;
    let mut peak = 0;
    socket.read_exact(&mut [0; 5]).unwrap();
    socket.read_exact(&mut buffer).unwrap();
    left -= buffer.len();
    let before = proxy.resident_bytes();

    for turn in 0_usize.. {
        if left == 0 {
            break;
        }
        left -= socket.read(&mut buffer).unwrap();
        if turn.is_multiple_of(64) {
            peak = peak.max(proxy.resident_bytes());
        }
    }

    assert!(peak > 0, "memory was never looked at");
    assert!(peak.saturating_sub(before) < 2 * MIB, "grew by {} KiB", (peak - before) / 1024);
}

#[test]
fn the_last_words_of_a_long_answer_are_not_kept_back() {
    let (sender, has_read) = mpsc::channel();
    let has_read = Mutex::new(has_read);
    let cluster = running(move |mut wire| {
        let long = message(b'd', &vec![b'x'; 24 << 20]);
        while wire.next_message().is_ok_and(|message| message.tag == b'Q') {
            // Each piece comes alone: the next is said when the client has the one before.
            for piece in [long.clone(), notice("one more"), [command_complete("COPY 1"), ready(b'I')].concat()] {
                wire.send(&piece);
                has_read.lock().unwrap().recv_timeout(DEADLINE).expect("a client that has read the piece before");
            }
        }
    });
    let proxy = TestProxy::before(&cluster);
    let mut client = proxy.client();

    for _ in 0..2 {
        client.send(&query("copy"));
        assert_eq!(client.message().body.len(), 24 << 20);
        sender.send(()).unwrap();
        assert_eq!(client.message().tag, b'N');
        sender.send(()).unwrap();
        assert_eq!(client.until(b'Z').len(), 2);
        sender.send(()).unwrap();
    }
}

#[test]
fn a_stalled_reader_stalls_its_writer_and_nobody_else() {
    let (sender, blocked) = mpsc::channel();
    let sender = Mutex::new(sender);
    let cluster = running(move |mut wire| {
        // Answers a query with more than any buffer holds, and is handed over when nobody takes it any more.
        if wire.next_message().is_ok_and(|message| message.tag == b'Q') {
            let frame = message(b'd', &[b'x'; 1 << 16]);
            // A TLS stream that cannot write tries to read.
            wire.stream().socket().set_write_timeout(Some(Duration::from_millis(250))).unwrap();
            wire.stream().socket().set_read_timeout(Some(Duration::from_millis(250))).unwrap();
            while wire.try_send(&frame).is_ok() {}
            sender.lock().unwrap().send(wire).ok();
        }
    });
    let proxy = TestProxy::before(&cluster);
    let mut stalled = (0..8).map(|_| proxy.client()).collect::<Vec<_>>();
    let before = proxy.resident_bytes();

    for client in &mut stalled {
        client.send(&query("select"));
        client.message();
    }
    let held_up = stalled.iter().map(|_| blocked.recv_timeout(DEADLINE).expect("a writer that is held up"));
    let _held_up = held_up.collect::<Vec<_>>();
    let labels = [("listener", "main"), ("direction", "to_client")];
    let bytes = || proxy.metric("crdb_proxy_bytes_total", &labels).unwrap();
    while bytes() < bytes() {}

    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 8 * MIB, "eight stalled readers cost {} KiB", grown / 1024);
    let mut innocent = proxy.client();
    innocent.send(&query("select"));
    innocent.message();
}

#[test]
fn ten_thousand_clients_leave_no_descriptor_behind_however_they_go() {
    let script = Script {
        login: Login::Cleartext(crate::harness::PASSWORD.into()),
        session: Session::Answers,
        ..Script::default()
    };
    let cluster = FakeUpstream::start(script);
    // Upstreams that stand ready have descriptors of their own.
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    proxy.client();
    proxy.wait_for_active(0.0);
    let baseline = proxy.descriptors();
    let address = proxy.address();

    thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || (0..1250).for_each(|turn| come_and_go(address, worker + turn)));
        }
    });

    proxy.wait_for_active(0.0);
    let accepted = [("listener", "main")];
    assert_eq!(proxy.metric("crdb_proxy_client_connections_accepted_total", &accepted), Some(10_001.0));
    cluster.wait_until(|seen| seen.ended == seen.connections);
    assert!(proxy.descriptors() <= baseline + 2, "{} descriptors, {baseline} before", proxy.descriptors());
    assert_eq!(close_wait(&proxy), 0, "sockets in CLOSE_WAIT");
}

#[test]
fn a_thousand_idle_sessions_do_nothing_cost_little_memory_and_give_it_back() {
    let cluster = FakeUpstream::answering();
    // A session at work looks at its path six times in this span.
    let settings = SettingsFile::of(&cluster).global("tcp_user_timeout = \"3s\"");
    let proxy = settings.global("log_level = \"debug\"").start();
    proxy.client();
    proxy.wait_for_active(0.0);
    let before = proxy.resident_bytes();

    let clients = (0..1000).map(|_| proxy.client()).collect::<Vec<_>>();
    let used = proxy.resident_bytes().saturating_sub(before);
    let awake = proxy.wake_ups();
    thread::sleep(Duration::from_secs(3));
    let woken = proxy.wake_ups() - awake;
    drop(clients);
    proxy.wait_for_active(0.0);
    // It says so where the C library has to be asked; the first time may come while most are still on their way out.
    if cfg!(target_env = "gnu") {
        let is_after_all = |line: &Value| line["sessions.open"].as_u64().is_some_and(|open| open < 64);
        proxy.wait_for_log(|line| {
            line["message"] == "memory of sessions that are gone was given back" && is_after_all(line)
        });
    }

    assert!(used / 1000 < 64 * 1024, "{used} bytes for a thousand idle sessions");
    assert!(woken < 300, "woken {woken} times in three seconds by a thousand sessions that say nothing");
    let kept = proxy.resident_bytes().saturating_sub(before);
    assert!(kept < used / 2, "{} KiB stay of {} KiB", kept / 1024, used / 1024);
}

/// A cluster whose sessions a function serves.
fn running(serve: impl Fn(Wire) + Send + Sync + 'static) -> FakeUpstream {
    FakeUpstream::start(Script { session: Session::Run(Arc::new(serve)), ..Script::default() })
}

/// CopyData messages of odd sizes and, in all, exactly `length` bytes.
struct Frames {
    left: usize,
    state: u64,
}

impl Frames {
    fn new(length: usize) -> Self {
        Self { left: length, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// xorshift64: quick, and no two frames alike.
    fn next_number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

impl Iterator for Frames {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.left == 0 {
            return None;
        }
        let mut size = 5 + (self.next_number() % 100_000) as usize;
        // What is left must be a whole message or nothing.
        if self.left < size + 5 {
            size = self.left;
        }
        self.left -= size;
        let mut body = vec![0; size - 5];
        for part in body.chunks_mut(8) {
            part.copy_from_slice(&self.next_number().to_ne_bytes()[..part.len()]);
        }
        Some(message(b'd', &body))
    }
}

/// A logged-in socket, for reading and writing in two threads.
fn logged_in_socket(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    let wire = Wire::new(socket.try_clone().unwrap());
    TestClient::log_in(wire, &[("user", "anyone")]);
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// One client that connects and leaves: politely, by closing, by reset, or before it is served.
fn come_and_go(address: SocketAddr, turn: usize) {
    let mut wire = Wire::new(TcpStream::connect(address).unwrap());
    wire.send(&startup(&[("user", "anyone")]));
    if turn % 4 == 3 {
        return wire.reset();
    }
    wire.until(b'Z');
    match turn % 4 {
        0 => {
            wire.send(&crate::harness::wire::terminate());
            wire.rest();
        }
        1 => drop(wire),
        _ => wire.reset(),
    }
}

/// The daemon's sockets whose peers have closed and which it has not.
fn close_wait(proxy: &TestProxy) -> usize {
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", proxy.pid())).unwrap();
    let port = format!(":{:04X}", proxy.address().port());
    // Column 2 is the local address, column 4 the state; 08 is CLOSE_WAIT.
    let columns = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns.filter(|columns| columns[1].ends_with(&port) && columns[3] == "08").count()
}
