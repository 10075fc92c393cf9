//! A Cloud API of the tests' own: HTTP on a loopback port, with the quirks of the real one (pages, capitalised
//! parameters, `STATUS_` prefixes, 64-bit numbers as text), a role for each key, faults to be switched on, and a
//! record of every request. It holds what a test puts into [`State`], and lets a change be asked for.

mod answers;

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// The only cluster, unless a test says otherwise.
pub(crate) const CLUSTER_ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
/// A key with every right, unless a test says otherwise.
pub(crate) const KEY: &str = "CCDB1_0123456789abcdefABCDEF_secret";

/// The server; it answers as long as the test runs.
pub(crate) struct CloudApi {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    asked: Mutex<Vec<Asked>>,
    /// Of requests that are left without an answer.
    held: Mutex<Vec<TcpStream>>,
    /// Whether requests wait for [`CloudApi::release`], after they are noted.
    waiting: (Mutex<bool>, Condvar),
}

/// What the API knows. Everything is as it would write it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) clusters: Vec<Value>,
    pub(crate) allowlist: Vec<Value>,
    pub(crate) propagating: bool,
    pub(crate) users: Vec<String>,
    /// Names and numbers of tables.
    pub(crate) databases: Vec<(String, u64)>,
    pub(crate) nodes: Vec<Value>,
    pub(crate) services: Vec<Value>,
    pub(crate) connections: Vec<Value>,
    pub(crate) keys: BTreeMap<String, Role>,
    pub(crate) ca: String,
    /// Entries on one page; 0: all.
    pub(crate) page_size: usize,
    /// The header of every answer.
    pub(crate) date: Option<String>,
    /// The next requests meet these, one each.
    pub(crate) faults: VecDeque<Fault>,
    /// Every request meets it once those are used up.
    pub(crate) lasting_fault: Option<Fault>,
}

/// What a key's service account may do; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Monitor,
    Developer,
    Operator,
    Admin,
}

/// What a request meets instead of its answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing, for ever.
    Hang,
    /// The connection ends before a byte.
    HangUp,
    /// The head of an answer and half of its body.
    HalfWay,
    /// More than anybody should read.
    Long,
    /// This body, as JSON by its header.
    Body(&'static str),
    /// This status, with a body as the API's errors have it.
    Status(u16, &'static str),
    /// 429, and how many seconds to wait.
    TooFast(&'static str),
    /// 302 to this place.
    Redirect(String),
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    /// `GET /api/v1/clusters`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

impl CloudApi {
    /// With one cluster of plan ADVANCED on GCP that has one region, and one key.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            clusters: vec![cluster(CLUSTER_ID, "prod", "GCP", &["us-east1"])],
            users: vec!["app".to_owned(), "maintenance".to_owned()],
            databases: vec![("defaultdb".to_owned(), 0), ("shop".to_owned(), 7)],
            nodes: vec![json!({"name": "node-1", "region_name": "us-east1", "status": "LIVE"})],
            keys: [(KEY.to_owned(), Role::Admin)].into(),
            ..State::default()
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&of_thread);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// For `COCKROACH_SERVER`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it knows, or looks at it.
    pub(crate) fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.shared.state.lock().unwrap())
    }

    /// The next request meets this.
    pub(crate) fn next(&self, fault: Fault) {
        self.state(|state| state.faults.push_back(fault));
    }

    /// Every request from now on meets this.
    pub(crate) fn always(&self, fault: Fault) {
        self.state(|state| state.lasting_fault = Some(fault));
    }

    /// From now on requests are read and not answered.
    pub(crate) fn hold(&self) {
        *self.shared.waiting.0.lock().unwrap() = true;
    }

    /// Those that wait are answered, and all that follow.
    pub(crate) fn release(&self) {
        *self.shared.waiting.0.lock().unwrap() = false;
        self.shared.waiting.1.notify_all();
    }

    /// Changes a value of the first cluster.
    pub(crate) fn cluster(&self, key: &str, value: Value) {
        self.state(|state| state.clusters[0][key] = value);
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Their lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

/// A cluster with regions whose hosts are of the forms that the real ones have.
pub(crate) fn cluster(id: &str, name: &str, provider: &str, regions: &[&str]) -> Value {
    let cloud = provider.to_lowercase();
    let host = |kind: &str, region: &str| format!("{kind}{name}-abc.{cloud}-{region}.cockroachlabs.example");
    let region = |region: &&str| {
        let psc = if provider == "GCP" { host("private-", region) } else { String::new() };
        json!({
            "name": region, "sql_dns": host("", region), "ui_dns": host("admin-", region),
            "internal_dns": host("internal-", region), "private_endpoint_dns": psc, "node_count": 3,
        })
    };
    json!({
        "id": id, "name": name, "plan": "ADVANCED", "cloud_provider": provider, "account_id": "123",
        "cockroach_version": "v25.4.1", "state": "CREATED", "operation_status": "UNSPECIFIED",
        "upgrade_status": "UPGRADE_STATUS_UNSPECIFIED", "network_visibility": "PUBLIC", "cidr_range": "172.28.0.0/14",
        "config": {"dedicated": {"machine_type": "m", "num_virtual_cpus": 4, "storage_gib": 15, "disk_iops": 0}},
        "sql_dns": format!("{name}-abc.cockroachlabs.example"), "labels": {}, "deleted_at": null,
        "regions": regions.iter().map(region).collect::<Vec<_>>(),
    })
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let Some(asked) = read(stream) else { return };
    shared.asked.lock().unwrap().push(asked.clone());
    drop(shared.waiting.1.wait_while(shared.waiting.0.lock().unwrap(), |waiting| *waiting).unwrap());
    let mut state = shared.state.lock().unwrap();
    let date = state.date.clone();
    let fault = state.faults.pop_front().or_else(|| state.lasting_fault.clone());
    let answer = match fault {
        None => answers::answer(&mut state, &asked),
        Some(Fault::Status(status, message)) => answers::refusal(status, message),
        Some(Fault::Body(body)) => answers::Answer { status: 200, body: body.to_owned(), header: String::new() },
        Some(Fault::Long) => answers::Answer { status: 200, body: " ".repeat(9 << 20), header: String::new() },
        Some(Fault::TooFast(seconds)) => {
            answers::Answer { header: format!("Retry-After: {seconds}\r\n"), ..answers::refusal(429, "slow down") }
        }
        Some(Fault::Redirect(to)) => {
            answers::Answer { header: format!("Location: {to}\r\n"), ..answers::refusal(302, "there") }
        }
        Some(Fault::HangUp) => return,
        Some(Fault::Hang) => return shared.held.lock().unwrap().push(stream.try_clone().unwrap()),
        Some(Fault::HalfWay) => {
            let answer = answers::answer(&mut state, &asked);
            let half = answer.text(date.as_deref());
            // Whoever has asked may be gone; so below.
            return drop((&mut &*stream).write_all(&half.as_bytes()[..half.len() - answer.body.len() / 2]));
        }
    };
    drop(state);
    (&mut &*stream).write_all(answer.text(date.as_deref()).as_bytes()).ok();
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body: String::from_utf8(body).unwrap() })
}
