//! From session to session: clients that wait for what is being reset, and how long the rest stays.

use super::Scene;
use crate::harness::{
    DEADLINE, FakeUpstream, Postgres, Script, Session, SettingsFile, TestClient, TestProxy,
    wire::{Wire, command_complete, error, ready, terminate},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, mpsc},
    thread,
};

#[test]
fn a_client_waits_for_an_upstream_that_is_being_reset() {
    let scene = Held::start();
    let logins = scene.cluster.seen().logged_in;

    let _waited = scene.client_that_waits(|| scene.reset.send(true).unwrap());

    assert_eq!(scene.cluster.seen().logged_in, logins, "it has logged in anew");
    let hits = scene.proxy.metric("crdb_proxy_warm_claims_total", &[("listener", "main"), ("result", "hit")]);
    assert_eq!(hits, Some(2.0));
}

#[test]
fn a_client_that_waits_for_a_reset_that_fails_logs_in() {
    let scene = Held::start();
    let logins = scene.cluster.seen().logged_in;

    let _waited = scene.client_that_waits(|| scene.reset.send(false).unwrap());

    assert_eq!(scene.cluster.seen().logged_in, logins + 1);
}

#[test]
fn a_client_that_waits_for_a_reset_that_hangs_logs_in() {
    let scene = Held::start();
    let logins = scene.cluster.seen().logged_in;

    let _waited = scene.client_that_waits(|| {});

    assert_eq!(scene.cluster.seen().logged_in, logins + 1);
}

#[test]
fn a_client_that_leaves_while_it_waits_takes_no_upstream_with_it() {
    let scene = Held::start();
    let leaving = scene.proxy.startup(&[("user", "anyone")]);
    scene.wait_until_one_waits();
    leaving.reset();
    scene.proxy.wait_for_closed("client_reset", 1.0);

    scene.reset.send(true).unwrap();

    scene.proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);
    let logins = scene.cluster.seen().logged_in;
    let _next = scene.proxy.client();
    assert_eq!(scene.cluster.seen().logged_in, logins);
}

#[test]
fn what_came_back_beyond_warm_max_stays_for_a_moment_only() {
    let scene = Scene::start();
    let before = scene.resets();
    let clients: Vec<_> = (0..8).map(|_| scene.client()).collect();
    // What is made ready later than something comes back is given out before it.
    scene.proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 4.0);

    drop(clients);
    scene.wait_for_resets("ok", before + 8.0);
    let reused = || scene.proxy.metric("crdb_proxy_claim_seconds_count", &[("source", "reused")]).unwrap_or_default();
    let reused_before = reused();
    let clients: Vec<_> = (0..8).map(|_| scene.client()).collect();
    assert_eq!(reused() - reused_before, 8.0, "of the eight that came at once were given what had just come back");
    drop(clients);
    scene.wait_for_resets("ok", before + 16.0);

    scene.proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 4.0);
    let recycled = scene.proxy.metric("crdb_proxy_warm_recycled_total", &[("cause", "idle")]).unwrap();
    assert!(recycled >= 4.0, "{recycled}");
}

#[test]
fn where_all_places_are_taken_what_was_given_back_still_serves_the_next() {
    let server = Postgres::start();
    let proxy = SettingsFile::of(&server).global("warm_total_max = 1").listener("reuse = true").start();
    let client = |name| TestClient::log_in(proxy.connect(), &[("user", "anyone"), ("application_name", name)]);
    for closed in 1..=2 {
        drop(client("first"));
        proxy.wait_for_closed("client_eof", f64::from(closed));
    }
    proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);

    let mut pids = BTreeSet::new();
    for _ in 0..10 {
        let mut client = client("second");
        pids.insert(client.value("select pg_backend_pid()"));
        client.send(&terminate());
        client.assert_closed();
    }

    assert!(pids.len() <= 3, "{pids:?}");
}

/// A cluster that hands out, for each reset, the means to let it go well, or fail; one that is dropped never ends.
fn resetting_when_told() -> (FakeUpstream, mpsc::Receiver<mpsc::Sender<bool>>) {
    let (told, resets) = mpsc::channel();
    let told = Mutex::new(told);
    let serve = move |mut wire: Wire| {
        while let Ok(message) = wire.next_message() {
            let is_reset = message.tag == b'Q' && message.body.starts_with(b"RESET ROLE");
            let mut goes_well = true;
            if is_reset {
                let (verdict, verdicts) = mpsc::channel();
                if told.lock().unwrap().send(verdict).is_err() {
                    return;
                }
                let Ok(verdict) = verdicts.recv() else { break };
                goes_well = verdict;
            }
            let answer = match message.tag {
                b'Q' if goes_well => [command_complete("OK"), ready(b'I')].concat(),
                b'Q' => [error("ERROR", "25001", "not now"), ready(b'I')].concat(),
                b'S' => ready(b'I'),
                _ => Vec::new(),
            };
            if wire.try_send(&answer).is_err() {
                return;
            }
        }
        // Silent, but open, until the daemon closes.
        while wire.next_message().is_ok() {}
    };
    (FakeUpstream::start(Script { session: Session::Run(Arc::new(serve)), ..Script::default() }), resets)
}

/// A daemon with nothing ready, and one upstream whose reset goes on until the test says how it ends.
struct Held {
    cluster: FakeUpstream,
    proxy: TestProxy,
    reset: mpsc::Sender<bool>,
    _in_use: TestClient,
}

impl Held {
    fn start() -> Self {
        let (cluster, resets) = resetting_when_told();
        // One that is coming back is all that is wanted.
        let proxy = SettingsFile::of(&cluster).global("warm_max = 1").listener("reuse = true").start();
        proxy.client();
        proxy.wait_for_closed("client_eof", 1.0);
        let leaving = proxy.client();
        proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);
        drop(leaving);
        let reset = resets.recv_timeout(DEADLINE).expect("a reset");
        Self { _in_use: proxy.client(), cluster, proxy, reset }
    }

    /// A client that comes in by what `act` does once it waits.
    fn client_that_waits(&self, act: impl FnOnce()) -> TestClient {
        thread::scope(|scope| {
            let proxy = &self.proxy;
            let waiting = scope.spawn(move || proxy.client());
            self.wait_until_one_waits();
            act();
            waiting.join().unwrap()
        })
    }

    fn wait_until_one_waits(&self) {
        let waits = |session: &serde_json::Value| session["state"] == "login";
        self.proxy.wait_for_status(|status| status["sessions"].as_array().is_some_and(|all| all.iter().any(waits)));
    }
}
