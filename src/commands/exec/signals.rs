//! Signals that are meant for the command, and which of them it has got already.

use crate::sys;
use std::{future::poll_fn, io, task::Poll};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals to be passed on. Those that whoever started this process wants ignored (`nohup`, `&` in a script) stay
/// ignored, here and by the command.
pub(super) struct Relayed(Vec<(i32, Signal)>);

impl Relayed {
    pub(super) fn new() -> io::Result<Self> {
        let heard = PASSED_ON.into_iter().filter(|number| !sys::is_ignored(*number));
        let stream = |number| Ok((number, signal(SignalKind::from_raw(number))?));
        heard.map(stream).collect::<io::Result<_>>().map(Self)
    }

    /// The number of the next one that is to end something. The others mean something to a command only. Cancel safe.
    pub(super) async fn next_to_end(&mut self) -> i32 {
        loop {
            let number = self.next().await;
            if ![libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH].contains(&number) {
                return number;
            }
        }
    }

    /// The number of the next one. Cancel safe.
    pub(super) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Whether it came from the keyboard or the window, and so to the command too, which is of the same process group.
/// (One that somebody sends to this process alone while it is in the foreground is taken for such a one. No system says
/// which it was in a way that all share.)
pub(super) fn has_come_to_all(number: i32) -> bool {
    [libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH].contains(&number) && sys::hears_keyboard()
}

const PASSED_ON: [i32; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];
