//! Three real servers as regions, each at its own distance, one of which fails in every way there is while
//! others are at work.

use crate::harness::{
    Authority, Leaf, Postgres, SettingsFile, TestClient, TestProxy,
    postgres::program,
    process::{self, mortal},
    proxy::series,
    relay::{Mode, Relay},
    settings::Cluster,
    wire::Wire,
};
use std::{
    net::TcpStream,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

#[test]
fn a_region_that_fails_in_any_way_is_left_and_no_session_elsewhere_notices() {
    let mut scene = Scene::start();
    let ways: [(&str, Step, Step); 5] = [
        ("kill -9", |scene| scene.regions[0].kill(), |scene| scene.regions[0].restart()),
        ("SIGSTOP", |scene| scene.regions[0].stop_process(), |scene| scene.regions[0].continue_process()),
        ("refuse", |scene| scene.links[0].set_all(Mode::Refuse), |scene| scene.links[0].set_all(Mode::Up)),
        ("black hole", |scene| scene.links[0].set_all(Mode::BlackHole), |scene| scene.links[0].set_all(Mode::Up)),
        (
            "wrong certificate",
            |scene| scene.regions[0].show(&Authority::new().sign(&Leaf::default())),
            |scene| scene.regions[0].show(&scene.regions[0].authority.server()),
        ),
    ];
    let load = scene.load_on_a_healthy_region();

    for (way, fail, mend) in ways {
        assert_eq!(scene.region_of_a_new_session(), "a", "before {way}");
        fail(&mut scene);
        let start = Instant::now();
        // A connection that stood ready and now leads nowhere looks sound until a ping goes unanswered.
        if way != "wrong certificate" {
            scene.wait_until_nothing_is_left_at("a");
        }
        let found = start.elapsed();
        assert!(found < Duration::from_secs(10), "{way}: found after {found:?}");
        let served = (0..10).map(|_| scene.timed_session()).collect::<Vec<_>>();
        let first = served[0].1;
        // What stood ready before a certificate went wrong was verified, and is as good as it was.
        let stood_ready = served.iter().take_while(|(region, _)| way == "wrong certificate" && region == "a").count();
        assert!(stood_ready <= 4, "{way}: {served:?}");
        assert!(served[stood_ready..].iter().all(|(region, _)| region == "b"), "{way}: {served:?}");
        assert!(first < Duration::from_secs(2), "{way}: the first client waited {first:?}");
        let most = served[1..].iter().map(|(_, took)| *took).max().unwrap();
        println!(
            "{way}: nothing stands ready there after {found:.0?}; first new session {first:.0?}, the slowest of the next nine {most:.0?}"
        );
        mend(&mut scene);
        scene.wait_until_new_sessions_are_at_home();
    }

    let report = load.finish();
    println!("load on a region that was well throughout: {report}");
}

type Step = fn(&mut Scene);

/// Three regions `a`, `b` and `c` with one authority, and a daemon that prefers them in this order; a second
/// listener leads to `b` alone.
struct Scene {
    regions: Vec<Postgres>,
    links: Vec<Relay>,
    proxy: TestProxy,
}

impl Scene {
    fn start() -> Self {
        let regions = Postgres::regions(3);
        let links = regions.iter().zip([2, 6, 10]);
        let links =
            links.map(|(region, ms)| Relay::to(region.address(), Duration::from_millis(ms))).collect::<Vec<_>>();
        let mut settings = SettingsFile::trusting(&regions[0].authority);
        for (name, (region, link)) in ["a", "b", "c"].iter().zip(regions.iter().zip(&links)) {
            region.sql(&format!("create table region as select '{name}' as name; grant all on region to app"));
            settings = settings.endpoint(name, link.address());
        }
        let limits = "failback_after = \"500ms\"\nprobe_down_interval = \"100ms\"";
        let proxy = settings.global(limits).another_listener("healthy", "regions = [\"b\"]").start();
        Self { regions, links, proxy }
    }

    fn region_of_a_new_session(&self) -> String {
        scene_region(&self.proxy)
    }

    fn timed_session(&self) -> (String, Duration) {
        let start = Instant::now();
        (self.region_of_a_new_session(), start.elapsed())
    }

    /// What is on its way to stand ready is neither ready nor found out yet.
    fn wait_until_nothing_is_left_at(&self, endpoint: &str) {
        let end = Instant::now() + crate::harness::DEADLINE;
        let count =
            |metrics: &str, state| series(metrics, "crdb_proxy_upstreams", &[("endpoint", endpoint), ("state", state)]);
        loop {
            let metrics = self.proxy.metrics();
            if ["login", "session", "warm"].iter().all(|state| count(&metrics, state) == Some(0.0)) {
                return;
            }
            assert!(Instant::now() < end, "{metrics}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sessions say where they are; that new ones are at home again, nothing else announces to a client.
    fn wait_until_new_sessions_are_at_home(&self) {
        let end = Instant::now() + crate::harness::DEADLINE;
        while self.region_of_a_new_session() != "a" {
            assert!(Instant::now() < end, "new sessions never came home");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// pgbench with open sessions at `b`, which is well throughout.
    fn load_on_a_healthy_region(&self) -> Load {
        let address = self.proxy.listener("healthy").parse::<std::net::SocketAddr>().unwrap();
        let connection = format!("host=127.0.0.1 port={} user=anyone dbname=defaultdb", address.port());
        let mut prepare = mortal(&program("pgbench"), "KILL", None);
        process::run(prepare.args(["-i", "-q", "-s", "1", &connection]), "", Duration::from_secs(60)).expect_success();
        let mut load = mortal(&program("pgbench"), "KILL", None);
        load.args(["-c", "4", "-T", "3600", "-P", "1", &connection]);
        let mut child = load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let progress = process::Lines::of(child.stderr.take().unwrap());
        progress.find(|line| line.contains("progress:").then_some(())).expect("pgbench is at work");
        Load { child, progress }
    }
}

struct Load {
    child: std::process::Child,
    progress: std::sync::Arc<process::Lines>,
}

impl Load {
    /// Ends it; every second of it had transactions, and nothing went wrong.
    fn finish(mut self) -> String {
        let lines = self.progress.all();
        assert!(self.child.try_wait().unwrap().is_none(), "pgbench ended early: {lines:?}");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let wrong =
            lines.iter().find(|line| line.contains("error") || line.contains("FATAL") || line.contains("aborted"));
        assert_eq!(wrong, None);
        let tps = lines.iter().filter_map(|line| line.split("s, ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
        let tps = tps.collect::<Vec<_>>();
        assert!(tps.len() >= 3 && tps.iter().all(|tps| *tps > 0.0), "{lines:?}");
        let least = tps.iter().copied().fold(f64::INFINITY, f64::min);
        format!("{} seconds, at least {least} transactions in each", tps.len())
    }
}

fn scene_region(proxy: &TestProxy) -> String {
    let wire = Wire::new(TcpStream::connect(proxy.address()).unwrap());
    TestClient::log_in(wire, &[("user", "anyone")]).value("select name from region")
}
