//! The steps to an upstream one by one, for people who want to know at which of them it fails: what serving takes
//! together is done here apart, at one endpoint, without a second try, and nothing of it counts for the choice of
//! endpoints.

use super::{
    Account, Cluster, LoggedIn, Route, Setup, Upstream, Way,
    claim::generation,
    connect::{Connection, Connector, Progress},
    dial,
    error::{EndpointError, LoginError},
    login::Login,
};
use crate::{
    credentials::Lease,
    metrics::{Held, labels::UpstreamState},
    settings::Limits,
    tls::{Described, Witness},
    wire::{Answer, ServerError, StartupParameters, messages},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

/// What came of SSLRequest and the handshake.
pub(crate) struct Shaken {
    /// How long the server took to answer SSLRequest, if it did.
    pub(crate) answered: Option<Duration>,
    /// The certificates that the server showed, its own first.
    pub(crate) chain: Vec<Described>,
    /// A connection that is fit for a login.
    pub(crate) result: Result<Secured, EndpointError>,
}

/// A verified connection.
pub(crate) struct Secured {
    connection: Connection,
    /// `TLSv1.3`, if the library tells.
    pub(crate) version: Option<String>,
    /// As the library names it.
    pub(crate) cipher: Option<String>,
}

/// Why a query has no answer.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The server's own word.
    Server(ServerError),
    /// The connection was lost, or what came makes no sense.
    Lost(io::Error),
    /// No whole answer in time.
    Late,
}

impl Setup {
    /// The addresses of an endpoint's name, in the order in which they would be dialled.
    pub(crate) async fn examine_name(&self, way: &Way) -> Result<Vec<SocketAddr>, EndpointError> {
        self.account.connector.resolve(way, Instant::now() + self.limits.connect_limit).await
    }

    /// SSLRequest and the handshake over a socket that was dialled, with the chain that the server shows.
    pub(crate) async fn examine_tls(
        &self,
        account: &Account,
        way: &Way,
        socket: TcpStream,
        address: SocketAddr,
    ) -> Shaken {
        let (witness, config) = match Witness::of(&account.tls) {
            Ok(pair) => pair,
            Err(error) => {
                let result = Err(EndpointError::Tls(io::Error::other(error.to_string())));
                return Shaken { answered: None, chain: Vec::new(), result };
            }
        };
        let connector = Connector { tls: config.into(), ..account.connector.clone() };
        let route = Route { endpoint: Arc::clone(&way.endpoint), address, user: Arc::clone(&connector.user) };
        let progress = Progress::default();
        let by = Instant::now() + self.limits.endpoint_limit;
        let result = connector.secure(socket, &route, &progress, by).await.map(|stream| {
            let (_, tls) = stream.get_ref();
            Secured {
                version: tls.protocol_version().and_then(version_text),
                cipher: tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).map(str::to_owned),
                connection: Connection { stream: Box::new(stream), route },
            }
        });
        let chain = witness.shown().iter().filter_map(Described::of).collect();
        Shaken { answered: progress.answered(), chain, result }
    }
}

/// Dials one address once; how long that took.
pub(crate) async fn dial_once(address: SocketAddr, limits: &Limits) -> (Duration, Result<TcpStream, EndpointError>) {
    let began = Instant::now();
    let dialled = match timeout(limits.endpoint_limit, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => dial::tune(&socket, limits).map(|()| socket).map_err(EndpointError::Tcp),
        Ok(Err(error)) => Err(EndpointError::Tcp(error)),
        Err(_elapsed) => Err(EndpointError::TcpTimedOut),
    };
    (began.elapsed(), dialled)
}

impl Cluster {
    /// Logs in over a verified connection.
    pub(crate) async fn examine_login(
        &self,
        setup: &Setup,
        way: &Arc<Way>,
        secured: Secured,
        lease: Option<&Lease>,
        parameters: &StartupParameters,
    ) -> Result<Upstream, LoginError> {
        let mut connection = secured.connection;
        let birth = self.birth(generation(lease));
        let account = setup.account_of(parameters);
        let login = Login { account, lease, metrics: &self.metrics };
        let by = Instant::now() + setup.limits.connect_limit;
        let logged_in = timeout_at(by, login.run(&mut connection, parameters)).await;
        let greeting = logged_in.unwrap_or(Err(LoginError::Endpoint(EndpointError::LoginTimedOut)))?;
        let Connection { stream, route } = connection;
        let held = Held::new(way.metrics.upstreams.at(UpstreamState::Session));
        Ok(Upstream { stream, login: LoggedIn { way: Arc::clone(way), route, greeting, held, birth } })
    }
}

impl Cluster {
    /// Connects and logs in, as another user of an endpoint that is known to be well.
    pub(crate) async fn examine_user(
        &self,
        setup: &Setup,
        way: &Arc<Way>,
        lease: Option<&Lease>,
        parameters: &StartupParameters,
    ) -> Result<Upstream, LoginError> {
        let connector = &setup.account_of(parameters).connector;
        let by = Instant::now() + setup.limits.endpoint_limit;
        let connection = connector.connect(way, &Progress::default(), by).await.map_err(LoginError::Endpoint)?;
        let secured = Secured { connection, version: None, cipher: None };
        self.examine_login(setup, way, secured, lease, parameters).await
    }
}

impl Upstream {
    /// Asks one query of the daemon's own; the answer is bounded in size and time. It is for people to read, and no
    /// server may say the secret to them that it was sent in clear.
    pub(crate) async fn ask(&mut self, sql: &str, secret: &[u8]) -> Result<Answer, AskError> {
        match timeout(ASK_LIMIT, self.converse(sql)).await {
            Ok(Ok(Answer { error: Some(error), .. })) => Err(AskError::Server(error.without(secret))),
            Ok(Ok(answer)) => Ok(answer.without(secret)),
            Ok(Err(error)) => Err(AskError::Lost(error)),
            Err(_elapsed) => Err(AskError::Late),
        }
    }

    async fn converse(&mut self, sql: &str) -> io::Result<Answer> {
        let mut question = sql.as_bytes().to_vec();
        question.push(0);
        self.stream.write_all(&messages::frame(b'Q', &question)).await?;
        self.stream.flush().await?;
        let (mut answer, mut bytes, mut all) = (Answer::default(), Vec::with_capacity(1024), 0_usize);
        while !answer.is_whole {
            let read = self.stream.read_buf(&mut bytes).await?;
            all = all.saturating_add(read);
            if read == 0 || all > ANSWER_BYTES_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            while let Some((kind, body, size)) = messages::whole(&bytes) {
                answer.take(kind, body).map_err(|_out_of_place| io::ErrorKind::InvalidData)?;
                bytes.drain(..size);
            }
        }
        Ok(answer)
    }

    /// Leaves politely; a goodbye that does not arrive changes nothing.
    pub(crate) async fn leave(mut self) {
        let goodbye = async {
            let _ = self.stream.write_all(messages::TERMINATE).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = timeout(GOODBYE_LIMIT, goodbye).await;
    }
}

/// As people write it.
fn version_text(version: rustls::ProtocolVersion) -> Option<String> {
    match version {
        rustls::ProtocolVersion::TLSv1_2 => Some("TLSv1.2".to_owned()),
        rustls::ProtocolVersion::TLSv1_3 => Some("TLSv1.3".to_owned()),
        _ => None,
    }
}

const ASK_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
