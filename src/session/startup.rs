//! From a client's first byte to its startup message or cancel request, within size and time limits.
//! Nothing a client sends before TLS is ever taken for something sent after it (CVE-2021-23214).

use super::{
    client_stream::ClientStream,
    startups::{Late, Patience, SHORT_LIMIT},
};
use crate::{
    metrics::labels::RefuseReason,
    wire::{
        CancelKey, ClientError, FirstMessage, SqlState, StartupParameters,
        first_message::{FirstMessageError, TLS_HANDSHAKE},
        options::Reserved,
    },
};
use std::{fmt, io, num::NonZero};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// What a client wants, and the stream it wants it on.
pub(crate) struct Startup {
    /// Encrypted or not, as the two sides agreed.
    pub(crate) stream: ClientStream,
    /// What it wants.
    pub(crate) wish: Wish,
}

/// What a client wants.
pub(crate) enum Wish {
    /// A session.
    Session(Asked),
    /// To cancel what another session runs.
    Cancel(CancelKey),
}

/// A startup message.
pub(crate) struct Asked {
    /// Minor version of protocol 3.
    pub(crate) minor: u16,
    /// As the client sent them.
    pub(crate) parameters: StartupParameters,
    /// What the client sent behind it, without waiting for an answer.
    pub(crate) read_ahead: Vec<u8>,
}

/// How clients may come in.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a> {
    /// Longest startup message.
    pub(crate) bytes_max: NonZero<usize>,
    /// Local TLS, when the listener has it.
    pub(crate) tls: Option<&'a TlsAcceptor>,
    /// Most bytes of one read of a client's socket under TLS.
    pub(crate) bulk_bytes: NonZero<usize>,
    /// Whether a client in clear is refused.
    pub(crate) requires_tls: bool,
    /// How long the startup may take.
    pub(crate) patience: Patience<'a>,
}

/// Why a client's startup came to nothing. The client is always to blame, or gone.
#[derive(Debug)]
pub(crate) enum StartupError {
    /// It closed, or was silent for the whole limit, without having sent a byte: a port scan or a health check.
    Silent,
    /// It closed in the middle.
    HalfSent,
    /// It closed when it heard that there is no TLS here, as `sslmode=require` demands.
    WantedTls,
    /// It took longer than `startup_limit`.
    TooSlow,
    /// It took its time while others waited for its place. It is closed without a word, since that would take time, too.
    GaveWay { was_silent: bool },
    /// Its connection broke.
    Io(io::Error),
    /// The message's length says more than `startup_bytes_max`.
    TooLarge { bytes: u32, bytes_max: usize },
    /// It does not speak the protocol.
    Malformed(&'static str),
    /// It asked twice for the same encryption, or for any under TLS.
    AskedTwice(&'static str),
    /// It sent bytes in clear behind a request for encryption, before the answer.
    BytesBeforeAnswer,
    /// It speaks a major version that is not spoken here.
    Major(u16),
    /// It began a TLS handshake on a listener without TLS.
    TlsIsOff,
    /// The TLS handshake failed.
    Tls(io::Error),
    /// It came in clear to a listener that requires TLS.
    TlsRequired,
    /// It asks for what is not a client's to ask for.
    Reserved(Reserved),
}

/// A failed startup, with the stream on which it may still be told so.
pub(crate) struct Failed {
    pub(crate) error: StartupError,
    pub(crate) stream: Option<ClientStream>,
}

impl Failed {
    /// The startup was read, and asks for what is not a client's to ask for.
    pub(crate) fn reserved(reserved: Reserved, stream: ClientStream) -> Self {
        Self { error: StartupError::Reserved(reserved), stream: Some(stream) }
    }
}

/// Reads up to the startup message or cancel request. Not cancel safe: what was read is lost.
pub(crate) async fn read(stream: ClientStream, gate: Gate<'_>) -> Result<Startup, Failed> {
    let bytes = Vec::with_capacity(USUAL_BYTES);
    let mut reader = Reader { stream, bytes, gate, asked_tls: false, asked_gss: false };
    if gate.tls.is_some() {
        match gate.patience.bound(reader.stream.begins_tls()).await {
            Ok(Ok(true)) => reader = reader.secure().await.map_err(|error| Failed { error, stream: None })?,
            // The first read meets the same end of input or error again.
            Ok(_) => {}
            Err(Late::Limit) => return Err(Failed { error: StartupError::Silent, stream: Some(reader.stream) }),
            Err(Late::CalledAway) => {
                return Err(Failed { error: StartupError::GaveWay { was_silent: true }, stream: None });
            }
        }
    }
    loop {
        let step = match reader.next().await {
            Ok(message) => reader.step(message).await,
            Err(error) => Err(error),
        };
        match step {
            Ok(Step::AnotherMessage) => {}
            Ok(Step::Secure) => reader = reader.secure().await.map_err(|error| Failed { error, stream: None })?,
            Ok(Step::Done(wish)) => return Ok(Startup { stream: reader.stream, wish }),
            Err(error @ StartupError::GaveWay { .. }) => return Err(Failed { error, stream: None }),
            Err(error) => return Err(Failed { error, stream: Some(reader.stream) }),
        }
    }
}

struct Reader<'a> {
    stream: ClientStream,
    bytes: Vec<u8>,
    gate: Gate<'a>,
    asked_tls: bool,
    asked_gss: bool,
}

enum Step {
    AnotherMessage,
    Secure,
    Done(Wish),
}

impl Reader<'_> {
    async fn next(&mut self) -> Result<FirstMessage, StartupError> {
        loop {
            if self.bytes.first() == Some(&TLS_HANDSHAKE) {
                return Err(StartupError::TlsIsOff);
            }
            let bytes_max = self.gate.bytes_max.get();
            if let Some((message, taken)) = FirstMessage::parse(&self.bytes, bytes_max)
                .map_err(|error| StartupError::from_wire(error, bytes_max))?
            {
                self.bytes.drain(..taken);
                return Ok(message);
            }
            // The parser refuses what is longer, so this grows to `bytes_max` and one read at most.
            let is_first = self.bytes.is_empty() && !self.asked_tls && !self.asked_gss && !self.stream.is_tls();
            match self.gate.patience.bound(self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(0)) | Err(Late::Limit) if is_first => return Err(StartupError::Silent),
                Err(Late::CalledAway) => return Err(StartupError::GaveWay { was_silent: is_first }),
                Ok(Ok(0)) if self.asked_tls && self.bytes.is_empty() && !self.stream.is_tls() => {
                    return Err(StartupError::WantedTls);
                }
                Ok(Ok(0)) => return Err(StartupError::HalfSent),
                Ok(Ok(_)) => {}
                // A balancer's health check may end in a reset.
                Ok(Err(_)) if is_first => return Err(StartupError::Silent),
                Ok(Err(error)) => return Err(StartupError::Io(error)),
                Err(late) => return Err(late.into()),
            }
        }
    }

    async fn step(&mut self, message: FirstMessage) -> Result<Step, StartupError> {
        match message {
            FirstMessage::SslRequest => {
                self.note_request(RequestKind::Ssl)?;
                if self.gate.tls.is_none() || !matches!(self.stream, ClientStream::Tcp(_)) {
                    return self.answer(b"N").await;
                }
                self.answer(b"S").await?;
                Ok(Step::Secure)
            }
            FirstMessage::GssEncRequest => {
                self.note_request(RequestKind::Gss)?;
                self.answer(b"N").await
            }
            // A cancel is let through in clear: libpq before 17 sends it so even from an encrypted session.
            FirstMessage::Cancel(key) => Ok(Step::Done(Wish::Cancel(key))),
            FirstMessage::Startup { .. } if self.gate.requires_tls && !self.stream.is_tls() => {
                Err(StartupError::TlsRequired)
            }
            FirstMessage::Startup { minor, parameters } => {
                let read_ahead = std::mem::take(&mut self.bytes);
                Ok(Step::Done(Wish::Session(Asked { minor, parameters, read_ahead })))
            }
        }
    }

    fn note_request(&mut self, kind: RequestKind) -> Result<(), StartupError> {
        let (asked, name) = match kind {
            RequestKind::Ssl => (&mut self.asked_tls, "SSLRequest"),
            RequestKind::Gss => (&mut self.asked_gss, "GSSENCRequest"),
        };
        if *asked || self.stream.is_tls() {
            return Err(StartupError::AskedTwice(name));
        }
        *asked = true;
        if self.bytes.is_empty() { Ok(()) } else { Err(StartupError::BytesBeforeAnswer) }
    }

    async fn answer(&mut self, byte: &[u8; 1]) -> Result<Step, StartupError> {
        self.stream.write_all(byte).await.map_err(StartupError::Io)?;
        Ok(Step::AnotherMessage)
    }

    async fn secure(self) -> Result<Self, StartupError> {
        let acceptor = self.gate.tls.ok_or(StartupError::TlsIsOff)?;
        let secured = self.gate.patience.bound(self.stream.secure(acceptor, self.gate.bulk_bytes.get())).await;
        let stream = secured.map_err(StartupError::from)?.map_err(StartupError::Tls)?;
        Ok(Self { stream, asked_tls: true, ..self })
    }
}

#[derive(Clone, Copy)]
enum RequestKind {
    Ssl,
    Gss,
}

impl From<Late> for StartupError {
    fn from(late: Late) -> Self {
        match late {
            Late::Limit => Self::TooSlow,
            Late::CalledAway => Self::GaveWay { was_silent: false },
        }
    }
}

impl StartupError {
    fn from_wire(error: FirstMessageError, bytes_max: usize) -> Self {
        match error {
            FirstMessageError::TooLarge(bytes) => Self::TooLarge { bytes, bytes_max },
            FirstMessageError::Malformed(reason) => Self::Malformed(reason),
            FirstMessageError::Major(major) => Self::Major(major),
        }
    }

    /// The metric's label.
    pub(crate) fn reason(&self) -> RefuseReason {
        match self {
            Self::Silent | Self::GaveWay { was_silent: true } => RefuseReason::Silent,
            Self::HalfSent
            | Self::Io(_)
            | Self::Malformed(_)
            | Self::AskedTwice(_)
            | Self::BytesBeforeAnswer
            | Self::Reserved(_) => RefuseReason::StartupMalformed,
            Self::TooLarge { .. } => RefuseReason::StartupTooLarge,
            Self::TooSlow | Self::GaveWay { was_silent: false } => RefuseReason::StartupTimeout,
            Self::Major(_) => RefuseReason::ProtocolVersion,
            Self::TlsIsOff | Self::WantedTls | Self::Tls(_) => RefuseReason::TlsFailed,
            Self::TlsRequired => RefuseReason::TlsRequired,
        }
    }

    /// What the client reads, if it can read anything now.
    pub(crate) fn to_client(&self) -> Option<ClientError> {
        let violation = |message: String| Some(ClientError::new(SqlState::PROTOCOL_VIOLATION, message));
        match self {
            // Gone, or amid a TLS handshake.
            Self::GaveWay { .. }
            | Self::Silent
            | Self::HalfSent
            | Self::WantedTls
            | Self::Io(_)
            | Self::TlsIsOff
            | Self::Tls(_) => None,
            // So long a message is none: another protocol's bytes, read as a length.
            Self::TooLarge { bytes, .. } if *bytes > LENGTH_OF_SENSE => violation(format!(
                "crdb-proxy refused the startup: {self}; is it PostgreSQL's protocol that the client speaks?"
            )),
            Self::TooLarge { .. } => violation(format!("crdb-proxy refused the startup: {self}"))
                .map(|error| error.hint("Send fewer or shorter startup parameters, or raise \"startup_bytes_max\".")),
            Self::Malformed(_) | Self::AskedTwice(_) | Self::BytesBeforeAnswer | Self::TooSlow => {
                violation(format!("crdb-proxy refused the startup: {self}"))
            }
            Self::Major(_) => Some(
                ClientError::new(SqlState::NOT_SUPPORTED, format!("crdb-proxy refused the startup: {self}"))
                    .hint("Use a driver that speaks protocol 3, as every one since PostgreSQL 7.4 does."),
            ),
            Self::TlsRequired => Some(
                ClientError::new(SqlState::INVALID_AUTHORIZATION, "this listener of crdb-proxy requires TLS")
                    .hint("Connect with sslmode=require, or set the listener's \"tls\" to \"allow\"."),
            ),
            Self::Reserved(reserved) => Some(
                ClientError::new(SqlState::INVALID_AUTHORIZATION, format!("crdb-proxy refused the startup: {self}"))
                    .hint(reserved.hint()),
            ),
        }
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("the client sent nothing"),
            Self::HalfSent => f.write_str("the client closed in the middle of its startup"),
            Self::WantedTls => f.write_str("the client wants TLS, and the listener's \"tls\" is \"off\""),
            Self::TooSlow => f.write_str("it took longer than \"startup_limit\""),
            Self::GaveWay { .. } => {
                write!(
                    f,
                    "it took longer than {SHORT_LIMIT:?} while others waited, with \"startups_max\" clients in startup"
                )
            }
            Self::Io(error) => write!(f, "the client's connection broke: {error}"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "it says that it has {bytes} bytes; the limit is {bytes_max}")
            }
            Self::Malformed(reason) => f.write_str(reason),
            Self::AskedTwice(name) => write!(f, "a second {name} in one connection"),
            Self::BytesBeforeAnswer => f.write_str("bytes followed a request for encryption before its answer"),
            Self::Major(major) => write!(f, "protocol {major} is not supported, 3.0 and 3.2 are"),
            Self::TlsIsOff => f.write_str("the client began a TLS handshake, and the listener's \"tls\" is \"off\""),
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::TlsRequired => f.write_str("the client came in clear"),
            Self::Reserved(reserved) => reserved.fmt(f),
        }
    }
}

/// What nearly every startup message fits into.
const USUAL_BYTES: usize = 512;

/// No startup message that means to be one is longer.
const LENGTH_OF_SENSE: u32 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_suggested_only_where_it_could_help() {
        let told = |bytes| StartupError::TooLarge { bytes, bytes_max: 10_000 }.to_client().unwrap();

        assert!(told(10_001).hint.unwrap().contains("startup_bytes_max"));
        // "GET " as a length.
        let http = told(0x4745_5420);
        assert!(http.hint.is_none() && http.message.contains("is it PostgreSQL's protocol"), "{}", http.message);
    }
}
