//! Why the API gave no answer, in one sentence each, with the next step. The key is never in one.

use super::Server;
use std::{error::Error, fmt, time::Duration};

/// Why the API gave no answer.
#[derive(Debug)]
pub enum CloudError {
    /// There is no key to ask with.
    NoKey,
    /// What was given as a key is none.
    BadKey,
    /// What was given as the server cannot be; the rule.
    BadServer(String),
    /// The key is unknown (401).
    KeyRefused {
        /// Who refused.
        server: Server,
        /// Its words, printable and cut.
        said: Option<String>,
    },
    /// The key's role may not (403).
    RoleMissing {
        /// May not do what: `read the allowlist`.
        act: String,
        /// The least role that may: `Cluster Developer`.
        role: &'static str,
        /// The server's words, printable and cut.
        said: Option<String>,
    },
    /// There is no such thing (404).
    NotFound {
        /// What: `cluster 1234`.
        what: String,
        /// The server's words, printable and cut.
        said: Option<String>,
    },
    /// No cluster has this name.
    NoCluster {
        /// The name, printable.
        wanted: String,
        /// Those that there are, printable.
        names: Vec<String>,
    },
    /// Several clusters have this name.
    Ambiguous {
        /// The name, printable.
        wanted: String,
        /// Their IDs, printable.
        ids: Vec<String>,
    },
    /// Too many requests (429), and again after waiting.
    TooFast {
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
    /// The request is refused for another reason (400, 409, …).
    Refused {
        /// What was asked: `add 192.0.2.1/32 to the allowlist`.
        act: String,
        /// The HTTP status.
        status: u16,
        /// The server's words, printable and cut.
        said: Option<String>,
    },
    /// The server points elsewhere, where the key does not go.
    Redirected {
        /// Who points.
        server: Server,
    },
    /// The server has a fault (5xx).
    ServerFault {
        /// Which server.
        server: Server,
        /// The HTTP status.
        status: u16,
        /// Its words, printable and cut.
        said: Option<String>,
        /// Something was to be changed, and may have been.
        is_change: bool,
    },
    /// There is no connection.
    Unreachable {
        /// To which server.
        server: Server,
        /// How far it came.
        stage: Stage,
        /// Why no further.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There was no whole answer in time.
    Late {
        /// Of which server.
        server: Server,
        /// The time.
        limit: Duration,
        /// Something was to be changed, and may have been.
        is_change: bool,
    },
    /// The answer ended half-way.
    Lost {
        /// Of which server.
        server: Server,
        /// How it was lost.
        source: Box<dyn Error + Send + Sync>,
        /// Something was to be changed, and may have been.
        is_change: bool,
    },
    /// The answer is not what the API would say.
    Malformed {
        /// Of which server.
        server: Server,
        /// What is wrong with it.
        fault: String,
    },
    /// The answer is longer than any that the API would give.
    TooLong {
        /// Of which server.
        server: Server,
        /// What was read at most, in bytes.
        limit: usize,
    },
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its name has no address.
    Dns,
    /// No address answers.
    Tcp,
    /// Its certificate is not accepted, or there is no TLS.
    Tls,
    /// The proxy of `HTTPS_PROXY` does not let it through.
    Proxy,
}

impl CloudError {
    /// The exit code that says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoKey | Self::BadKey | Self::BadServer(_) | Self::NoCluster { .. } | Self::Ambiguous { .. } => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for CloudError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable { source, .. } | Self::Lost { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
