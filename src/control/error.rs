//! Why a daemon was not asked, or gave no answer.

use crate::diagnostics::Chain;
use hyper::StatusCode;
use std::{error::Error, fmt, io, time::Duration};

/// Why an order was not taken, or a question not answered.
#[derive(Debug)]
pub enum ControlError {
    /// The command line says what cannot be.
    Wrong(String),
    /// The daemon answers nowhere.
    Off {
        /// A settings file says so, which may have been changed since the daemon started.
        by_file: bool,
    },
    /// It answers at a port of which the settings only say that any will do.
    AnyPort,
    /// There is no connection to the address.
    Unreachable {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
        /// A settings file says the address, and may have been changed since the daemon started.
        by_file: bool,
    },
    /// There was no answer in time.
    Silent {
        /// The address.
        address: String,
        /// The time.
        limit: Duration,
        /// Something was to be changed, and may have been.
        is_order: bool,
    },
    /// There was no whole answer.
    Lost {
        /// The address.
        address: String,
        /// How it was lost.
        source: Box<dyn Error + Send + Sync>,
        /// Something was to be changed, and may have been.
        is_order: bool,
    },
    /// The answer is not what this daemon would say.
    Stranger {
        /// The address.
        address: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// The answer should be JSON, and is none.
    NoJson {
        /// The address.
        address: String,
    },
    /// The daemon at this address does not serve by the settings file that says the address.
    Another {
        /// The address.
        address: String,
    },
    /// The daemon takes no such order, in these words.
    Refused(String),
    /// The daemon does not tell what was asked, for this reason.
    Untold(String),
}

impl ControlError {
    /// The exit code that says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Wrong(_) | Self::Off { .. } | Self::AnyPort => 2,
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Lost { .. }
            | Self::Stranger { .. }
            | Self::NoJson { .. }
            | Self::Another { .. }
            | Self::Refused(_)
            | Self::Untold(_) => 1,
        }
    }

    /// Whether nobody is there at all, as before a daemon's start and after its end.
    pub fn is_nobody_there(&self) -> bool {
        let gone = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
        matches!(self, Self::Unreachable { source, .. } if gone.contains(&source.kind()))
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(rule) => f.write_str(rule),
            Self::Off { by_file } => write!(
                f,
                "the daemon takes no orders and answers no questions, since its admin address is off; set \"admin\" \
                 and restart it, or name another daemon's with --admin or --config{}",
                if *by_file { CHANGED_SINCE } else { "" }
            ),
            Self::AnyPort => f.write_str(
                "the admin address has port 0, which is any; name the real one with --admin: \
                 the daemon's log has it (\"listening\" with the listener.name \"admin\")",
            ),
            Self::Unreachable { address, source, by_file } => {
                let changed = if *by_file && self.is_nobody_there() { CHANGED_SINCE } else { "" };
                write!(f, "no daemon can be reached at {address}: {}; {}{changed}", Chain(source), advice(source))
            }
            Self::Silent { address, limit, is_order } => {
                write!(f, "{address} did not answer within {}{}", span(*limit), doubt(*is_order))
            }
            Self::Lost { address, source, is_order } => {
                write!(f, "{address} gave no whole answer: {}{}", Chain(source.as_ref()), doubt(*is_order))
            }
            Self::Stranger { address, status } => write!(
                f,
                "{address} answered {status} as no crdb-proxy would; \
                 is it the admin address (--admin, --config) of one?"
            ),
            Self::NoJson { address } => write!(
                f,
                "{address} answered what looks like a status and is no JSON, as no crdb-proxy would; \
                 is it the admin address (--admin, --config) of one?"
            ),
            Self::Another { address } => write!(
                f,
                "the daemon at {address} was started with other settings; if it is the right one, name it with --admin"
            ),
            Self::Refused(reason) => write!(f, "the daemon refused the order: {reason}"),
            Self::Untold(reason) => write!(f, "the daemon does not tell: {reason}"),
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "the socket is for the daemon's own user and root",
        _ => "is it running, and is this its admin address (--admin, --config)?",
    }
}

fn doubt(is_order: bool) -> &'static str {
    if is_order { "; whether the order was taken, /status or the log tells" } else { "" }
}

/// Whole seconds as such; a rest of a limit may be less than one.
fn span(limit: Duration) -> String {
    if limit.subsec_nanos() == 0 { format!("{} s", limit.as_secs()) } else { format!("{} ms", limit.as_millis()) }
}

impl Error for ControlError {}

const CHANGED_SINCE: &str = " (a changed \"admin\" counts from the daemon's next restart on; until then give the old \
    address with --admin)";
