//! Where log lines go: standard error, written by a thread of its own, so that a pipe which nobody reads,
//! or a disk that hangs, stalls no session and no signal. What finds no room is counted and left out.

use std::{
    io::{ErrorKind, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

/// Hands a line over. Never waits.
pub(super) fn write(line: String) {
    let Some(queue) = SINK.get_or_init(start) else {
        // No thread could be had: then this one does it.
        return write_now(&line);
    };
    if let Err(TrySendError::Full(_)) = queue.try_send(Item::Line(line)) {
        LEFT_OUT.fetch_add(1, Relaxed);
    }
}

/// Waits until what was handed over is written, though not for long. For the end of the program.
pub(super) fn flush() {
    let Some(Some(queue)) = SINK.get() else { return };
    let (done, is_done) = sync_channel(1);
    if queue.try_send(Item::Flush(done)).is_ok() {
        // A reader that takes nothing must not keep the program from ending.
        let _ = is_done.recv_timeout(PATIENCE);
    }
}

enum Item {
    Line(String),
    Flush(SyncSender<()>),
}

fn start() -> Option<SyncSender<Item>> {
    let (queue, items) = sync_channel(LINES_MAX);
    // Never joined: it may be amid a write that does not return.
    thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&items)).ok()?;
    Some(queue)
}

/// The first line after a silence is written at once, and those that follow it together: while this thread
/// sleeps, nobody has to wake it, and a system call for every line costs a short session a tenth of what it costs in all.
fn write_all(items: &Receiver<Item>) {
    while let Ok(first) = items.recv() {
        let mut lines = String::new();
        for item in std::iter::once(first).chain(items.try_iter().take(LINES_MAX)) {
            match item {
                Item::Line(line) => {
                    if lines.len().saturating_add(line.len()) > WHOLE_BYTES {
                        write_patiently(&std::mem::take(&mut lines));
                    }
                    lines.push_str(&line);
                }
                Item::Flush(done) => {
                    write_patiently(&std::mem::take(&mut lines));
                    // Nobody may wait any more.
                    let _ = done.try_send(());
                }
            }
        }
        write_patiently(&lines);
        let left_out = LEFT_OUT.swap(0, Relaxed);
        if left_out > 0 {
            tracing::warn!(lines = left_out, "log lines left out: standard error took nothing");
        }
        thread::sleep(TOGETHER);
    }
}

/// Writes all of it, however long the other side takes, where that has been set not to keep writers waiting, too. Nobody
/// waits for this thread: what finds no room in the queue meanwhile is counted, and [`flush`] has a limit of its own.
fn write_patiently(lines: &str) {
    let mut rest = lines.as_bytes();
    while !rest.is_empty() {
        match std::io::stderr().lock().write(rest) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TOGETHER),
            // A full disk under the log must not stop the daemon.
            Ok(0) | Err(_) => return,
        }
    }
}

fn write_now(line: &str) {
    // A full disk under the log must not stop the daemon.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// One or two megabytes.
const LINES_MAX: usize = 4096;
/// A pipe takes so much in one piece, whoever else writes to it (PIPE_BUF of Linux).
const WHOLE_BYTES: usize = 4096;
/// A person who reads along does not notice, and few lines come in it but in a storm.
const TOGETHER: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(1);

// The log is the process's, as standard error is.
static SINK: OnceLock<Option<SyncSender<Item>>> = OnceLock::new();
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);
