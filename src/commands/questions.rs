//! Questions to whoever sits at the terminal. The question goes to standard error, the answer comes a line at a
//! time. A secret is read without echo, and echo is as it was once the question is over, however it ends.

use super::CommandError;
use crate::{diagnostics, secret::Secret};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
    io::{IsTerminal, Read, Write},
    os::fd::AsFd,
    thread,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use zeroize::Zeroizing;

/// Whether there is somebody to ask.
pub(super) fn can_be_asked() -> bool {
    std::io::stdin().is_terminal() && diagnostics::has_reader()
}

/// Shows text, and waits for one line: without blanks around it. Dropping the future gives the question up.
///
/// # Errors
/// The terminal has ended, or the line is no text.
pub(super) async fn line(text: &str) -> Result<String, CommandError> {
    show(text);
    let line = typed().await?;
    let line = std::str::from_utf8(&line);
    let line = line.map_err(|error| CommandError::Said(2, format!("what was typed is not UTF-8: {error}")))?;
    Ok(line.trim().to_owned())
}

/// The same for a secret, which is not shown and not trimmed, until no rule is broken. Dropping the future gives the
/// question up.
///
/// # Errors
/// The terminal has ended, or cannot be told to show nothing.
pub(super) async fn hidden(
    text: &str,
    broken_rule: impl Fn(&[u8]) -> Option<&'static str>,
) -> Result<Secret, CommandError> {
    // First, so that nothing is shown that is typed at once; and until the end, so that nothing is between two tries.
    let _echo = EchoOff::new()?;
    loop {
        show(text);
        let line = typed().await?;
        match broken_rule(&line) {
            None => return Ok(Secret::new(line.to_vec())),
            Some(rule) => diagnostics::plainly(&format!("  {rule}")),
        }
    }
}

fn show(text: &str) {
    let mut stderr = std::io::stderr();
    // Nobody looks, then.
    let _ = write!(stderr, "{text}\n> ").and_then(|()| stderr.flush());
}

/// One line, without its end. Not by way of the library's buffer, which would keep a secret.
async fn typed() -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let (answer, answered) = oneshot::channel();
    // Never joined: it ends with the process, since a read from a terminal cannot be given up.
    let reading = thread::Builder::new().name("keys".to_owned()).spawn(move || {
        // Nobody waits any more, then.
        let _ = answer.send(read_line());
    });
    reading.map_err(|error| CommandError::Said(1, format!("the terminal cannot be read: {error}")))?;
    let read = answered.await.unwrap_or_else(|_| Err(std::io::ErrorKind::UnexpectedEof.into()));
    let line = read.map_err(|error| CommandError::Said(1, format!("the terminal cannot be read: {error}")))?;
    line.ok_or_else(|| {
        diagnostics::plainly("");
        CommandError::Said(1, "the input has ended; nothing was written".to_owned())
    })
}

/// A terminal gives a line at a time, up to 4095 bytes; `None` at its end.
fn read_line() -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut stdin = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut line = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
    let length = loop {
        match stdin.read(&mut line) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if length == 0 {
        return Ok(None);
    }
    line.truncate(length);
    while line.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(line))
}

/// Nothing that is typed shows, but for the end of the line, until this is dropped.
struct EchoOff {
    before: Termios,
}

impl EchoOff {
    fn new() -> Result<Self, CommandError> {
        let stdin = std::io::stdin();
        let switched = tcgetattr(&stdin).and_then(|before| {
            let mut now = before.clone();
            now.local_modes.remove(LocalModes::ECHO);
            now.local_modes.insert(LocalModes::ECHONL);
            // What was typed before the question is no answer to it.
            tcsetattr(&stdin, OptionalActions::Flush, &now).map(|()| Self { before })
        });
        switched.map_err(|error| {
            CommandError::Said(1, format!("the terminal cannot be told to show nothing ({error}); use --password-file"))
        })
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // The terminal is gone, then.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// What ends a command before it has written anything. From the first one on, such signals end nothing by themselves.
pub(super) struct Interrupt {
    signals: Vec<Signal>,
}

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system lets nobody listen.
    pub(super) fn new() -> Result<Self, CommandError> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = kinds.into_iter().map(signal).collect::<Result<_, _>>();
        let signals = signals.map_err(|error| CommandError::Said(1, format!("signals cannot be heard: {error}")))?;
        Ok(Self { signals })
    }

    /// Does the work unless a signal comes first; the work is dropped then, and these are the last words.
    ///
    /// # Errors
    /// Those of the work, or a signal.
    pub(super) async fn or<T>(
        &mut self,
        work: impl Future<Output = Result<T, CommandError>>,
        last_words: &str,
    ) -> Result<T, CommandError> {
        let [interrupt, terminate, hangup] = self.signals.as_mut_slice() else { return work.await };
        let asked = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        };
        tokio::select! {
            biased;
            () = asked => {
                if diagnostics::has_reader() {
                    // Behind the ^C.
                    diagnostics::plainly("");
                }
                Err(CommandError::Said(1, last_words.to_owned()))
            }
            done = work => done,
        }
    }
}

/// As much as a terminal gives at once.
const LINE_BYTES_MAX: usize = 4096;
