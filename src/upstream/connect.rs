//! From an endpoint to a verified TLS connection: DNS, TCP, SSLRequest, handshake. Each stage has its
//! share of one deadline, and every address of the name is tried while it lasts.

use super::{
    Route,
    dial::{self, Race},
    error::EndpointError,
    resolve::{self, Resolve},
};
use crate::{
    metrics::{
        EndpointMetrics,
        labels::{HandshakeKind, Stage},
    },
    settings::{Endpoint, Limits},
    tls::{self, CertificateProblem},
    wire::messages,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What connecting needs to know, besides the endpoint.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: TlsConnector,
    pub(super) limits: Arc<Limits>,
    /// The machine's roots are trusted, instead of the cluster's own CA.
    pub(super) trusts_system: bool,
}

/// A verified TLS connection to an endpoint; nothing has been sent over it.
pub(super) struct Connection {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) route: Route,
}

impl Connector {
    /// Connects to whichever address of `endpoint` serves first, by `deadline`. Dropping the future ends
    /// every attempt.
    pub(super) async fn connect(
        &self,
        endpoint: &Arc<Endpoint>,
        metrics: &EndpointMetrics,
        deadline: Instant,
    ) -> Result<Connection, EndpointError> {
        let addresses = timed(metrics, Stage::Dns, self.resolve(endpoint, deadline)).await?;
        let mut race = Race::new(addresses);
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
            let route = Route { endpoint: Arc::clone(endpoint), address };
            // An address that says nothing must not use up the time of those beside it.
            let share = if race.is_over() { deadline } else { deadline.min(Instant::now() + ADDRESS_LIMIT) };
            match timed(metrics, Stage::Tls, self.secure(socket, &route, share)).await {
                Ok(stream) => {
                    note_handshake(metrics, &stream);
                    return Ok(Connection { stream, route });
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
        Ok(Connection { stream: self.secure(socket, route, deadline).await?, route: route.clone() })
    }

    async fn resolve(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Vec<SocketAddr>, EndpointError> {
        let asked = timeout_at(deadline, timeout(DNS_LIMIT, self.resolver.resolve(&endpoint.host)));
        match asked.await {
            Ok(Ok(Ok(addresses))) => Ok(resolve::in_dialling_order(&addresses, endpoint.port)),
            Ok(Ok(Err(error))) => Err(EndpointError::NotResolved(error)),
            Ok(Err(_)) | Err(_) => Err(EndpointError::ResolveTimedOut),
        }
    }

    /// SSLRequest and the TLS handshake. Exactly one byte is read in clear, so that nothing sent before
    /// the handshake can be taken for something sent after it.
    async fn secure(
        &self,
        mut socket: TcpStream,
        route: &Route,
        deadline: Instant,
    ) -> Result<TlsStream<TcpStream>, EndpointError> {
        dial::tune(&socket, &self.limits).map_err(EndpointError::Tcp)?;
        let mut answer = [0];
        let ask = async {
            socket.write_all(&messages::ssl_request()).await?;
            socket.read_exact(&mut answer).await
        };
        timeout_at(deadline, ask)
            .await
            .map_err(|_elapsed| EndpointError::NoAnswer)?
            .map_err(EndpointError::ClosedBeforeTls)?;
        match answer {
            [b'S'] => {}
            [b'N'] => return Err(EndpointError::TlsDeclined),
            [b'E'] => return Err(EndpointError::ErrorBeforeTls),
            [byte] => return Err(EndpointError::NotPostgres(byte)),
        }
        let shake = self.tls.connect(route.endpoint.tls_server_name.clone(), socket);
        let shaken = timeout_at(deadline, shake).await.map_err(|_elapsed| EndpointError::TlsTimedOut)?;
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

fn note_handshake(metrics: &EndpointMetrics, stream: &TlsStream<TcpStream>) {
    let (_, tls) = stream.get_ref();
    if tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        return metrics.handshakes.at(HandshakeKind::Resumed).inc();
    }
    metrics.handshakes.at(HandshakeKind::Full).inc();
    if let Some(at) = tls.peer_certificates().and_then(<[_]>::first).and_then(tls::not_after) {
        metrics.certificate_expires(at);
    }
}

/// How long the system's resolver may take before an endpoint counts as not resolved.
const DNS_LIMIT: Duration = Duration::from_secs(2);
/// How long an address may take for TLS while another one of its name is left.
const ADDRESS_LIMIT: Duration = Duration::from_secs(2);
