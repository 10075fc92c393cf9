//! The answer to one query of the daemon's own, message by message: its rows as text, or its error.

use super::{ServerError, error::SECRET_BYTES_MIN};

/// What has come so far.
#[derive(Debug, Default)]
pub struct Answer {
    /// The rows, each value as text; a null is `None`.
    pub rows: Vec<Vec<Option<String>>>,
    /// The server's error, if it said one.
    pub error: Option<ServerError>,
    /// ReadyForQuery has come, which ends it.
    pub is_whole: bool,
}

/// A message that has no place in an answer to a simple query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfPlace;

impl Answer {
    /// Takes in the next message, by its type and body.
    ///
    /// # Errors
    /// It belongs to no answer, or cannot be read.
    pub fn take(&mut self, kind: u8, body: &[u8]) -> Result<(), OutOfPlace> {
        match kind {
            _ if self.is_whole => return Err(OutOfPlace),
            b'D' => self.rows.push(row(body).ok_or(OutOfPlace)?),
            b'E' => self.error = Some(ServerError::parse(body)),
            b'Z' => self.is_whole = true,
            // What describes rows, ends commands, or is not for a query alone.
            b'T' | b'C' | b'I' | b'N' | b'S' | b'A' => {}
            _ => return Err(OutOfPlace),
        }
        Ok(())
    }

    /// The same with three stars wherever a value has `secret`; the error is the caller's to mask.
    #[must_use]
    pub fn without(mut self, secret: &[u8]) -> Self {
        if let Ok(secret) = std::str::from_utf8(secret)
            && secret.len() >= SECRET_BYTES_MIN
        {
            self.rows.iter_mut().flatten().flatten().for_each(|value| *value = value.replace(secret, "***"));
        }
        self
    }

    /// The first value of the first row.
    pub fn value(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }
}

/// The values of a DataRow.
fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        // Negative: null, and no bytes.
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            values.push(None);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(length)?;
        values.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    rest.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_text_until_the_answer_ends() {
        let mut answer = Answer::default();
        let row = b"\0\x02\0\0\0\x03one\xff\xff\xff\xff";

        for (kind, body) in [(b'T', &b""[..]), (b'D', row), (b'N', b""), (b'C', b"SELECT 1\0"), (b'Z', b"I")] {
            assert!(!answer.is_whole);
            answer.take(kind, body).unwrap();
        }

        assert_eq!(answer.rows, [[Some("one".to_owned()), None]]);
        assert_eq!((answer.value(), answer.is_whole), (Some("one"), true));
        assert_eq!(answer.take(b'Z', b"I"), Err(OutOfPlace));
    }

    #[test]
    fn rows_whose_lengths_lie_are_refused() {
        let lies: [&[u8]; 5] = [b"", b"\0", b"\0\x01", b"\0\x01\0\0\0\x05one", b"\0\x01\0\0\0\x01one"];
        for body in lies {
            assert_eq!(Answer::default().take(b'D', body), Err(OutOfPlace), "{body:?}");
        }
        assert_eq!(Answer::default().take(b'K', b""), Err(OutOfPlace));
    }
}
