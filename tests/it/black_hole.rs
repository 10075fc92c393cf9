//! A cluster that vanishes without a word: its packets get lost, and nothing says so.
//!
//! The daemon lives in a network namespace of its own, whose one link leads to the scripted cluster; its
//! clients come by a Unix socket. The link belongs to the namespace and the namespace to the daemon, so
//! nothing is left behind when it ends. Without the right to do that (root) the tests say so and pass.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Script, SettingsFile, TestClient, TestProxy,
    certificates::CLUSTER_NAME,
    client::connect_unix,
    process::{self, Finished},
    settings::Cluster,
    wire::{Wire, command_complete, query, ready},
};
use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn a_query_into_a_black_hole_is_told_as_08006_after_the_user_timeout() {
    let Some(mut link) = Link::up("tcp_user_timeout = \"3s\"") else { return };
    link.down();

    let start = Instant::now();
    link.client.send(&query("select 1"));

    assert_eq!(link.client.refusal().sqlstate(), "08006");
    let took = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&took), "took {took:?}");
    link.proxy.wait_for_closed("upstream_timeout", 1.0);
}

#[test]
fn an_idle_session_over_a_black_hole_is_told_08006_by_keepalive() {
    let limits = "tcp_user_timeout = \"3s\"\nkeepalive_idle = \"1s\"\nkeepalive_interval = \"1s\"";
    let Some(mut link) = Link::up(limits) else { return };

    link.down();

    assert_eq!(link.client.refusal().sqlstate(), "08006");
    link.proxy.wait_for_closed("upstream_timeout", 1.0);
}

#[test]
fn a_client_that_is_given_a_connection_into_a_black_hole_is_told_soon() {
    let Some(link) = Link::up("") else { return };
    link.log_in();
    let (gone, stood_ready) = link.cluster.left_and_ready();
    link.proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);

    link.down();
    let start = Instant::now();
    let mut client = link.log_in();
    client.send(&query("select 1"));

    // The daemon's own limit is 30 s.
    assert_eq!(client.refusal().sqlstate(), "08006");
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    assert_eq!(link.proxy.metric("crdb_proxy_warm_claims_total", &[("result", "hit")]), Some(1.0));
    drop((gone, stood_ready));
}

#[test]
fn the_first_client_after_a_change_of_network_is_not_given_what_stood_ready_before() {
    let Some(link) = Link::up("") else { return };
    link.log_in();
    let (gone, stood_ready) = link.cluster.left_and_ready();
    link.proxy.wait_for_metric("crdb_proxy_warm_ready", &[("listener", "main")], 1.0);

    link.move_to_another_address();
    let mut client = link.log_in();

    client.send(&query("select"));
    // What is made ready anew may be logged in before it; that is asked by a Sync whether it is well.
    let asked = std::iter::repeat_with(|| link.cluster.session()).take(2).find_map(|mut session| {
        let message = session.message();
        (message.tag != b'S').then_some(message.tag)
    });
    assert_eq!(asked, Some(b'Q'));
    assert_eq!(link.proxy.metric("crdb_proxy_warm_claims_total", &[("result", "miss_dead")]), Some(1.0));
    drop((gone, stood_ready));
}

/// A daemon with an open session whose upstream goes over a link of its own.
struct Link {
    client: TestClient,
    proxy: TestProxy,
    near: String,
    far: String,
    others: [Ipv4Addr; 2],
    path: PathBuf,
    _session: Wire,
    cluster: FakeUpstream,
}

impl Link {
    fn up(setting: &str) -> Option<Self> {
        for (program, arguments) in [("unshare", ["--net", "true"]), ("ip", ["-V", "-4"]), ("nsenter", ["-V", "-n"])] {
            if !Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success()) {
                println!("skipped: `{program} {}` does not work (is this root, with iproute2?)", arguments.join(" "));
                return None;
            }
        }
        let (own, others) = free_network();
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let cluster = FakeUpstream::bound_to(listener, Authority::new(), Script::default());
        let settings = SettingsFile::trusting(&cluster.authority).global(setting);
        let name = format!("tls_server_name = \"{CLUSTER_NAME}\"");
        let settings = settings.endpoint_at("first", &own.to_string(), cluster.address().port(), &name);
        let (path, admin) = (settings.path(".s.PGSQL.26257"), settings.path("admin"));
        let settings = settings.global(&format!("admin = \"unix:{}\"", admin.display()));
        let proxy = settings.address(&format!("unix:{}", path.display())).behind(&["unshare", "--net"]).start();
        proxy.listener("main");

        let pid = proxy.pid().to_string();
        let (near, far) = (format!("near{pid}"), format!("far{pid}"));
        let made = ip(&[], &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &pid]);
        if !made.status.success() {
            println!("skipped: no link into a namespace can be made here: {}", made.stderr);
            return None;
        }
        let inside = ["nsenter", "--net", "--target", &pid];
        for (at, interface, address) in [(&[][..], &near, own), (&inside, &far, others[0])] {
            ip(at, &["address", "add", &format!("{address}/29"), "dev", interface]).expect_success();
            ip(at, &["link", "set", interface, "up"]).expect_success();
        }

        let mut client = TestClient::log_in(connect_unix(&path), &[("user", "anyone")]);
        let mut session = cluster.session();
        client.send(&query("select"));
        session.message();
        session.send(&[command_complete("SELECT 1"), ready(b'I')].concat());
        client.until(b'Z');
        Some(Self { client, proxy, near, far, others, path, _session: session, cluster })
    }

    /// One more client.
    fn log_in(&self) -> TestClient {
        TestClient::log_in(connect_unix(&self.path), &[("user", "anyone")])
    }

    /// The daemon's side has another address, as after a change of Wi-Fi.
    fn move_to_another_address(&self) {
        let pid = self.proxy.pid().to_string();
        let inside = ["nsenter", "--net", "--target", &pid];
        let [before, after] = self.others.map(|address| format!("{address}/29"));
        ip(&inside, &["address", "del", &before, "dev", &self.far]).expect_success();
        ip(&inside, &["address", "add", &after, "dev", &self.far]).expect_success();
    }

    /// From now on no packet arrives at either side.
    fn down(&self) {
        ip(&[], &["link", "set", &self.near, "down"]).expect_success();
    }
}

/// The address of the cluster and two for the daemon in a network for this process, in the range for
/// benchmarks (RFC 2544).
fn free_network() -> (Ipv4Addr, [Ipv4Addr; 2]) {
    let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + std::process::id() % (1 << 14) * 8;
    (Ipv4Addr::from(base + 1), [base + 2, base + 3].map(Ipv4Addr::from))
}

/// Runs `ip`, behind the words that lead to where it is to run.
fn ip(place: &[&str], arguments: &[&str]) -> Finished {
    let words = [place, &["ip"], arguments].concat();
    process::run(Command::new(words[0]).args(&words[1..]), "", DEADLINE)
}
