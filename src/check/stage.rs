//! The stages of a way to a session, in order, and the exit code that each stands for.

/// One stage. The first that fails ends the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The secret is read.
    Secret,
    /// The name is resolved.
    Dns,
    /// The addresses are dialled.
    Tcp,
    /// SSLRequest and the handshake.
    Tls,
    /// The certificate that the server shows.
    Certificate,
    /// The login.
    Login,
    /// The database is there.
    Database,
    /// Queries are answered.
    Query,
    /// The Cloud API agrees.
    Cloud,
}

impl Stage {
    /// As it is written in JSON and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Login => "login",
            Self::Database => "database",
            Self::Query => "query",
            Self::Cloud => "cloud",
        }
    }

    /// What the program exits with when the first failing endpoint fails here.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Secret => 10,
            Self::Dns => 11,
            Self::Tcp => 12,
            Self::Tls => 13,
            Self::Certificate => 14,
            Self::Login => 15,
            Self::Database => 16,
            Self::Query => 17,
            Self::Cloud => 18,
        }
    }

    /// The one of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|stage| stage.name() == name)
    }
}

const ALL: [Stage; 9] = [
    Stage::Secret,
    Stage::Dns,
    Stage::Tcp,
    Stage::Tls,
    Stage::Certificate,
    Stage::Login,
    Stage::Database,
    Stage::Query,
    Stage::Cloud,
];
