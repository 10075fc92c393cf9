//! The closed sets of label values; every series of them exists from the start.

mod error_class;

pub use error_class::ErrorClass;

/// One value of a closed set.
pub trait Label: Copy + 'static {
    /// All values, in order of [`Label::place`].
    const ALL: &'static [Self];
    /// Its place in [`Label::ALL`].
    fn place(self) -> usize;
    /// As metrics and logs show it.
    fn text(self) -> &'static str;
}

macro_rules! labels {
    ($($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $value:ident = $text:literal),+ $(,)? })+) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$meaning])* $value),+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];
            fn place(self) -> usize { self as usize }
            fn text(self) -> &'static str { match self { $(Self::$value => $text),+ } }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.text()) }
        }
    )+};
}
use labels;

labels! {
    /// Why a session ended.
    CloseReason {
        /// The client sent Terminate.
        ClientTerminate = "client_terminate",
        /// The client closed without Terminate.
        ClientEof = "client_eof",
        /// The client's connection broke.
        ClientReset = "client_reset",
        /// The server ended the session with an error that says why.
        UpstreamFatal = "upstream_fatal",
        /// The server closed without a word.
        UpstreamEof = "upstream_eof",
        /// The upstream connection broke.
        UpstreamReset = "upstream_reset",
        /// The upstream stopped acknowledging.
        UpstreamTimeout = "upstream_timeout",
        /// The client sent what is no message.
        ClientProtocol = "client_protocol",
        /// The server sent what is no message.
        UpstreamProtocol = "upstream_protocol",
        /// `session_idle_limit`.
        IdleLimit = "idle_limit",
        /// `session_age_limit`.
        AgeLimit = "age_limit",
        /// Ended gently while the daemon stops.
        Drain = "drain",
        /// Cut when the daemon's `drain_limit` had passed.
        DrainLimit = "drain_limit",
        /// A fault of the daemon.
        Internal = "internal",
    }

    /// Why a client got no session.
    RefuseReason {
        /// It never sent a byte.
        Silent = "silent",
        /// Its first messages are not the protocol's.
        StartupMalformed = "startup_malformed",
        /// Its startup message is larger than `startup_bytes_max`.
        StartupTooLarge = "startup_too_large",
        /// Its startup took longer than `startup_limit`.
        StartupTimeout = "startup_timeout",
        /// A major protocol version that is not spoken here.
        ProtocolVersion = "protocol_version",
        /// The TLS handshake with it failed.
        TlsFailed = "tls_failed",
        /// It came in clear to a listener that requires TLS.
        TlsRequired = "tls_required",
        /// A wrong local password.
        LocalAuth = "local_auth",
        /// A user of this machine that may not come in.
        LocalUid = "local_uid",
        /// `sessions_max` of the daemon.
        LimitDaemon = "limit_daemon",
        /// `sessions_max` of the listener.
        LimitListener = "limit_listener",
        /// No login slot within `login_queue_limit`.
        LoginQueue = "login_queue",
        /// The daemon is stopping.
        Draining = "draining",
        /// No endpoint could be reached.
        Unreachable = "unreachable",
        /// A server's certificate was not accepted.
        Certificate = "certificate",
        /// The server refused the login.
        Login = "login",
        /// The server has too many connections.
        UpstreamLimit = "upstream_limit",
        /// The cluster's secret could not be read.
        Secret = "secret",
        /// A fault of the daemon.
        Internal = "internal",
    }

    /// How an attempt to get an upstream ended.
    AttemptResult {
        /// Logged in.
        Ok = "ok",
        /// The name was not resolved.
        Dns = "dns",
        /// The connection was refused.
        Refused = "refused",
        /// No answer in time.
        Timeout = "timeout",
        /// The connection was closed or broken.
        Reset = "reset",
        /// The server does not do TLS.
        TlsDeclined = "tls_declined",
        /// Its certificate is not of the cluster's CA.
        TlsCa = "tls_ca",
        /// Its certificate has expired.
        TlsExpired = "tls_expired",
        /// Its certificate is not valid yet.
        TlsNotYetValid = "tls_not_yet_valid",
        /// Its certificate is for other names.
        TlsName = "tls_name",
        /// The TLS handshake failed otherwise.
        TlsOther = "tls_other",
        /// The secret could not be read.
        Secret = "secret",
        /// 28P01.
        LoginPassword = "login_password",
        /// 28000.
        LoginRejected = "login_rejected",
        /// 53300.
        LoginLimit = "login_limit",
        /// 57P01 or 57P03.
        LoginDraining = "login_draining",
        /// Another error of the server.
        LoginOther = "login_other",
        /// The server does not speak the protocol.
        Protocol = "protocol",
    }

    /// A stage on the way to an upstream.
    Stage {
        /// Resolving the name.
        Dns = "dns",
        /// The TCP handshake.
        Tcp = "tcp",
        /// SSLRequest and the TLS handshake.
        Tls = "tls",
        /// From the startup message to ReadyForQuery.
        Login = "login",
    }

    /// What became of a cancel request.
    CancelResult {
        /// Sent to the upstream that holds the session.
        Sent = "sent",
        /// No session has this key.
        UnknownKey = "unknown_key",
        /// More than `cancels_max` in flight.
        Limited = "limited",
        /// The upstream could not be reached in time.
        Failed = "failed",
    }

    /// Which way bytes went.
    Direction {
        /// From the client.
        ToUpstream = "to_upstream",
        /// From the server.
        ToClient = "to_client",
    }

    /// Whether derived SCRAM keys were there already.
    CacheResult {
        /// They were.
        Hit = "hit",
        /// They had to be derived.
        Miss = "miss",
    }

    /// How much of a TLS handshake was needed.
    HandshakeKind {
        /// All of it.
        Full = "full",
        /// It resumed an earlier session.
        Resumed = "resumed",
    }

    /// What an upstream is busy with.
    UpstreamState {
        /// Connecting or logging in.
        Login = "login",
        /// Joined to a client.
        Session = "session",
        /// Waiting for a client.
        Warm = "warm",
    }

    /// What is known of an endpoint.
    EndpointState {
        /// Nobody has tried it yet.
        Unknown = "unknown",
        /// It was reached the last time.
        Well = "well",
        /// It failed once.
        Suspect = "suspect",
        /// It keeps failing.
        Down = "down",
    }

    /// Whether an upstream stood ready for a session.
    WarmResult {
        /// One did.
        Hit = "hit",
        /// These startup parameters were not expected again.
        MissFirst = "miss_first",
        /// All that stood ready were taken.
        MissEmpty = "miss_empty",
        /// What stood ready was no longer any good.
        MissDead = "miss_dead",
        /// None are kept: `warm_max = 0`, or a replication connection.
        MissOff = "miss_off",
    }

    /// Why an upstream that stood ready was closed.
    RecycleCause {
        /// It was as old as `warm_age`.
        Age = "age",
        /// Its parameters were not used for `warm_idle`.
        Idle = "idle",
        /// The server closed it, or said what has no place there.
        Closed = "closed",
        /// The server is shutting down: 57P01.
        Shutdown = "shutdown",
        /// Its endpoint is no longer the preferred one, or its address no longer the endpoint's.
        Endpoint = "endpoint",
        /// Another secret is in use.
        Secret = "secret",
        /// Settings, CA or network have changed.
        Settings = "settings",
        /// The server has too many connections, or somebody needs a database to be free of them.
        Limit = "limit",
        /// The daemon stops.
        Drain = "drain",
    }

    /// What became of resetting an upstream for another session.
    ResetResult {
        /// It stands ready.
        Ok = "ok",
        /// It was not tried: the session had left something behind.
        Refused = "refused",
        /// The server refused, or took too long.
        Failed = "failed",
        /// A reported parameter differs from what it was at login.
        Changed = "changed",
    }

    /// What the operator ordered for an endpoint.
    OrderByHand {
        /// New sessions pass it over.
        Disabled = "disabled",
        /// New sessions try it first.
        Preferred = "preferred",
    }

    /// Where a session's upstream came from.
    ClaimSource {
        /// It was connected for this session.
        Cold = "cold",
        /// It stood ready.
        Warm = "warm",
        /// Another session had used it.
        Reused = "reused",
    }

    /// What the daemon is doing.
    DaemonState {
        /// Not serving yet.
        Starting = "starting",
        /// Serving.
        Running = "running",
        /// Stopping, still serving.
        Delaying = "delaying",
        /// Stopping, ending sessions.
        Draining = "draining",
    }

    /// How a reading of settings and files ended.
    ReloadResult {
        /// All of it was taken, or there was nothing new.
        Ok = "ok",
        /// It has faults, and what was there before stays.
        Failed = "failed",
    }

}

impl CloseReason {
    /// Which side ended the session.
    pub fn by(self) -> &'static str {
        match self {
            Self::ClientTerminate | Self::ClientEof | Self::ClientReset | Self::ClientProtocol => "client",
            Self::UpstreamFatal
            | Self::UpstreamEof
            | Self::UpstreamReset
            | Self::UpstreamTimeout
            | Self::UpstreamProtocol => "upstream",
            Self::IdleLimit | Self::AgeLimit | Self::Drain | Self::DrainLimit | Self::Internal => "proxy",
        }
    }
}
