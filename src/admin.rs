//! The admin address: probes, metrics, status, orders by hand. Reads what others publish and hands orders
//! on; takes no lock of the data path. What tells of hosts and sessions is guarded against other hosts and
//! against pages in a browser (DNS rebinding), orders against other users too; probes and metrics are not.

mod demands;
mod guard;
mod orders;
mod page;
mod status;

use crate::{
    control::Stopped,
    listener::{Listening, Socket},
    lock::lock,
    metrics::{Metrics, labels::DaemonState},
    refusals::Refusals,
    session::Parts,
    sessions::{Live, Sessions},
    settings::Settings,
    shutdown::{Phase, Stop},
    sys::PeerUids,
    upstream::Cluster,
};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// What the admin address shows.
pub(crate) struct Admin {
    pub(crate) started_at: SystemTime,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) refusals: Arc<Refusals>,
    /// What is served now.
    pub(crate) view: Mutex<Arc<View>>,
    /// What is wrong with what was to be served next.
    pub(crate) faults: Mutex<Faults>,
    /// Where the daemon hears what it is asked to do.
    pub(crate) demands: mpsc::Sender<Demand>,
    /// Somebody wants it to stop gently.
    pub(crate) drain_asked: Notify,
    /// How it has ended, for those who wait for that.
    pub(crate) ended: watch::Sender<Option<Stopped>>,
    /// Why the daemon has not started yet, while the first login is waited for.
    pub(crate) first_login: Mutex<Option<String>>,
    pub(crate) peer_uids: Arc<PeerUids>,
    pub(crate) stop: Stop,
}

/// Why settings and files that were read again are not in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// New settings, or files that they name.
    pub(crate) settings: Option<String>,
    /// Files that the settings in use name.
    pub(crate) files: Option<String>,
}

impl Faults {
    /// All of them.
    pub(crate) fn text(&self) -> Option<String> {
        let faults: Vec<_> = self.settings.iter().chain(&self.files).map(String::as_str).collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

/// What is served.
pub(crate) struct View {
    pub(crate) settings: Arc<Settings>,
    pub(crate) loaded_at: SystemTime,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) listeners: Vec<ListenerView>,
    /// Keys whose new values count from the next start on.
    pub(crate) needs_restart: Vec<String>,
}

/// A listener as `/status` shows it.
pub(crate) struct ListenerView {
    pub(crate) parts: Arc<Parts>,
    /// Where it really listens.
    pub(crate) addresses: Vec<String>,
}

pub(crate) use demands::{Demand, News, Outcome};

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Another process, over TCP.
    Tcp {
        /// Its address.
        peer: SocketAddr,
        /// Our end, to ask whose the other one is.
        socket: Option<Arc<OwnedFd>>,
    },
    /// A process that may open the Unix socket, and its user.
    Unix(Option<u32>),
}

/// Answers on one socket until the future is dropped. So many connections at once; beyond that the oldest
/// goes, so that connections which say nothing cannot keep a probe out.
pub(crate) async fn serve(socket: Socket, admin: Arc<Admin>) {
    let mut connections = JoinSet::new();
    let mut oldest_first = VecDeque::new();
    loop {
        while connections.try_join_next().is_some() {}
        let admin = Arc::clone(&admin);
        match accept(&socket).await {
            Ok((stream, peer)) => {
                oldest_first.retain(|connection: &AbortHandle| !connection.is_finished());
                if oldest_first.len() >= CONNECTIONS_MAX {
                    oldest_first.pop_front().inspect(AbortHandle::abort);
                }
                let conversation = timeout(CONNECTION_LIMIT, converse(stream, peer, admin));
                oldest_first.push_back(connections.spawn(async move { drop(conversation.await) }));
            }
            Err(error) => {
                warn!(%error, "accepting on the admin address paused");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn accept(socket: &Socket) -> std::io::Result<(Box<dyn Stream>, Peer)> {
    Ok(match &socket.listening {
        Listening::Tcp(socket) => {
            let (stream, peer) = socket.accept().await?;
            let socket = stream.as_fd().try_clone_to_owned().ok().map(Arc::new);
            (Box::new(stream), Peer::Tcp { peer, socket })
        }
        Listening::Unix(socket) => {
            let (stream, _) = socket.accept().await?;
            let uid = stream.peer_cred().ok().map(|peer| peer.uid());
            (Box::new(stream), Peer::Unix(uid))
        }
    })
}

async fn converse(stream: Box<dyn Stream>, peer: Peer, admin: Arc<Admin>) {
    let admin = &*admin;
    let peer = &peer;
    // Held until the connection's end, so that the answer is out before the process ends.
    let waits = &Mutex::new(None);
    let answer = service_fn(|request| async move {
        if demands::is_for_the_end(&request) {
            *lock(waits) = Some(admin.ended.subscribe());
        }
        Ok::<_, Infallible>(admin.answer(&request, peer).await)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT).max_buf_size(HEADER_BYTES_MAX);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        debug!(%error, "admin connection ended");
    }
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// What is served now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&lock(&self.view))
    }

    /// Another is served from now on.
    pub(crate) fn show(&self, view: Arc<View>) {
        *lock(&self.view) = view;
    }

    /// What is wrong with what was to be served next.
    pub(crate) fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    /// Replaces it: what it was before.
    pub(crate) fn show_faults(&self, faults: Faults) -> Faults {
        self.metrics.config_is_ok(faults == Faults::default());
        std::mem::replace(&mut *lock(&self.faults), faults)
    }

    /// Why the daemon has not started yet; `None` from then on.
    pub(crate) fn note_first_login(&self, reason: Option<String>) {
        *lock(&self.first_login) = reason;
    }

    async fn answer(&self, request: &Request<Incoming>, peer: &Peer) -> Answer {
        let path = request.uri().path();
        if let Some(asked) = demands::asked(path) {
            return match *request.method() {
                Method::POST => demands::pass_on(self, asked, request, peer).await,
                _ => only("POST"),
            };
        }
        if let Some(asked) = orders::asked(path) {
            return match *request.method() {
                Method::POST => orders::carry_out(self, asked, request, peer).await,
                _ => only("POST"),
            };
        }
        if !["/", "/metrics", "/livez", "/readyz", "/startupz", "/status"].contains(&path) {
            return text(StatusCode::NOT_FOUND, NOT_FOUND);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return only("GET, HEAD");
        }
        match path {
            "/metrics" => self.metrics(),
            "/readyz" => probe(self.not_ready_because()),
            "/startupz" => probe(self.not_started_because()),
            "/" | "/status" => match guard::check(request, peer, &self.view().settings) {
                Ok(()) if path == "/" => page::page(),
                Ok(()) => json(&status::status(self)),
                Err(reason) => text(StatusCode::FORBIDDEN, format!("{reason}\n")),
            },
            _ => text(StatusCode::OK, "ok\n"),
        }
    }

    fn metrics(&self) -> Answer {
        self.sessions.count();
        self.count_off_preferred();
        self.count_failover_ready();
        for cluster in &self.view().clusters {
            cluster.publish();
            for way in cluster.ways().iter() {
                let order = cluster.ordered(way.name()).map(|(order, _)| orders::label(order));
                self.metrics.set_by_hand(cluster.name(), way.name(), order);
            }
        }
        match self.metrics.render() {
            Ok(body) => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// Endpoints that could take over from the first that serves.
    fn count_failover_ready(&self) {
        for ListenerView { parts, .. } in &self.view().listeners {
            let well = parts.cluster.well(&parts.setup, &parts.choice);
            let ready = i64::try_from(well.saturating_sub(1)).unwrap_or(i64::MAX);
            parts.metrics.failover_ready.set(ready);
        }
    }

    /// Sessions that are elsewhere than where new ones belong: those that a fail-back has left behind.
    fn count_off_preferred(&self) {
        let (open, _) = self.sessions.list(usize::MAX);
        for ListenerView { parts, .. } in &self.view().listeners {
            let belongs = parts.cluster.belongs(&parts.setup, &parts.choice);
            let is_off = |live: &&Arc<Live>| {
                live.listener == parts.listener.name
                    && live
                        .upstream
                        .get()
                        .is_some_and(|at| belongs.as_ref().is_none_or(|way| way.endpoint != at.endpoint))
            };
            let off = open.iter().filter(is_off).count();
            parts.metrics.off_preferred.set(i64::try_from(off).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn not_ready_because(&self) -> Option<String> {
        match self.state() {
            DaemonState::Running => {}
            DaemonState::Delaying => {
                return Some("stopping soon: new sessions are still taken for a moment".to_owned());
            }
            _ => return Some("draining: no new sessions are taken".to_owned()),
        }
        let view = self.view();
        let asked = view.listeners.iter().filter(|_| view.settings.ready_requires_upstream);
        let mut reasons =
            asked.filter_map(|ListenerView { parts, .. }| parts.cluster.unreachable(&parts.setup, &parts.choice));
        reasons.next()
    }

    pub(crate) fn not_started_because(&self) -> Option<String> {
        let waits_for = lock(&self.first_login).clone()?;
        // A session may have been quicker.
        let is_met = self.view().clusters.iter().any(|cluster| cluster.has_logged_in());
        (!is_met).then_some(waits_for)
    }

    fn state(&self) -> DaemonState {
        match self.stop.phase() {
            Phase::Running => DaemonState::Running,
            Phase::Delaying => DaemonState::Delaying,
            Phase::Draining(_) | Phase::Cutting => DaemonState::Draining,
        }
    }
}

fn probe(failure: Option<String>) -> Answer {
    match failure {
        None => text(StatusCode::OK, "ok\n"),
        Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reason.replace('\n', " "))),
    }
}

fn only(methods: &'static str) -> Answer {
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {methods}\n"));
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    refused
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

const NOT_FOUND: &str = "there are /, /metrics, /livez, /readyz, /startupz and /status, and for POST /drain, /reload, /endpoints/NAME/disable, \
    /endpoints/NAME/enable and /endpoints/NAME/prefer\n";
/// Demands that wait for the daemon.
pub(crate) const DEMANDS_MAX: usize = 16;
const CONNECTIONS_MAX: usize = 64;
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
const HEADER_LIMIT: Duration = Duration::from_secs(5);
const HEADER_BYTES_MAX: usize = 16 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
