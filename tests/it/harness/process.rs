//! Child processes that never outlive their test: their lines as they come, their end as an event.

use super::DEADLINE;
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The lines that a process writes to one of its streams, readable while it runs.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads `stream` in a thread until it ends.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                let goes_on = reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0);
                // A terminal ends in an error, and what it was given last is there all the same.
                if !goes_on && line.is_empty() {
                    break;
                }
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                kept.state.lock().unwrap().lines.push(text);
                kept.changed.notify_all();
                line.clear();
            }
            kept.state.lock().unwrap().ended = true;
            kept.changed.notify_all();
        });
        lines
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.state.lock().unwrap().lines.clone()
    }

    /// Waits for the first line that `find` accepts, looking at past lines too; `None` once the
    /// stream has ended without one, or after [`DEADLINE`].
    pub(crate) fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.find_within(DEADLINE, find)
    }

    /// The same, waiting no longer than `limit`.
    pub(crate) fn find_within<T>(&self, limit: Duration, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.search(0, limit, find)
    }

    /// As [`Self::find`], but not among the first `passed` lines.
    pub(crate) fn find_after<T>(&self, passed: usize, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.search(passed, DEADLINE, find)
    }

    fn search<T>(&self, passed: usize, limit: Duration, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut seen = passed;
        let mut state = self.state.lock().unwrap();
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(|line| find(line)) {
                return Some(found);
            }
            seen = state.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until the stream has ended, which is when its process has, or `limit` has passed.
    pub(crate) fn ended_within(&self, limit: Duration) -> bool {
        let state = self.state.lock().unwrap();
        self.changed.wait_timeout_while(state, limit, |state| !state.ended).unwrap().0.ended
    }
}

/// What a process that has ended leaves behind.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Panics with everything the process wrote unless it succeeded; gives its standard output.
    #[track_caller]
    pub(crate) fn expect_success(self) -> String {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs `command` to its end with `input` as its standard input; kills it and panics after `limit`.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &str, limit: Duration) -> Finished {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; `tests/run` installs what is missing"));
    let (stdout, stderr) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).ok(); // A program that has failed already reads nothing.
    drop(stdin);
    let text = |lines: &Lines| lines.all().join("\n");
    if !(stdout.ended_within(limit) && stderr.ended_within(limit)) {
        child.kill().unwrap();
        panic!("{command:?} did not end within {limit:?}\n{}\n{}", text(&stdout), text(&stderr));
    }
    Finished { status: child.wait().unwrap(), stdout: text(&stdout), stderr: text(&stderr) }
}

/// `program`, killed with `signal` if the thread that starts it ends first (a test runner may be
/// killed without a chance to clean up), as the user `user` where one is given.
pub(crate) fn mortal(program: &std::path::Path, signal: &str, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// Sends `signal` to a child.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The last lines of a log, for a failing test to show.
pub(crate) fn tail(lines: &[String]) -> String {
    let mut last = VecDeque::from(lines.to_vec());
    while last.len() > 200 {
        last.pop_front();
    }
    last.make_contiguous().join("\n")
}
