//! Clients that stall, flood, lie and break off, beside others who notice nothing of it.

use crate::harness::{
    DEADLINE, FakeUpstream, Postgres, Script, Session, SettingsFile, TestClient, TestProxy,
    postgres::program,
    process,
    wire::{GSSENC_REQUEST, SSL_REQUEST, Wire, cancel_request, message, query, startup},
};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit};

const USER: [(&str, &str); 1] = [("user", "anyone")];

#[test]
fn whatever_one_client_does_changes_nothing_for_another() {
    let postgres = Postgres::start();
    let settings = SettingsFile::of(&postgres).file("local.pw", "a password of the listener");
    let guarded = "local_password = { file = \"local.pw\" }";
    let proxy = settings.global("warm_max = 0").another_listener("guarded", guarded).start();
    let mut first = proxy.client();
    first.query("create table copied (line text)");
    drop(first);
    pgbench(&proxy, &["-i", "-q", "-s", "1"]);
    proxy.wait_for_active(0.0);
    let guarded: SocketAddr = proxy.listener("guarded").parse().unwrap();
    let descriptors = proxy.descriptors();

    under_load_and_benchmark(&proxy, || {
        stalls_and_lies(&proxy);
        resets_before_a_session(&proxy, guarded);
        resets_in_a_session(&proxy);
        let silent = sockets(proxy.address(), 200);
        cancels(&proxy);
        drop(silent);
    });

    proxy.wait_for_active(0.0);
    proxy.wait_for_metric("crdb_proxy_client_connections_active", &[("listener", "guarded")], 0.0);
    for state in ["login", "session"] {
        proxy.wait_for_metric("crdb_proxy_upstreams", &[("endpoint", "first"), ("state", state)], 0.0);
    }
    wait_for_descriptors(&proxy, descriptors);
}

#[test]
fn silent_and_stalling_sockets_keep_no_client_out() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("startups_max = 64\nstartup_limit = \"1h\"").start();
    let address = proxy.address();
    proxy.client();
    let descriptors = proxy.descriptors();
    let mut hostile = sockets(address, 200);
    for mut socket in sockets(address, 100) {
        // Half a startup message, and half of the length alone.
        socket.write_all(&startup(&USER)[..if hostile.len().is_multiple_of(2) { 9 } else { 2 }]).unwrap();
        hostile.push(socket);
    }
    // They have all places, and wait for more.
    proxy.wait_for_active(64.0);

    for _ in 0..5 {
        proxy.client().query("select 1");
    }

    drop(hostile);
    proxy.wait_for_active(0.0);
    wait_for_descriptors(&proxy, descriptors + 2);
}

#[test]
fn thousands_of_silent_sockets_hold_up_an_honest_client_for_seconds_at_most() {
    let allowed = raised_descriptors();
    let count = SILENT.min(allowed.saturating_sub(SPARE));
    println!("{count} silent sockets, of the {allowed} descriptors of this process");
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("startup_limit = \"1h\"").start();
    proxy.client();
    let descriptors = proxy.descriptors();
    let silent = sockets(proxy.address(), count);

    proxy.client().query("select 1");

    drop(silent);
    proxy.wait_for_active(0.0);
    wait_for_descriptors(&proxy, descriptors + 2);
}

/// Eight places for startups, and a listener that asks for a password.
fn guarded() -> (FakeUpstream, TestProxy, SocketAddr) {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "a password of the listener");
    let settings = settings.global("startups_max = 8\nstartup_limit = \"1h\"");
    let proxy = settings.another_listener("guarded", "local_password = { file = \"local.pw\" }").start();
    let address = proxy.listener("guarded").parse().unwrap();
    (cluster, proxy, address)
}

/// Clients in all these places that have been asked for the password.
fn asked(address: SocketAddr) -> Vec<Wire> {
    let wires = sockets(address, 8).into_iter().map(|socket| {
        let mut wire = Wire::new(socket);
        wire.send(&startup(&USER));
        assert_eq!(wire.message().tag, b'R');
        wire
    });
    wires.collect()
}

#[test]
fn a_client_that_stalls_in_the_exchange_of_a_local_password_gives_way_too() {
    let (_cluster, proxy, address) = guarded();
    let stalling = asked(address);

    proxy.client().query("select 1");

    let labels = [("listener", "guarded"), ("reason", "startup_timeout")];
    proxy.wait_for_metric("crdb_proxy_client_connections_refused_total", &labels, 1.0);
    drop(stalling);
}

#[test]
fn those_who_wait_for_the_answer_to_a_wrong_local_password_keep_nobody_else_out() {
    let (_cluster, proxy, address) = guarded();
    let mut guessing = asked(address);
    for wire in &mut guessing {
        wire.send(&message(b'p', b"open"));
    }

    proxy.client().query("select 1");

    let labels = [("listener", "guarded"), ("reason", "local_auth")];
    proxy.wait_for_metric("crdb_proxy_client_connections_refused_total", &labels, 8.0);
    drop(guessing);
}

#[test]
fn a_flood_of_cancels_with_unknown_keys_costs_the_cluster_nothing() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("warm_max = 0").start();
    let mut client = proxy.client();

    under_load_of(&proxy, 1, || {
        for turn in 0..300_u32 {
            let mut wire = proxy.connect();
            let key = [&client.key[..4], &turn.wrapping_mul(0x9e37_79b9).to_be_bytes()].concat();
            wire.send(&cancel_request(&key));
            if turn % 3 == 0 {
                wire.reset();
            }
        }
    });

    client.query("select 1");
    let counted = |result| proxy.metric("crdb_proxy_cancels_total", &[("result", result)]).unwrap();
    let end = Instant::now() + DEADLINE;
    // Those that were reset may be gone before they are read. Each guess waits, which nothing announces.
    while counted("unknown_key") + counted("limited") < 200.0 {
        assert!(Instant::now() < end, "{}", proxy.metrics());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(counted("sent") + counted("failed"), 0.0);
    assert_eq!(cluster.seen().cancels, []);
    // One connection for each session, and none besides.
    let seen = cluster.seen();
    assert_eq!(seen.connections, seen.logged_in);
}

#[test]
fn a_client_that_leaves_while_it_waits_for_its_login_frees_its_place() {
    let login_delay = Duration::from_millis(300);
    let cluster = FakeUpstream::start(Script { login_delay, session: Session::Answers, ..Script::default() });
    let proxy = SettingsFile::of(&cluster).global("logins_max = 2\nwarm_max = 0").start();
    proxy.client();
    let descriptors = proxy.descriptors();
    for _ in 0..20 {
        proxy.startup(&USER).reset();
    }

    proxy.client().query("select 1");

    proxy.wait_for_active(0.0);
    proxy.wait_for_metric("crdb_proxy_upstreams", &[("endpoint", "first"), ("state", "login")], 0.0);
    wait_for_descriptors(&proxy, descriptors + 2);
}

/// Startups that never become one.
fn stalls_and_lies(proxy: &TestProxy) {
    let whole = startup(&USER);
    let mut slow: Vec<_> = sockets(proxy.address(), 20);
    for byte in &whole[..whole.len() - 1] {
        // Whoever was closed already is not asked again.
        slow.iter_mut().for_each(|socket| drop(socket.write_all(&[*byte])));
    }
    let mut noise = 1_u32;
    for turn in 0..60_usize {
        let mut socket = TcpStream::connect(proxy.address()).unwrap();
        let sent = match turn % 4 {
            0 => [&0x00ff_ffff_u32.to_be_bytes()[..], &vec![0; 50_000]].concat(),
            1 => [SSL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, GSSENC_REQUEST].concat(),
            2 => [&[0, 0, 0, 3, 0, 0][..], &whole].concat(),
            _ => (0..turn * 37)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    noise.to_be_bytes()[0]
                })
                .collect(),
        };
        // It may be closed amid what it says.
        socket.write_all(&sent).ok();
    }
}

/// An RST at each step up to the session.
fn resets_before_a_session(proxy: &TestProxy, guarded: SocketAddr) {
    for _ in 0..10 {
        proxy.connect().reset();
        let mut asked = proxy.connect();
        asked.send(&SSL_REQUEST);
        asked.reset();
        let mut answered = proxy.connect();
        answered.send(&SSL_REQUEST);
        assert_eq!(answered.bytes(), *b"N");
        answered.reset();
        let mut half = proxy.connect();
        half.send(&startup(&USER)[..12]);
        half.reset();
        proxy.startup(&USER).reset();
        let mut proving = Wire::new(TcpStream::connect(guarded).unwrap());
        proving.send(&startup(&USER));
        assert_eq!(proving.message().tag, b'R');
        proving.reset();
    }
}

/// An RST at each step of a session.
fn resets_in_a_session(proxy: &TestProxy) {
    for _ in 0..5 {
        proxy.client().into_wire().reset();
        let mut half = proxy.client();
        half.send(&query("select 1")[..7]);
        half.into_wire().reset();
        let mut reading = proxy.client();
        reading.send(&query("select repeat('x', 1000) from generate_series(1, 20000)"));
        reading.bytes_of(5000);
        reading.into_wire().reset();
        let mut copying = proxy.client();
        copying.send(&query("copy copied from stdin"));
        copying.until(b'G');
        copying.send(&[b'd', 0, 0, 1, 0, b'h', b'a', b'l', b'f']);
        copying.into_wire().reset();
    }
}

/// Cancels with keys that nobody has, and with the right one again and again.
fn cancels(proxy: &TestProxy) {
    let mut client = proxy.client();
    for turn in 0..40_u32 {
        let mut wrong = proxy.connect();
        wrong.send(&cancel_request(&[&[1, 2, 3, 4][..], &turn.to_be_bytes()].concat()));
        let mut right = proxy.connect();
        right.send(&cancel_request(&client.key));
        if turn % 2 == 0 {
            wrong.reset();
            right.reset();
        }
    }
    // A cancel may hit it, and hits nobody else.
    client.query("select 1");
}

/// With pgbench beside the clients.
fn under_load_and_benchmark(proxy: &TestProxy, hostile: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let benchmarks = scope.spawn(|| benchmark(proxy, &is_over));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| under_load_of(proxy, 3, hostile)));
        is_over.store(true, Ordering::Relaxed);
        benchmarks.join().expect("pgbench met an error");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Honest clients that come, ask and go while `hostile` runs, and meet not one error.
fn under_load_of(proxy: &TestProxy, clients: usize, hostile: impl FnOnce()) {
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = proxy.address();
    let honest = || {
        while !is_over.load(Ordering::Relaxed) {
            let mut client = TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &USER);
            for _ in 0..20 {
                let answer = client.query("select 1");
                assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
            }
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let loads: Vec<_> = (0..clients).map(|_| scope.spawn(honest)).collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(hostile));
        is_over.store(true, Ordering::Relaxed);
        loads.into_iter().for_each(|load| load.join().expect("an honest client met an error"));
        outcome.expect("what was hostile could not be played");
    });
    assert!(served.load(Ordering::Relaxed) >= clients, "{served:?}");
}

fn sockets(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

#[track_caller]
fn wait_for_descriptors(proxy: &TestProxy, most: usize) {
    let end = Instant::now() + DEADLINE;
    while proxy.descriptors() > most {
        assert!(Instant::now() < end, "{} descriptors, and there were {most}", proxy.descriptors());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Raises this process's limit of descriptors as far as it goes (root's further still), and gives it.
fn raised_descriptors() -> usize {
    let limits = rustix::process::getrlimit(Resource::Nofile);
    let wanted = u64::try_from(SILENT + SPARE).unwrap();
    for most in [limits.maximum.max(Some(wanted)), limits.maximum] {
        if rustix::process::setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).is_ok() {
            break;
        }
    }
    let allowed = rustix::process::getrlimit(Resource::Nofile).current;
    allowed.map_or(usize::MAX, |allowed| usize::try_from(allowed).unwrap())
}

/// Selects by pgbench until `is_over`, over connections that stay and over one for each transaction; none may fail.
fn benchmark(proxy: &TestProxy, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        for reconnect in [&[][..], &["-C"]] {
            let report = pgbench(proxy, &[&["-n", "-S", "-c", "2", "-t", "40"], reconnect].concat());
            assert!(report.contains("processed: 80/80"), "{report}");
            assert!(report.contains("failed transactions: 0"), "{report}");
        }
    }
}

fn pgbench(proxy: &TestProxy, arguments: &[&str]) -> String {
    let mut pgbench = Command::new(program("pgbench"));
    let port = proxy.address().port().to_string();
    pgbench.args(arguments).args(["-h", "127.0.0.1", "-p", &port, "-U", "anyone", "defaultdb"]);
    process::run(&mut pgbench, "", Duration::from_secs(60)).expect_success()
}

/// More than there are places by default (1000), and more than the system queues besides (4096).
const SILENT: usize = 10_000;
/// Descriptors of this process for everything else.
const SPARE: usize = 500;
