//! One endpoint fails in some way, another one serves; and the way back.

use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Front, Leaf, Script, SettingsFile, TestClient, TestProxy,
    proxy::closed_port,
    relay::{Mode, Relay},
    settings::Cluster,
    wire::{Wire, error},
};
use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

#[test]
fn an_endpoint_that_refused_is_not_tried_again_while_another_one_is_well() {
    let second = FakeUpstream::answering();
    let settings = SettingsFile::trusting(&second.authority).endpoint("first", closed_port());
    let proxy = cold(settings.endpoint("second", second.address())).start();

    proxy.client();
    proxy.client();
    proxy.client();

    assert_eq!(attempts(&proxy, "first", "refused"), 1.0);
    assert_eq!(attempts(&proxy, "second", "ok"), 3.0);
    let changed = proxy.wait_for_log(|line| line["message"] == "endpoint changed" && line["endpoint.name"] == "first");
    assert_eq!((changed["endpoint.state"].as_str(), changed["was"].as_str()), (Some("suspect"), Some("unknown")));
    assert!(changed["cause"].as_str().unwrap().contains("refused"), "{changed}");
    assert_eq!(
        proxy.metric("crdb_proxy_endpoint_changes_total", &[("endpoint", "first"), ("state", "suspect")]),
        Some(1.0)
    );
    assert_eq!(proxy.metric("crdb_proxy_endpoint_state", &[("endpoint", "second"), ("state", "well")]), Some(1.0));
    assert_eq!(proxy.metric("crdb_proxy_failovers_total", &[("listener", "main")]), Some(1.0));
    assert_eq!(proxy.metric("crdb_proxy_sessions_off_preferred", &[("listener", "main")]), Some(0.0));
    assert_eq!(proxy.metric("crdb_proxy_failover_ready", &[("listener", "main")]), Some(0.0));
}

#[test]
fn endpoints_that_could_take_over_are_counted() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let settings = SettingsFile::of(&first).endpoint("second", second.address());
    let both = [first.authority.pem(), second.authority.pem()].concat();
    // Distances are measured from the start.
    let proxy = settings.file("ca.crt", &both).listener("regions = \"nearest\"").start();

    proxy.wait_for_metric("crdb_proxy_failover_ready", &[("listener", "main")], 1.0);
}

#[test]
fn a_black_hole_costs_its_first_client_two_seconds_at_most_and_the_next_ones_nothing() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let hole = Relay::to(first.address(), Duration::ZERO);
    let proxy = cold(two_regions((&first, hole.address()), (&second, second.address()))).start();
    hole.set_all(Mode::BlackHole);

    let start = Instant::now();
    proxy.client();
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    let tried = hole.connections();
    let start = Instant::now();
    proxy.client();

    assert!(start.elapsed() < Duration::from_millis(900), "took {:?}", start.elapsed());
    // What probes the black hole is not a client.
    assert_eq!((attempts(&proxy, "first", "timeout"), attempts(&proxy, "second", "ok")), (1.0, 2.0));
    assert!(tried <= 2, "{tried} connections into the black hole");
}

#[test]
fn a_server_that_accepts_and_says_nothing_and_one_with_a_wrong_certificate_are_passed_over() {
    let other_authority = Authority::new();
    let wrong = Some(other_authority.sign(&Leaf::default()));
    for (script, result) in [
        (Script { front: Front::Silent, ..Script::default() }, "timeout"),
        (Script { front: Front::SilentInTls, ..Script::default() }, "timeout"),
        (Script { front: Front::Says(b"N".to_vec()), ..Script::default() }, "tls_declined"),
        (Script { identity: wrong, ..Script::default() }, "tls_ca"),
    ] {
        let (first, second) = (FakeUpstream::start(script), FakeUpstream::answering());
        let settings = two_regions((&first, first.address()), (&second, second.address()));
        let proxy = cold(settings).global("endpoint_limit = \"2s\"").start();

        proxy.client();

        assert_eq!(attempts(&proxy, "first", result), 1.0, "{result}");
        assert_eq!(attempts(&proxy, "second", "ok"), 1.0);
    }
}

#[test]
fn new_sessions_return_once_the_preferred_endpoint_has_been_well_for_a_while_and_open_ones_stay() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let link = Relay::to(first.address(), Duration::ZERO);
    let settings = two_regions((&first, link.address()), (&second, second.address()));
    let settings = cold(settings).global("failback_after = \"2s\"\nprobe_down_interval = \"100ms\"");
    let proxy = settings.start();
    link.set_all(Mode::Refuse);
    let mut away = proxy.client();
    assert_eq!(off_preferred(&proxy), 1.0);

    link.set_all(Mode::Up);
    let back = wait_for_state(&proxy, "first", "well");
    let mut soon = proxy.client();
    assert_eq!(endpoint_of(&proxy, &mut soon), "second", "the hold-off has not passed");
    let why = proxy.status()["listeners"][0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("\"first\" has not been well for \"failback_after\""), "{why}");
    let steady = proxy.wait_for_message("endpoint has been well for failback_after");
    let time = |line: &serde_json::Value| humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    let waited = time(&steady).duration_since(time(&back)).unwrap();
    assert!((1900..5000).contains(&waited.as_millis()), "{waited:?}");

    let mut home = proxy.client();
    assert_eq!(endpoint_of(&proxy, &mut home), "first");
    away.query("select 1");
    assert_eq!(off_preferred(&proxy), 2.0);
    assert_eq!(proxy.status()["listeners"][0]["why"], "first in order");
}

#[test]
fn what_stands_ready_at_an_endpoint_that_fails_goes_and_is_made_ready_at_the_next() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let link = Relay::to(first.address(), Duration::ZERO);
    let settings = two_regions((&first, link.address()), (&second, second.address()));
    let proxy = settings.global("failback_after = \"1s\"\nprobe_down_interval = \"100ms\"").start();
    proxy.client();
    proxy.client();
    wait_for_warm(&proxy, "first", 1.0);

    link.set_new(Mode::Refuse);
    // It takes the one that stands ready, and the next cannot be opened.
    proxy.client();
    wait_for_state(&proxy, "first", "suspect");
    wait_for_warm(&proxy, "second", 1.0);
    link.set_new(Mode::Up);

    wait_for_warm(&proxy, "first", 1.0);
    wait_for_warm(&proxy, "second", 0.0);
    let recycled = [("listener", "main"), ("cause", "endpoint")];
    assert!(proxy.metric("crdb_proxy_warm_recycled_total", &recycled).unwrap() >= 1.0);
}

#[test]
fn when_every_endpoint_is_down_each_is_told_with_its_cause_and_the_first_client_after_is_served() {
    let cluster = FakeUpstream::answering();
    let link = Relay::to(cluster.address(), Duration::ZERO);
    let no_tls = FakeUpstream::start(Script { front: Front::Says(b"N".to_vec()), ..Script::default() });
    let settings = SettingsFile::trusting(&cluster.authority).endpoint("first", closed_port());
    let settings = settings.endpoint("second", no_tls.address()).endpoint("third", link.address());
    let proxy = cold(settings).global("endpoint_limit = \"500ms\"").start();
    link.set_all(Mode::Refuse);

    for _ in 0..3 {
        let refusal = proxy.startup(&[("user", "anyone")]).refusal();
        let text = refusal.field(b'M').unwrap();
        assert_eq!(refusal.sqlstate(), "08001");
        for told in ["\"first\"", "connection refused", "\"second\"", "does not offer TLS", "\"third\""] {
            assert!(text.contains(told), "{text}");
        }
    }
    wait_for_state(&proxy, "first", "down");
    link.set_all(Mode::Up);

    proxy.client();
}

#[test]
fn a_kind_that_the_path_does_not_list_never_serves() {
    let (private, public) = (FakeUpstream::answering(), FakeUpstream::answering());
    let name = format!("tls_server_name = \"{}\"", crate::harness::certificates::CLUSTER_NAME);
    let appendix = format!(
        "[[cluster.test.endpoint]]\nname = \"private\"\nregion = \"east\"\nkind = \"internal\"\nhost = \"127.0.0.1\"\nport = {}\n{name}\n",
        closed_port().port(),
    );
    let settings = SettingsFile::trusting(&private.authority).endpoint("public", public.address());
    for path in ["", "path = [\"internal\"]", "path = [\"psc\", \"internal\"]"] {
        let settings = SettingsFile::trusting(&private.authority).endpoint("public", public.address());
        let proxy = cold(settings).listener(path).appendix(&appendix).start();

        let refusal = proxy.startup(&[("user", "anyone")]).refusal();

        let text = refusal.field(b'M').unwrap();
        assert!(text.contains("\"private\"") && !text.contains("\"public\""), "{path}: {text}");
    }
    let bundle = [private.authority.pem(), public.authority.pem()].concat();
    let settings =
        cold(settings).file("ca.crt", &bundle).listener("path = [\"internal\", \"public\"]").appendix(&appendix);
    settings.start().client();
    assert_eq!(public.seen().startups.len(), 1);
}

#[test]
fn two_listeners_have_two_policies_on_one_cluster() {
    let (east, west) = (FakeUpstream::answering(), FakeUpstream::answering());
    let settings = two_regions((&east, east.address()), (&west, west.address()));
    let reading = "regions = [\"second\"]\nsession_parameters = { default_transaction_read_only = \"on\", \
                   default_transaction_use_follower_reads = \"on\" }";
    let proxy = cold(settings).another_listener("reading", reading).start();

    proxy.client();
    let address = proxy.listener("reading").parse::<SocketAddr>().unwrap();
    let own = [("user", "anyone"), ("default_transaction_read_only", "off")];
    TestClient::log_in(Wire::new(TcpStream::connect(address).unwrap()), &own);

    assert_eq!(east.seen().startups.len(), 1);
    let startups = west.seen().startups;
    let text = String::from_utf8_lossy(&startups[0]).replace('\0', "|");
    assert_eq!(startups.len(), 1);
    assert!(text.contains("|default_transaction_use_follower_reads|on|"), "{text}");
    assert!(text.contains("|default_transaction_read_only|off|") && text.matches("read_only").count() == 1, "{text}");
}

#[test]
fn a_full_region_is_not_left_unless_the_listener_says_so() {
    let full = || Script {
        instead_of_ok: Some(error("FATAL", "53300", "sorry, too many clients already")),
        ..Script::default()
    };
    for (overflow, reached) in [("overflow = false", false), ("overflow = true", true)] {
        let (first, second) = (FakeUpstream::start(full()), FakeUpstream::answering());
        let settings = two_regions((&first, first.address()), (&second, second.address()));
        let proxy = cold(settings).listener(overflow).start();

        let mut client = proxy.startup(&[("user", "anyone")]);

        if reached {
            client.until(b'Z');
        } else {
            assert_eq!(client.refusal().sqlstate(), "53300");
            assert_eq!(second.seen().connections, 0);
        }
        // Tried four times, and as well as before.
        assert_eq!(attempts(&proxy, "first", "login_limit"), 4.0);
        assert_eq!(proxy.metric("crdb_proxy_endpoint_state", &[("endpoint", "first"), ("state", "well")]), Some(1.0));
    }
}

#[test]
fn a_region_that_turns_everybody_away_is_left_in_the_end() {
    for script in [
        Script { instead_of_ready: Some(error("FATAL", "57P01", "server is shutting down")), ..Script::default() },
        Script { instead_of_ok: Some(error("FATAL", "57P03", "server is not accepting clients")), ..Script::default() },
        Script { front: Front::Closes, ..Script::default() },
        Script { front: Front::Resets, ..Script::default() },
    ] {
        let (first, second) = (FakeUpstream::start(script), FakeUpstream::answering());
        let settings = two_regions((&first, first.address()), (&second, second.address()));
        let proxy = cold(settings).start();

        proxy.client();
        assert_eq!(first.seen().connections, 4);
        let is_marked = proxy.metric("crdb_proxy_endpoint_state", &[("endpoint", "first"), ("state", "suspect")]);
        assert_eq!(is_marked, Some(0.0), "one client's tries may all have met the node that restarts");
        // Each of these tries in vain first, until nobody has got in for long enough.
        let end = Instant::now() + DEADLINE;
        while proxy.metric("crdb_proxy_endpoint_changes_total", &[("endpoint", "first"), ("state", "suspect")])
            == Some(0.0)
        {
            assert!(Instant::now() < end, "the first region is never left");
            proxy.client();
        }
        let (tried, served) = (first.seen().connections, second.seen().startups.len());
        proxy.client();

        assert!(tried > 8, "{tried}");
        assert_eq!(second.seen().startups.len(), served + 1);
    }
}

#[test]
fn orders_by_hand_move_new_sessions_and_what_stands_ready_and_end_by_themselves() {
    let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
    let proxy = two_regions((&first, first.address()), (&second, second.address())).start();
    proxy.client();
    proxy.client();
    wait_for_warm(&proxy, "first", 1.0);
    let mut open = proxy.client();

    order(&proxy, "first/disable?for=2s");
    assert_eq!(endpoint_of(&proxy, &mut proxy.client()), "second");
    assert_eq!(proxy.status()["listeners"][0]["why"], "\"first\" is disabled by hand");
    wait_for_warm(&proxy, "first", 0.0);
    open.query("select 1");
    assert_eq!(proxy.wait_for_message("endpoint order ended")["order"], "disabled");
    assert_eq!(endpoint_of(&proxy, &mut proxy.client()), "first");

    order(&proxy, "second/prefer");
    assert_eq!(endpoint_of(&proxy, &mut proxy.client()), "second");
    assert_eq!(proxy.status()["listeners"][0]["why"], "preferred by hand");
    order(&proxy, "second/enable");
    assert_eq!(endpoint_of(&proxy, &mut proxy.client()), "first");

    for name in ["first", "second"] {
        order(&proxy, &format!("{name}/disable"));
    }
    let refusal = proxy.startup(&[("user", "anyone")]).refusal();
    let (text, hint) = (refusal.field(b'M').unwrap(), refusal.field(b'H').unwrap());
    assert!(text.contains("no endpoint") && hint.contains("endpoint enable"), "{text} {hint}");
}

fn order(proxy: &TestProxy, path: &str) {
    let (status, _, body) = proxy.http(&format!("POST /endpoints/{path}"), "");
    assert_eq!(status, 202, "{body}");
}

#[test]
fn a_node_that_restarts_is_passed_over_and_is_no_change_of_region() {
    let turned_away = |script: &mut Script, sqlstate| {
        script.instead_of_ok = Some(error("FATAL", sqlstate, "server is not accepting clients, try another node"));
    };
    let ways: [&dyn Fn(&FakeUpstream); 4] = [
        &|cluster| cluster.change_next(2, move |script| turned_away(script, "57P01")),
        &|cluster| cluster.change_next(2, move |script| turned_away(script, "57P03")),
        &|cluster| cluster.change_next(2, |script| script.front = Front::Closes),
        &|cluster| cluster.change_next(2, |script| script.front = Front::Resets),
    ];
    for restarts in ways {
        let (first, second) = (FakeUpstream::answering(), FakeUpstream::answering());
        let proxy = cold(two_regions((&first, first.address()), (&second, second.address()))).start();
        proxy.client();
        restarts(&first);

        proxy.client();

        assert_eq!((first.seen().connections, second.seen().connections), (4, 0));
        let is_well = proxy.metric("crdb_proxy_endpoint_state", &[("endpoint", "first"), ("state", "well")]);
        assert_eq!(is_well, Some(1.0));
    }
}

#[test]
fn a_draining_node_drops_what_stands_ready_and_disturbs_no_client() {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.client();
    proxy.client();
    wait_for_warm(&proxy, "first", 1.0);

    for drains in 1..=3 {
        cluster.drain_sessions();
        let labels = [("listener", "main"), ("cause", "shutdown")];
        proxy.wait_for_metric("crdb_proxy_warm_recycled_total", &labels, f64::from(drains));
        proxy.client().query("select 1");
        wait_for_warm(&proxy, "first", 1.0);
    }

    assert_eq!(proxy.status()["refusals"].as_array().unwrap().len(), 0);
}

/// Endpoints `first` and `second`, each a region of its own, reached at these addresses.
pub(crate) fn two_regions(first: (&FakeUpstream, SocketAddr), second: (&FakeUpstream, SocketAddr)) -> SettingsFile {
    let bundle = [first.0.authority.pem(), second.0.authority.pem()].concat();
    let settings = SettingsFile::trusting(&first.0.authority).endpoint("first", first.1).endpoint("second", second.1);
    settings.file("ca.crt", &bundle)
}

/// Without warm upstreams, whose logins would be counted among those of clients.
fn cold(settings: SettingsFile) -> SettingsFile {
    settings.global("warm_max = 0")
}

fn attempts(proxy: &TestProxy, endpoint: &str, result: &str) -> f64 {
    proxy.metric("crdb_proxy_connect_attempts_total", &[("endpoint", endpoint), ("result", result)]).unwrap()
}

fn off_preferred(proxy: &TestProxy) -> f64 {
    proxy.metric("crdb_proxy_sessions_off_preferred", &[("listener", "main")]).unwrap()
}

fn wait_for_warm(proxy: &TestProxy, endpoint: &str, count: f64) {
    proxy.wait_for_metric("crdb_proxy_upstreams", &[("endpoint", endpoint), ("state", "warm")], count);
}

fn wait_for_state(proxy: &TestProxy, endpoint: &str, state: &str) -> serde_json::Value {
    proxy.wait_for_log(|line| {
        line["message"] == "endpoint changed" && line["endpoint.name"] == endpoint && line["endpoint.state"] == state
    })
}

/// Where the newest session is.
fn endpoint_of(proxy: &TestProxy, client: &mut TestClient) -> String {
    client.query("select 1");
    let status = proxy.status();
    status["sessions"].as_array().unwrap().last().unwrap()["endpoint"].as_str().unwrap().to_owned()
}
