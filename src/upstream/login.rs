//! From a verified connection to ReadyForQuery, with the injected credential. The client takes no part:
//! it never sees a challenge, and the server never sees what the client would have answered.

use super::{
    Account,
    connect::{Connection, Encrypted},
    error::{EndpointError, LoginError},
};
use crate::{
    credentials::Lease,
    metrics::{ClusterMetrics, labels::CacheResult},
    scram::{ChannelBinding, ClientFirst, KeyCache},
    settings::AuthMethod,
    tls,
    wire::{
        CancelKey, ServerError, StartupParameters,
        messages::{self, Authentication},
    },
};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a server says between AuthenticationOk and ReadyForQuery, for the client to hear.
#[derive(Clone, Debug, Default)]
pub(crate) struct Greeting {
    /// ParameterStatus and NoticeResponse messages that came before the key.
    pub(crate) before_key: Vec<u8>,
    /// The server's cancel key; some servers give none.
    pub(crate) key: Option<CancelKey>,
    /// What came after the key, ReadyForQuery last.
    pub(crate) after_key: Vec<u8>,
    /// What the server sent behind ReadyForQuery.
    pub(crate) read_ahead: Vec<u8>,
}

/// Who logs in.
pub(super) struct Login<'a> {
    /// The SQL user, with its derived SCRAM keys: thousands of hash rounds that need not be done again.
    pub(super) account: &'a Account,
    /// The secret, when one is configured.
    pub(super) lease: Option<&'a Lease>,
    pub(super) metrics: &'a ClusterMetrics,
}

impl Login<'_> {
    /// Logs in with `parameters`. The caller bounds the time. Not cancel safe: the connection is lost.
    pub(super) async fn run(
        &self,
        connection: &mut Connection,
        parameters: &StartupParameters,
    ) -> Result<Greeting, LoginError> {
        self.log_in(connection, parameters).await.map_err(|error| match error {
            LoginError::Server(error) => self.fit_to_read(error),
            other => other,
        })
    }

    /// Clients, logs and `/status` tell what a server says, and no server may say the secret to them that it was
    /// sent in clear.
    fn fit_to_read(&self, error: ServerError) -> LoginError {
        if !error.is_whole() {
            return LoginError::Endpoint(EndpointError::Protocol("an error has no end or no message"));
        }
        LoginError::Server(match self.lease {
            Some(lease) => error.without(lease.secret.expose()),
            None => error,
        })
    }

    async fn log_in(
        &self,
        connection: &mut Connection,
        parameters: &StartupParameters,
    ) -> Result<Greeting, LoginError> {
        let stream = &mut connection.stream;
        send(stream, &messages::startup(parameters)).await?;
        let mut server = Server { stream, bytes: Vec::with_capacity(USUAL_BYTES), start: 0, read: 0 };
        let mut greeting = Greeting::default();
        self.authenticate(&mut server, &mut greeting).await?;
        loop {
            let message = server.next().await?;
            match message.kind() {
                b'S' | b'N' => greeting.hold(&message),
                b'K' => greeting.key = Some(CancelKey::new(message.body()).ok_or(ODD_KEY)?),
                b'Z' if message.body() == b"I" => {
                    greeting.hold(&message);
                    greeting.read_ahead = server.bytes.split_off(server.start);
                    return Ok(greeting);
                }
                b'E' => return Err(LoginError::Server(ServerError::parse(message.body()))),
                _ => return Err(unexpected()),
            }
        }
    }

    async fn authenticate(&self, server: &mut Server<'_>, greeting: &mut Greeting) -> Result<(), LoginError> {
        let mut is_proven = false;
        loop {
            let message = server.next().await?;
            match message.kind() {
                b'N' => greeting.hold(&message),
                b'E' => return Err(LoginError::Server(ServerError::parse(message.body()))),
                b'R' => match Authentication::parse(message.body()).ok_or_else(unexpected)? {
                    Authentication::Ok if is_proven => return Ok(()),
                    Authentication::Ok => return self.account.methods.check(AuthMethod::Nothing),
                    // One proof is enough for any server: asking again is fishing.
                    Authentication::Cleartext | Authentication::Sasl(_) if is_proven => return Err(unexpected()),
                    Authentication::Cleartext => {
                        self.account.methods.check(AuthMethod::Password)?;
                        self.send_password(server.stream).await?;
                        is_proven = true;
                    }
                    Authentication::Sasl(mechanisms) => {
                        self.account.methods.check(AuthMethod::Scram)?;
                        self.scram(server, mechanisms).await?;
                        self.account.methods.has_proven();
                        is_proven = true;
                    }
                    Authentication::Other(method) => return Err(LoginError::Unsupported(method)),
                    Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => return Err(unexpected()),
                },
                _ => return Err(unexpected()),
            }
        }
    }

    /// The password as it is: TLS is verified, so only the cluster reads it.
    async fn send_password(&self, stream: &mut Encrypted) -> Result<(), LoginError> {
        let lease = self.lease.ok_or(LoginError::NoSecret)?;
        let message = messages::password(&lease.secret);
        send(stream, message.expose()).await
    }

    /// SCRAM-SHA-256, bound to the channel where the server offers that; ends when the server has proven
    /// that it knows the password too.
    async fn scram(&self, server: &mut Server<'_>, mechanisms: &[u8]) -> Result<(), LoginError> {
        let lease = self.lease.ok_or(LoginError::NoSecret)?;
        let offers = |name: &str| mechanisms.split(|&byte| byte == 0).any(|offered| offered == name.as_bytes());
        let end_point =
            server.stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(tls::server_end_point);
        let binding = match end_point {
            Some(hash) if offers(SCRAM_PLUS) => ChannelBinding::ServerEndPoint(hash),
            // A certificate without a usable hash (Ed25519): not even "you do not offer it", since it does.
            None if offers(SCRAM) => ChannelBinding::Unsupported,
            Some(_) if offers(SCRAM) => ChannelBinding::NotOffered,
            _ => return Err(LoginError::NoMechanism),
        };
        let mechanism = binding.mechanism();
        let first = ClientFirst::new(binding).map_err(LoginError::Scram)?;
        send(server.stream, &messages::sasl_initial_response(mechanism, &first.message())).await?;

        let message = server.authentication().await?;
        let Some(Authentication::SaslContinue(challenge)) = Authentication::parse(message.body()) else {
            return Err(unexpected());
        };
        let challenge = first.challenge(challenge).map_err(LoginError::Scram)?;
        // What a client's own password gives is kept for nobody.
        let of_client = KeyCache::default();
        let cache = if self.account.user.asks_client { &of_client } else { &self.account.access.keys };
        let (keys, was_cached) = cache
            .get(&self.account.user.name, challenge.salt(), challenge.iterations(), lease)
            .await
            .map_err(LoginError::Scram)?;
        self.metrics.scram_cache.at(if was_cached { CacheResult::Hit } else { CacheResult::Miss }).inc();
        let (proof, expected) = challenge.answer(&keys);
        send(server.stream, &messages::frame(b'p', &proof)).await?;

        let message = server.authentication().await?;
        let Some(Authentication::SaslFinal(signature)) = Authentication::parse(message.body()) else {
            return Err(unexpected());
        };
        expected.verify(signature).map_err(LoginError::Scram)
    }
}

impl Greeting {
    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.before_key.len().saturating_add(self.after_key.len()).saturating_add(self.read_ahead.len())
    }

    fn hold(&mut self, message: &Message) {
        let part = if self.key.is_some() { &mut self.after_key } else { &mut self.before_key };
        part.extend_from_slice(&message.0);
    }
}

/// The server's messages, one at a time.
struct Server<'a> {
    stream: &'a mut Encrypted,
    bytes: Vec<u8>,
    start: usize,
    read: usize,
}

/// A whole message with its header.
struct Message(Vec<u8>);

impl Message {
    fn kind(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    fn body(&self) -> &[u8] {
        self.0.get(HEADER_BYTES..).unwrap_or_default()
    }
}

impl Server<'_> {
    async fn next(&mut self) -> Result<Message, LoginError> {
        loop {
            if let Some(size) = self.whole_message()? {
                let end = self.start.saturating_add(size);
                let message = self.bytes.get(self.start..end).unwrap_or_default().to_vec();
                self.start = end;
                return Ok(Message(message));
            }
            self.bytes.drain(..self.start);
            self.start = 0;
            let read = self.stream.read_buf(&mut self.bytes).await.map_err(lost)?;
            self.read = self.read.saturating_add(read);
            if read == 0 {
                return Err(lost(io::ErrorKind::UnexpectedEof.into()));
            }
            if self.read > LOGIN_BYTES_MAX {
                return Err(LoginError::Endpoint(EndpointError::Protocol("they are too long")));
            }
        }
    }

    /// The server's next part of an exchange; its error is the answer, too.
    async fn authentication(&mut self) -> Result<Message, LoginError> {
        let message = self.next().await?;
        match message.kind() {
            b'R' => Ok(message),
            b'E' => Err(LoginError::Server(ServerError::parse(message.body()))),
            _ => Err(unexpected()),
        }
    }

    /// The size of the message at the front, header included, once it is whole.
    fn whole_message(&self) -> Result<Option<usize>, LoginError> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let Some(([_, length @ ..], _)) = rest.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(LoginError::Endpoint(EndpointError::Protocol("a message's length cannot be")));
        }
        let size = length.saturating_add(1);
        Ok((rest.len() >= size).then_some(size))
    }
}

async fn send(stream: &mut Encrypted, bytes: &[u8]) -> Result<(), LoginError> {
    stream.write_all(bytes).await.map_err(lost)?;
    stream.flush().await.map_err(lost)
}

/// Under TLS 1.3 a refused client certificate shows only now, as an alert on the first read.
fn lost(error: io::Error) -> LoginError {
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref());
    LoginError::Endpoint(match alert {
        Some(rustls::Error::AlertReceived(alert)) => EndpointError::TlsAlert(format!("{alert:?}")),
        _ => EndpointError::LoginLost(error),
    })
}

fn unexpected() -> LoginError {
    LoginError::Endpoint(EndpointError::Protocol("one came that has no place there"))
}

const ODD_KEY: LoginError = LoginError::Endpoint(EndpointError::Protocol("a cancel key has 8 to 260 bytes"));
const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";
const HEADER_BYTES: usize = 5;
const USUAL_BYTES: usize = 2048;
/// As libpq bounds messages before a session.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// All of a login's messages; a server's dozen ParameterStatus take one or two KiB.
const LOGIN_BYTES_MAX: usize = 256 * 1024;
