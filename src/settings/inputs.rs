//! All that loading settings may see of the world, besides the files that it names: flags,
//! variables and folders. Owns the list of flags. Reads no file and never prints a value, since a
//! connection string and any variable may carry a secret.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    thread,
};

/// What [`load`](super::load) works from. Has no `Debug`: it holds the whole environment.
#[derive(Clone, Default)]
pub struct Inputs {
    /// What the command line said.
    pub flags: Flags,
    /// What counts where neither flag, variable nor file says anything, in place of the usual default.
    pub defaults: Vec<(Flag, &'static str)>,
    /// The environment; names that do not begin with `CRDB_PROXY_` are passed over.
    pub variables: Vec<(OsString, OsString)>,
    /// Relative paths in flags and variables count from here.
    pub working_folder: PathBuf,
    /// What `~/` and `$HOME/` stand for; without one, such paths are a fault.
    pub home: Option<PathBuf>,
    /// Files that are looked for, in this order, when nothing was given at all.
    pub usual_files: Vec<PathBuf>,
    /// Cores of this machine, for `threads = 0`; 0 counts as 1.
    pub cores: usize,
}

impl Inputs {
    /// The inputs of this process, beside its flags.
    pub fn of_process(flags: Flags) -> Self {
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME");
        let configuration = folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let usual_files = configuration
            .iter()
            .map(PathBuf::as_path)
            .chain([Path::new("/etc")])
            .map(|folder| folder.join("crdb-proxy").join("crdb-proxy.toml"))
            .collect();
        Self {
            flags,
            defaults: Vec::new(),
            variables: env::vars_os().collect(),
            working_folder: env::current_dir().unwrap_or_default(),
            home,
            usual_files,
            cores: thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What the command line said, unchecked. Has no `Debug`: the connection string may carry a password.
#[derive(Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// The connection string.
    pub url: Option<String>,
    /// All others, in the order given; only `--listen` may stand here more than once.
    pub given: Vec<(Flag, String)>,
}

/// A flag that sets one key, and the variable of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `--listen ADDR`: listeners' addresses.
    Listen,
    /// `--admin ADDR|off`.
    Admin,
    /// `--host`: the only endpoint's.
    Host,
    /// `--port`: the only endpoint's.
    Port,
    /// `--user`: the only cluster's.
    User,
    /// `--database`: every listener's.
    Database,
    /// `--password-file`: the only cluster's.
    PasswordFile,
    /// `--password-command`: the only cluster's; words split at blanks, no shell.
    PasswordCommand,
    /// `--ca-file`: the only cluster's.
    CaFile,
    /// `--tls-server-name`: the only endpoint's.
    TlsServerName,
    /// `--cert-file`: the only cluster's.
    CertFile,
    /// `--key-file`: the only cluster's.
    KeyFile,
    /// `--region`: every listener's regions, or with a host the endpoint's region; `nearest` is always the former.
    Region,
    /// `--log-format`.
    LogFormat,
    /// `--log-level`.
    LogLevel,
    /// `--unsafe-allow-remote`: every listener's.
    UnsafeAllowRemote,
}

impl Flag {
    /// Every flag, in the order of `--help`.
    pub const ALL: [Self; 16] = [
        Self::Listen,
        Self::Admin,
        Self::Host,
        Self::Port,
        Self::User,
        Self::Database,
        Self::PasswordFile,
        Self::PasswordCommand,
        Self::CaFile,
        Self::TlsServerName,
        Self::CertFile,
        Self::KeyFile,
        Self::Region,
        Self::LogFormat,
        Self::LogLevel,
        Self::UnsafeAllowRemote,
    ];

    /// Without the dashes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Admin => "admin",
            Self::Host => "host",
            Self::Port => "port",
            Self::User => "user",
            Self::Database => "database",
            Self::PasswordFile => "password-file",
            Self::PasswordCommand => "password-command",
            Self::CaFile => "ca-file",
            Self::TlsServerName => "tls-server-name",
            Self::CertFile => "cert-file",
            Self::KeyFile => "key-file",
            Self::Region => "region",
            Self::LogFormat => "log-format",
            Self::LogLevel => "log-level",
            Self::UnsafeAllowRemote => "unsafe-allow-remote",
        }
    }

    /// The variable that says the same: `CRDB_PROXY_` and the flag in capitals.
    pub fn variable(self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name().replace('-', "_").to_ascii_uppercase())
    }
}

/// What the daemon's variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "CRDB_PROXY_";
