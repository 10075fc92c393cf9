//! The commands that ask or tell a running daemon something: what they print, and their exit codes.

use crate::harness::{
    FakeUpstream, SettingsFile, Terminal, TestProxy,
    process::Finished,
    proxy::{closed_port, run_daemon},
};
use rustix::process::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
};

/// Runs a command beside the daemon, told where that is.
fn command(proxy: &TestProxy, words: &str) -> Finished {
    let admin = proxy.listener("admin");
    run_daemon(&proxy.path(""), &words.split(' ').collect::<Vec<_>>(), &[("CRDB_PROXY_ADMIN", &admin)])
}

/// The same at a terminal, `admin` being where the daemon is or will be.
fn at_terminal(folder: &std::path::Path, words: &str, admin: &str) -> Terminal {
    let mut command = TestProxy::command_behind(&Terminal::PREFIX, folder);
    command.args(words.split(' ')).env("CRDB_PROXY_ADMIN", admin);
    Terminal::start(command)
}

fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Something that is connected to and says nothing.
fn silent() -> (TcpListener, String) {
    listening()
}

/// What answers in a daemon's place, from a request's method and target: where it is.
fn stand_in(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let (listener, address) = listening();
    std::thread::spawn(move || {
        loop {
            answer_one(&listener, &answer);
        }
    });
    address
}

/// Answers one request: method and target.
fn answer_one(listener: &TcpListener, answer: impl Fn(&str) -> (u16, String)) -> String {
    let (mut socket, _) = listener.accept().unwrap();
    let mut request = [0; 4096];
    let length = socket.read(&mut request).unwrap();
    let text = String::from_utf8_lossy(&request[..length]);
    let asked = text.split(" HTTP/").next().unwrap().to_owned();
    let (status, body) = answer(&asked);
    // Who has asked may be gone.
    write!(socket, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok();
    asked
}

const DRAINING: &str = "{\"state\":\"draining\",\"ends_within_ms\":0}";
const STATUS: &str =
    "{\"started_at\":\"then\",\"state\":\"draining\",\"listeners\":[{\"sessions\":2},{\"sessions\":1}]}";

#[test]
fn health_says_whether_the_daemon_is_ready() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("drain_delay = \"1h\"").start();

    assert_eq!(command(&proxy, "health").expect_success(), "ready");

    let told = command(&proxy, "shutdown").expect_success();
    assert_eq!(told, "stopping soon: for a moment the daemon still takes new sessions");
    let not_ready = command(&proxy, "health");
    assert_eq!((not_ready.status.code(), not_ready.stdout.as_str()), (Some(1), ""));
    let reason = "crdb-proxy: not ready: stopping soon: new sessions are still taken for a moment";
    assert_eq!(not_ready.stderr, reason);
}

#[test]
fn health_finds_the_daemon_by_its_settings_file_alone() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("admin = \"unix:admin.sock\"").start();
    proxy.listener("admin");

    let told = run_daemon(&proxy.path(""), &["health", "--config", "crdb-proxy.toml"], &[]);

    assert_eq!(told.expect_success(), "ready");
}

#[test]
fn where_no_daemon_answers_every_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = closed_port().to_string();
    for words in ["health", "wait --limit 1s", "shutdown --wait", "reload", "config diff"] {
        for (admin, code, said) in [
            (nowhere.as_str(), 1, "is it running, and is this its admin address (--admin, --config)?"),
            ("unix:nothing.sock", 1, "nothing.sock: No such file or directory"),
            ("off", 2, "its admin address is off"),
            ("localhost:0", 2, "port 0"),
            ("9257", 2, "did you mean \"localhost:9257\"?"),
        ] {
            let arguments = words.split(' ').chain(["--admin", admin]).collect::<Vec<_>>();
            let failed = run_daemon(folder.path(), &arguments, &[]);

            assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(code), ""), "{words} {admin}");
            let stderr = &failed.stderr;
            assert!(stderr.contains(said) && stderr.lines().count() == 1, "{words} {admin}: {stderr}");
            let with_advice = words == "reload" && admin != "localhost:0" && admin != "9257";
            assert_eq!(stderr.contains("SIGHUP"), with_advice, "{words} {admin}: {stderr}");
        }
    }
}

#[test]
fn health_takes_no_other_program_for_the_daemon_and_waits_three_seconds_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let health = |address: &str| run_daemon(folder.path(), &["health", "--admin", address], &[]);
    for body in ["hi", "ok", "okay\n", "ok\n\n"] {
        let stranger = stand_in(|_| (200, body.to_owned()));

        let other = health(&stranger);

        assert_eq!(other.status.code(), Some(1), "{body:?}");
        assert!(other.stderr.contains("as no crdb-proxy would"), "{body:?}: {}", other.stderr);
    }
    let (_silent, address) = silent();

    let silent = health(&address);

    assert_eq!(silent.status.code(), Some(1));
    assert_eq!(silent.stderr, format!("crdb-proxy: {address} did not answer within 3 s"));
}

#[test]
fn a_changed_admin_address_is_said_to_count_from_the_next_restart_on() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("admin = \"unix:old.sock\"").start();
    let old = proxy.listener("admin");
    let run = |words: &[&str]| run_daemon(&proxy.path(""), &[words, &["--config", "crdb-proxy.toml"]].concat(), &[]);
    proxy.rewrite_settings(|text| text.replace("old.sock", "new.sock"));

    let reloaded = run(&["reload", "--admin", &old]).expect_success();
    let lost = run(&["health"]);
    proxy.rewrite_settings(|text| text.replace("unix:new.sock", "off"));
    let off = run(&["health"]);

    let lines = reloaded.lines().collect::<Vec<_>>();
    assert_eq!((lines.len(), lines[0]), (3, "reloaded; nothing has changed"), "{reloaded}");
    assert!(lines[1].starts_with("needs a restart: admin: \"unix:"), "{reloaded}");
    assert_eq!(lines[2], format!("until then commands find this daemon with --admin {old}"));
    let advice = "(a changed \"admin\" counts from the daemon's next restart on; until then give the old address with \
                  --admin)";
    assert_eq!((lost.status.code(), off.status.code()), (Some(1), Some(2)));
    assert!(lost.stderr.contains("new.sock: No such file") && lost.stderr.ends_with(advice), "{}", lost.stderr);
    assert!(off.stderr.contains("is off") && off.stderr.ends_with(advice), "{}", off.stderr);
    assert_eq!(run(&["health", "--admin", &old]).expect_success(), "ready");
}

#[test]
fn wait_waits_for_a_daemon_that_is_not_there_yet() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).global("admin = \"unix:admin.sock\"");
    let folder = settings.path("");
    let mut waiting = at_terminal(&folder, "wait", "unix:admin.sock");
    waiting.wait_for("waiting: no daemon can be reached at unix:");

    let _proxy = settings.start();

    waiting.wait_for("ready");
    assert_eq!(waiting.exit_code(), 0);
}

#[test]
fn wait_tells_the_last_reason_when_its_limit_passes() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::trusting(&cluster.authority)
        .endpoint("first", closed_port())
        .global("startup_requires_upstream = true")
        .start();

    let failed = command(&proxy, "wait --limit 1s");

    assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(1), ""));
    let stderr = &failed.stderr;
    assert!(stderr.starts_with("crdb-proxy: waited 1s in vain: not started: "), "{stderr}");
    assert_eq!(command(&proxy, "health").expect_success(), "ready", "which is another question");
}

#[test]
fn wait_names_the_limit_that_it_was_given_whatever_was_left_of_it() {
    let (_silent, address) = silent();
    let folder = tempfile::tempdir().unwrap();

    let failed = run_daemon(folder.path(), &["wait", "--limit", "1s", "--admin", &address], &[]);

    assert_eq!(failed.stderr, format!("crdb-proxy: waited 1s in vain: {address} did not answer"));
}

#[test]
fn wait_takes_a_limit_with_a_unit() {
    let folder = tempfile::tempdir().unwrap();
    for limit in ["30", "0s", "25h", "off"] {
        let failed = run_daemon(folder.path(), &["wait", "--limit", limit], &[]);

        assert_eq!(failed.status.code(), Some(2), "{limit}");
        assert!(failed.stderr.starts_with("crdb-proxy: flag --limit: must be"), "{}", failed.stderr);
    }
}

#[test]
fn shutdown_stops_the_daemon_gently() {
    let cluster = FakeUpstream::answering();
    let mut proxy = TestProxy::before(&cluster);

    let told = command(&proxy, "shutdown").expect_success();

    assert_eq!(told, "draining: the daemon takes no new sessions, and ends each open one when it is idle");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn whoever_has_it_stop_is_told_how_long_that_may_take() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("drain_delay = \"1h\"\ndrain_limit = \"30s\"").start();

    let (status, _, body) = proxy.http("POST /drain", "");

    assert_eq!(status, 202, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer, serde_json::json!({"state": "delaying", "ends_within_ms": 3_630_000}));
}

#[test]
fn shutdown_can_wait_for_the_end_and_shows_who_is_still_there() {
    let server = crate::harness::Postgres::start();
    let mut proxy = TestProxy::before(&server);
    let mut client = proxy.client();
    client.query("begin");

    let mut waiting = at_terminal(&proxy.path(""), "shutdown --wait", &proxy.listener("admin"));
    waiting.wait_for("1 open session");
    assert!(!waiting.text().contains("is gone"));
    client.query("commit");
    drop(client);

    waiting.wait_for("the daemon is gone");
    assert_eq!(waiting.exit_code(), 0);
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn shutdown_that_waits_has_the_daemons_own_exit_code() {
    let server = crate::harness::Postgres::start();
    let mut proxy = SettingsFile::of(&server).global("drain_limit = \"300ms\"").start();
    let mut client = proxy.client();
    client.query("begin");

    let cut = command(&proxy, "shutdown --wait");

    assert_eq!(cut.status.code(), Some(4), "{}", cut.stderr);
    assert!(cut.stdout.ends_with("\nthe daemon is gone"), "{}", cut.stdout);
    assert_eq!(cut.stderr, "crdb-proxy: 1 session was cut off at drain_limit");
    assert_eq!(proxy.exit_code(), 4);
}

#[test]
fn shutdown_that_waits_tells_of_a_second_signal() {
    let server = crate::harness::Postgres::start();
    let mut proxy = TestProxy::before(&server);
    let mut client = proxy.client();
    client.query("begin");
    let mut waiting = at_terminal(&proxy.path(""), "shutdown --wait", &proxy.listener("admin"));
    waiting.wait_for("1 open session");

    proxy.signal(Signal::TERM);
    proxy.wait_for_message("draining already; another signal ends it at once");
    proxy.signal(Signal::TERM);

    assert_eq!(waiting.exit_code(), 5);
    assert!(waiting.text().contains("a second signal has ended it at once"), "{}", waiting.text());
    assert_eq!(proxy.exit_code(), 5);
}

#[test]
fn shutdown_that_waits_says_so_where_the_end_is_not_told() {
    // One of a version that knows no such question, and then nobody.
    let (stand_in, address) = listening();
    std::thread::spawn(move || {
        loop {
            let asked = answer_one(&stand_in, |request| match request {
                "POST /drain" => (202, DRAINING.to_owned()),
                "POST /drain?end=true" => (400, "nothing stands behind the question mark here\n".to_owned()),
                _ => (200, STATUS.to_owned()),
            });
            if asked == "POST /drain?end=true" {
                return;
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();

    let told = run_daemon(folder.path(), &["shutdown", "--wait", "--admin", &address], &[]);

    assert_eq!(told.status.code(), Some(0), "{}", told.stderr);
    let said = "crdb-proxy: it did not say how it ended: whether sessions were cut off, its log and its exit code tell";
    assert_eq!(told.stderr, said);
}

#[test]
fn the_end_is_told_to_nobody_who_asks_a_daemon_that_goes_on() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);

    let (status, _, body) = proxy.http("POST /drain?end=true", "");

    assert_eq!((status, body.as_str()), (409, "not told to stop: there is no end to wait for\n"));
    proxy.client().query("select 1");
}

#[test]
fn shutdown_gives_up_on_a_daemon_that_outlives_its_own_limits() {
    // What answers as a daemon that is to be gone at once, and stays.
    let address = stand_in(|request| match request.starts_with("POST") {
        true => (202, DRAINING.to_owned()),
        false => (200, STATUS.to_owned()),
    });
    let folder = tempfile::tempdir().unwrap();

    let failed = run_daemon(folder.path(), &["shutdown", "--wait", "--admin", &address], &[]);

    assert_eq!(failed.status.code(), Some(1));
    let said = format!(
        "crdb-proxy: the daemon at {address} is still there after 5 s, with 3 open sessions; \
         a second signal ends it at once"
    );
    assert_eq!(failed.stderr, said);
}

#[test]
fn config_diff_orders_nothing_that_could_be_refused() {
    let address = stand_in(|_| (403, "not you\n".to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let said = |words: &[&str]| run_daemon(folder.path(), &[words, &["--admin", &address]].concat(), &[]).stderr;

    assert_eq!(said(&["config", "diff"]), "crdb-proxy: the daemon does not tell: not you");
    assert_eq!(said(&["reload"]), "crdb-proxy: the daemon refused the order: not you");
}

#[test]
fn reload_says_what_changed_and_config_diff_what_would() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("drain_limit = \"25s\"").start();
    proxy.listener("main");
    let file = proxy.path("crdb-proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(command(&proxy, "config diff").expect_success(), "nothing would change");

    fs::write(&file, format!("threads = 3\n{}", text.replace("25s", "30s"))).unwrap();

    let would = command(&proxy, "config diff").expect_success();
    assert!(would.contains("would change: drain_limit: \"25s\" becomes \"30s\"\n"), "{would}");
    assert!(would.ends_with("would need a restart: threads: 0 becomes 3"), "{would}");
    assert!(!would.contains("would change: threads"), "{would}");
    assert_eq!(proxy.metric("crdb_proxy_config_reloads_total", &[("result", "ok")]), Some(0.0));
    let told = command(&proxy, "reload").expect_success();
    assert!(told.starts_with("reloaded\nchanged: "), "{told}");
    assert_eq!(told, format!("reloaded\n{would}").replace("would change", "changed").replace("would need", "needs"));
    assert_eq!(proxy.metric("crdb_proxy_config_reloads_total", &[("result", "ok")]), Some(1.0));
    let again = command(&proxy, "reload").expect_success();
    assert_eq!(again, "reloaded; nothing has changed\nneeds a restart: threads");
}

#[test]
fn settings_that_the_daemon_refuses_are_told_with_all_their_faults() {
    let cluster = FakeUpstream::answering();
    let proxy = TestProxy::before(&cluster);
    proxy.listener("main");
    let file = proxy.path("crdb-proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("drain_limit = 7\nidle_clsoe = \"1s\"\n{text}")).unwrap();

    for (words, does) in
        [("config diff", "would refuse its settings and go on"), ("reload", "refuses its settings and goes on")]
    {
        let refused = command(&proxy, words);

        assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(2), ""), "{words}");
        let lines = refused.stderr.lines().collect::<Vec<_>>();
        assert_eq!(lines[0], format!("crdb-proxy: the daemon {does} with those that it has:"));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.starts_with("crdb-proxy: ")), "{lines:?}");
        assert!(lines[1].contains("drain_limit") && lines[2].contains("idle_close"), "{lines:?}");
    }
}
