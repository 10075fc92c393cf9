//! Lets whole, well-formed messages through to the `pgwire` crate, which panics on some short ones
//! and would buffer a gigabyte. Owns the size limits and the shapes; looks at no meaning.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::bytes::{Buf, BytesMut};

/// A stream whose reading side gives complete, well-formed frontend messages one by one, and fails
/// with [`io::ErrorKind::InvalidData`] at the first other one. The first message is a startup message
/// or a CancelRequest.
#[derive(Debug)]
pub(super) struct Gate<S> {
    inner: S,
    incoming: BytesMut,
    /// How many bytes at the front have passed.
    passed: usize,
    expected: Expected,
}

/// What the next message is, as far as its bytes do not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Startup,
    /// The first `p` message names a SASL mechanism.
    Mechanism,
    Any,
}

impl<S> Gate<S> {
    /// A gate before anything was read.
    pub(super) fn new(inner: S) -> Self {
        Self { inner, incoming: BytesMut::new(), passed: 0, expected: Expected::Startup }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed > 0 {
                let length = this.passed.min(out.remaining());
                out.put_slice(this.incoming.get(..length).unwrap_or_default());
                this.incoming.advance(length);
                this.passed -= length;
                return Poll::Ready(Ok(()));
            }
            if let Some(length) = whole_message(&this.incoming, this.expected)? {
                this.passed = length;
                this.expected = check(this.incoming.get(..length).unwrap_or_default(), this.expected)?;
                continue;
            }
            let mut chunk = [0; CHUNK_BYTES];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(())); // Half a message is not passed on.
            }
            this.incoming.extend_from_slice(buffer.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The length of the first message once it is complete.
fn whole_message(incoming: &[u8], expected: Expected) -> io::Result<Option<usize>> {
    let (head, least, most) = match expected {
        Expected::Startup => (0, 8, STARTUP_BYTES_MAX),
        Expected::Mechanism | Expected::Any => (1, 4, MESSAGE_BYTES_MAX),
    };
    let Some(length) = incoming.get(head..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if !(least..=most).contains(&length) {
        return Err(invalid("a message with an impossible length"));
    }
    let whole = length.saturating_add(head);
    Ok((incoming.len() >= whole).then_some(whole))
}

/// Checks one message; gives what to expect next.
fn check(message: &[u8], expected: Expected) -> io::Result<Expected> {
    if expected == Expected::Startup {
        let body = Body(message.get(8..).unwrap_or_default());
        let is_cancel = message.get(4..8) == Some(CANCEL_REQUEST.as_slice());
        let right = if is_cancel { (8..=260).contains(&body.0.len()) } else { body.is_startup() };
        return right.then_some(Expected::Mechanism).ok_or_else(|| invalid("a malformed startup message"));
    }
    let (kind, body) = (message.first().copied().unwrap_or(0), Body(message.get(5..).unwrap_or_default()));
    let next = if kind == b'p' { Expected::Any } else { expected };
    let right = match kind {
        b'p' if expected == Expected::Mechanism => body.is_mechanism(),
        b'p' | b'd' => Some(()),
        b'Q' | b'f' => body.text().and_then(Body::end),
        b'P' => body.text().and_then(Body::text).and_then(|body| body.counted(4)).and_then(Body::end),
        b'B' => body.is_bind(),
        b'D' | b'C' => body.skip(1).and_then(Body::text).and_then(Body::end),
        b'E' => body.text().and_then(|body| body.skip(4)).and_then(Body::end),
        b'H' | b'S' | b'X' | b'c' => body.end(),
        _ => None,
    };
    right.map(|()| next).ok_or_else(|| invalid("a malformed message"))
}

/// What is left of a message's body; each step takes a part off, or fails.
#[derive(Clone, Copy)]
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn skip(self, length: usize) -> Option<Self> {
        self.0.get(length..).map(Body)
    }

    /// Text up to a zero byte.
    fn text(self) -> Option<Self> {
        let zero = self.0.iter().position(|byte| *byte == 0)?;
        self.skip(zero + 1)
    }

    /// A 16-bit count and as many items of `size` bytes.
    fn counted(self, size: usize) -> Option<Self> {
        let (count, rest) = self.count()?;
        rest.skip(count.checked_mul(size)?)
    }

    fn count(self) -> Option<(usize, Self)> {
        let count = u16::from_be_bytes(*self.0.first_chunk()?);
        Some((count.into(), self.skip(2)?))
    }

    /// A 32-bit length and as many bytes; -1 stands for null.
    fn value(self) -> Option<Self> {
        let length = i32::from_be_bytes(*self.0.first_chunk()?);
        let rest = self.skip(4)?;
        if length == -1 { Some(rest) } else { rest.skip(usize::try_from(length).ok()?) }
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn is_bind(self) -> Option<()> {
        let (values, mut rest) = self.text()?.text()?.counted(2)?.count()?;
        for _ in 0..values {
            rest = rest.value()?;
        }
        rest.counted(2)?.end()
    }

    fn is_mechanism(self) -> Option<()> {
        self.text()?.value()?.end()
    }

    /// Pairs of texts and an empty one.
    fn is_startup(self) -> bool {
        let mut rest = Some(self);
        while let Some(body) = rest {
            if body.0 == [0] {
                return true;
            }
            rest = body.text().and_then(Body::text);
        }
        false
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const CANCEL_REQUEST: [u8; 4] = 80_877_102_u32.to_be_bytes();
const STARTUP_BYTES_MAX: usize = 10_000;
/// CockroachDB's limit.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const CHUNK_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn through(sent: &[u8]) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        Gate::new(sent).read_to_end(&mut read).await?;
        Ok(read)
    }

    fn startup(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).unwrap();
        [length.to_be_bytes().as_slice(), &196_608_u32.to_be_bytes(), body].concat()
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], length.to_be_bytes().as_slice(), body].concat()
    }

    const USER: &[u8] = b"user\0demo\0\0";

    #[tokio::test]
    async fn whole_messages_pass_unchanged_and_half_ones_do_not() {
        let whole = [
            startup(USER),
            message(b'p', b"SCRAM-SHA-256\0\0\0\0\x01n"),
            message(b'p', b"anything"),
            message(b'P', b"s\0select $1\0\0\x01\0\0\0\x17"),
            message(b'B', b"\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x01x\0\0"),
            message(b'D', b"S\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
            message(b'Q', b"select 1\0"),
        ]
        .concat();
        let mut sent = whole.clone();
        sent.extend(message(b'Q', b"select 2\0").into_iter().take(7));

        assert_eq!(through(&sent).await.unwrap(), whole);
    }

    #[tokio::test]
    async fn messages_that_are_not_what_they_say_are_refused() {
        let bodies: [(u8, &[u8]); 10] = [
            (b'p', b"SCRAM-SHA-256\0\0\0\0\x02n"),
            (b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xfe"),
            (b'Q', b"select 1"),
            (b'P', b"s\0select 1\0\0\x02\0\0\0\x17"),
            (b'B', b"\0s\0\0\0\0\x01\0\0\0\x09x\0\0"),
            (b'B', b"\0s\0"),
            (b'E', b"\0\0\0"),
            (b'D', b""),
            (b'S', b"x"),
            (b'Z', b""),
        ];
        for (kind, body) in bodies {
            let sent = [startup(USER), message(kind, body)].concat();
            assert_eq!(through(&sent).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{body:?}");
        }
        let lengths: [&[u8]; 4] = [&startup(b"user"), &startup(b"user\0x\0"), &[0, 0, 0, 7], &[0x7f, 0, 0, 0]];
        for sent in lengths {
            assert_eq!(through(sent).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{sent:?}");
        }
        let huge = [startup(USER), vec![b'Q', 0x7f, 0xff, 0xff, 0xff]].concat();
        assert_eq!(through(&huge).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
