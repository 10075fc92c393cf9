//! Protocol messages as bytes, written down independently of the daemon's own code, so that one
//! mistake cannot hide in both. Layouts: PostgreSQL documentation, "Message Formats".

use super::DEADLINE;
use socket2::SockRef;
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

pub(crate) const PROTOCOL_3_0: u32 = 196_608;
pub(crate) const PROTOCOL_3_2: u32 = 196_610;
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub(crate) const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
pub(crate) const CANCEL_CODE: u32 = 80_877_102;

/// One message with a type byte.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse; `C` is the SQLSTATE, `M` the message, `H` the hint.
    pub(crate) fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|&byte| byte == 0)
            .filter_map(|field| field.split_first())
            .find(|(first, _)| **first == code)
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    }

    /// The SQLSTATE of an ErrorResponse; empty for any other message.
    /// The text of a simple query.
    pub(crate) fn query(&self) -> Option<String> {
        let sql = self.body.strip_suffix(b"\0").filter(|_| self.tag == b'Q')?;
        Some(String::from_utf8(sql.to_vec()).unwrap())
    }

    pub(crate) fn sqlstate(&self) -> String {
        if self.tag == b'E' { self.field(b'C').unwrap_or_default() } else { String::new() }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(400)];
        write!(f, "{} {:?}", char::from(self.tag), String::from_utf8_lossy(shown))
    }
}

/// A message: type byte, length, body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A message without a type byte, as they come before and at startup.
pub(crate) fn untyped(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The parameters of a startup message, with the closing zero byte.
pub(crate) fn parameters(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in pairs {
        bytes.extend(*key);
        bytes.push(0);
        bytes.extend(*value);
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

/// A startup message of protocol 3.0.
pub(crate) fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs = pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect::<Vec<_>>();
    untyped(PROTOCOL_3_0, &parameters(&pairs))
}

/// A CancelRequest for the key that BackendKeyData gave.
pub(crate) fn cancel_request(key: &[u8]) -> Vec<u8> {
    untyped(CANCEL_CODE, key)
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &zero_terminated(sql))
}

/// Parse (unnamed), Bind, Execute, without Sync.
pub(crate) fn extended(sql: &str) -> Vec<u8> {
    let parse = [b"\0".as_slice(), &zero_terminated(sql), &[0, 0]].concat();
    let bind = [0, 0, 0, 0, 0, 0, 0, 0];
    let execute = [0, 0, 0, 0, 0];
    [message(b'P', &parse), message(b'B', &bind), message(b'E', &execute)].concat()
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// ReadyForQuery; `state` is `I`, `T` or `E`.
pub(crate) fn ready(state: u8) -> Vec<u8> {
    message(b'Z', &[state])
}

pub(crate) fn command_complete(tag: &str) -> Vec<u8> {
    message(b'C', &zero_terminated(tag))
}

/// A whole answer: one text column, these values.
pub(crate) fn rows(values: &[&str]) -> Vec<u8> {
    let mut answer = message(b'T', b"\0\x01value\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    for value in values {
        let length = u32::try_from(value.len()).unwrap().to_be_bytes();
        answer.extend(message(b'D', &[b"\0\x01", &length[..], value.as_bytes()].concat()));
    }
    [answer, command_complete("SELECT 1"), ready(b'I')].concat()
}

pub(crate) fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', &[zero_terminated(name), zero_terminated(value)].concat())
}

/// An ErrorResponse with severity, SQLSTATE and message.
pub(crate) fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', &error_fields(severity, sqlstate, text))
}

pub(crate) fn notice(text: &str) -> Vec<u8> {
    message(b'N', &error_fields("NOTICE", "00000", text))
}

fn error_fields(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    let fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", text)];
    let mut body =
        fields.iter().flat_map(|(code, value)| zero_terminated(&format!("{code}{value}"))).collect::<Vec<_>>();
    body.push(0);
    body
}

fn zero_terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// A socket of any kind, with or without TLS around it.
pub(crate) trait Stream: Read + Write + Send {
    /// The socket below, for deadlines and for closing in unkind ways.
    fn socket(&self) -> SockRef<'_>;

    /// Says in the TLS layer, if there is one, that no more will come.
    fn say_goodbye(&mut self) {}
}

impl Stream for TcpStream {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl Stream for UnixStream {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl Stream for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.sock)
    }

    fn say_goodbye(&mut self) {
        self.conn.send_close_notify();
        self.flush().ok();
    }
}

impl Stream for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.sock)
    }

    fn say_goodbye(&mut self) {
        self.conn.send_close_notify();
        self.flush().ok();
    }
}

/// A connection that reads and writes whole messages, from either side.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
}

impl Wire {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        stream.socket().set_read_timeout(Some(DEADLINE)).unwrap();
        stream.socket().set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream: Box::new(stream) }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("the peer no longer reads: {error}"));
    }

    /// Sends bytes to a peer that may be gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next message; panics at the end of file.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Message {
        self.next_message().unwrap_or_else(|error| panic!("no message came: {error}"))
    }

    /// The next message.
    pub(crate) fn next_message(&mut self) -> io::Result<Message> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut body = vec![0; usize::try_from(length).unwrap().checked_sub(4).expect("a length below four")];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag: header[0], body })
    }

    /// Messages up to and including the first of type `tag`.
    #[track_caller]
    pub(crate) fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.next_message() {
                Ok(message) => messages.push(message),
                Err(error) => panic!("no {:?} came: {error}; before it: {messages:?}", char::from(tag)),
            }
            if messages.last().is_some_and(|message| message.tag == tag) {
                return messages;
            }
        }
    }

    /// The message without a type byte that opens a connection: its code and what follows it.
    pub(crate) fn untyped(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let length = u32::from_be_bytes(self.try_bytes()?);
        let code = u32::from_be_bytes(self.try_bytes()?);
        let mut body = vec![0; usize::try_from(length).unwrap().checked_sub(8).expect("a length below eight")];
        self.stream.read_exact(&mut body)?;
        Ok((code, body))
    }

    /// Exactly `N` bytes; panics at the end of file.
    #[track_caller]
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.try_bytes().unwrap_or_else(|error| panic!("no {N} bytes came: {error}"))
    }

    /// Exactly `N` bytes.
    pub(crate) fn try_bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Exactly `length` bytes.
    #[track_caller]
    pub(crate) fn bytes_of(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// A FATAL error and an orderly end of file after it, which is how every refusal looks.
    #[track_caller]
    pub(crate) fn refusal(&mut self) -> Message {
        let error = self.message();
        assert_eq!(error.tag, b'E', "{error:?}");
        assert_eq!(error.field(b'S').as_deref(), Some("FATAL"), "{error:?}");
        assert_eq!(error.field(b'V').as_deref(), Some("FATAL"), "{error:?}");
        self.assert_closed();
        error
    }

    /// Everything up to the end of file. A reset or a missing close_notify counts as an end too.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("still open after {DEADLINE:?}")
            }
            _ => bytes,
        }
    }

    /// Asserts that the peer closes in an orderly way, with nothing more to say.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            other => panic!("expected the end of file, got {other:?} {:?}", char::from(byte[0])),
        }
    }

    /// Whether nothing arrives for `span`. Only for what must *not* happen.
    pub(crate) fn stays_silent(&mut self, span: Duration) -> bool {
        self.stream.socket().set_read_timeout(Some(span)).unwrap();
        let silent = matches!(self.stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.socket().set_read_timeout(Some(DEADLINE)).unwrap();
        silent
    }

    /// Bytes that have arrived and were not read yet; without TLS.
    pub(crate) fn unread(&self) -> usize {
        rustix::io::ioctl_fionread(&*self.stream.socket()).unwrap().try_into().unwrap()
    }

    /// Says that no more will come, and keeps reading.
    pub(crate) fn half_close(&mut self) {
        self.stream.say_goodbye();
        self.stream.socket().shutdown(Shutdown::Write).ok();
    }

    /// Sends FIN without TLS's close_notify, as a server that is killed does.
    pub(crate) fn shut_without_goodbye(&mut self) {
        self.stream.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with an RST.
    pub(crate) fn reset(self) {
        self.stream.socket().set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The stream itself, for tests that move bytes by the gigabyte.
    pub(crate) fn stream(&mut self) -> &mut dyn Stream {
        &mut *self.stream
    }
}
