//! A round trip costs no allocation.

use super::{
    pace::Pace,
    tests::{live, rules},
    *,
};
use crate::wire::{Conversation, messages::frame};
use std::{
    pin::Pin,
    task::{Wake, Waker},
    time::Duration,
};
use tokio::io::ReadBuf;

/// Says the same whenever it may speak, and takes everything.
struct Peer {
    says: Vec<u8>,
    may_speak: bool,
    awaited_by: Option<Waker>,
    taken: usize,
}

impl Peer {
    fn saying(says: Vec<u8>) -> Self {
        Self { says, may_speak: false, awaited_by: None, taken: 0 }
    }

    fn speak(&mut self) {
        self.may_speak = true;
        if let Some(waker) = self.awaited_by.take() {
            waker.wake();
        }
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.may_speak) {
            self.awaited_by = Some(cx.waker().clone());
            return Poll::Pending;
        }
        space.put_slice(&self.says);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.taken += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Path for Peer {
    fn set_user_timeout(&self, _: Option<Duration>) {}
    fn sent(&self) -> Option<crate::sys::Sent> {
        None
    }
}

/// Unlike `Waker::noop`, its wakers know each other again.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test]
async fn a_round_trip_allocates_nothing() {
    let query = frame(b'Q', b"select abalance from pgbench_accounts where aid = 1\0");
    let answer =
        [frame(b'T', &[0; 30]), frame(b'D', b"\0\x01\0\0\0\x010"), frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")];
    let answer = answer.concat();
    let (asked, answered) = (query.len(), answer.len());
    let talk = Conversation::after_login();
    let (client, upstream) = (Peer::saying(query), Peer::saying(answer));
    let mut relay = Relay::new(client, upstream, ReadAhead::default(), talk, 16 * 1024, live(), Arc::new(|_| ()));
    let rules = rules();
    let mut pace = Pace::new(&rules, Phase::Running);
    let task = Waker::from(Arc::new(Task));
    let mut cx = Context::from_waker(&task);
    let mut round_trip = || {
        relay.client.speak();
        assert!(relay.poll(&mut cx, &mut pace).is_pending());
        relay.upstream.speak();
        assert!(relay.poll(&mut cx, &mut pace).is_pending());
    };
    // This thread's first buffers.
    round_trip();

    let counted = allocation_counter::measure(|| (0..100).for_each(|_| round_trip()));

    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
    assert_eq!((relay.upstream.taken, relay.client.taken), (101 * asked, 101 * answered));
    assert_eq!(relay.talk.statements(), 101);
}
