//! What can be said of a secret without saying it: whether it looks like one that was spoilt on its way.

use crate::secret::Secret;
use std::time::{Duration, SystemTime};

/// How a secret looks from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    is_blank_at_an_end: bool,
    has_percent_code: bool,
    is_quoted: bool,
    is_url: bool,
    has_line_break: bool,
    /// It is a JWT.
    pub(crate) token: Option<Token>,
}

/// What a JWT says of itself; nothing of it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    expires_at: Option<SystemTime>,
}

impl Shape {
    /// Looks at a secret.
    pub(crate) fn of(secret: &Secret) -> Self {
        let bytes = secret.expose();
        let ends = [bytes.first(), bytes.last()];
        Self {
            is_blank_at_an_end: ends.iter().flatten().any(|byte| byte.is_ascii_whitespace()),
            has_percent_code: bytes
                .windows(3)
                .any(|three| three.first() == Some(&b'%') && three.iter().skip(1).all(u8::is_ascii_hexdigit)),
            is_quoted: bytes.len() > 1 && ends.iter().all(|end| matches!(end, Some(b'"' | b'\''))),
            is_url: bytes.starts_with(b"postgresql://") || bytes.starts_with(b"postgres://"),
            has_line_break: bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')),
            token: Token::of(bytes),
        }
    }

    /// What is odd about it, to be put behind "the secret".
    pub(crate) fn oddity(self) -> Option<&'static str> {
        if self.is_url {
            return Some("is a whole connection string, where the password alone is wanted");
        }
        if self.has_line_break {
            return Some("has more than one line");
        }
        if self.is_quoted {
            return Some("stands in quotes, which then count as part of it");
        }
        if self.is_blank_at_an_end {
            return Some("begins or ends with a blank");
        }
        if self.has_percent_code {
            return Some(
                "has a % with two digits in it: in a file the password stands as it is, only in a URL it is percent-encoded",
            );
        }
        None
    }
}

impl Token {
    fn of(bytes: &[u8]) -> Option<Self> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let mut parts = bytes.split(|byte| *byte == b'.');
        let (_, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if signature.is_empty() || parts.next().is_some() {
            return None;
        }
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let seconds = claims.as_object()?.get("exp").and_then(serde_json::Value::as_u64);
        let expires_at = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        Some(Self { expires_at })
    }

    /// Whether it says that it is over by then.
    pub(crate) fn is_expired_at(self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(secret: &str) -> Shape {
        Shape::of(&Secret::new(secret.as_bytes().to_vec()))
    }

    #[test]
    fn secrets_that_were_spoilt_on_their_way_are_told_apart() {
        let odd = |secret| shape(secret).oddity().unwrap_or("fine");
        assert_eq!(odd("s3cret!with#all@kinds:of/them"), "fine");
        assert_eq!(odd("100%"), "fine");
        assert!(odd("hunter%212").contains("percent-encoded"));
        assert!(odd(" hunter2").contains("blank"));
        assert!(odd("hunter2\t").contains("blank"));
        assert!(odd("\"hunter2\"").contains("quotes"));
        assert!(odd("hunter2\nuser: app").contains("more than one line"));
        assert!(odd("postgresql://app:hunter2@host:26257/db").contains("connection string"));
    }

    #[test]
    fn a_token_tells_its_end_and_anything_else_is_none() {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let token = |claims: &str| format!("{}.{}.c2ln", part("{\"alg\":\"RS256\"}"), part(claims));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);

        assert!(shape(&token("{\"exp\":999999}")).token.unwrap().is_expired_at(now));
        assert!(!shape(&token("{\"exp\":1000001}")).token.unwrap().is_expired_at(now));
        assert!(!shape(&token("{\"sub\":\"app\"}")).token.unwrap().is_expired_at(now));
        assert!(!shape(&token("{\"exp\":18446744073709551615}")).token.unwrap().is_expired_at(now));
        for none in ["hunter2", "a.b.c", "a.b", "..", "a.bnVsbA.c", "a.bnVsbA.c.d"] {
            assert_eq!(shape(none).token, None, "{none}");
        }
    }
}
