//! Why the API gave no answer, in one sentence each, with the next step. The key is never in one.

use super::Server;
use crate::{credentials::SecretError, diagnostics::Chain, settings};
use std::{error::Error, fmt, time::Duration};

/// Why the API gave no answer.
#[derive(Debug)]
pub enum CloudError {
    /// There is no key to ask with.
    NoKey,
    /// What was given as a key is none.
    BadKey,
    /// The source that should have the key cannot be read.
    KeyUnreadable(SecretError),
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
        /// Why no further, printable.
        cause: String,
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
    /// All requests that a question takes were not answered in time, however fast each was.
    Endless {
        /// By which server.
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
        /// How it was lost, printable.
        cause: String,
        /// Something was to be changed, and may have been.
        is_change: bool,
    },
    /// The answer is not what the API would say.
    Malformed {
        /// Of which server.
        server: Server,
        /// What is wrong with it.
        fault: String,
        /// Something was to be changed, and may have been.
        is_change: bool,
    },
    /// The answer is longer than any that the API would give.
    TooLong {
        /// Of which server.
        server: Server,
        /// What was read at most, in bytes.
        limit: usize,
        /// Something was to be changed, and may have been.
        is_change: bool,
    },
    /// This program cannot make requests at all.
    Inside(String),
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
            Self::NoKey
            | Self::BadKey
            | Self::KeyUnreadable(_)
            | Self::BadServer(_)
            | Self::NoCluster { .. }
            | Self::Ambiguous { .. } => 2,
            _ => 1,
        }
    }

    /// Whether the same question may be answered a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::TooFast { .. }
                | Self::ServerFault { status: 500 | 502..=504, .. }
                | Self::Lost { .. }
                | Self::Unreachable { stage: Stage::Tcp, .. }
        )
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str(NO_KEY),
            Self::BadKey => f.write_str(
                "the Cloud API key holds what no key has (a blank, a line break, a letter with an accent); copy it again",
            ),
            Self::KeyUnreadable(error) => write!(f, "there is no Cloud API key: {}", Chain(error)),
            Self::BadServer(rule) => write!(f, "variable COCKROACH_SERVER {rule}"),
            Self::KeyRefused { server, said } => write!(
                f,
                "{server} does not know the API key (401{}); is it whole, and of this server? If it was deleted, make \
                 another in the Cloud Console under Access Management, Service Accounts",
                Said(said)
            ),
            Self::RoleMissing { act, role, said } => write!(
                f,
                "the API key's service account may not {act} (403{}); give it the role {role} for this cluster in the \
                 Cloud Console under Access Management",
                Said(said)
            ),
            Self::NotFound { what, said } => write!(
                f,
                "the Cloud API has no {what} (404{}); check the ID, and, where a key is used, whether its service \
                 account is of the same organization",
                Said(said)
            ),
            Self::NoCluster { wanted, names } => no_cluster(f, wanted, names),
            Self::Ambiguous { wanted, ids } => {
                write!(f, "{} clusters are called \"{wanted}\"; name one by its ID: {}", ids.len(), ids.join(", "))
            }
            Self::TooFast { wait } => {
                f.write_str("the Cloud API takes no more requests of this API key for now (429); try again ")?;
                match wait {
                    Some(wait) => write!(f, "in {} s", wait.as_secs().max(1)),
                    None => f.write_str("in a minute"),
                }
            }
            Self::Refused { act, status, said } => write!(
                f,
                "the Cloud API does not {act} ({status}{}); correct what it names, and try again",
                Said(said)
            ),
            Self::Redirected { server } => write!(
                f,
                "{server} points to another address, where the API key is not sent; set COCKROACH_SERVER to the \
                 Cloud API itself, or see what answers in its place (a portal that wants a login?)"
            ),
            Self::Inside(cause) => write!(f, "requests cannot be made ({cause}); this is a fault of crdb-proxy, report it"),
            _ => self.no_answer(f),
        }
    }
}

impl CloudError {
    /// Of those where the server or the way to it is to blame.
    fn no_answer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerFault { server, status, said, is_change } => {
                write!(f, "{server} has a fault of its own ({status}{}); {}", Said(said), again(*is_change, LATER))
            }
            Self::Unreachable { server, stage, cause } => {
                write!(f, "{server} cannot be reached: {} ({cause}); {}", stage.failed(), stage.advice())
            }
            Self::Late { server, limit, is_change } => write!(
                f,
                "{server} has not answered within {limit:?}; {}",
                again(*is_change, "try again, and look for a firewall or a proxy on the way if it lasts")
            ),
            Self::Endless { server, limit, is_change } => write!(
                f,
                "{server} has not answered in whole within {limit:?}, all pages and tries together; {}",
                again(*is_change, LATER)
            ),
            Self::Lost { server, cause, is_change } => {
                write!(f, "the answer of {server} ended half-way ({cause}); {}", again(*is_change, "try again"))
            }
            Self::Malformed { server, fault, is_change } => {
                write!(f, "{server} answers what the Cloud API would not: {fault}; {}", again(*is_change, ELSEWHERE))
            }
            Self::TooLong { server, limit, is_change } => write!(
                f,
                "{server} answers with more than {} MiB, which the Cloud API would not; {}",
                limit >> 20,
                again(*is_change, ELSEWHERE)
            ),
            // All others are told above.
            _ => Ok(()),
        }
    }
}

impl Stage {
    fn failed(self) -> &'static str {
        match self {
            Self::Dns => "its name has no address",
            Self::Tcp => "no connection",
            Self::Tls => "its certificate is not accepted, or it speaks no TLS",
            Self::Proxy => "the proxy of HTTPS_PROXY does not let it through",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Dns => "check the network and its resolver, and the name in COCKROACH_SERVER if that is set",
            Self::Tcp => {
                "check the network and its firewall (TCP 443 out), and HTTPS_PROXY: whether a proxy is the way out, and runs"
            }
            Self::Tls => {
                "a proxy that opens TLS may stand between, which sees the API key then: ask your network's people for a \
                 way past it; check this machine's clock too"
            }
            Self::Proxy => "ask whoever runs it to let cockroachlabs.cloud:443 through, or list the host in NO_PROXY",
        }
    }
}

impl Error for CloudError {}

fn no_cluster(f: &mut fmt::Formatter<'_>, wanted: &str, names: &[String]) -> fmt::Result {
    write!(f, "no cluster that the API key may see is called \"{wanted}\"")?;
    if names.is_empty() {
        return f.write_str(
            ", and none at all is to be seen; give its service account a role for the cluster in the Cloud Console \
             under Access Management",
        );
    }
    if let Some(near) = settings::nearest(wanted, names.iter().map(String::as_str)) {
        write!(f, " (did you mean \"{near}\"?)")?;
    }
    let shown = names.iter().take(NAMES_SHOWN).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_SHOWN);
    write!(f, "; there are {shown}")?;
    if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
}

fn again(is_change: bool, advice: &str) -> String {
    let unknown =
        if is_change { "whether the change was made is not known, so look before you repeat it, and " } else { "" };
    format!("{unknown}{advice}")
}

/// The server's own words behind a status.
struct Said<'s>(&'s Option<String>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |said| write!(f, ": {said}"))
    }
}

const NAMES_SHOWN: usize = 20;
const LATER: &str = "try again in some minutes, and see https://status.cockroachlabs.cloud if it lasts";
const ELSEWHERE: &str = "see whether COCKROACH_SERVER or HTTPS_PROXY leads to something else";
const NO_KEY: &str = "there is no Cloud API key; set the variable COCKROACH_API_KEY, or api_key = { file = \"…\" } of the \
    cluster in the settings file, to a key of a service account, which the Cloud Console makes under Access Management";
