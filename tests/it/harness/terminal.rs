//! A real terminal with a program at it.

use super::{
    DEADLINE,
    process::{self, Lines},
};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    fs::File,
    io::Write,
    process::{Child, Command, Stdio},
    sync::Arc,
};

/// A terminal of 80 columns and 24 lines; the program at it is killed when this is dropped.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Lines>,
}

impl Terminal {
    /// To be put before the words of a command so that Ctrl-C reaches it.
    pub(crate) const PREFIX: [&str; 2] = ["setsid", "--ctty"];

    /// Starts a command at it. Its three streams are the terminal.
    pub(crate) fn start(mut command: Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let stream = || Stdio::from(theirs.try_clone().unwrap());
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "xterm").spawn().unwrap();
        let keyboard = File::from(ours);
        // Reading ends once no program has the other end.
        let shown = Lines::of(keyboard.try_clone().unwrap());
        Self { child, keyboard, shown }
    }

    /// Waits for a line that contains this text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let found = self.shown.find(|line| line.contains(text).then(|| line.to_owned()));
        found.unwrap_or_else(|| panic!("the terminal never showed {text:?} but\n{}", self.text()))
    }

    /// Types these keys.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// How many lines it has been given.
    pub(crate) fn lines(&self) -> usize {
        self.shown.all().len()
    }

    /// Waits for a line behind the first `count` that contains this text.
    #[track_caller]
    pub(crate) fn wait_for_after(&self, count: usize, text: &str) {
        let seen = std::cell::Cell::new(0);
        let found = self.shown.find(|line| {
            seen.set(seen.get() + 1);
            (seen.get() > count && line.contains(text)).then_some(())
        });
        found.unwrap_or_else(|| panic!("the terminal never showed {text:?} again but\n{}", self.text()));
    }

    /// Waits for the program's end.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        assert!(self.shown.ended_within(DEADLINE), "it is still running\n{}", self.text());
        self.child.wait().unwrap().code().expect("an exit code")
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        process::signal(&self.child, signal);
    }

    /// Whether it shows what is typed and takes it a line at a time, as it did at first.
    pub(crate) fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.keyboard).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// All that it was given, escape sequences included.
    pub(crate) fn text(&self) -> String {
        self.shown.all().join("\n")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
