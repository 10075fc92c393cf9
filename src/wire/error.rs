//! ErrorResponse both ways: the daemon's own refusals, and what a server says.
//! Fields: PostgreSQL's documentation, 53.8 "Error and Notice Message Fields".

use super::messages::{self, Frame};
use std::borrow::Cow;

/// Five characters that say which kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The client could not be given a session: no way to the cluster.
    pub const CONNECT_FAILED: Self = Self(*b"08001");
    /// The session's upstream was lost.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// Somebody does not speak the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// A protocol version that the daemon does not speak.
    pub const NOT_SUPPORTED: Self = Self(*b"0A000");
    /// This client may not come in.
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// A wrong password.
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// No such database.
    pub const NO_DATABASE: Self = Self(*b"3D000");
    /// A limit on sessions or logins is reached.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// Something is in use: a database that others are connected to, for one.
    pub const OBJECT_IN_USE: Self = Self(*b"55006");
    /// The server or daemon stops; try again.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// Not now: starting or stopping.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// The session was idle too long.
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    /// A fault of the daemon.
    pub const INTERNAL: Self = Self(*b"XX000");

    /// Takes what a server sent, if it is five ASCII letters or digits.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        code.iter().all(u8::is_ascii_alphanumeric).then_some(Self(code))
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The first two characters, which name the class.
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or("XX")
    }
}

impl std::fmt::Display for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that the daemon itself tells a client, as FATAL, before it closes.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientError {
    /// Which kind of error it is.
    pub sqlstate: SqlState,
    /// What happened, to what.
    pub message: Cow<'static, str>,
    /// More of it, for who wants to know.
    pub detail: Option<Cow<'static, str>>,
    /// What to do next.
    pub hint: Option<Cow<'static, str>>,
}

impl ClientError {
    /// An error without detail and hint.
    pub fn new(sqlstate: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None }
    }

    /// Adds what a curious reader wants to know.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The ErrorResponse.
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = Frame::new(b'E');
        frame.field(b'S', "FATAL").field(b'V', "FATAL").field(b'C', self.sqlstate.as_str()).field(b'M', &self.message);
        for (kind, text) in [(b'D', &self.detail), (b'H', &self.hint)] {
            if let Some(text) = text {
                frame.field(kind, text);
            }
        }
        frame.byte(0).finish()
    }

    /// The form that clients of protocol 2 and older can read: a text without length or fields.
    pub fn encode_for_protocol_2(&self) -> Vec<u8> {
        [b"E", self.message.as_bytes(), b"\n\0"].concat()
    }
}

/// What a server's ErrorResponse says.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerError {
    body: Vec<u8>,
    /// `XX000` when the server sent none that is valid.
    pub sqlstate: SqlState,
    /// Its primary message; not UTF-8 is replaced.
    pub message: String,
    /// Its hint, or ours.
    pub hint: Option<String>,
}

impl ServerError {
    /// Reads the body of an ErrorResponse. A body that is cut short gives what it has.
    pub fn parse(body: &[u8]) -> Self {
        let mut error = Self { body: body.to_vec(), sqlstate: SqlState::INTERNAL, message: String::new(), hint: None };
        for field in body.split(|&byte| byte == 0) {
            match field.split_first() {
                Some((b'C', code)) => error.sqlstate = SqlState::parse(code).unwrap_or(SqlState::INTERNAL),
                Some((b'M', text)) => error.message = String::from_utf8_lossy(text).into_owned(),
                Some((b'H', text)) => error.hint = Some(String::from_utf8_lossy(text).into_owned()),
                _ => {}
            }
        }
        error
    }

    /// Whether it is as the protocol has it, and says something.
    pub fn is_whole(&self) -> bool {
        self.body.ends_with(b"\0\0") && !self.message.is_empty()
    }

    /// The same with three stars wherever it has `secret`. One of less than four bytes stands in any text by chance,
    /// where stars would give it away.
    pub fn without(self, secret: &[u8]) -> Self {
        let has_it = |body: &[u8]| body.windows(secret.len()).any(|window| window == secret);
        if secret.len() < SECRET_BYTES_MIN || !has_it(&self.body) {
            return self;
        }
        let mut body = Vec::with_capacity(self.body.len());
        let mut rest = self.body.as_slice();
        while let Some((first, after)) = rest.split_first() {
            if let Some(behind) = rest.strip_prefix(secret) {
                body.extend_from_slice(b"***");
                rest = behind;
            } else {
                body.push(*first);
                rest = after;
            }
        }
        Self::parse(&body)
    }

    /// Adds a hint of ours, unless the server gave one; all else stays as the server sent it.
    pub fn with_hint(mut self, hint: &str) -> Self {
        if self.hint.is_none() {
            if self.body.last() == Some(&0) {
                self.body.pop();
            }
            self.body.push(b'H');
            self.body.extend(hint.bytes().filter(|&byte| byte != 0));
            self.body.extend([0, 0]);
            self.hint = Some(hint.to_owned());
        }
        self
    }

    /// The ErrorResponse.
    pub fn encode(&self) -> Vec<u8> {
        messages::frame(b'E', &self.body)
    }
}

pub(super) const SECRET_BYTES_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_every_field_that_drivers_show() {
        let error = ClientError::new(SqlState::CONNECT_FAILED, "no way").detail("why").hint("do this");

        assert_eq!(error.encode(), b"E\0\0\0\x30SFATAL\0VFATAL\0C08001\0Mno way\0Dwhy\0Hdo this\0\0");
    }

    #[test]
    fn a_text_with_a_nul_cannot_break_the_frame() {
        let error = ClientError::new(SqlState::CONNECT_FAILED, "a\0b");

        assert_eq!(error.encode(), b"E\0\0\0\x1eSFATAL\0VFATAL\0C08001\0Mab\0\0");
    }

    #[test]
    fn a_servers_error_passes_unchanged_but_for_a_missing_hint() {
        let body = b"SFATAL\0C28P01\0Mpassword authentication failed\0Rauth_failed\0\0";

        let plain = ServerError::parse(body);
        let hinted = plain.clone().with_hint("look there");
        let own = ServerError::parse(b"SFATAL\0C28P01\0Hserver's\0\0").with_hint("ours");

        assert_eq!(plain.sqlstate, SqlState::INVALID_PASSWORD);
        assert_eq!(plain.encode()[5..], body[..]);
        assert_eq!(
            hinted.encode()[5..],
            b"SFATAL\0C28P01\0Mpassword authentication failed\0Rauth_failed\0Hlook there\0\0"[..]
        );
        assert_eq!(own.encode()[5..], b"SFATAL\0C28P01\0Hserver's\0\0"[..]);
    }

    #[test]
    fn a_secret_that_a_server_repeats_is_blanked_in_every_field() {
        let told = |body: &[u8], secret: &[u8]| ServerError::parse(body).without(secret);

        let error = told(b"C28P01\0Mhunter2 is wrong, hunter2\0Htry hunter22\0\0", b"hunter2");
        assert_eq!(error.encode()[5..], b"C28P01\0M*** is wrong, ***\0Htry ***2\0\0"[..]);
        assert_eq!((error.message.as_str(), error.hint.as_deref()), ("*** is wrong, ***", Some("try ***2")));

        for (body, secret) in
            [(&b"Mno such thing\0\0"[..], &b"hunter2"[..]), (b"Ma\0\0", b"a"), (b"", b""), (b"M\0\0", b"long enough")]
        {
            assert_eq!(told(body, secret), ServerError::parse(body), "{body:?}");
        }
    }

    #[test]
    fn an_error_without_an_end_or_a_message_is_not_whole() {
        assert!(ServerError::parse(b"C28P01\0Mno\0\0").is_whole());
        for body in [&b""[..], b"\0", b"C28P01\0\0", b"C28P01\0Mno", b"C28P01\0Mno\0", b"M\0\0"] {
            assert!(!ServerError::parse(body).is_whole(), "{body:?}");
        }
    }

    #[test]
    fn an_error_without_a_sound_code_is_internal() {
        for body in [&b""[..], b"\0", b"C\0", b"Cab", b"C12345678\0\0", b"C\xff\xff\xff\xff\xff\0"] {
            assert_eq!(ServerError::parse(body).sqlstate, SqlState::INTERNAL, "{body:?}");
        }
    }
}
