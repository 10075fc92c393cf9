//! Pods as they are shown, with the daemon's own binary, a real PostgreSQL server, and tests in the place of the
//! kubelet.

use super::{Pod, Shown, documents, list, manifests::probes, text};
use crate::harness::{
    Authority, DEADLINE, PASSWORD, Postgres, TestClient, TestProxy,
    client::connect_unix,
    markdown,
    postgres::program,
    process::{self, Finished, Lines, mortal},
    settings::{Cluster, write_private},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::HashMap,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// As the kubelet sends it: the pod's address.
const HOST: &str = "Host: 10.1.2.3:9257\r\n";

#[test]
fn every_probe_succeeds_while_the_daemon_serves_and_readiness_ends_with_the_drain() {
    for pod in Pod::all().iter().filter(|pod| !probes(pod).is_empty()) {
        let postgres = Postgres::start();
        let mut proxy = Shown::before(&pod.settings, &postgres).start();
        for probe in probes(pod) {
            let path = text(&probe["httpGet"]["path"]);
            wait_for_probe(&proxy, path, 200, &pod.file);
        }
        // Somebody is in a transaction, so that the drain takes its time.
        let mut open = client(&proxy);
        open.query("begin");
        proxy.signal(Signal::TERM);
        proxy.wait_for_message("draining");

        assert_eq!(proxy.http("GET /readyz", HOST).0, 503, "{}", pod.file);
        assert_eq!(proxy.http("GET /livez", HOST).0, 200, "{}", pod.file);

        open.query("commit");
        drop(open);
        assert_eq!(proxy.exit_code(), 0);
    }
}

#[test]
fn users_in_the_pods_group_reach_the_socket_and_others_do_not() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be several users");
        return;
    }
    let pod = Pod::named("unix-socket.yaml");
    let group = pod.spec["securityContext"]["fsGroup"].as_u64().unwrap().to_string();
    let (daemon, app) = (user_of(&pod.daemon), user_of(&pod.spec["containers"][0]));
    let postgres = Postgres::start();
    let shown = Shown::before(&pod.settings, &postgres);
    fs::set_permissions(shown.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(shown.path("prod-ca.crt"), Permissions::from_mode(0o644)).unwrap();
    // What the kubelet makes of an emptyDir and of a secret with this fsGroup.
    own_as_kubelet(&shown.path("run"), &group, 0o2777);
    own_as_kubelet(&shown.path("secrets"), &group, 0o2755);
    own_as_kubelet(&shown.path("secrets/password"), &group, 0o440);
    let socket = shown.path("run");

    let proxy = shown.start_behind(&["setpriv", "--reuid", &daemon, "--regid", &daemon, "--groups", &group, "--"]);
    proxy.listener("app");
    let answer = psql_as(&app, &group, &socket).expect_success();
    let refused = psql_as(&app, &app, &socket);

    assert_eq!(answer, "app");
    assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
}

#[test]
fn the_volume_of_compose_lets_the_applications_group_at_the_socket_and_nobody_else() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be several users");
        return;
    }
    let compose = documents("deploy/compose/compose.yaml").remove(0);
    let app = text(&compose["services"]["app"]["user"]).split(':').next().unwrap().to_owned();
    let group = text(&compose["services"]["app"]["group_add"][0]).to_owned();
    let options = text(&compose["volumes"]["socket"]["driver_opts"]["o"]).split(',');
    let options = options.map(|option| option.split_once('=').unwrap()).collect::<HashMap<_, _>>();
    let (daemon, mode) = (options["uid"], u32::from_str_radix(options["mode"], 8).unwrap());
    let postgres = Postgres::start();
    let shown = Shown::before(&markdown::read("deploy/compose/crdb-proxy.toml"), &postgres);
    fs::set_permissions(shown.path(""), Permissions::from_mode(0o755)).unwrap();
    for path in [shown.path("secrets"), shown.path("secrets/password"), shown.path("prod-ca.crt")] {
        chown(path, Some(daemon.parse().unwrap()), None).unwrap();
    }
    let socket = shown.path("run");
    chown(&socket, Some(daemon.parse().unwrap()), Some(options["gid"].parse().unwrap())).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(mode)).unwrap();

    let proxy = shown.start_behind(&["setpriv", "--reuid", daemon, "--regid", daemon, "--clear-groups", "--"]);
    proxy.listener("app");
    let answer = psql_as(&app, &group, &socket).expect_success();
    let refused = psql_as(&app, &app, &socket);

    assert_eq!(answer, "app");
    assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
}

#[test]
fn a_secret_that_the_kubelet_replaces_is_used_by_the_next_session() {
    let pod = Pod::named("unix-socket.yaml");
    let postgres = Postgres::start();
    let shown = Shown::before(&pod.settings, &postgres);
    let secrets = shown.path("secrets");
    fs::remove_file(secrets.join("password")).unwrap();
    publish(&secrets, "..2026_01_01", "password", PASSWORD);
    let proxy = shown.start();
    let mut open = client(&proxy);

    publish(&secrets, "..2026_02_01", "password", "another password");
    postgres.sql("alter role app password 'another password'");
    fs::remove_dir_all(secrets.join("..2026_01_01")).unwrap();

    assert_eq!(client(&proxy).value("select current_user"), "app");
    assert_eq!(open.value("select 1"), "1");
    proxy.wait_for_message("secret changed");
}

#[test]
fn a_ca_that_the_kubelet_replaces_is_used_without_a_restart() {
    let pod = Pod::named("unix-socket.yaml");
    let (postgres, next) = (Postgres::start(), Authority::new());
    let shown = Shown::before(&pod.settings, &postgres);
    let settings = shown.path("");
    fs::remove_file(settings.join("prod-ca.crt")).unwrap();
    publish(&settings, "..2026_01_01", "prod-ca.crt", postgres.authority().pem());
    let proxy = shown.start();
    let mut open = client(&proxy);

    publish(&settings, "..2026_02_01", "prod-ca.crt", next.pem());
    fs::remove_dir_all(settings.join("..2026_01_01")).unwrap();
    proxy.wait_for_message("reloaded");
    postgres.show(&next.server());

    assert_eq!(client(&proxy).value("select current_user"), "app");
    assert_eq!(open.value("select 1"), "1");
}

#[test]
fn a_job_without_native_sidecars_ends_with_the_applications_exit_code() {
    let pod = Pod::named("job-without-native-sidecars.yaml");
    // The last dies of a signal by itself, as one does that has no memory left.
    for (end, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let postgres = Postgres::start();
        let mut proxy = Shown::before(&pod.settings, &postgres).start();
        let connection = format!("host=127.0.0.1 port={} user=shop dbname=defaultdb", proxy.address().port());
        let psql = program("psql");
        let shop = format!("'{}' -XAtqc 'select 1' '{connection}'\n{end}\n", psql.display());
        let (mut command, _folder) = job(&pod, &proxy, &shop);

        let ended = process::run(&mut command, "", DEADLINE);

        assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
        assert_eq!(ended.stdout, "1");
        assert_eq!(proxy.exit_code(), 0);
    }
}

#[test]
fn an_eviction_reaches_the_application_of_a_job_without_native_sidecars() {
    let pod = Pod::named("job-without-native-sidecars.yaml");
    let postgres = Postgres::start();
    let mut proxy = Shown::before(&pod.settings, &postgres).start();
    // It takes the time that it needs, and says in the end how it went.
    let shop = "sleep 60 >/dev/null &\ntrap 'kill $!; echo told; exit 9' TERM\necho begun\nwait\n";
    let (mut command, _folder) = job(&pod, &proxy, shop);
    let mut shell = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let said = Lines::of(shell.stdout.take().unwrap());
    said.find(|line| (line == "begun").then_some(())).expect("the application has begun");

    process::signal(&shell, Signal::TERM);

    assert!(said.ended_within(DEADLINE), "{:?}", said.all());
    assert_eq!(said.all(), ["begun", "told"]);
    assert_eq!(shell.wait().unwrap().code(), Some(9));
    assert_eq!(proxy.exit_code(), 0);
}

/// The script of a Job's container, with a shell script in the place of its application, which may write to `$HOME`.
fn job(pod: &Pod, proxy: &TestProxy, shop: &str) -> (Command, TempDir) {
    let job = list(&pod.spec["containers"]).iter().find(|container| container["name"] == "migrate").unwrap();
    let [shell, option, script] = list(&job["command"]) else { panic!("{job}") };
    let script = text(script).replace("localhost:9257", &proxy.listener("admin"));
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    fs::write(folder.path().join("shop"), format!("#!/bin/sh -e\n{shop}")).unwrap();
    fs::set_permissions(folder.path().join("shop"), Permissions::from_mode(0o755)).unwrap();
    let mut command = as_another_user(text(shell));
    command.args([text(option), &script]).env("HOME", folder.path()).current_dir("/");
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()));
    (command, folder)
}

/// Asks until a probe says so, as a kubelet does: nothing else announces what it would say.
#[track_caller]
fn wait_for_probe(proxy: &TestProxy, path: &str, expected: u16, place: &str) {
    let end = Instant::now() + DEADLINE;
    loop {
        let (status, _, body) = proxy.http(&format!("GET {path}"), HOST);
        if status == expected {
            return;
        }
        assert!(Instant::now() < end, "{place}: {path} answers {status}: {body}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A session at the only listener.
fn client(proxy: &TestProxy) -> TestClient {
    let is_listening = |line: &Value| line["message"] == "listening" && line["listener.name"] != "admin";
    let line = proxy.wait_for_log(is_listening);
    let address = text(&line["listener.addr"]);
    let wire = match address.strip_prefix("unix:") {
        Some(path) => connect_unix(Path::new(path)),
        None => proxy.connect(),
    };
    TestClient::log_in(wire, &[("user", "anyone")])
}

/// The kubelet's way: a folder of the new version, and a link to it that is replaced in one step.
fn publish(folder: &Path, version: &str, name: &str, text: &str) {
    fs::create_dir(folder.join(version)).unwrap();
    write_private(&folder.join(version).join(name), text);
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    if !folder.join(name).exists() {
        symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
}

fn user_of(container: &Value) -> String {
    container["securityContext"]["runAsUser"].as_u64().unwrap().to_string()
}

/// Of root, with this group and mode.
fn own_as_kubelet(path: &Path, group: &str, mode: u32) {
    chown(path, Some(0), Some(group.parse().unwrap())).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// As a container of this user, with the further group.
fn psql_as(user: &str, group: &str, socket: &Path) -> Finished {
    let mut psql = mortal(Path::new("setpriv"), "KILL", None);
    psql.args(["--reuid", user, "--regid", user, "--groups", group, "--"]).arg(program("psql"));
    psql.args(["-XAt", "-p", "26257", "-U", "shop", "-d", "defaultdb", "-c", "select current_user", "-h"]);
    process::run(psql.arg(socket).env("HOME", "/nonexistent").current_dir("/"), "", DEADLINE)
}

/// The program as a user who is neither root nor the daemon's, where that can be.
fn as_another_user(name: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = mortal(Path::new("setpriv"), "KILL", None);
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--", name]);
        return command;
    }
    mortal(Path::new(name), "KILL", None)
}
