//! From an endpoint to a verified TLS connection: DNS, TCP, SSLRequest, handshake. Each stage has its
//! share of one deadline, and every address of the name is tried while it lasts.

use super::{
    Route,
    dial::{self, Race},
    error::EndpointError,
    names::{Names, NoAnswer},
    resolve,
    way::Way,
};
use crate::{
    metrics::{
        EndpointMetrics,
        labels::{HandshakeKind, Stage},
    },
    settings::{Limits, Name},
    tls::{self, CertificateProblem, RecordSocket, RecordStream},
    wire::messages,
};
use socket2::SockRef;
use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What connecting needs to know, besides the endpoint.
#[derive(Clone)]
pub(super) struct Connector {
    /// The cluster's name, for the log.
    pub(super) cluster: Name,
    /// The SQL user whose certificate is shown, if there is one.
    pub(super) user: Arc<str>,
    pub(super) names: Arc<Names>,
    pub(super) tls: TlsConnector,
    pub(super) limits: Arc<Limits>,
    /// The machine's roots are trusted, instead of the cluster's own CA.
    pub(super) trusts_system: bool,
}

/// TLS towards an endpoint.
pub(crate) type Encrypted = RecordStream<TlsStream<RecordSocket<TcpStream>>>;

/// A verified TLS connection to an endpoint; nothing has been sent over it.
pub(super) struct Connection {
    /// In a box: it has a kilobyte, and goes through many hands.
    pub(super) stream: Box<Encrypted>,
    pub(super) route: Route,
}

/// How far an attempt has come, for those who watch it from outside.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// From SSLRequest to the server's `S`: the first time that it came.
    answered: OnceLock<Duration>,
    /// Addresses that were connected to, the last one last.
    addresses: Mutex<Vec<SocketAddr>>,
}

impl Progress {
    /// How long the server took to answer SSLRequest, once it has.
    pub(super) fn answered(&self) -> Option<Duration> {
        self.answered.get().copied()
    }

    fn has_connected(&self, address: SocketAddr) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    /// `addresses`, those that were connected to before last: a new try should meet another node.
    fn others_first(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let used = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        // Stable, so that the dialling order holds among the rest.
        addresses.sort_by_key(|address| used.iter().rposition(|known| known == address).map_or(0, |place| place + 1));
        addresses
    }
}

impl Connector {
    /// Connects to whichever address of an endpoint serves first, by `deadline`. Dropping the future ends
    /// every attempt.
    pub(super) async fn connect(
        &self,
        way: &Way,
        progress: &Progress,
        deadline: Instant,
    ) -> Result<Connection, EndpointError> {
        let metrics = &way.metrics;
        let addresses = timed(metrics, Stage::Dns, self.resolve(way, deadline)).await?;
        let mut race = Race::new(progress.others_first(addresses));
        let mut failure = EndpointError::NotResolved(io::ErrorKind::NotFound.into());
        loop {
            let (socket, address) = match timed(metrics, Stage::Tcp, next_socket(&mut race, deadline)).await {
                Ok(Some(connected)) => connected,
                Ok(None) => return Err(failure),
                // A deadline says less than what went wrong before it.
                Err(EndpointError::TcpTimedOut) if failure.tells_more_than_a_timeout() => return Err(failure),
                Err(error @ EndpointError::TcpTimedOut) => return Err(error),
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            progress.has_connected(address);
            let route = Route { endpoint: Arc::clone(&way.endpoint), address, user: Arc::clone(&self.user) };
            // An address that says nothing must not use up the time of those beside it.
            let share = if race.is_over() { deadline } else { deadline.min(Instant::now() + ADDRESS_LIMIT) };
            match timed(metrics, Stage::Tls, self.secure(socket, &route, progress, share)).await {
                Ok(stream) => {
                    note_handshake(way, &stream);
                    return Ok(Connection { stream: Box::new(stream), route });
                }
                // Another address may lead to a node that is well; a certificate is the endpoint's.
                Err(error) if error.may_differ_by_address() => failure = error,
                Err(error) => return Err(error),
            }
        }
    }

    /// Connects to exactly the address that a session uses, for a cancel. The caller bounds the time.
    pub(super) async fn connect_again(&self, route: &Route) -> Result<Connection, EndpointError> {
        let deadline = Instant::now() + self.limits.cancel_limit;
        let connect = TcpStream::connect(route.address);
        let connected = timeout_at(deadline, connect).await.map_err(|_elapsed| EndpointError::TcpTimedOut)?;
        let socket = connected.map_err(EndpointError::Tcp)?;
        Ok(Connection {
            stream: Box::new(self.secure(socket, route, &Progress::default(), deadline).await?),
            route: route.clone(),
        })
    }

    pub(super) async fn resolve(&self, way: &Way, deadline: Instant) -> Result<Vec<SocketAddr>, EndpointError> {
        let endpoint = &way.endpoint;
        match timeout_at(deadline, self.names.look_up(&endpoint.host)).await {
            Ok(Ok(addresses)) => {
                way.note_addresses(&self.cluster, &addresses);
                Ok(resolve::in_dialling_order(&addresses, endpoint.port))
            }
            Ok(Err(NoAnswer::Failed(error))) => Err(EndpointError::NotResolved(error)),
            Ok(Err(NoAnswer::Late)) | Err(_) => Err(EndpointError::ResolveTimedOut),
        }
    }

    /// SSLRequest and the TLS handshake. Exactly one byte is read in clear, so that nothing sent before
    /// the handshake can be taken for something sent after it.
    pub(super) async fn secure(
        &self,
        mut socket: TcpStream,
        route: &Route,
        progress: &Progress,
        deadline: Instant,
    ) -> Result<Encrypted, EndpointError> {
        dial::tune(&socket, &self.limits).map_err(EndpointError::Tcp)?;
        let mut answer = [0];
        let asked_at = Instant::now();
        let ask = async {
            socket.write_all(&messages::ssl_request()).await?;
            socket.read_exact(&mut answer).await
        };
        timeout_at(deadline, ask)
            .await
            .map_err(|_elapsed| EndpointError::NoAnswer)?
            .map_err(EndpointError::ClosedBeforeTls)?;
        match answer {
            [b'S'] => drop(progress.answered.set(asked_at.elapsed())),
            [b'N'] => return Err(EndpointError::TlsDeclined),
            [b'E'] => return Err(EndpointError::ErrorBeforeTls),
            [byte] => return Err(EndpointError::NotPostgres(byte)),
        }
        // TLS begins with us. Whatever is there by now was put there by somebody on the way (CVE-2021-23222).
        if has_bytes(&socket) {
            return Err(EndpointError::BytesBeforeTls);
        }
        let socket = RecordSocket::new(socket, self.limits.relay_buffer_bytes.get());
        let shake = self.tls.connect(route.endpoint.tls_server_name.clone(), socket);
        let shaken =
            timeout_at(deadline, shake).await.map_err(|_elapsed| EndpointError::TlsTimedOut)?.map(RecordStream);
        shaken.map_err(|error| match CertificateProblem::of_io(&error) {
            Some(problem) if self.trusts_system => EndpointError::Certificate(problem.under_system_roots()),
            Some(problem) => EndpointError::Certificate(problem),
            None => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::AlertReceived(alert)) => EndpointError::TlsAlert(format!("{alert:?}")),
                _ => EndpointError::Tls(error),
            },
        })
    }
}

/// Whether bytes lie there to be read, without reading them.
fn has_bytes(socket: &TcpStream) -> bool {
    SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|there| there > 0)
}

/// The next connected socket, `None` when every address has failed.
async fn next_socket(race: &mut Race, deadline: Instant) -> Result<Option<(TcpStream, SocketAddr)>, EndpointError> {
    match timeout_at(deadline, race.next()).await {
        Ok(None) => Ok(None),
        Ok(Some((address, Ok(socket)))) => Ok(Some((socket, address))),
        Ok(Some((_, Err(error)))) => Err(EndpointError::Tcp(error)),
        Err(_elapsed) => Err(EndpointError::TcpTimedOut),
    }
}

async fn timed<T>(
    metrics: &EndpointMetrics,
    stage: Stage,
    work: impl Future<Output = Result<T, EndpointError>>,
) -> Result<T, EndpointError> {
    let began = Instant::now();
    let done = work.await?;
    metrics.seconds.at(stage).observe(began.elapsed().as_secs_f64());
    Ok(done)
}

fn note_handshake(way: &Way, stream: &Encrypted) {
    let metrics = &way.metrics;
    let (_, tls) = stream.get_ref();
    if tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        return metrics.handshakes.at(HandshakeKind::Resumed).inc();
    }
    metrics.handshakes.at(HandshakeKind::Full).inc();
    let certificate = tls.peer_certificates().and_then(<[_]>::first).filter(|_| !way.is_gone());
    if let Some(at) = certificate.and_then(tls::not_after) {
        metrics.certificate_expires(at);
    }
}

/// How long an address may take for TLS while another one of its name is left.
const ADDRESS_LIMIT: Duration = Duration::from_secs(2);
