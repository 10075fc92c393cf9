//! What the operator reads: log lines, panics, and the last line before an exit.

mod json;
mod line;
mod sink;
mod text;

pub(crate) use self::text::printable;

use crate::settings::LogFormat;
use std::{
    error::Error,
    fmt,
    io::{IsTerminal, Write},
    sync::OnceLock,
};
use tracing_subscriber::{Registry, filter::LevelFilter, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Starts logging to standard error, and has panics logged too. Once a process; a second call changes nothing.
pub fn start(format: LogFormat, level: tracing::Level) {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let with_colours = text::takes_colours();
            registry.with(line::layer(move |line| text::write(line, with_colours))).try_init()
        }
        LogFormat::Json => registry.with(line::layer(json::write)).try_init(),
    };
    if started.is_ok() {
        // The first call is the only one that comes here.
        let _ = LEVEL.set(handle);
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string);
            tracing::error!(panic.place = place, panic.message = panic.payload_as_str(), "a fault of crdb-proxy");
            if format == LogFormat::Text {
                usual(panic);
            }
        }));
    }
}

/// From now on writes lines of this level and more severe ones. Before [`start`] it changes nothing.
pub fn set_level(level: tracing::Level) {
    if let Some(handle) = LEVEL.get() {
        // It fails only once logging has ended.
        let _ = handle.modify(|filter| *filter = LevelFilter::from_level(level));
    }
}

static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Says why the program ends: as log lines once logging has begun, before that as plain ones.
pub fn last_words(text: &str) {
    let is_logging = tracing::dispatcher::has_been_set();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if is_logging {
            tracing::error!("{line}");
        } else {
            // Nobody left to tell when standard error takes nothing.
            let _ = writeln!(std::io::stderr(), "crdb-proxy: {}", printable(line));
        }
    }
}

/// Waits a moment for the last log lines to be written; to be called at the very end.
pub fn finish() {
    sink::flush();
}

/// Writes text for a person, as it is, where log lines go.
pub fn plainly(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether a person reads standard error.
pub fn has_reader() -> bool {
    std::io::stderr().is_terminal()
}

/// The same as [`plainly`] between log lines, in their order and without waiting for the terminal.
pub fn show(text: String) {
    sink::write(text);
}

/// An error with all its causes in one line.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A moment as logs and `/status` show it: RFC 3339, UTC, to the millisecond.
pub fn rfc3339(at: std::time::SystemTime) -> String {
    // It has no way to write what lies before 1970, where a clock that was never set may stand, or after 9999.
    let least = std::time::SystemTime::UNIX_EPOCH;
    humantime::format_rfc3339_millis(at.clamp(least, least + YEAR_9999)).to_string()
}

/// Up to its last second.
const YEAR_9999: std::time::Duration = std::time::Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_clock_that_was_never_set_shows_as_1970_and_one_beyond_reason_as_9999() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);

        assert_eq!(rfc3339(before), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + YEAR_9999 * 37), "9999-12-31T23:59:59.000Z");
    }
}
