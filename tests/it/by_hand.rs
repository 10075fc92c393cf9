//! Orders by hand: who may give them, what they are answered, where they show, and the command that gives
//! them.

use crate::harness::{
    DEADLINE, FakeUpstream, SettingsFile, TestProxy,
    process::{self, Finished, mortal},
    proxy::{closed_port, run_daemon},
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    path::Path,
    time::{Duration, SystemTime},
};

/// A daemon with one cluster of two endpoints.
fn start() -> (FakeUpstream, TestProxy) {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).endpoint("second", closed_port()).start();
    (cluster, proxy)
}

/// Status and body of a POST with these headers.
fn post(proxy: &TestProxy, path: &str, headers: &str) -> (u16, String) {
    let (status, _, body) = proxy.http(&format!("POST {path}"), headers);
    (status, body)
}

fn taken(proxy: &TestProxy, path: &str) -> Value {
    let (status, body) = post(proxy, path, "");
    assert_eq!(status, 202, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// What `/status` says of the order for the endpoint at this place.
fn by_hand(proxy: &TestProxy, place: usize) -> Value {
    proxy.status()["clusters"][0]["endpoints"][place]["by_hand"].clone()
}

/// Seconds from now to a time in an answer.
fn seconds_until(time: &str) -> u64 {
    let until = humantime::parse_rfc3339(time).unwrap();
    until.duration_since(SystemTime::now()).unwrap().as_secs()
}

/// Runs `crdb-proxy endpoint …` beside the daemon, told where that is.
fn command(proxy: &TestProxy, arguments: &str) -> Finished {
    let admin = proxy.listener("admin");
    let words = ["endpoint"].into_iter().chain(arguments.split(' ')).collect::<Vec<_>>();
    run_daemon(&proxy.path(""), &words, &[("CRDB_PROXY_ADMIN", &admin)])
}

#[test]
fn an_order_is_taken_and_shown_until_it_is_ended() {
    let (_cluster, proxy) = start();
    let gauge = |order| {
        let labels = [("cluster", "test"), ("endpoint", "second"), ("order", order)];
        proxy.metric("crdb_proxy_endpoint_by_hand", &labels)
    };
    assert_eq!((by_hand(&proxy, 0), by_hand(&proxy, 1)), (Value::Null, Value::Null));
    assert_eq!((gauge("disabled"), gauge("preferred")), (Some(0.0), Some(0.0)));

    let disabled = taken(&proxy, "/endpoints/second/disable?for=2h");
    assert_eq!(disabled["state"], "disabled");
    assert_eq!((&disabled["endpoint"], &disabled["cluster"]), (&json!("second"), &json!("test")));
    assert!((7190..=7200).contains(&seconds_until(disabled["until"].as_str().unwrap())), "{disabled}");
    let shown = by_hand(&proxy, 1);
    assert_eq!(shown["order"], "disabled");
    assert!((7190..=7200).contains(&seconds_until(shown["until"].as_str().unwrap())), "{shown}");
    assert_eq!((gauge("disabled"), gauge("preferred")), (Some(1.0), Some(0.0)));
    assert_eq!(by_hand(&proxy, 0), Value::Null, "another endpoint");

    let preferred = taken(&proxy, "/endpoints/second/prefer");
    assert_eq!(preferred["state"], "preferred");
    assert!((3590..=3600).contains(&seconds_until(preferred["until"].as_str().unwrap())), "{preferred}");
    assert_eq!(by_hand(&proxy, 1)["order"], "preferred");
    assert_eq!((gauge("disabled"), gauge("preferred")), (Some(0.0), Some(1.0)));

    let enabled = taken(&proxy, "/endpoints/second/enable");
    assert_eq!(enabled, json!({"state": "enabled", "endpoint": "second", "cluster": "test", "until": null}));
    assert_eq!(by_hand(&proxy, 1), Value::Null);
    assert_eq!((gauge("disabled"), gauge("preferred")), (Some(0.0), Some(0.0)));
}

#[test]
fn an_order_that_is_repeated_is_taken_again() {
    let (_cluster, proxy) = start();

    for path in ["/endpoints/first/disable", "/endpoints/first/disable", "/endpoints/first/enable"] {
        taken(&proxy, path);
    }

    assert_eq!(taken(&proxy, "/endpoints/first/enable")["state"], "enabled");
}

#[test]
fn an_order_ends_by_itself() {
    let (_cluster, proxy) = start();

    taken(&proxy, "/endpoints/first/disable?for=1s");

    let labels = [("endpoint", "first"), ("order", "disabled")];
    proxy.wait_for_metric("crdb_proxy_endpoint_by_hand", &labels, 0.0);
    assert_eq!(by_hand(&proxy, 0), Value::Null);
}

#[test]
fn an_order_is_logged_with_the_user_who_gave_it() {
    let (_cluster, proxy) = start();

    let until = taken(&proxy, "/endpoints/first/prefer")["until"].clone();

    let line = proxy.wait_for_message("endpoint ordered");
    assert_eq!((&line["level"], &line["order"], &line["until"]), (&json!("INFO"), &json!("preferred"), &until));
    assert_eq!((&line["cluster.name"], &line["endpoint.name"]), (&json!("test"), &json!("first")));
    assert_eq!(line["peer.uid"], rustix::process::geteuid().as_raw());
}

#[test]
fn what_cannot_be_ordered_is_refused_with_the_reason() {
    let (_cluster, proxy) = start();

    for (path, status, words) in [
        ("/endpoints/third/disable", 404, "there are: \"first\", \"second\""),
        ("/endpoints/third/disable?cluster=test", 404, "there are: \"first\", \"second\""),
        ("/endpoints/first/disable?cluster=other", 404, "there are: \"test\""),
        ("/endpoints/first/disable?for=1", 400, "a whole number and a unit"),
        ("/endpoints/first/disable?for=25h", 400, "from 1s to 24h"),
        ("/endpoints/first/disable?until=1h", 400, "\"for\" and \"cluster\" only"),
        ("/endpoints/first/enable?for=1h", 400, "takes no \"for\""),
        ("/endpoints/first/drop", 404, "/endpoints/NAME/disable"),
    ] {
        let (found, reason) = post(&proxy, path, "");
        assert_eq!(found, status, "{path}: {reason}");
        assert!(reason.contains(words) && reason.lines().count() == 1, "{path}: {reason}");
    }
    assert_eq!(by_hand(&proxy, 0), Value::Null);
}

#[test]
fn only_post_gives_orders() {
    let (_cluster, proxy) = start();

    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let (status, head, _) = proxy.http(&format!("{method} /endpoints/first/disable"), "");
        assert_eq!(status, 405, "{method}");
        assert!(head.to_ascii_lowercase().contains("\r\nallow: post\r\n"), "{head}");
        assert!(!head.to_ascii_lowercase().contains("access-control"), "{head}");
    }
    assert_eq!(by_hand(&proxy, 0), Value::Null);
}

#[test]
fn an_endpoint_of_several_clusters_needs_its_clusters_name() {
    let cluster = FakeUpstream::answering();
    let other = format!(
        "[cluster.other]\nca = \"ca.crt\"\nuser = \"app\"\npassword = {{ file = \"app.pw\" }}\n\
         [[cluster.other.endpoint]]\nname = \"first\"\nhost = \"127.0.0.1\"\nport = {}\n",
        closed_port().port()
    );
    let proxy = SettingsFile::of(&cluster).appendix(&other).start();

    let (status, reason) = post(&proxy, "/endpoints/first/disable", "");
    assert_eq!(status, 409);
    assert!(reason.contains("\"test\", \"other\""), "{reason}");

    assert_eq!(taken(&proxy, "/endpoints/first/disable?cluster=other")["cluster"], "other");
    let status = proxy.status();
    let of_cluster = |place: usize| &status["clusters"][place]["endpoints"][0]["by_hand"];
    assert_eq!((of_cluster(0), &of_cluster(1)["order"]), (&Value::Null, &json!("disabled")));

    let told = command(&proxy, "enable first --cluster other").expect_success();
    assert_eq!(told, "endpoint \"first\" of cluster \"other\" is enabled: the settings alone count again");
}

#[test]
fn pages_of_other_sites_give_no_orders() {
    let (_cluster, proxy) = start();
    let admin = proxy.listener("admin");
    let order = |headers: &str| post(&proxy, "/endpoints/first/disable", headers);

    for origin in ["http://evil.example", "null", "https://localhost", &format!("https://{admin}")] {
        let (status, reason) = order(&format!("Origin: {origin}\r\n"));
        assert_eq!(status, 403, "{origin}");
        assert!(reason.contains("Origin") && reason.lines().count() == 1, "{reason}");
    }
    // A page elsewhere that points its own name here sends that name as both.
    let (status, reason) = order("Host: evil.example\r\nOrigin: http://evil.example\r\n");
    assert_eq!(status, 403);
    assert!(reason.contains("Host") && reason.lines().count() == 1, "{reason}");
    assert_eq!(by_hand(&proxy, 0), Value::Null);

    assert_eq!(order(&format!("Origin: http://{admin}\r\n")).0, 202);
}

#[test]
fn other_users_of_this_machine_give_no_orders() {
    let (_cluster, proxy) = start();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can act as another user");
        return;
    }
    let url = format!("http://{}/endpoints/first/disable", proxy.listener("admin"));
    let send_as = |user| {
        let mut curl = mortal(Path::new("setpriv"), "KILL", None);
        curl.args(["--reuid", user, "--clear-groups", "--", "curl", "--silent", "--request", "POST"]);
        curl.args(["--write-out", "%{http_code}", &url]);
        process::run(&mut curl, "", DEADLINE).expect_success()
    };

    let refused = send_as("nobody");

    assert!(refused.ends_with("403") && refused.contains("may give no orders"), "{refused}");
    assert_eq!(by_hand(&proxy, 0), Value::Null);
    assert!(send_as("root").ends_with("202"));
}

#[test]
fn another_user_who_hangs_up_at_once_does_not_pass_for_root() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("log_level = \"debug\"").start();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can act as another user");
        return;
    }
    let port = proxy.listener("admin").rsplit_once(':').unwrap().1.to_owned();
    let request = "POST /endpoints/first/disable HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n";
    let script = format!("printf '{request}' >/dev/tcp/127.0.0.1/{port}");

    let mut bash = mortal(Path::new("setpriv"), "KILL", None);
    bash.args(["--reuid", "nobody", "--clear-groups", "--", "bash", "-c", &script]);
    process::run(&mut bash, "", DEADLINE).expect_success();

    // Refused, or given up when the connection was seen to be gone.
    let ends = ["endpoint order refused", "admin connection ended"];
    proxy.wait_for_log(|line| ends.iter().any(|end| line["message"] == *end));
    assert_eq!(by_hand(&proxy, 0), Value::Null);
}

#[test]
fn orders_come_over_the_unix_socket_and_over_ipv6_too() {
    let cluster = FakeUpstream::answering();
    for admin in ["unix:admin.sock", "[::1]:0"] {
        if admin.starts_with('[') && TcpListener::bind(admin).is_err() {
            println!("skipped: {admin}, which this machine does not have");
            continue;
        }
        let proxy = SettingsFile::of(&cluster).global(&format!("admin = \"{admin}\"")).start();

        let told = command(&proxy, "disable first --for 90s").expect_success();

        assert!(told.starts_with("endpoint \"first\" of cluster \"test\" is disabled until 2"), "{told}");
        let line = proxy.wait_for_message("endpoint ordered");
        assert_eq!(line["peer.uid"], rustix::process::geteuid().as_raw(), "{admin}");
    }
}

#[test]
fn a_large_body_is_refused_and_a_small_one_ignored() {
    let (_cluster, proxy) = start();
    let order = |body: &str| post(&proxy, "/endpoints/first/disable", body);

    assert_eq!(order("Content-Length: 65537\r\n").0, 413);
    assert_eq!(by_hand(&proxy, 0), Value::Null);

    assert_eq!(order("Content-Length: 2\r\n\r\n{}").0, 202);
}

#[test]
fn the_command_orders_and_says_what_came_of_it() {
    let (_cluster, proxy) = start();

    let told = command(&proxy, "disable second --for 2h").expect_success();
    let shown = by_hand(&proxy, 1);
    assert_eq!(shown["order"], "disabled");
    assert!(told.starts_with("endpoint \"second\" of cluster \"test\" is disabled until"), "{told}");
    let until = told.split_once(" until ").unwrap().1.split(';').next().unwrap();
    assert!((7190..=7200).contains(&seconds_until(until)), "{told}");

    let told = command(&proxy, "prefer second").expect_success();
    assert!(told.contains("is preferred until"), "{told}");
    assert_eq!(by_hand(&proxy, 1)["order"], "preferred");

    let told = command(&proxy, "enable second").expect_success();
    assert_eq!(told, "endpoint \"second\" of cluster \"test\" is enabled: the settings alone count again");
    assert_eq!(by_hand(&proxy, 1), Value::Null);
}

#[test]
fn the_command_finds_the_daemon_by_its_settings_file_alone() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("admin = \"unix:admin.sock\"").start();
    proxy.listener("admin");
    // As an operator finds it who has none of the daemon's variables, and who has broken it since.
    let file = "admin = \"unix:admin.sock\"\n[cluster.test]\nuser = 7\n";
    std::fs::write(proxy.path("crdb-proxy.toml"), file).unwrap();

    let arguments = ["endpoint", "disable", "first", "--config", "crdb-proxy.toml"];
    run_daemon(&proxy.path(""), &arguments, &[]).expect_success();

    assert_eq!(proxy.wait_for_message("endpoint ordered")["order"], "disabled");
}

#[test]
fn the_command_tells_why_the_daemon_refused() {
    let (_cluster, proxy) = start();

    let refused = command(&proxy, "disable third");

    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(1), ""));
    let reason =
        "crdb-proxy: the daemon refused the order: there is no such endpoint, but there are: \"first\", \"second\"";
    assert_eq!(refused.stderr, reason);
}

#[test]
fn the_command_says_where_it_found_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = closed_port().to_string();
    for (admin, code, words) in [
        (nowhere.as_str(), 1, nowhere.as_str()),
        ("unix:nothing.sock", 1, "nothing.sock"),
        ("off", 2, "admin address is off"),
        ("localhost:0", 2, "port 0"),
        ("9257", 2, "did you mean \"localhost:9257\"?"),
    ] {
        let failed = run_daemon(folder.path(), &["endpoint", "enable", "e", "--admin", admin], &[]);

        assert_eq!((failed.status.code(), failed.stdout.as_str()), (Some(code), ""), "{admin}");
        assert!(failed.stderr.contains(words) && failed.stderr.lines().count() == 1, "{}", failed.stderr);
        assert!(code == 2 || failed.stderr.contains("is it running"), "{}", failed.stderr);
    }
    for (arguments, words) in [
        (["a/b", "--for", "1h"], "the endpoint's name is no name"),
        (["a", "--for", "1d"], "flag --for: must be a whole number and a unit"),
        (["a", "--cluster", ""], "the cluster's name is no name"),
    ] {
        let failed = run_daemon(folder.path(), &[&["endpoint", "prefer"], arguments.as_slice()].concat(), &[]);
        assert_eq!(failed.status.code(), Some(2), "{arguments:?}");
        assert!(failed.stderr.contains(words), "{}", failed.stderr);
    }
}

#[test]
fn the_command_takes_no_other_program_for_the_daemon() {
    use std::io::{Read, Write};
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut socket, _) = stranger.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut request = [0; 4096];
        let length = socket.read(&mut request).unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let folder = tempfile::tempdir().unwrap();

    let failed = run_daemon(folder.path(), &["endpoint", "disable", "e", "--admin", &address], &[]);

    assert_eq!(failed.status.code(), Some(1));
    assert!(failed.stderr.contains("as no crdb-proxy would"), "{}", failed.stderr);
    let request = answering.join().unwrap();
    assert!(request.starts_with("POST /endpoints/e/disable HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains(&format!("\r\nhost: {address}\r\n")), "{request}");
}
