//! Which users of this machine may come in to a listener, what the others read, and what the operator does.

use crate::harness::{
    DEADLINE, FakeUpstream, SettingsFile, TestClient, TestProxy,
    client::{connect_tls, connect_unix},
    other_user::{as_user, can_be_others, connect_as, connect_unix_as, open_folder},
    postgres::program,
    process,
    wire::{Message, Wire, cancel_request, startup},
};
use serde_json::Value;
use socket2::{Domain, SockFilter, Socket, Type};
use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Command,
};

/// Users that no machine has.
const OTHER: u32 = 41_001;
const ANOTHER: u32 = 41_002;

fn refused(mut wire: Wire) -> Message {
    wire.send(&startup(&[("user", "anyone")]));
    wire.refusal()
}

fn enters(wire: Wire) {
    TestClient::log_in(wire, &[("user", "anyone")]);
}

fn refusal_line(proxy: &TestProxy) -> Value {
    proxy.wait_for_log(|line| line["message"] == "session refused" && line["refuse.reason"] == "local_uid")
}

#[test]
fn by_default_only_the_daemons_own_user_and_root_come_in() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    for address in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
        let proxy = SettingsFile::of(&cluster).address(address).start();
        enters(proxy.connect());

        let error = refused(connect_as(OTHER, proxy.address()));

        assert_eq!(error.sqlstate(), "28000", "{address}");
        let told = format!("{} {}", error.field(b'M').unwrap(), error.field(b'H').unwrap());
        for word in ["uid", "user", "same", "local_access", "41001", "root"] {
            assert!(!told.contains(word), "{told}");
        }
        assert!(told.contains("whoever runs crdb-proxy"), "{told}");
        proxy.wait_for_refusals("local_uid", 1.0);
        let line = refusal_line(&proxy);
        assert_eq!((&line["level"], &line["peer_uid"]), (&Value::from("WARN"), &Value::from(OTHER)));
        let cause = line["cause"].as_str().unwrap();
        assert!(cause.contains("\"same-user\"") && cause.contains("local_access = \"any\""), "{cause}");
        assert!(cluster.seen().startups.len() <= 3, "it went upstream");
    }
}

#[test]
fn a_daemon_of_another_user_lets_in_that_user_and_root() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let as_other =
        format!("chown -R {OTHER} . && exec setpriv --reuid {OTHER} --regid {OTHER} --clear-groups -- \"$@\"");
    let settings = SettingsFile::of(&cluster).behind(&["sh", "-c", &as_other, "sh"]);
    let proxy = settings.start();

    enters(connect_as(OTHER, proxy.address()));
    enters(proxy.connect());
    let error = refused(connect_as(ANOTHER, proxy.address()));

    assert_eq!(error.sqlstate(), "28000");
}

#[test]
fn users_that_are_listed_come_in_and_nobody_else() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let rule = format!("local_access = \"uids\"\nallowed_uids = [{OTHER}]");
    let proxy = SettingsFile::of(&cluster).listener(&rule).start();
    assert_eq!(proxy.wait_for_message("listening")["listener.access"], format!("uids {OTHER}"));

    enters(connect_as(OTHER, proxy.address()));
    let root = refused(proxy.connect());
    let other = refused(connect_as(ANOTHER, proxy.address()));

    assert_eq!((root.sqlstate(), root.body), (other.sqlstate(), other.body));
    assert!(refusal_line(&proxy)["cause"].as_str().unwrap().contains("\"allowed_uids\""));
}

#[test]
fn a_listener_for_any_user_asks_nobody() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").start();
    assert_eq!(proxy.wait_for_log(|line| line["listener.name"] == "main")["listener.access"], "any");
    if can_be_others() {
        enters(connect_as(OTHER, proxy.address()));
    }

    let _client = proxy.client();

    assert_eq!(proxy.status()["sessions"][0]["peer_uid"], Value::Null);
}

#[test]
fn the_user_stands_in_log_and_status() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).global("log_level = \"debug\"").start();
    let own = rustix::process::geteuid().as_raw();

    let client = proxy.client();

    assert_eq!(proxy.status()["sessions"][0]["peer_uid"], own);
    assert_eq!(proxy.wait_for_message("session opened")["peer_uid"], own);
    drop(client);
    assert_eq!(proxy.wait_for_message("session closed")["peer_uid"], own);
}

#[test]
fn a_rule_of_users_and_the_password_must_both_hold_where_both_are_named() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "sesame");
    let password = "local_password = { file = \"local.pw\" }";
    let both = settings.listener(password).listener("local_access = \"same-user\"").start();
    assert_eq!(both.wait_for_log(|line| line["listener.name"] == "main")["listener.access"], "same-user and password");

    assert_eq!(refused(connect_as(OTHER, both.address())).sqlstate(), "28000");
    let asked = both.startup(&[("user", "anyone")]).message();

    assert_eq!(asked.tag, b'R', "{asked:?}");
    let alone = SettingsFile::of(&cluster).file("local.pw", "sesame").listener(password).start();
    let mut other = connect_as(OTHER, alone.address());
    other.send(&startup(&[("user", "anyone")]));
    assert_eq!(other.message().tag, b'R', "whoever knows the password may come in");
}

#[test]
fn a_client_under_tls_is_judged_too() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).identity("local", &cluster.authority.server());
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let proxy = settings.listener(tls).start();
    let (address, authority) = (proxy.address(), cluster.authority.clone());
    enters(connect_tls(address, &cluster.authority));

    let error = refused(as_user(OTHER, move || connect_tls(address, &authority)));

    assert_eq!(error.sqlstate(), "28000");
}

#[test]
fn the_user_of_a_unix_socket_is_told_with_the_connection() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let (_folder, path) = open_folder();
    let address = format!("unix:{}", path.display());
    let settings = SettingsFile::of(&cluster).address(&address).listener("mode = \"0666\"");
    let proxy = settings.listener(&format!("allowed_uids = [{OTHER}, 0]")).start();
    proxy.listener("main");

    enters(connect_unix_as(OTHER, &path));
    enters(connect_unix(&path));
    let error = refused(connect_unix_as(ANOTHER, &path));

    assert_eq!(error.sqlstate(), "28000");
    assert_eq!(refusal_line(&proxy)["peer_uid"], ANOTHER);
}

#[test]
fn a_unix_socket_that_others_may_open_and_not_use_is_warned_about_at_the_start() {
    let cluster = FakeUpstream::answering();
    let (_folder, path) = open_folder();
    let settings = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display()));
    let proxy = settings.listener("mode = \"0666\"").start();
    proxy.listener("main");

    proxy.wait_for_text("its mode and owner let other users connect, and they are refused");

    if can_be_others() {
        assert_eq!(refused(connect_unix_as(OTHER, &path)).sqlstate(), "28000");
    }
}

#[test]
fn a_unix_socket_has_its_owner_and_group_from_the_first_moment() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let (_folder, path) = open_folder();
    let settings = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display()));
    let lines = format!("mode = \"0660\"\nowner = {OTHER}\ngroup = \"daemon\"\nlocal_access = \"any\"");
    let proxy = settings.listener(&lines).start();
    proxy.listener("main");

    let found = fs::metadata(&path).unwrap();
    let group = fs::read_to_string("/etc/group").unwrap();
    let group = group.lines().find_map(|line| line.strip_prefix("daemon:x:")).unwrap().to_owned();
    assert_eq!((found.uid(), found.mode() & 0o777), (OTHER, 0o660));
    assert_eq!(found.gid().to_string(), group.split(':').next().unwrap());

    enters(connect_unix_as(OTHER, &path));
    as_user(ANOTHER, {
        let path = path.clone();
        move || std::os::unix::net::UnixStream::connect(path).unwrap_err()
    });
}

#[test]
fn an_owner_that_this_machine_does_not_have_is_refused_by_name() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).address("unix:/tmp/.s.PGSQL.65000").listener("owner = \"no-such-user\"");
    let mut proxy = settings.start();

    assert_eq!(proxy.exit_code(), 2);

    assert!(proxy.log_text().contains("/etc/passwd has no user \\\"no-such-user\\\""), "{}", proxy.log_text());
}

#[test]
fn a_folder_where_others_could_put_a_socket_is_warned_about() {
    let cluster = FakeUpstream::answering();
    let (folder, path) = open_folder();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let proxy = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display())).start();
    proxy.listener("main");

    proxy.wait_for_text("can write to the folder");
}

#[test]
fn a_cancel_request_of_a_user_that_may_not_come_in_does_nothing() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).start();
    let client = proxy.client();

    let mut other = connect_as(OTHER, proxy.address());
    other.send(&cancel_request(&client.key));
    assert_eq!(other.rest(), b"");
    proxy.wait_for_refusals("local_uid", 1.0);
    assert_eq!(refusal_line(&proxy)["peer_uid"], OTHER);
    assert_eq!(cluster.seen().cancels.len(), 0);

    let mut own = proxy.connect();
    own.send(&cancel_request(&client.key));
    cluster.wait_until(|seen| seen.cancels.len() == 1);
}

#[test]
fn a_cancel_request_of_a_client_that_closes_at_once_counts_by_its_key() {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).start();
    let client = proxy.client();

    for count in 1..=20 {
        let mut socket = TcpStream::connect(proxy.address()).unwrap();
        socket.write_all(&cancel_request(&client.key)).unwrap();
        drop(socket);
        cluster.wait_until(|seen| seen.cancels.len() == count);
    }
}

#[test]
fn a_reload_changes_who_may_come_in_and_open_sessions_go_on() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").start();
    let mut open = TestClient::log_in(connect_as(OTHER, proxy.address()), &[("user", "anyone")]);

    proxy.rewrite_settings(|text| text.replace("\"any\"", "\"same-user\""));
    proxy.signal(rustix::process::Signal::HUP);
    proxy.wait_for_message("reloaded");

    assert_eq!(refused(connect_as(OTHER, proxy.address())).sqlstate(), "28000");
    open.query("select 1");
    enters(proxy.connect());
}

#[test]
fn psql_of_another_user_is_told_whom_to_ask() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();

    let mut psql = Command::new(program("psql"));
    let port = proxy.address().port().to_string();
    psql.args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "anyone", "-d", "defaultdb", "-c", "select 1"]);
    psql.uid(OTHER).gid(OTHER).env("HOME", "/").current_dir("/");
    let ended = process::run(&mut psql, "", DEADLINE);

    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("crdb-proxy does not let this client in"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Ask whoever runs crdb-proxy"), "{}", ended.stderr);
}

/// A command that lives where only some users are mapped, if such a place can be made.
fn among_few_users() -> Option<[&'static str; 3]> {
    let words = ["unshare", "--user", "--map-root-user"];
    let can = Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success());
    if !can {
        println!("skipped: no user namespaces here");
    }
    can.then_some(words)
}

#[test]
fn a_rule_of_users_where_only_some_are_known_is_fatal_and_the_fix_is_told() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let mut proxy = SettingsFile::of(&cluster).behind(&words).start();

    assert_eq!(proxy.exit_code(), 2);

    let log = proxy.log_text();
    for word in ["/proc/self/uid_map", "local_access = \\\"any\\\"", "uid-rules.conf", "--userns=host"] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

#[test]
fn check_refuses_settings_there_that_the_daemon_would_not_start_with() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let file = settings.write();
    let mut command = TestProxy::command_behind(&words, file.parent().unwrap());
    command.args(["check", "--config"]).arg(&file);

    let checked = process::run(&mut command, "", DEADLINE);

    assert_eq!(checked.status.code(), Some(2), "{} {}", checked.stdout, checked.stderr);
    assert!(checked.stderr.contains("/proc/self/uid_map"), "{}", checked.stderr);
}

#[test]
fn without_a_rule_of_users_it_serves_there_and_a_reload_that_brings_one_fails() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").behind(&words).start();
    proxy.client();

    proxy.rewrite_settings(|text| text.replace("\"any\"", "\"same-user\""));
    proxy.signal(rustix::process::Signal::HUP);

    let line = proxy.wait_for_message("reload failed");
    assert!(line["faults"].as_str().unwrap().contains("uid-rules.conf"), "{line}");
    proxy.client();
}

#[test]
fn a_check_of_settings_says_it_too() {
    let Some(words) = among_few_users() else { return };
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let file = settings.write();

    let mut command = TestProxy::command_behind(&words, file.parent().unwrap());
    let checked = process::run(command.args(["config", "check", "--config"]).arg(&file), "", DEADLINE);

    assert_eq!(checked.status.code(), Some(2));
    assert!(checked.stderr.contains("uid-rules.conf"), "{}", checked.stderr);
}

#[test]
fn a_client_that_may_not_come_in_learns_nothing_of_what_clients_may_choose() {
    let cluster = FakeUpstream::answering();
    let others_only = "local_access = \"uids\"\nallowed_uids = [4711]\ndatabase_locked = true";
    let proxy = SettingsFile::of(&cluster).listener(others_only).start();
    let told = |options| {
        let refusal = proxy.startup(&[("user", "anyone"), ("options", options)]).refusal();
        (refusal.sqlstate(), refusal.field(b'M'), refusal.field(b'H'))
    };

    let plain = told("-c a=b");

    assert_eq!(plain.0, "28000");
    for options in ["-ccluster=x", "-cdatabase=x", "-ccrdb:x=y"] {
        assert_eq!(told(options), plain, "{options}");
    }
}

#[test]
fn neither_does_one_that_does_not_know_the_local_password() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "l0cal-secret");
    let proxy = settings.listener("local_password = { file = \"local.pw\" }").start();

    let mut wire = proxy.startup(&[("user", "anyone"), ("options", "-ccluster=x")]);

    assert_eq!(wire.next_message().unwrap().tag, b'R');
}

#[test]
fn a_client_is_not_taken_for_root_whose_socket_tries_to_connect_from_the_same_port() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    let address = proxy.address();
    let tcp = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket
    };
    // What is bound to an interface leaves its port to others.
    let mut client = as_user(OTHER, move || {
        let socket = tcp();
        socket.bind_device(Some(b"lo")).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        socket
    });
    let of_root = tcp();
    // It takes no answer, so that it goes on trying.
    of_root.attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
    of_root.bind(&client.local_addr().unwrap()).unwrap();
    of_root.set_nonblocking(true).unwrap();
    of_root.connect(&address.into()).unwrap_err();

    client.write_all(&startup(&[("user", "anyone")])).unwrap();

    proxy.wait_for_refusals("local_uid", 1.0);
    assert_ne!(refusal_line(&proxy)["peer_uid"], 0);
    assert!(of_root.peer_addr().is_err(), "it has connected");
}

/// In front of a program: a user namespace without any user, in which everybody looks like one; `None` where such
/// may not be made.
fn among_nobody() -> Option<[&'static str; 2]> {
    let words = ["unshare", "--user"];
    let can = Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success());
    if !can {
        println!("skipped: no user namespaces here");
    }
    can.then_some(words)
}

#[test]
fn a_daemon_that_looks_like_everybody_takes_nobody_for_itself() {
    let Some(words) = among_nobody() else { return };
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).listener("local_access = \"any\"").behind(&words).start();
    proxy.client();

    let (status, _, told) = proxy.http("POST /reload", "");

    assert_eq!(status, 403, "{told}");
    assert!(told.contains("user namespace"), "{told}");
}

#[test]
fn a_link_of_somebody_is_not_followed_by_a_daemon_that_looks_like_everybody() {
    let Some(words) = among_nobody() else { return };
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).listener("local_access = \"any\"");
    let settings = settings.password("password = { file = \"link.pw\" }");
    std::os::unix::fs::symlink("app.pw", settings.path("link.pw")).unwrap();
    let file = settings.write();

    let check = |words: &[&str]| {
        let mut command = TestProxy::command_behind(words, file.parent().unwrap());
        process::run(command.args(["config", "check", "--config"]).arg(&file), "", DEADLINE)
    };
    let (alone, among_nobody) = (check(&[]), check(&words));

    assert_eq!(alone.status.code(), Some(0), "{}", alone.stderr);
    assert_eq!(among_nobody.status.code(), Some(2), "{}", among_nobody.stderr);
    assert!(among_nobody.stderr.contains("link.pw"), "{}", among_nobody.stderr);
}

#[test]
fn every_user_that_is_refused_has_a_line_in_the_log_and_in_the_status() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();

    for _ in 0..2 {
        refused(connect_as(OTHER, proxy.address()));
        refused(connect_as(ANOTHER, proxy.address()));
    }

    for uid in [OTHER, ANOTHER] {
        let line = proxy.wait_for_log(|line| line["message"] == "session refused" && line["peer_uid"] == uid);
        assert_eq!(line["level"], "WARN");
    }
    proxy.wait_for_refusals("local_uid", 4.0);
    let status = proxy.status();
    let mut noted: Vec<_> = status["refusals"].as_array().unwrap().iter().collect();
    noted.sort_by_key(|noted| noted["peer_uid"].as_u64());
    let noted: Vec<_> = noted.iter().map(|noted| (noted["peer_uid"].clone(), noted["count"].clone())).collect();
    assert_eq!(noted, [(OTHER.into(), 2.into()), (ANOTHER.into(), 2.into())]);
}

#[test]
fn who_may_come_in_stands_in_the_status() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).file("local.pw", "sesame");
    let guarded = "local_password = { file = \"local.pw\" }\nlocal_access = \"same-user\"";
    let proxy = settings.another_listener("guarded", guarded).start();

    let status = proxy.status();

    assert_eq!(status["listeners"][0]["access"], "same-user");
    assert_eq!(status["listeners"][1]["access"], "same-user and password");
}

#[test]
fn a_socket_of_another_user_that_is_in_the_way_is_told_with_its_owner() {
    if !can_be_others() {
        return;
    }
    let cluster = FakeUpstream::answering();
    let (folder, path) = open_folder();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(ANOTHER), None).unwrap();
    let squatted = path.clone();
    // Closing leaves the file behind.
    as_user(ANOTHER, move || drop(std::os::unix::net::UnixListener::bind(squatted).unwrap()));
    let as_other =
        format!("chown -R {OTHER} . && exec setpriv --reuid {OTHER} --regid {OTHER} --clear-groups -- \"$@\"");
    let settings = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display()));
    let mut proxy = settings.behind(&["sh", "-c", &as_other, "sh"]).start();

    assert_eq!(proxy.exit_code(), 3);

    let log = proxy.log_text();
    assert!(log.contains(&format!("user ID {ANOTHER}")) && !log.contains("1024"), "{log}");
    assert!(path.exists());
}

#[test]
fn a_sticky_folder_that_everybody_may_write_to_is_warned_about_for_what_may_stand_there_first() {
    let cluster = FakeUpstream::answering();
    let (folder, path) = open_folder();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let proxy = SettingsFile::of(&cluster).address(&format!("unix:{}", path.display())).start();
    proxy.listener("main");

    proxy.wait_for_text("while crdb-proxy is down");
}
