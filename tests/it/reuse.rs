//! Upstreams that are used again: nothing of one client ever reaches another, and what cannot be made as good
//! as new is closed.

mod resets;
mod waiting;

use crate::harness::{
    DEADLINE, Postgres, SettingsFile, TestClient, TestProxy,
    wire::{extended, message, query, sync, terminate},
};
use std::thread;

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
