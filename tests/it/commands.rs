//! The commands that ask or tell a running daemon something: what they print, and their exit codes.

use crate::harness::{
    FakeUpstream, SettingsFile, Terminal, TestProxy,
    process::Finished,
    proxy::{closed_port, run_daemon},
};
use std::{fs, io::Read, net::TcpListener};

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
    use std::io::Write;
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut socket, _) = stranger.accept().unwrap();
        let length = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        assert!(length > 0);
        // The next one hears nothing.
        stranger
    });
    let folder = tempfile::tempdir().unwrap();
    let health = || run_daemon(folder.path(), &["health", "--admin", &address], &[]);

    let other = health();
    let _stranger = answering.join().unwrap();
    let silent = health();

    assert_eq!((other.status.code(), silent.status.code()), (Some(1), Some(1)));
    assert!(other.stderr.contains("as no crdb-proxy would"), "{}", other.stderr);
    assert_eq!(silent.stderr, format!("crdb-proxy: {address} did not answer within 3 s"));
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
fn shutdown_gives_up_on_a_daemon_that_outlives_its_own_limits() {
    // What answers as a daemon that is to be gone at once, and stays.
    let stayer = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stayer.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::Write;
        for socket in stayer.incoming() {
            let mut socket = socket.unwrap();
            let mut request = [0; 4096];
            let length = socket.read(&mut request).unwrap();
            let body = match request[..length].starts_with(b"POST") {
                true => "{\"state\":\"draining\",\"ends_within_ms\":0}",
                false => {
                    "{\"started_at\":\"then\",\"state\":\"draining\",\"listeners\":[{\"sessions\":2},{\"sessions\":1}]}"
                }
            };
            let status = if body.starts_with("{\"state") { "202 Accepted" } else { "200 OK" };
            write!(socket, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
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
    assert!(would.ends_with("would need a restart: threads"), "{would}");
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

    for words in ["config diff", "reload"] {
        let refused = command(&proxy, words);

        assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(2), ""), "{words}");
        let lines = refused.stderr.lines().collect::<Vec<_>>();
        assert_eq!(lines[0], "crdb-proxy: the daemon refuses its settings and goes on with those that it has:");
        assert!(lines.len() == 3 && lines.iter().all(|line| line.starts_with("crdb-proxy: ")), "{lines:?}");
        assert!(lines[1].contains("drain_limit") && lines[2].contains("idle_close"), "{lines:?}");
    }
}
