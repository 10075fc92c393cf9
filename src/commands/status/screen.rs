//! The terminal while it is drawn on: another screen, no cursor, keys as they come. All of it is as it was
//! once this is dropped.

use crate::commands::look::size;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
    io::{IsTerminal, Read, Write},
    sync::Arc,
    thread,
};
use tokio::sync::Notify;

/// A screen to draw on.
pub(super) struct Screen {
    before: Option<Termios>,
}

impl Screen {
    pub(super) fn open() -> Self {
        let stdin = std::io::stdin();
        let before = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten();
        if let Some(mut now) = before.clone() {
            now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            // Then keys come a line at a time.
            let _ = tcsetattr(&stdin, OptionalActions::Now, &now);
        }
        write("\u{1b}[?1049h\u{1b}[?25l");
        Self { before }
    }

    /// Draws these lines in place of those before; what does not fit below is left out.
    pub(super) fn draw(&self, text: &str) {
        let lines_max = size().map_or(usize::MAX, |(_, lines)| usize::from(lines));
        let lines: Vec<_> = text.lines().take(lines_max).collect();
        write(&format!("\u{1b}[H{}\u{1b}[K\u{1b}[J", lines.join("\u{1b}[K\r\n")));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write("\u{1b}[?25h\u{1b}[?1049l");
        if let Some(before) = &self.before {
            // The terminal is gone, then.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Is told when `q` is typed.
pub(super) fn quit_key() -> Arc<Notify> {
    let typed = Arc::new(Notify::new());
    if std::io::stdin().is_terminal() {
        let told = Arc::clone(&typed);
        // Never joined: it ends with the process, since a read from a terminal cannot be given up.
        let reading = thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let mut keys = std::io::stdin().lock().bytes().map_while(Result::ok);
            if keys.any(|key| matches!(key, b'q' | b'Q')) {
                told.notify_one();
            }
        });
        // Without it there is still Ctrl-C.
        drop(reading);
    }
    typed
}

fn write(text: &str) {
    let mut stdout = std::io::stdout();
    // Nobody looks, then.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
