//! Upstreams that are used again: nothing of one client ever reaches another, and what cannot be made as good
//! as new is closed.

use crate::harness::{
    DEADLINE, FakeUpstream, Postgres, Script, Session, SettingsFile, TestClient, TestProxy,
    wire::{Wire, command_complete, error, extended, message, parameter_status, query, ready, sync, terminate},
};
use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

#[test]
fn settings_of_one_client_do_not_reach_another() {
    let scene = Scene::start();
    scene.after(
        &[
            "set timezone to 'Asia/Tokyo'",
            "set search_path to pg_catalog",
            "select set_config('my.secret', 'x', false)",
        ],
        |client| {
            assert_ne!(client.value("show timezone"), "Asia/Tokyo");
            assert_ne!(client.value("show search_path"), "pg_catalog");
            assert_eq!(client.value("select coalesce(current_setting('my.secret', true), '')"), "");
            assert_eq!(client.value("show application_name"), "reuser", "its own startup parameters stand");
        },
    );
}

#[test]
fn prepared_statements_do_not() {
    let scene = Scene::start();
    scene.after(&["prepare mine as select 'of another'"], |client| {
        let answers = client.query("execute mine");
        assert!(answers.iter().any(|answer| answer.sqlstate() == "26000"), "{answers:?}");
        assert_eq!(client.value("select count(*) from pg_prepared_statements"), "0");
    });
}

#[test]
fn the_unnamed_statement_does_not() {
    let scene = Scene::start();
    let pid = scene.session(|client| {
        client.send(&[extended("select 'of another'"), sync()].concat());
        client.until(b'Z');
    });
    let mut client = scene.again(pid);

    // Bind and Execute of whatever the unnamed statement is.
    client.send(&[message(b'B', &[0; 8]), message(b'E', &[0; 5]), sync()].concat());

    let answers = client.until(b'Z');
    assert!(answers.iter().all(|answer| answer.tag != b'D'), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.sqlstate() == "26000"), "{answers:?}");
}

#[test]
fn temporary_tables_do_not() {
    let scene = Scene::start();
    scene.after(&["create temporary table mine (t text)", "insert into mine values ('x')"], |client| {
        let answers = client.query("select * from mine");
        assert!(answers.iter().any(|answer| answer.sqlstate() == "42P01"), "{answers:?}");
    });
}

#[test]
fn advisory_locks_do_not() {
    let scene = Scene::start();
    scene.after(&["select pg_advisory_lock(4711)"], |client| {
        assert_eq!(client.value("select count(*) from pg_locks where locktype = 'advisory'"), "0");
    });
}

#[test]
fn notifications_do_not() {
    let scene = Scene::start();
    scene.after(&["listen mine"], |client| {
        scene.server.sql("notify mine, 'for another'");
        let answers = client.query("select 1");
        assert!(answers.iter().all(|answer| answer.tag != b'A'), "{answers:?}");
        assert_eq!(client.value("select count(*) from pg_listening_channels()"), "0");
    });
}

#[test]
fn cursors_do_not() {
    let scene = Scene::start();
    scene.after(&["begin", "declare mine cursor with hold for select 'of another'", "commit"], |client| {
        let answers = client.query("fetch mine");
        assert!(answers.iter().any(|answer| answer.sqlstate() == "34000"), "{answers:?}");
    });
}

#[test]
fn roles_do_not() {
    let scene = Scene::start();
    scene.server.sql("create role other; grant other to app");
    scene.after(&["set role other"], |client| {
        assert_eq!(client.value("select current_user || ' ' || session_user"), "app app");
    });
}

#[test]
fn sequences_do_not() {
    let scene = Scene::start();
    scene.server.sql("create sequence numbers; grant all on sequence numbers to app");
    scene.after(&["select nextval('numbers')"], |client| {
        let answers = client.query("select lastval()");
        assert!(answers.iter().any(|answer| answer.sqlstate() == "55000"), "{answers:?}");
    });
}

#[test]
fn a_session_that_leaves_a_transaction_open_is_closed_instead() {
    for end in ["begin", "begin; select 1/0"] {
        let scene = Scene::start();
        let pid = scene.client_does(&[end]);

        scene.wait_for_resets("refused", 1.0);
        scene.wait_until_gone(&pid);
    }
}

#[test]
fn a_session_that_leaves_a_copy_or_an_answer_is_closed_instead() {
    for end in [
        "copy (select generate_series(1, 100000000)) to stdout",
        "create temp table t (i int); copy t from stdin",
        "select pg_sleep(60)",
    ] {
        let scene = Scene::start();
        let mut client = scene.client();
        let pid = client.value("select pg_backend_pid()");
        client.send(&query(end));
        if end.contains("stdin") {
            client.until(b'G');
        }
        if end.contains("stdout") {
            client.until(b'H');
        }
        client.into_wire().reset();

        scene.wait_for_resets("refused", 1.0);
        scene.wait_until_gone(&pid);
    }
}

#[test]
fn a_session_that_was_cancelled_is_closed_instead() {
    let scene = Scene::start();
    let mut client = scene.client();
    let pid = client.value("select pg_backend_pid()");
    let mut cancel = scene.proxy.connect();
    cancel.send(&crate::harness::wire::cancel_request(&client.key));
    cancel.assert_closed();
    client.send(&terminate());

    scene.wait_for_resets("refused", 1.0);
    scene.wait_until_gone(&pid);
}

#[test]
fn a_client_that_just_closes_at_an_idle_point_leaves_a_good_upstream() {
    let scene = Scene::start();
    let mut client = scene.client();
    let pid = client.value("select pg_backend_pid()");
    let before = scene.resets();

    drop(client);

    scene.wait_for_resets("ok", before + 1.0);
    assert_eq!(scene.again(pid).value("select 1"), "1");
}

#[test]
fn a_pipeline_that_ends_in_terminate_is_answered_and_its_upstream_used_again() {
    let scene = Scene::start();
    let mut client = scene.client();
    let pid = client.value("select pg_backend_pid()");
    let before = scene.resets();

    client.send(&[query("select pg_sleep(0.05)"), query("select 'last'"), terminate()].concat());

    let answers = client.rest();
    assert_eq!(answers.windows(4).filter(|bytes| bytes == b"last").count(), 1);
    scene.wait_for_resets("ok", before + 1.0);
    scene.again(pid);
}

#[test]
fn the_server_reads_no_goodbye_and_exactly_the_reset() {
    let (cluster, heard) = recording(|_| [command_complete("OK"), ready(b'I')].concat());
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
    proxy.client().send(&terminate());
    cluster.wait_until(|seen| seen.ended == 1);
    assert_eq!(heard.lock().unwrap().drain(..).collect::<Vec<_>>(), ["X"], "a set that is not known is not reset");

    proxy.client().send(&terminate());
    proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", "ok")], 1.0);

    assert_eq!(*heard.lock().unwrap(), ["RESET ROLE", "DISCARD ALL"]);
}

#[test]
fn after_more_than_simple_queries_the_reset_asks_for_a_word_of_its_own() {
    let (cluster, heard) = recording(|_| [command_complete("OK"), ready(b'I')].concat());
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
    proxy.client();
    proxy.wait_for_closed("client_eof", 1.0);
    heard.lock().unwrap().clear();

    let mut client = proxy.client();
    client.send(&sync());
    client.until(b'Z');
    client.send(&terminate());
    proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", "ok")], 1.0);

    let heard = heard.lock().unwrap();
    let word = heard[0].strip_prefix("RESET ROLE; SELECT '").and_then(|rest| rest.strip_suffix('\''));
    assert_eq!(word.map(str::len), Some(32), "{heard:?}");
    assert_eq!(heard[1..], ["DISCARD ALL"]);
}

#[test]
fn a_reset_that_fails_or_changes_what_the_server_reports_closes() {
    let refusing = |sql: &str| match sql {
        "DISCARD ALL" => [error("ERROR", "25001", "not now"), ready(b'I')].concat(),
        _ => [command_complete("OK"), ready(b'I')].concat(),
    };
    let changing = |sql: &str| match sql {
        "DISCARD ALL" => [parameter_status("client_encoding", "LATIN1"), command_complete("OK"), ready(b'I')].concat(),
        _ => [command_complete("OK"), ready(b'I')].concat(),
    };
    let in_transaction = |_: &str| [command_complete("OK"), ready(b'T')].concat();
    let answers: [(&str, Answer); 3] = [("failed", refusing), ("changed", changing), ("failed", in_transaction)];
    for (result, answer) in answers {
        let (cluster, _) = recording(answer);
        let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
        proxy.client();
        proxy.wait_for_closed("client_eof", 1.0);
        proxy.client();

        proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", result)], 1.0);
        // Those of both sessions; one more may stand ready.
        cluster.wait_until(|seen| seen.ended >= 2);
    }
}

#[test]
fn what_a_client_changes_in_a_way_that_the_server_reports_is_compared_after_the_reset() {
    // This server forgets to say that the time zone is what it was.
    let answer = |sql: &str| match sql {
        "SET" => [parameter_status("client_encoding", "LATIN1"), command_complete("SET"), ready(b'I')].concat(),
        _ => [command_complete("OK"), ready(b'I')].concat(),
    };
    let (cluster, _) = recording(answer);
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();

    proxy.client();
    proxy.client().query("SET");

    proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", "changed")], 1.0);
}

#[test]
fn without_reuse_an_upstream_goes_with_its_session() {
    let server = Postgres::start();
    let proxy = TestProxy::before(&server);
    let mut client = proxy.client();
    let pid = client.value("select pg_backend_pid()");

    client.send(&terminate());

    wait_until_gone(&server, &pid);
    assert_eq!(proxy.metric("crdb_proxy_resets_total", &[("result", "ok")]), Some(0.0));
}

#[test]
fn many_short_sessions_share_a_few_upstreams() {
    let scene = Scene::start();
    let mut pids = std::collections::BTreeSet::new();

    for _ in 0..30 {
        let before = scene.resets();
        let mut client = scene.client();
        pids.insert(client.value("select pg_backend_pid()"));
        client.send(&terminate());
        client.assert_closed();
        scene.wait_for_resets("ok", before + 1.0);
    }

    assert!(pids.len() <= 3, "{pids:?}");
    let reused = scene.proxy.metric("crdb_proxy_claim_seconds_count", &[("source", "reused")]).unwrap();
    assert!(reused >= 25.0, "{reused}");
}

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

    drop(clients);
    scene.wait_for_resets("ok", before + 8.0);
    let clients: Vec<_> = (0..8).map(|_| scene.client()).collect();
    let reused = scene.proxy.metric("crdb_proxy_claim_seconds_count", &[("source", "reused")]).unwrap();
    assert!(reused >= 8.0, "{reused} of the eight that came at once were given what had just come back");
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

    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let mut client = client("second");
        pids.insert(client.value("select pg_backend_pid()"));
        client.send(&terminate());
        client.assert_closed();
    }

    assert!(pids.len() <= 3, "{pids:?}");
}

#[test]
fn a_client_that_goes_on_after_terminate_still_gets_its_whole_answer() {
    let rows = message(b'D', &[7; 1000]).repeat(1000);
    let answer = [&rows[..], &command_complete("SELECT 1000"), &ready(b'I')].concat();
    let length = answer.len();
    let serve = move |mut wire: Wire| {
        while let Ok(message) = wire.next_message() {
            if message.tag == b'Q' && wire.try_send(&answer).is_err() {
                return;
            }
        }
    };
    let cluster = FakeUpstream::start(Script { session: Session::Run(Arc::new(serve)), ..Script::default() });
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
    proxy.client();
    proxy.wait_for_closed("client_eof", 1.0);
    let mut client = proxy.client();

    client.send(&[query("select"), terminate()].concat());
    // It has all of it in the kernel's hands.
    proxy.wait_for_status(|status| {
        status["sessions"].as_array().is_none_or(|all| all.iter().all(|session| session["state"] == "closing"))
    });
    client.send(&query("more"));

    assert_eq!(client.rest().len(), length);
}

/// A server and a daemon that uses upstreams again, for parameters that are known already.
struct Scene {
    server: Postgres,
    proxy: TestProxy,
}

impl Scene {
    fn start() -> Self {
        let server = Postgres::start();
        let proxy = SettingsFile::of(&server).listener("reuse = true").start();
        let scene = Self { server, proxy };
        drop(scene.client());
        // Were it open still when its parameters come again, its upstream would be worth a reset, too.
        scene.proxy.wait_for_closed("client_eof", 1.0);
        drop(scene.client());
        scene.proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", "ok")], 1.0);
        scene
    }

    fn client(&self) -> TestClient {
        TestClient::log_in(self.proxy.connect(), &[("user", "anyone"), ("application_name", "reuser")])
    }

    /// One session, to its Terminate and until its upstream is reset; gives the server's process.
    fn session(&self, work: impl FnOnce(&mut TestClient)) -> String {
        let before = self.resets();
        let mut client = self.client();
        let pid = client.value("select pg_backend_pid()");
        work(&mut client);
        client.send(&terminate());
        self.wait_for_resets("ok", before + 1.0);
        pid
    }

    /// A client with the upstream of this process, which stands ready among a few others.
    fn again(&self, pid: String) -> TestClient {
        let mut others = Vec::new();
        for _ in 0..6 {
            let mut client = self.client();
            if client.value("select pg_backend_pid()") == pid {
                return client;
            }
            others.push(client);
        }
        panic!("the upstream of process {pid} was not used again");
    }

    /// A session that runs `statements`; then `check` has another one over the same upstream.
    fn after(&self, statements: &[&str], check: impl FnOnce(&mut TestClient)) {
        let pid = self.session(|client| {
            for statement in statements {
                let answers = client.query(statement);
                assert!(answers.iter().all(|answer| answer.tag != b'E'), "{answers:?}");
            }
        });
        check(&mut self.again(pid));
    }

    /// A session that runs `statements` and closes; gives the server's process.
    fn client_does(&self, statements: &[&str]) -> String {
        let mut client = self.client();
        let pid = client.value("select pg_backend_pid()");
        for statement in statements {
            client.query(statement);
        }
        pid
    }

    fn resets(&self) -> f64 {
        self.proxy.metric("crdb_proxy_resets_total", &[("result", "ok")]).unwrap()
    }

    fn wait_for_resets(&self, result: &str, count: f64) {
        self.proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", result)], count);
    }

    fn wait_until_gone(&self, pid: &str) {
        wait_until_gone(&self.server, pid);
    }
}

/// The server's own view of it is asked again until the process has ended, which nothing announces.
fn wait_until_gone(server: &Postgres, pid: &str) {
    let end = std::time::Instant::now() + DEADLINE;
    while server.sql(&format!("select count(*) from pg_stat_activity where pid = {pid}")).trim() != "0" {
        assert!(std::time::Instant::now() < end, "process {pid} still serves");
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A row with one column.
fn answer_with(word: &str) -> Vec<u8> {
    let row = [&[0, 1], &u32::try_from(word.len()).unwrap().to_be_bytes()[..], word.as_bytes()].concat();
    [message(b'D', &row), command_complete("SELECT 1"), ready(b'I')].concat()
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

/// What a server says to a query.
type Answer = fn(&str) -> Vec<u8>;

/// A cluster that answers each query by a function, and the queries that it has read, in order.
fn recording(answer: Answer) -> (FakeUpstream, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heard);
    let serve = move |mut wire: Wire| {
        while let Ok(message) = wire.next_message() {
            let text = String::from_utf8_lossy(&message.body).trim_end_matches('\0').to_owned();
            let bytes = match message.tag {
                // The reset's first query, whose answer has the word in it.
                b'Q' if text.starts_with("RESET ROLE; SELECT '") => {
                    [command_complete("RESET"), answer_with(text.split('\'').nth(1).unwrap())].concat()
                }
                b'Q' => answer(&text),
                b'S' => ready(b'I'),
                _ => Vec::new(),
            };
            match message.tag {
                b'Q' => noted.lock().unwrap().push(text),
                b'S' => {}
                tag => noted.lock().unwrap().push(char::from(tag).to_string()),
            }
            if wire.try_send(&bytes).is_err() {
                return;
            }
        }
    };
    let cluster = FakeUpstream::start(Script { session: Session::Run(Arc::new(serve)), ..Script::default() });
    (cluster, heard)
}
