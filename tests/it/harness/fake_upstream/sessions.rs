//! Sessions that the server answers itself, and how they end on the test's order.

use super::{Shared, serve::close_with};
use crate::harness::wire::{Wire, command_complete, error, ready};
use socket2::Socket;
use std::{
    collections::BTreeMap,
    io,
    net::Shutdown,
    sync::{Mutex, MutexGuard},
};

/// Those that are open, by the numbers of their connections.
#[derive(Default)]
pub(super) struct Sessions(Mutex<BTreeMap<usize, Open>>);

struct Open {
    /// Another handle of the session's socket. Its thread waits in a read; a shutdown here wakes it.
    socket: Socket,
    draining: bool,
}

impl Sessions {
    pub(super) fn drain(&self) {
        for open in self.lock().values_mut() {
            open.draining = true;
            // Nothing is closed for the client yet: its last word is to come.
            open.socket.shutdown(Shutdown::Read).ok();
        }
    }

    pub(super) fn close(&self) {
        for open in self.lock().values() {
            open.socket.shutdown(Shutdown::Both).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Open>> {
        self.0.lock().unwrap()
    }
}

impl Shared {
    /// Notes and answers queries until the client leaves or the test ends the session.
    pub(super) fn answer(&self, number: usize, mut wire: Wire) -> io::Result<()> {
        let socket = wire.stream().socket().try_clone()?;
        self.answered.lock().insert(number, Open { socket, draining: false });
        // Whoever waits for this count may order the session's end at once.
        self.note(|seen| seen.open += 1);
        let left = self.answer_queries(number, &mut wire);
        let drained = self.answered.lock().remove(&number).is_some_and(|open| open.draining);
        self.note(|seen| seen.open -= 1);
        match left {
            Err(_) if drained => close_with(wire, &error("FATAL", "57P01", "the server is shutting down")),
            left => left,
        }
    }

    fn answer_queries(&self, number: usize, wire: &mut Wire) -> io::Result<()> {
        loop {
            let message = wire.next_message()?;
            match message.tag {
                b'Q' => {
                    let sql = String::from_utf8_lossy(&message.body).trim_end_matches('\0').to_owned();
                    let answer = [command_complete(command_tag(&sql)), ready(b'I')].concat();
                    self.note(|seen| seen.queries.push((number, sql)));
                    wire.try_send(&answer)?;
                }
                b'S' => wire.try_send(&ready(b'I'))?,
                b'X' => return Ok(()),
                _ => {}
            }
        }
    }
}

fn command_tag(sql: &str) -> &'static str {
    match sql.split_whitespace().next().map(str::to_ascii_uppercase).as_deref() {
        Some("DISCARD") => "DISCARD ALL",
        Some("RESET") => "RESET",
        Some("SET") => "SET",
        _ => "SELECT 0",
    }
}
