//! The daemon in the test's own process, for what only a test can decide: what time it is, what names mean,
//! and when its endpoints are replaced. All else is as in its own process.

use super::{
    DEADLINE, SettingsFile, TestClient,
    proxy::series,
    wire::{Stream, Wire},
};
use crdb_proxy::{
    clock::SetClock,
    daemon::{Built, Control},
    settings::{Endpoint, Flags, Inputs, Name, load},
    sys::Passed,
    upstream::{Resolve, Resolving, World},
};
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Instant,
};
use tokio::sync::oneshot;

/// A daemon in this process; ended when dropped.
pub(crate) struct InProcess {
    pub(crate) clock: SetClock,
    pub(crate) names: Arc<Names>,
    address: SocketAddr,
    admin: PathBuf,
    control: Control,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<thread::JoinHandle<()>>,
    _settings: SettingsFile,
}

/// What names mean, as the test says.
#[derive(Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, Answer>>,
    asked: Mutex<usize>,
}

/// What a resolver does when it is asked.
#[derive(Clone)]
pub(crate) enum Answer {
    /// It has these addresses.
    Addresses(Vec<IpAddr>),
    /// It has none, or fails.
    Fails,
    /// It says nothing, ever.
    Hangs,
}

impl Names {
    /// From now on `host` means this.
    pub(crate) fn set(&self, host: &str, answer: Answer) {
        self.known.lock().unwrap().insert(host.into(), answer);
    }

    /// How many questions were asked.
    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        *self.asked.lock().unwrap() += 1;
        let answer = self.known.lock().unwrap().get(host).cloned();
        Box::pin(async move {
            match answer.unwrap_or(Answer::Fails) {
                Answer::Addresses(addresses) => Ok(addresses),
                Answer::Fails => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
                Answer::Hangs => std::future::pending().await,
            }
        })
    }
}

impl InProcess {
    /// Starts it with these settings, whose admin address is a socket beside them.
    pub(crate) fn start(settings: SettingsFile) -> Self {
        let admin = settings.path("admin");
        let settings = settings.global(&format!("admin = \"unix:{}\"", admin.display()));
        let file = settings.write();
        let (clock, names) = (SetClock::default(), Arc::new(Names::default()));
        let world = World { resolver: names.clone(), clock: Arc::new(clock.clone()) };
        let (started, has_started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let daemon =
                    Built::read(load(&inputs(&file)).unwrap()).await.unwrap().bind(&world, Passed::default()).unwrap();
                let daemon = daemon.with_inputs(inputs(&file));
                let address = daemon.addresses()[0].parse::<SocketAddr>().unwrap();
                started.send((address, daemon.control())).unwrap();
                tokio::select! {
                    _ = daemon.serve() => panic!("the daemon has ended"),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        let (address, control) = has_started.recv_timeout(DEADLINE).expect("the daemon does not start");
        Self { clock, names, address, admin, control, stop: Some(stop), serving: Some(serving), _settings: settings }
    }

    /// A connection that has not said anything yet.
    pub(crate) fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).unwrap())
    }

    /// A client that is logged in.
    #[track_caller]
    pub(crate) fn client(&self) -> TestClient {
        TestClient::log_in(self.connect(), &[("user", "anyone")])
    }

    /// Goes on with the endpoints of these settings.
    pub(crate) fn replace_endpoints(&self, settings: &SettingsFile) {
        let settings = load(&inputs(&settings.write())).unwrap().settings;
        let endpoints: &[Arc<Endpoint>] = &settings.clusters[0].endpoints;
        assert!(self.control.replace_endpoints(&Name::new("test").unwrap(), endpoints));
    }

    /// Nodes of the cluster restart one after the other from now on.
    pub(crate) fn expect_restarts(&self) {
        assert!(self.control.expect_restarts(&Name::new("test").unwrap(), true));
    }

    /// The value of a series.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        series(&self.get("/metrics"), name, labels)
    }

    /// Asks for a metric until it has `value`, which nothing announces.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let end = Instant::now() + DEADLINE;
        while self.metric(name, labels) != Some(value) {
            assert!(Instant::now() < end, "{name}{labels:?} is {:?}, not {value}", self.metric(name, labels));
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn get(&self, path: &str) -> String {
        let mut socket = UnixStream::connect(&self.admin).unwrap();
        socket.socket().set_read_timeout(Some(DEADLINE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.stop.take();
        self.serving.take().map(thread::JoinHandle::join);
    }
}

fn inputs(file: &Path) -> Inputs {
    Inputs {
        flags: Flags { config: Some(file.into()), url: None, given: Vec::new() },
        defaults: Vec::new(),
        variables: Vec::new(),
        working_folder: file.parent().unwrap().into(),
        home: None,
        usual_files: Vec::new(),
        cores: 1,
    }
}
