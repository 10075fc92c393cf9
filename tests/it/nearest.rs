//! The nearest region serves: measured before the first client, and not left for a trifle.

use crate::harness::{
    FakeUpstream, SettingsFile,
    relay::{Mode, Relay},
    settings::Cluster,
};
use serde_json::Value;
use std::time::Duration;

#[test]
fn the_first_client_is_served_by_the_nearest_region() {
    // Far enough apart for a machine that is busy.
    let scene = Scene::of([160, 4, 80]);
    let proxy = scene.settings("regions = \"nearest\"").start();

    proxy.client();

    assert_eq!(scene.served(), [0, 1, 0]);
    // The others may still have been on their way when it was served.
    let is_measured =
        |status: &Value, place: usize| status["clusters"][0]["endpoints"][place]["latency_ms"].is_number();
    proxy.wait_for_status(|status| (0..3).all(|place| is_measured(status, place)));
    let status = proxy.status();
    assert_eq!((&status["listeners"][0]["endpoint"], &status["listeners"][0]["why"]), (&"b".into(), &"nearest".into()));
    let latency = |place: usize| status["clusters"][0]["endpoints"][place]["latency_ms"].as_f64().unwrap();
    assert!(latency(0) > latency(2) && latency(2) > latency(1), "{status}");
    assert!(proxy.metric("crdb_proxy_endpoint_latency_seconds", &[("endpoint", "a")]).unwrap() > 0.08);
}

#[test]
fn only_the_listed_regions_count() {
    let scene = Scene::of([80, 4, 40]);
    let proxy = scene.settings("regions = { nearest = [\"a\", \"c\"] }").start();

    proxy.client();

    assert_eq!(scene.served(), [0, 0, 1]);
    assert_eq!(scene.clusters[1].seen().connections, 0, "what no policy can pick is not looked at");
}

#[test]
fn another_region_takes_over_once_it_is_clearly_nearer_for_three_samples() {
    let scene = Scene::of([30, 4, 120]);
    let settings = scene.settings("regions = \"nearest\"").global("probe_interval = \"1s\"");
    let proxy = settings.start();
    proxy.client();

    scene.links[1].set_round_trip(Duration::from_millis(200));
    let changed = proxy.wait_for_message("nearest region changed");
    proxy.client();

    assert_eq!((changed["before"].as_str(), changed["region"].as_str()), (Some("b"), Some("a")));
    assert_eq!(scene.served(), [1, 1, 0]);
}

#[test]
fn a_nearest_region_that_is_down_is_left_for_the_next_nearest() {
    // Far enough apart for a machine that is busy.
    let scene = Scene::of([160, 4, 80]);
    let proxy = scene.settings("regions = \"nearest\"").start();
    proxy.client();

    scene.links[1].set_all(Mode::Refuse);
    proxy.client();

    assert_eq!(scene.served(), [0, 1, 1]);
}

/// Three regions `a`, `b` and `c`, so many milliseconds away.
struct Scene {
    clusters: [FakeUpstream; 3],
    links: [Relay; 3],
}

impl Scene {
    fn of(round_trips_ms: [u64; 3]) -> Self {
        let clusters = [(); 3].map(|()| FakeUpstream::answering());
        let links = [0, 1, 2].map(|place| {
            let round_trip = Duration::from_millis(round_trips_ms[place]);
            Relay::to(clusters[place].address(), round_trip)
        });
        Self { clusters, links }
    }

    fn settings(&self, listener: &str) -> SettingsFile {
        let bundle = self.clusters.iter().map(|cluster| cluster.authority.pem()).collect::<String>();
        let mut settings = SettingsFile::trusting(&self.clusters[0].authority);
        for (name, link) in ["a", "b", "c"].iter().zip(&self.links) {
            settings = settings.endpoint(name, link.address());
        }
        settings.file("ca.crt", &bundle).global("warm_max = 0").listener(listener)
    }

    /// Logins at each region.
    fn served(&self) -> [usize; 3] {
        [0, 1, 2].map(|place| self.clusters[place].seen().startups.len())
    }
}
