//! The Debian package and its units where they belong: on a machine that systemd runs, under the units' own sandbox,
//! between a client and a scripted cluster in the machine's network.

use crate::{
    harness::{
        FakeUpstream, PASSWORD, TestClient,
        client::connect_unix,
        machine::{Journal, Machine},
        markdown,
        other_user::connect_as,
        settings::Cluster,
        wire::{Wire, query, startup},
    },
    package::package,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

#[test]
fn it_starts_serves_and_stops_under_its_own_sandbox() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };

    host.machine.shell("systemctl start crdb-proxy");
    host.serves();

    let shown = host.machine.shell("systemctl show crdb-proxy");
    for line in ["ActiveState=active", "SubState=running", "User=crdb-proxy", "NRestarts=0"] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in {shown}");
    }
    assert!(shown.contains("\nStatusText=serving"), "{shown}");
    let status = host.machine.shell("cat /proc/$(systemctl show --value --property MainPID crdb-proxy)/status");
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    assert!(get("/readyz").starts_with("HTTP/1.1 200 "), "{}", get("/readyz"));
    // They are read from /proc, of which the sandbox leaves little.
    let metrics = get("/metrics");
    for name in ["process_start_time_seconds ", "process_open_fds ", "process_resident_memory_bytes "] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "no {name}in {metrics}");
    }
    host.machine.shell("systemctl stop crdb-proxy");
    host.ended("success", 0);
    host.journal.wait_for(&["INFO stopped"]);
}

#[test]
fn the_first_client_starts_it_where_the_socket_unit_listens() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell("systemctl start crdb-proxy.socket");
    assert_eq!(host.machine.property("crdb-proxy", "ActiveState"), "inactive");

    connect("127.0.0.1:26257");
    connect("[::1]:26257");

    assert_eq!(host.machine.property("crdb-proxy", "ActiveState"), "active");
    for address in ["127.0.0.1:26257", "[::1]:26257"] {
        host.journal.wait_for(&["INFO listening", "listener.name=main", address, "listener.inherited=true"]);
    }
}

#[test]
fn a_restart_refuses_nobody_where_the_socket_unit_listens() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell("systemctl start crdb-proxy.socket crdb-proxy.service");
    connect("127.0.0.1:26257");
    let restarted = Arc::new(AtomicBool::new(false));
    let clients = thread::spawn({
        let restarted = Arc::clone(&restarted);
        move || {
            while !restarted.load(Ordering::Relaxed) {
                connect("127.0.0.1:26257");
            }
        }
    });
    let before = host.machine.property("crdb-proxy", "MainPID");

    host.machine.shell("systemctl restart crdb-proxy");
    restarted.store(true, Ordering::Relaxed);

    assert!(clients.join().is_ok(), "a client was turned away");
    assert_ne!(host.machine.property("crdb-proxy", "MainPID"), before);
    connect("127.0.0.1:26257");
}

#[test]
fn the_socket_unit_listens_on_a_machine_whose_ipv6_is_off() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.turn_off_ipv6();

    host.machine.shell("systemctl start crdb-proxy.socket");

    connect("127.0.0.1:26257");
}

#[test]
fn a_reload_is_one_signal_and_the_same_process() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell("systemctl start crdb-proxy");
    host.serves();
    let before = host.machine.property("crdb-proxy", "MainPID");

    host.machine.shell("echo 'database = \"shop\"' >> /etc/crdb-proxy/crdb-proxy.toml; systemctl reload crdb-proxy");

    host.journal.wait_for(&["INFO reloaded"]);
    assert_eq!(host.machine.property("crdb-proxy", "MainPID"), before);
    host.machine.shell("echo nonsense >> /etc/crdb-proxy/crdb-proxy.toml; systemctl reload crdb-proxy");
    host.journal.wait_for(&["reload failed"]);
    connect("127.0.0.1:26257");
}

#[test]
fn a_drain_that_cuts_sessions_is_no_failure() {
    let Some(host) = Host::before(FakeUpstream::by_hand) else { return };
    host.machine
        .shell("sed -i '1i drain_limit = \"100ms\"' /etc/crdb-proxy/crdb-proxy.toml; systemctl start crdb-proxy");
    let mut client = host.serves();
    client.send(&query("SELECT pg_sleep(60)"));
    let mut session = host.cluster.session();
    session.message();

    host.machine.shell("systemctl stop crdb-proxy");

    host.ended("success", 4);
}

#[test]
fn wrong_settings_are_told_once_and_not_tried_again() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell("echo 'databse = \"shop\"' >> /etc/crdb-proxy/crdb-proxy.toml");

    host.machine.run(&["systemctl", "start", "crdb-proxy"]);

    host.journal.wait_for(&["databse"]);
    host.journal.wait_for(&["Failed with result 'exit-code'"]);
    host.ended("exit-code", 2);
    assert_eq!(host.machine.property("crdb-proxy", "SubState"), "failed", "it is tried again");
}

#[test]
fn a_daemon_that_is_killed_is_started_again() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell("systemctl start crdb-proxy.socket crdb-proxy.service");
    connect("127.0.0.1:26257");

    host.machine.shell("systemctl kill --signal=KILL crdb-proxy");

    connect("127.0.0.1:26257");
    assert_eq!(host.machine.property("crdb-proxy", "ActiveState"), "active");
}

#[test]
fn a_daemon_that_hangs_is_ended_by_the_watchdog() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.drop_in("crdb-proxy", "watchdog", "[Service]\nWatchdogSec=1\n");
    host.machine.shell("systemctl start crdb-proxy");
    host.serves();

    host.machine.shell("systemctl kill --signal=STOP crdb-proxy");

    host.journal.wait_for(&["Watchdog timeout"]);
    host.journal.wait_for_nth(2, &LISTENING);
}

#[test]
fn instances_have_settings_and_sockets_of_their_own() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell(
        "cd /etc/crdb-proxy; sed '1i admin = \"127.0.0.1:9258\"' crdb-proxy.toml > shop.toml
        systemctl start crdb-proxy.service crdb-proxy@shop.socket crdb-proxy@shop.service",
    );
    host.serves();
    let socket = "/run/crdb-proxy-sockets/shop/.s.PGSQL.26257";

    let path = host.machine.path(socket);
    TestClient::log_in(connect_unix(&path), &[("user", "anyone")]);

    let who = host.machine.shell(&format!("stat --format='%U %G %a' {socket} /run/crdb-proxy-shop"));
    assert_eq!(who, "root crdb-proxy 660\ncrdb-proxy crdb-proxy 755");
    assert_eq!(host.machine.property("crdb-proxy@shop", "ActiveState"), "active");
    host.machine.shell("systemctl stop crdb-proxy@shop.socket crdb-proxy@shop.service");
    assert!(!path.exists(), "RemoveOnStop= has left it");
    connect("127.0.0.1:26257");
}

#[test]
fn a_credential_is_read_by_root_and_handed_over() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.shipped_drop_in("credentials");
    host.machine.shell(
        "cd /etc/crdb-proxy; chown root:root prod.pw; chmod 0600 prod.pw
        sed -i 's/{ file = \"prod.pw\" }/{ credential = \"prod.pw\" }/' crdb-proxy.toml
        grep -q credential crdb-proxy.toml
        systemctl start crdb-proxy",
    );

    host.serves();
}

#[test]
fn a_tool_that_prints_the_password_has_what_its_drop_in_promises() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    // As tools do: a login kept in the home folder, a look at the machine, a priority of its own.
    let tool = "#!/bin/sh -e\necho login > \"$HOME/login\"\ngrep -q MemTotal /proc/meminfo\nrenice 5 $$ >&2\n\
                cat /etc/crdb-proxy/prod.pw\n";
    host.machine.write("/usr/local/bin/tool", tool);
    host.machine.shell(
        "chmod 0755 /usr/local/bin/tool; cd /etc/crdb-proxy
        sed -i 's/{ file = \"prod.pw\" }/{ command = [\"tool\"] }/' crdb-proxy.toml; grep -q command crdb-proxy.toml
        systemctl start crdb-proxy",
    );
    host.journal.wait_for(&LISTENING);
    let mut without = Wire::new(TcpStream::connect("127.0.0.1:26257").unwrap());
    without.send(&startup(&[("user", "anyone")]));
    assert_eq!(without.refusal().sqlstate(), "08001", "the drop-in is not needed");

    host.shipped_drop_in("password-commands");
    host.machine.shell("systemctl restart crdb-proxy");

    host.journal.wait_for_nth(2, &LISTENING);
    connect("127.0.0.1:26257");
    assert_eq!(host.machine.shell("stat --format='%U %a' /var/lib/crdb-proxy"), "crdb-proxy 700");
}

#[test]
fn root_may_give_orders_and_others_may_not_with_and_without_users_of_its_own() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    let order = "crdb-proxy endpoint disable public --config /etc/crdb-proxy/crdb-proxy.toml";
    let by_nobody = format!("setpriv --reuid=nobody --regid=crdb-proxy --clear-groups {order}");
    host.machine.shell("systemctl start crdb-proxy");
    host.serves();

    host.machine.shell(order);
    assert_eq!(host.machine.run(&["sh", "-c", &by_nobody]).status.code(), Some(1));

    host.shipped_drop_in("uid-rules");
    host.machine.shell("systemctl restart crdb-proxy");
    host.journal.wait_for_nth(2, &LISTENING);
    host.machine.shell(order);
    let refused = host.machine.run(&["sh", "-c", &by_nobody]);
    assert!(refused.stderr.contains("65534"), "{}", refused.stderr);
}

#[test]
fn a_rule_of_users_needs_the_drop_in_that_shows_them_all_and_not_netlink() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    let refused = || {
        let mut wire = connect_as(41_001, "127.0.0.1:26257".parse().unwrap());
        wire.send(&startup(&[("user", "anyone")]));
        wire.refusal().sqlstate()
    };
    host.machine
        .shell("sed -i 's/^local_access = \"any\"/local_access = \"same-user\"/' /etc/crdb-proxy/crdb-proxy.toml");
    host.machine.run(&["systemctl", "start", "crdb-proxy"]);
    host.journal.wait_for(&["/proc/self/uid_map", "uid-rules.conf"]);
    host.ended("exit-code", 2);

    host.shipped_drop_in("uid-rules");
    host.machine.shell("systemctl start crdb-proxy");
    host.serves();
    assert_eq!(refused(), "28000");

    let families = "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX";
    host.drop_in("crdb-proxy", "without-netlink", &format!("[Service]\n{families}\n"));
    host.machine.shell("systemctl restart crdb-proxy");
    host.journal.wait_for_nth(2, &LISTENING);
    connect("127.0.0.1:26257");
    assert_eq!(refused(), "28000");
}

#[test]
fn an_update_restarts_what_runs_and_a_removal_ends_it() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell("systemctl --quiet enable --now crdb-proxy.socket crdb-proxy.service");
    connect("127.0.0.1:26257");
    let before = host.machine.property("crdb-proxy", "MainPID");

    host.machine.shell("dpkg -i /root/crdb-proxy.deb");

    connect("127.0.0.1:26257");
    let after = host.machine.property("crdb-proxy", "MainPID");
    assert!(after != before && after != "0", "{before}, {after}");

    host.machine.shell("dpkg --remove crdb-proxy");
    host.ended("success", 0);
    assert!(TcpStream::connect("127.0.0.1:26257").is_err(), "the socket unit still listens");
}

#[test]
fn an_update_beside_wrong_settings_is_told_and_done() {
    let Some(host) = Host::before(FakeUpstream::answering) else { return };
    host.machine.shell("systemctl start crdb-proxy");
    host.serves();
    host.machine.shell("echo nonsense >> /etc/crdb-proxy/crdb-proxy.toml");

    let updated = host.machine.run(&["dpkg", "-i", "/root/crdb-proxy.deb"]);

    assert!(updated.status.success(), "{}", updated.stderr);
    assert_eq!(host.machine.shell("dpkg-query --show --showformat='${Status}' crdb-proxy"), "install ok installed");
    assert!(updated.stderr.contains("does not start again"), "{}", updated.stderr);
    host.journal.wait_for(&["not valid TOML"]);
}

/// A machine with the package on it, set up for a cluster that is reached in its network.
struct Host {
    machine: Machine,
    cluster: FakeUpstream,
    journal: Journal,
}

impl Host {
    fn before(cluster: impl FnOnce() -> FakeUpstream) -> Option<Self> {
        let machine = Machine::boot()?;
        machine.bring(&package()?);
        machine.shell("dpkg -i /root/crdb-proxy.deb");
        machine.enter_network();
        let cluster = cluster();
        set_up(&machine, &cluster);
        let journal = machine.journal("crdb-proxy");
        let host = Self { machine, cluster, journal };
        // What systemd made of the end, which it forgets with the unit.
        let tells = "[Service]\nExecStopPost=/bin/sh -c 'echo \"ended: $SERVICE_RESULT $EXIT_STATUS\"'\n";
        host.drop_in("crdb-proxy", "tells-its-end", tells);
        Some(host)
    }

    /// A client, once the daemon says that it listens.
    #[track_caller]
    fn serves(&self) -> TestClient {
        self.journal.wait_for(&LISTENING);
        connect("127.0.0.1:26257")
    }

    fn drop_in(&self, unit: &str, name: &str, text: &str) {
        self.machine.write(&format!("/etc/systemd/system/{unit}.service.d/{name}.conf"), text);
        self.machine.shell("systemctl daemon-reload");
    }

    /// One of those that come with the package, copied as its comment says.
    fn shipped_drop_in(&self, name: &str) {
        self.machine.shell(&format!(
            "mkdir -p /etc/systemd/system/crdb-proxy.service.d
            cp /usr/share/doc/crdb-proxy/drop-ins/{name}.conf /etc/systemd/system/crdb-proxy.service.d/
            systemctl daemon-reload"
        ));
    }

    /// Whether the service ended with this exit code, and whether systemd takes that for a success.
    #[track_caller]
    fn ended(&self, result: &str, code: u8) {
        self.journal.wait_for(&[&format!("ended: {result} {code}")]);
    }
}

/// Settings as the package has them, for this cluster.
pub(crate) fn set_up(machine: &Machine, cluster: &FakeUpstream) {
    let address = cluster.address();
    let host = format!("host = \"{}\"\nport = {}", address.ip(), address.port());
    let settings = markdown::read("config/packaged.toml").replace("host = \"HOST\"", &host);
    machine.write("/etc/crdb-proxy/crdb-proxy.toml", &settings);
    machine.write("/etc/crdb-proxy/prod-ca.crt", cluster.authority().pem());
    machine.write("/etc/crdb-proxy/prod.pw", PASSWORD);
    machine.shell("cd /etc/crdb-proxy; chmod 0644 prod-ca.crt; chown crdb-proxy prod.pw; chmod 0400 prod.pw");
}

#[track_caller]
fn connect(address: &str) -> TestClient {
    TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &[("user", "anyone")])
}

/// What the admin address answers.
fn get(path: &str) -> String {
    let mut socket = TcpStream::connect("127.0.0.1:9257").unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Said once in each life.
const LISTENING: [&str; 3] = ["INFO listening", "listener.name=main", "127.0.0.1:26257"];
