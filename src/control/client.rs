//! One question to a daemon's admin address, and its answer. Every question has a limit of time, every answer
//! one of bytes.

use super::ControlError;
use crate::settings::{AdminAddress, FoundAdmin};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST},
};
use hyper_util::rt::TokioIo;
use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Asks one daemon.
pub struct Client {
    admin: AdminAddress,
    address: String,
    by_file: bool,
}

/// What a daemon is asked.
#[derive(Clone, Debug)]
pub struct Question {
    method: Method,
    path: String,
    limit: Duration,
    bytes_max: usize,
}

impl Question {
    /// To see something.
    pub fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), limit: LIMIT, bytes_max: BYTES_MAX }
    }

    /// To change something. What stands in `path` must need no escapes.
    pub fn post(path: &str) -> Self {
        Self { method: Method::POST, ..Self::get(path) }
    }

    /// Answered within this time.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Answered in so many bytes.
    #[must_use]
    pub fn of_bytes(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }
}

/// What a daemon, or whoever is at its address, answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

impl Client {
    /// Of the daemon behind `found`.
    ///
    /// # Errors
    /// There is nothing to ask there.
    pub fn new(found: FoundAdmin) -> Result<Self, ControlError> {
        let FoundAdmin { address: admin, by_file } = found;
        let by_file = by_file.is_some();
        let address = match &admin {
            AdminAddress::Off => return Err(ControlError::Off { by_file }),
            AdminAddress::Localhost(0) => return Err(ControlError::AnyPort),
            AdminAddress::Tcp(address) if address.port() == 0 => return Err(ControlError::AnyPort),
            AdminAddress::Localhost(port) => format!("localhost:{port}"),
            AdminAddress::Tcp(address) => address.to_string(),
            AdminAddress::Unix(path) => format!("unix:{}", path.display()),
        };
        Ok(Self { admin, address, by_file })
    }

    /// Where it asks, for people.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks. If the future is dropped, what was to be changed may or may not have been.
    ///
    /// # Errors
    /// Nobody is there, or gives no whole answer in time.
    pub async fn ask(&self, question: &Question) -> Result<Answer, ControlError> {
        let (address, limit) = (|| self.address.clone(), question.limit);
        let is_order = question.method != Method::GET;
        let work = async {
            let stream = connect(&self.admin).await;
            let by_file = self.by_file;
            let stream = stream.map_err(|source| ControlError::Unreachable { address: address(), source, by_file })?;
            let host = if matches!(self.admin, AdminAddress::Unix(_)) { "localhost" } else { &self.address };
            let answer = exchange(stream, host, question).await;
            answer.map_err(|source| ControlError::Lost { address: address(), source, is_order })
        };
        let silent = |_| Err(ControlError::Silent { address: address(), limit, is_order });
        timeout(limit, work).await.unwrap_or_else(silent)
    }

    /// What an answer means that is not what was hoped for.
    pub fn refusal(&self, answer: &Answer) -> ControlError {
        match answer.reason() {
            Some(reason) => ControlError::Refused(reason.to_owned()),
            None => ControlError::Stranger { address: self.address.clone(), status: answer.status },
        }
    }
}

impl Answer {
    /// The reason for which a daemon of ours says no; `None` if none would say so.
    pub fn reason(&self) -> Option<&str> {
        let of_ours = self.status.is_client_error()
            || [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT].contains(&self.status);
        let reason = str::from_utf8(&self.body).ok()?.lines().next()?;
        let is_sentence = (1..=REASON_BYTES_MAX).contains(&reason.len()) && !reason.starts_with('<');
        (of_ours && is_sentence).then_some(reason)
    }
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
async fn exchange(stream: Box<dyn Stream>, host: &str, question: &Question) -> Result<Answer, Lost> {
    let request = Request::builder().method(&question.method).uri(&question.path);
    let request = request.header(HOST, host).header(CONNECTION, "close").body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), question.bytes_max).collect().await?.to_bytes();
        Ok(Answer { status, body })
    };
    // How the connection ended shows in the answer.
    tokio::join!(asking, connection).0
}

const LIMIT: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 64 * 1024;
const REASON_BYTES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_sentence_of_a_daemon_of_ours() {
        let answer = |status, body: &'static [u8]| Answer { status, body: body.into() };

        assert_eq!(answer(StatusCode::FORBIDDEN, b"no\n").reason(), Some("no"));
        assert_eq!(answer(StatusCode::SERVICE_UNAVAILABLE, b"draining\n").reason(), Some("draining"));
        for (status, body) in [
            (StatusCode::OK, b"ok".as_slice()),
            (StatusCode::NOT_FOUND, b"<html>"),
            (StatusCode::NOT_FOUND, b""),
            (StatusCode::BAD_GATEWAY, b"no"),
        ] {
            assert_eq!(answer(status, body).reason(), None, "{status}");
        }
    }

    #[test]
    fn an_address_that_is_off_or_any_port_is_no_address() {
        for (admin, words) in [
            (AdminAddress::Off, "is off"),
            (AdminAddress::Localhost(0), "port 0"),
            (AdminAddress::Tcp("127.0.0.1:0".parse().unwrap()), "port 0"),
        ] {
            let error = Client::new(FoundAdmin { address: admin, by_file: None }).err().unwrap();

            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_waited_for_no_longer_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("silent");
        // Nobody accepts, so that there is no answer for the clock to run ahead of.
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let client = Client::new(FoundAdmin { address: AdminAddress::Unix(path), by_file: None }).unwrap();
        for (question, limit) in
            [(Question::get("/readyz"), LIMIT), (Question::post("/drain").within(LIMIT * 2), LIMIT * 2)]
        {
            let begun = tokio::time::Instant::now();

            let error = client.ask(&question).await.unwrap_err();

            assert!(matches!(error, ControlError::Silent { .. }), "{error}");
            assert_eq!(begun.elapsed(), limit);
        }
    }
}
