//! Orders to a running daemon: the words that its admin address takes and answers, and the client by which
//! the commands send them. Knows neither what an order does nor who may give one; opens one connection,
//! to the daemon's own admin address.

use crate::{
    diagnostics::Chain,
    settings::{AdminAddress, Name, duration_from_text},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// What can be ordered for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// New sessions pass it over.
    Disable,
    /// The settings alone count again.
    Enable,
    /// New sessions try it first.
    Prefer,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disable, Self::Enable, Self::Prefer];

    /// As the command line and the path of a request say it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Prefer => "prefer",
        }
    }
}

/// An order, unchecked, as the command line says it.
#[derive(Clone)]
pub struct Order {
    /// What to do.
    pub verb: Verb,
    /// The endpoint's name.
    pub endpoint: String,
    /// The cluster's name; needed where several have such an endpoint.
    pub cluster: Option<String>,
    /// How long the order stands, number and unit; absent: [`USUAL_SPAN`].
    pub span: Option<String>,
}

/// An order that was taken; the body of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// `disabled`, `preferred` or `enabled`.
    pub state: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// Its cluster's name.
    pub cluster: String,
    /// When the order ends by itself, RFC 3339; absent for `enabled`.
    pub until: Option<String>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, endpoint, cluster, until } = self;
        write!(f, "endpoint \"{endpoint}\" of cluster \"{cluster}\" is {state}")?;
        match until {
            Some(until) => write!(f, " until {until}; open sessions stay where they are"),
            None => f.write_str(": the settings alone count again"),
        }
    }
}

/// Why an order was not taken.
#[derive(Debug)]
pub enum ControlError {
    /// The command line says what cannot be.
    Wrong(String),
    /// The daemon answers nowhere.
    Off,
    /// It answers at a port of which the settings only say that any will do.
    AnyPort,
    /// There is no connection to the address.
    Unreachable {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// There was no answer in time.
    Silent {
        /// The address.
        address: String,
    },
    /// There was no whole answer.
    Lost {
        /// The address.
        address: String,
        /// How it was lost.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is not what this daemon would say.
    Stranger {
        /// The address.
        address: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// The daemon said no, in these words.
    Refused(String),
}

/// Has the daemon behind `admin` carry out an order. Takes at most five seconds; if the future is dropped,
/// the order may or may not have been taken.
///
/// # Errors
/// It was not taken, or nobody knows.
pub async fn send(admin: &AdminAddress, order: &Order) -> Result<Taken, ControlError> {
    let path = path_of(order)?;
    let address = match admin {
        AdminAddress::Off => return Err(ControlError::Off),
        AdminAddress::Localhost(0) => return Err(ControlError::AnyPort),
        AdminAddress::Tcp(address) if address.port() == 0 => return Err(ControlError::AnyPort),
        AdminAddress::Localhost(port) => format!("localhost:{port}"),
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    };
    let work = async {
        let stream = connect(admin).await;
        let stream = stream.map_err(|source| ControlError::Unreachable { address: address.clone(), source })?;
        let host = if matches!(admin, AdminAddress::Unix(_)) { "localhost" } else { &address };
        let answer = ask(stream, host, &path).await;
        let (status, body) = answer.map_err(|source| ControlError::Lost { address: address.clone(), source })?;
        judge(status, &body).ok_or_else(|| ControlError::Stranger { address: address.clone(), status })?
    };
    timeout(LIMIT, work).await.unwrap_or_else(|_| Err(ControlError::Silent { address: address.clone() }))
}

/// The request's path and query. What a name and a span may be leaves nothing to escape.
fn path_of(order: &Order) -> Result<String, ControlError> {
    let named = |name: &str, what: &str| {
        let rule = format!("the {what}'s name is no name: it must be 1 to 63 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"");
        Name::new(name).ok_or(ControlError::Wrong(rule))
    };
    let mut path = format!("/endpoints/{}/{}", named(&order.endpoint, "endpoint")?, order.verb.text());
    let mut mark = '?';
    if let Some(span) = &order.span {
        let rule = |rule| ControlError::Wrong(format!("flag --for: {rule}"));
        duration_from_text(span, SPANS).map_err(rule)?;
        path = format!("{path}?for={span}");
        mark = '&';
    }
    if let Some(cluster) = &order.cluster {
        path = format!("{path}{mark}cluster={}", named(cluster, "cluster")?);
    }
    Ok(path)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(admin: &AdminAddress) -> io::Result<Box<dyn Stream>> {
    let addresses = match admin {
        AdminAddress::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        // The error of the last one is told, and IPv6 may just not be here.
        AdminAddress::Localhost(port) => vec![(Ipv6Addr::LOCALHOST, *port).into(), (Ipv4Addr::LOCALHOST, *port).into()],
        AdminAddress::Tcp(address) => vec![SocketAddr::new(reachable(address.ip()), address.port())],
        AdminAddress::Off => Vec::new(),
    };
    Ok(Box::new(TcpStream::connect(addresses.as_slice()).await?))
}

/// Where a socket that listens on `ip` takes orders.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

type Lost = Box<dyn Error + Send + Sync>;

/// One request, one answer, and the connection's end.
async fn ask(stream: Box<dyn Stream>, host: &str, path: &str) -> Result<(StatusCode, Bytes), Lost> {
    let request = Request::builder().method(Method::POST).uri(path).header(HOST, host).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes()))
    };
    // How the connection ended shows in the answer.
    tokio::join!(asking, connection).0
}

/// What the answer says; `None` if no daemon of ours would say so.
fn judge(status: StatusCode, body: &[u8]) -> Option<Result<Taken, ControlError>> {
    if status == StatusCode::ACCEPTED {
        return serde_json::from_slice(body).ok().map(Ok);
    }
    let reason = str::from_utf8(body).ok()?.lines().next().filter(|line| !line.is_empty())?;
    let is_refusal = status.is_client_error() && reason.len() <= REASON_BYTES_MAX && !reason.starts_with('<');
    is_refusal.then(|| Err(ControlError::Refused(reason.to_owned())))
}

impl ControlError {
    /// The exit code that says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Wrong(_) | Self::Off | Self::AnyPort => 2,
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Lost { .. }
            | Self::Stranger { .. }
            | Self::Refused(_) => 1,
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(rule) => f.write_str(rule),
            Self::Off => f.write_str(
                "the daemon takes no orders, since its admin address is off; set \"admin\" and restart it, \
                 or name another daemon's with --admin or --config",
            ),
            Self::AnyPort => f.write_str(
                "the admin address has port 0, which is any; name the real one with --admin: \
                 the daemon's log has it (\"listening\" with the listener.name \"admin\")",
            ),
            Self::Unreachable { address, source } => {
                write!(f, "no daemon can be reached at {address}: {}; {}", Chain(source), advice(source))
            }
            Self::Silent { address } => write!(
                f,
                "{address} did not answer within {} s; whether the order was taken, /status or the log tells",
                LIMIT.as_secs()
            ),
            Self::Lost { address, source } => write!(
                f,
                "{address} gave no whole answer: {}; whether the order was taken, /status or the log tells",
                Chain(source.as_ref())
            ),
            Self::Stranger { address, status } => write!(
                f,
                "{address} answered {status} as no crdb-proxy would; \
                 is it the admin address (--admin, --config) of one?"
            ),
            Self::Refused(reason) => write!(f, "the daemon refused the order: {reason}"),
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "the socket is for the daemon's own user and root",
        _ => "is it running, and is this its admin address (--admin, --config)?",
    }
}

impl Error for ControlError {}

/// How long an order stands that does not say it.
pub const USUAL_SPAN: Duration = Duration::from_secs(3600);
/// How long an order may stand: one that is forgotten must not send traffic round for days.
pub const SPANS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const REASON_BYTES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(endpoint: &str, span: Option<&str>, cluster: Option<&str>) -> Order {
        let text = |text: &str| text.to_owned();
        Order { verb: Verb::Disable, endpoint: text(endpoint), span: span.map(text), cluster: cluster.map(text) }
    }

    #[test]
    fn a_path_says_all_of_the_order() {
        let path = |span, cluster| path_of(&order("a-b.c", span, cluster)).unwrap();

        assert_eq!(path(None, None), "/endpoints/a-b.c/disable");
        assert_eq!(path(Some("90min"), None), "/endpoints/a-b.c/disable?for=90min");
        assert_eq!(path(None, Some("prod")), "/endpoints/a-b.c/disable?cluster=prod");
        assert_eq!(path(Some("1s"), Some("prod")), "/endpoints/a-b.c/disable?for=1s&cluster=prod");
    }

    #[test]
    fn what_is_wrong_with_an_order_is_told_without_repeating_it() {
        let secret = "postgresql://app:hunter2@h/d";
        for wrong in [order(secret, None, None), order("a", Some(secret), None), order("a", None, Some(secret))] {
            let error = path_of(&wrong).unwrap_err();

            assert_eq!(error.exit_code(), 2);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        for span in ["0s", "500ms", "25h", "1", "off"] {
            let error = path_of(&order("a", Some(span), None)).unwrap_err();
            assert!(error.to_string().starts_with("flag --for: must be"), "{error}");
        }
    }

    #[test]
    fn only_what_a_daemon_of_ours_would_say_is_believed() {
        let taken = br#"{"state":"enabled","endpoint":"a","cluster":"c","until":null}"#;

        assert!(matches!(judge(StatusCode::ACCEPTED, taken), Some(Ok(Taken { until: None, .. }))));
        assert!(
            matches!(judge(StatusCode::FORBIDDEN, b"no\n"), Some(Err(ControlError::Refused(reason))) if reason == "no")
        );
        assert!(judge(StatusCode::ACCEPTED, b"{}").is_none());
        for (status, body) in [
            (StatusCode::OK, taken.as_slice()),
            (StatusCode::NOT_FOUND, b"<html>"),
            (StatusCode::NOT_FOUND, b""),
            (StatusCode::BAD_GATEWAY, b"no"),
        ] {
            assert!(judge(status, body).is_none(), "{status}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_off_or_any_port_is_no_address() {
        for (admin, words) in [
            (AdminAddress::Off, "is off"),
            (AdminAddress::Localhost(0), "port 0"),
            (AdminAddress::Tcp("127.0.0.1:0".parse().unwrap()), "port 0"),
        ] {
            let error = send(&admin, &order("a", None, None)).await.unwrap_err();

            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_waited_for_five_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("silent");
        // Nobody accepts, so that there is no answer for the clock to run ahead of.
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let begun = tokio::time::Instant::now();

        let error = send(&AdminAddress::Unix(path), &order("a", None, None)).await.unwrap_err();

        assert!(matches!(error, ControlError::Silent { .. }), "{error}");
        assert_eq!(begun.elapsed(), LIMIT);
    }
}
