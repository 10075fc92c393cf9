//! A daemon with about everything that the page and `/status` can show.

use super::url;
use crate::harness::{
    Browser, DEADLINE, FakeUpstream, Script, Session, SettingsFile, TestClient, TestProxy,
    proxy::closed_port,
    settings::Cluster,
    wire::{Wire, startup},
};
use std::{
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// What a client calls itself to get into the page.
pub(super) const HOSTILE: &str = "<img src=x onerror=\"document.title='taken'\"></td><script>taken=1</script>";

/// A daemon with about everything that there is to be seen.
pub(crate) struct Scene {
    _near: FakeUpstream,
    _far: FakeUpstream,
    pub(crate) proxy: TestProxy,
    _clients: Vec<TestClient>,
}

impl Scene {
    /// Two sessions alike, a hostile one, one at an endpoint that was disabled since; three refusals.
    pub(crate) fn set() -> Self {
        let near = FakeUpstream::answering();
        let script = Script {
            session: Session::Answers,
            identity: Some(near.authority.server()),
            front_delay: Duration::from_millis(20),
            ..Script::default()
        };
        let far = FakeUpstream::start(script);
        let other = format!(
            "[cluster.other]\nca = \"ca.crt\"\nuser = \"reader\"\npassword = {{ file = \"app.pw\" }}\n\
             [[cluster.other.endpoint]]\nname = \"standby\"\nhost = \"127.0.0.1\"\nport = {}\n",
            closed_port().port()
        );
        let proxy = SettingsFile::trusting(&near.authority)
            .endpoint("gcp-us-east1", near.address())
            .endpoint("gcp-us-west2", far.address())
            .endpoint("gcp-europe-west1", closed_port())
            .identity("own", &near.authority.client("app"))
            .cluster("cert = \"own.crt\"\nkey = \"own.key\"")
            .another_listener("reports", "regions = [\"gcp-us-west2\"]")
            .another_listener("nowhere", "regions = [\"gcp-europe-west1\"]")
            .appendix(&other)
            .start();
        let mut clients = Vec::new();
        for (listener, name) in [("main", "checkout"), ("main", "checkout"), ("main", HOSTILE), ("reports", "billing")]
        {
            clients.push(log_in(&proxy, listener, name));
        }
        for _ in 0..3 {
            refused(&proxy, "nowhere");
        }
        let (status, _, body) = proxy.http("POST /endpoints/gcp-us-west2/disable?for=2h", "");
        assert_eq!(status, 202, "{body}");
        Self { _near: near, _far: far, proxy, _clients: clients }
    }

    /// The page in a wide window, once it shows the sessions.
    pub(super) fn open(&self) -> Browser {
        let mut browser = Browser::open(&url(&self.proxy));
        browser.show(1280, 900, "light");
        browser.wait_until("document.querySelectorAll('#sessions tbody tr').length === 4");
        browser
    }
}

fn log_in(proxy: &TestProxy, listener: &str, name: &str) -> TestClient {
    let parameters = [("user", "anyone"), ("application_name", name)];
    let address: SocketAddr = proxy.listener(listener).parse().unwrap();
    let mut client = TestClient::log_in(Wire::new(connect(address)), &parameters);
    client.query("select 1");
    client
}

/// Gives the charts something to draw.
pub(super) fn keep_busy(proxy: &TestProxy, stop: &AtomicBool) {
    let mut clients = Vec::new();
    for turn in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        if turn % 8 == 0 {
            clients.push(log_in(proxy, "main", "checkout"));
            clients.truncate(turn / 8 % 5);
        }
        for client in &mut clients {
            client.query(&format!("select {}", "1".repeat(turn % 97)));
        }
    }
}

fn refused(proxy: &TestProxy, listener: &str) {
    let mut wire = Wire::new(connect(proxy.listener(listener).parse().unwrap()));
    wire.send(&startup(&[("user", "anyone")]));
    assert_eq!(wire.refusal().sqlstate(), "08001");
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, DEADLINE).unwrap()
}
