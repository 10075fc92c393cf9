//! Servers that lie, flood and break off: the client hears of it in an error of ours or a close, it is counted, memory
//! stays what it was, and the daemon serves the next client.
//!
//! What stands between client and server before TLS is in `certificates_matrix`.

use crate::harness::{
    Authority, FakeUpstream, Front, Login, PASSWORD, Script, Session, SettingsFile, TestProxy, process,
    scram::Flaw,
    wire::{Wire, error, message, notice, parameter_status, ready},
};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::Arc,
    thread,
    time::Duration,
};

/// Every kind of message that the daemon reads or passes on, and none at all.
const KINDS: [u8; 8] = [b'R', b'S', b'N', b'K', b'Z', b'E', b'D', 0];
/// What a length may not be: it counts itself, and is signed.
const LIES: [u32; 5] = [0, 1, 3, 0x8000_0000, u32::MAX];
const TWO_GIB: u32 = 0x7fff_ffff;

#[test]
fn lengths_that_lie_in_a_login_are_refused_and_counted_whatever_the_message() {
    let (cluster, proxy) = quick();
    let before = proxy.resident_bytes();
    let mut told = 0;
    for kind in KINDS {
        for length in LIES.into_iter().chain([TWO_GIB]) {
            let lie = [&[kind][..], &length.to_be_bytes()].concat();
            for (ok, rest) in [(Some(lie.clone()), None), (None, Some(lie.clone()))] {
                cluster.change(|script| (script.instead_of_ok, script.instead_of_ready) = (ok, rest));

                let error = proxy.startup(&[("user", "anyone")]).refusal();

                assert_eq!(error.sqlstate(), "08001", "{} {length:#x}: {error:?}", kind as char);
                told += 1;
            }
        }
    }
    assert_attempts(&proxy, "protocol", f64::from(told));
    assert_recovers(&cluster, &proxy, before);
}

#[test]
fn lengths_that_lie_in_a_session_end_it_with_an_error_and_are_counted_whatever_the_message() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let mut ended = 0.0;
    for kind in KINDS {
        for length in LIES {
            let mut client = proxy.client();
            let mut session = cluster.session();

            session.send(&[&[kind][..], &length.to_be_bytes()].concat());

            assert_eq!(client.refusal().sqlstate(), "08P01", "{} {length:#x}", kind as char);
            session.rest();
            ended += 1.0;
        }
    }
    proxy.wait_for_closed("upstream_protocol", ended);
}

#[test]
fn a_message_that_is_to_be_two_gib_takes_no_memory_and_ends_with_its_server() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    // What the first session of all takes is not the message's.
    drop(proxy.client());
    drop(cluster.session());
    let before = proxy.resident_bytes();
    for kind in KINDS.into_iter().filter(|kind| *kind != b'Z') {
        let mut client = proxy.client();
        let mut session = cluster.session();
        let begun = [&[kind][..], &TWO_GIB.to_be_bytes(), b"and so on"].concat();
        session.send(&begun);
        assert_eq!(client.bytes_of(begun.len()), begun, "{}", kind as char);

        session.half_close();

        // Nothing can be said inside of a message.
        assert_eq!(client.rest(), b"", "{}", kind as char);
    }
    assert_little(before, proxy.resident_bytes());
}

#[test]
fn endless_notices_and_parameters_in_a_login_are_bounded_in_bytes() {
    let (cluster, proxy) = quick();
    let before = proxy.resident_bytes();
    let floods = [notice(&"n".repeat(8000)), parameter_status("p", &"v".repeat(60_000)), message(b'R', &[0, 0, 0, 0])];
    for flood in &floods[..2] {
        cluster.change(|script| script.endless = Some((flood.clone(), Duration::ZERO)));

        assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");
    }
    // A login is allowed once.
    cluster.change(|script| script.endless = Some((floods[2].clone(), Duration::ZERO)));
    assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");

    assert_attempts(&proxy, "protocol", 3.0);
    assert_recovers(&cluster, &proxy, before);
}

#[test]
fn endless_notices_in_a_login_are_bounded_in_time() {
    let endless = Some((notice("go on"), Duration::from_millis(5)));
    let cluster = FakeUpstream::start(Script { endless, session: Session::Answers, ..Script::default() });
    let proxy = SettingsFile::of(&cluster).global("connect_limit = \"300ms\"\nwarm_max = 0").start();

    let error = proxy.startup(&[("user", "anyone")]).refusal();

    assert_eq!(error.sqlstate(), "08001");
    assert!(format!("{error:?}").contains("login took too long"), "{error:?}");
    assert!(attempts(&proxy, "timeout") >= 1.0);
}

#[test]
fn a_megabyte_of_a_parameter_is_refused_in_a_login_and_passes_in_a_session() {
    for reuse in ["reuse = false", "reuse = true"] {
        let large = parameter_status("p", &"v".repeat(1 << 20));
        let sent = large.clone();
        let run = move |mut wire: Wire| {
            while let Ok(asked) = wire.next_message() {
                if asked.tag != b'Q' {
                    return;
                }
                for _ in 0..32 {
                    wire.try_send(&sent).ok();
                }
                wire.try_send(&[message(b'I', b""), ready(b'I')].concat()).ok();
            }
        };
        let script =
            Script { instead_of_ready: Some(large.clone()), session: Session::Run(Arc::new(run)), ..Script::default() };
        let cluster = FakeUpstream::start(script);
        let proxy = SettingsFile::of(&cluster).listener(reuse).start();
        assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001");
        assert!(attempts(&proxy, "protocol") >= 1.0);
        cluster.change(|script| script.instead_of_ready = None);
        let mut client = proxy.client();
        let before = proxy.resident_bytes();

        let answer = client.query("select 1");

        let body = &large[5..];
        assert_eq!(answer.iter().filter(|sent| sent.tag == b'S' && sent.body == body).count(), 32, "{reuse}");
        assert_little(before, proxy.resident_bytes());
    }
}

#[test]
fn endless_notices_in_a_session_pass_in_flat_memory() {
    let flood = notice(&"n".repeat(32 * 1024));
    let sent = flood.clone();
    let run = move |mut wire: Wire| while wire.try_send(&sent).is_ok() {};
    let cluster = FakeUpstream::start(Script { session: Session::Run(Arc::new(run)), ..Script::default() });
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let mut client = proxy.client();
    let before = proxy.resident_bytes();

    for _ in 0..2000 {
        assert_eq!(client.message().body, flood[5..]);
    }

    assert_little(before, proxy.resident_bytes());
    client.send(&crate::harness::wire::terminate());
    drop(client);
    proxy.wait_for_active(0.0);
}

#[test]
fn cancel_keys_are_taken_in_the_sizes_that_there_are_and_refused_in_all_others() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let mut refused = 0.0;
    for length in [0, 1, 3, 4, 7, 8, 9, 36, 259, 260, 261, 1000, 60_000] {
        cluster.change(|script| script.key = vec![7; length]);

        if (8..=260).contains(&length) {
            let mut client = proxy.client();
            assert_eq!((&client.key[..4], client.key.len()), (&[7; 4][..], 8), "{length}");
            client.query("select 1");
        } else {
            assert_eq!(proxy.startup(&[("user", "anyone")]).refusal().sqlstate(), "08001", "{length}");
            refused += 1.0;
        }
    }
    assert_attempts(&proxy, "protocol", refused);
}

#[test]
fn what_follows_a_servers_last_word_changes_nothing() {
    let last = error("FATAL", "28000", "not you");
    let more =
        [last.clone(), ready(b'I'), message(b'R', &[0, 0, 0, 0]), vec![b'D', 0, 0, 0, 1], vec![0; 100_000]].concat();
    let cluster = FakeUpstream::start(Script { instead_of_ok: Some(more.clone()), ..Script::default() });
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let refusal = proxy.startup(&[("user", "anyone")]).refusal();
    assert_eq!((refusal.sqlstate().as_str(), refusal.field(b'M').as_deref()), ("28000", Some("not you")));
    assert!(attempts(&proxy, "login_rejected") >= 1.0);

    cluster.change(|script| script.instead_of_ok = None);
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let mut client = proxy.client();
    let mut session = cluster.session();
    session.send(&[last.clone(), vec![b'D', 0, 0, 0, 1]].concat());
    session.half_close();

    let heard = client.rest();
    assert!(heard.starts_with(&last), "{:?}", String::from_utf8_lossy(&heard));
    assert_eq!(heard.windows(6).filter(|part| part == b"SFATAL").count(), 1, "{:?}", String::from_utf8_lossy(&heard));
    proxy.wait_for_active(0.0);
}

#[test]
fn exchanges_that_prove_nothing_or_begin_again_are_refused_and_counted() {
    let again = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let scram = |iterations, flaw| Login::Scram { password: PASSWORD.into(), iterations, flaw };
    let right = || scram(4096, Flaw::None);
    for (login, instead_of_ok, result) in [
        (right(), Some(again), "protocol"),
        (right(), Some(message(b'R', &[0, 0, 0, 3])), "protocol"),
        (right(), Some(message(b'R', b"\0\0\0\x0cv=AAAA")), "protocol"),
        (scram(4096, Flaw::NoProof), None, "protocol"),
        (scram(4096, Flaw::Signature), None, "login_other"),
        (scram(4096, Flaw::Nonce), None, "login_other"),
        (scram(4095, Flaw::None), None, "login_other"),
        (scram(1_000_001, Flaw::None), None, "login_other"),
    ] {
        let said = format!("{login:?} {instead_of_ok:?}");
        let script = Script { login, instead_of_ok, session: Session::Answers, ..Script::default() };
        let cluster = FakeUpstream::start(script);
        let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();

        let error = proxy.startup(&[("user", "anyone")]).refusal();

        assert!(error.sqlstate().starts_with("08") || error.sqlstate().starts_with("28"), "{said}: {error:?}");
        assert!(attempts(&proxy, result) >= 1.0, "{said}: {}", proxy.metrics());
    }
}

#[test]
fn other_sessions_go_on_while_a_login_derives_a_million_rounds() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("threads = 1\nwarm_max = 0").start();
    let mut client = proxy.client();
    let login = Login::Scram { password: PASSWORD.into(), iterations: 1_000_000, flaw: Flaw::None };
    cluster.change(|script| script.login = login);
    let mut waiting = proxy.startup(&[("user", "anyone")]);
    cluster.wait_until(|seen| seen.startups.len() == 2);
    let (mut rounds, mut logged_in) = (0, cluster.seen().logged_in);

    while logged_in == 1 && waiting.unread() == 0 {
        client.query("select 1");
        (rounds, logged_in) = (rounds + 1, cluster.seen().logged_in);
    }

    waiting.until(b'Z');
    // A loop that was held up would have let one or two through, before and after.
    assert!(rounds > 20, "{rounds} round trips during a derivation of a million");
}

#[test]
fn endless_bytes_instead_of_an_answer_to_the_request_for_tls_are_not_read() {
    for begin in [b"X", b"E", b"N", b"S"] {
        let flood = [&begin[..], &vec![b'!'; 4 << 20]].concat();
        let (cluster, proxy) = quick();
        let before = proxy.resident_bytes();
        cluster.change(|script| script.front = Front::Says(flood));

        let error = proxy.startup(&[("user", "anyone")]).refusal();

        assert_eq!(error.sqlstate(), "08001", "{error:?}");
        let result = if begin == b"N" { "tls_declined" } else { "protocol" };
        assert!(attempts(&proxy, result) >= 1.0, "{}", proxy.metrics());
        assert_little(before, proxy.resident_bytes());
    }
}

#[test]
fn a_server_that_wants_to_negotiate_tls_again_gets_no_second_handshake() {
    let authority = Authority::new();
    let identity = authority.server();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("s.crt", &identity.certificate), ("s.key", &identity.key)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let port = crate::harness::proxy::closed_port();
    let mut command = process::mortal(std::path::Path::new("openssl"), "KILL", None);
    command.args(["s_server", "-tls1_2", "-cert", "s.crt", "-key", "s.key", "-accept", &port.to_string()]);
    command.current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = command.spawn().unwrap();
    let (said, wrong) =
        (process::Lines::of(server.stdout.take().unwrap()), process::Lines::of(server.stderr.take().unwrap()));
    assert!(said.find(|line| line.contains("ACCEPT").then_some(())).is_some(), "{:?}", wrong.all());
    let proxy = SettingsFile::trusting(&authority)
        .endpoint("first", front_of(port))
        .global("connect_limit = \"5s\"\nwarm_max = 0")
        .start();
    let mut client = proxy.startup(&[("user", "anyone")]);
    // The startup message came through, so TLS stands.
    assert!(said.find(|line| line.contains("CIPHER is").then_some(())).is_some(), "{:?}", said.all());

    server.stdin.as_mut().unwrap().write_all(b"r\n").unwrap();

    assert_eq!(client.refusal().sqlstate(), "08001");
    let handshakes: f64 = ["full", "resumed"]
        .iter()
        .filter_map(|kind| proxy.metric("crdb_proxy_tls_handshakes_total", &[("endpoint", "first"), ("kind", kind)]))
        .sum();
    assert!(handshakes <= 1.0, "{handshakes}");
    proxy.http("GET /livez", "");
    server.kill().ok();
    server.wait().ok();
}

/// Where one client is answered its SSLRequest, and what follows passed on to a server that only speaks TLS.
fn front_of(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        drop(listener);
        client.read_exact(&mut [0; 8]).unwrap();
        client.write_all(b"S").unwrap();
        let mut server = TcpStream::connect(server).unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            io::copy(&mut from_client, &mut to_server).ok();
            to_server.shutdown(Shutdown::Both).ok();
        });
        io::copy(&mut server, &mut client).ok();
        client.shutdown(Shutdown::Both).ok();
    });
    address
}

/// Answers queries, and keeps nothing ready, so that attempts can be counted.
fn quick() -> (FakeUpstream, TestProxy) {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    proxy.client();
    (cluster, proxy)
}

fn attempts(proxy: &TestProxy, result: &str) -> f64 {
    let labels = [("cluster", "test"), ("endpoint", "first"), ("result", result)];
    proxy.metric("crdb_proxy_connect_attempts_total", &labels).unwrap()
}

#[track_caller]
fn assert_attempts(proxy: &TestProxy, result: &str, count: f64) {
    let found = attempts(proxy, result);
    assert!(found >= count, "{found} attempts ended in {result}, not {count}");
}

#[track_caller]
fn assert_recovers(cluster: &FakeUpstream, proxy: &TestProxy, before: u64) {
    assert_little(before, proxy.resident_bytes());
    cluster.change(|script| *script = Script { session: Session::Answers, ..Script::default() });
    proxy.client().query("select 1");
    proxy.wait_for_active(0.0);
}

#[track_caller]
fn assert_little(before: u64, after: u64) {
    let more = after.saturating_sub(before);
    assert!(more < 16 << 20, "{} MiB more than before", more >> 20);
}
