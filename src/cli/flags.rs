//! The flags, as clap reads them and as `--help` shows them.

use super::{Declined, wrong};
use crate::settings::{Flag, Flags};
use clap::{
    Arg, Args, Command, Error, ValueHint,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};
use std::{ffi::OsStr, path::PathBuf};

#[derive(Args)]
pub(super) struct SettingsFlags {
    /// Connection string from the Cloud Console:
    /// postgresql://USER@HOST:26257/DATABASE?sslrootcert=FILE
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    url: Option<String>,
    // What a shell makes of a string without quotes, to be refused in words of its own. No document names it.
    #[arg(hide = true, num_args = 0.., value_hint = ValueHint::Other)]
    more: Vec<String>,

    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", help_heading = "Settings", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Address to listen on: localhost:PORT, IP:PORT or unix:FOLDER; may be repeated
    /// [default: localhost:26257]
    #[arg(long, value_name = "ADDR", help_heading = "Clients", value_hint = ValueHint::Other)]
    listen: Vec<String>,
    /// Database of clients that name none [default: defaultdb]
    #[arg(long, value_name = "NAME", help_heading = "Clients", value_hint = ValueHint::Other)]
    database: Option<String>,
    /// Let other hosts use the database with this daemon's credentials
    #[arg(long, help_heading = "Clients")]
    unsafe_allow_remote: bool,

    /// Host of the cluster, as in the connection string
    #[arg(long, value_name = "HOST", help_heading = "Cluster", value_hint = ValueHint::Hostname)]
    host: Option<String>,
    /// Port of the cluster [default: 26257]
    #[arg(long, value_name = "PORT", help_heading = "Cluster", value_hint = ValueHint::Other)]
    port: Option<String>,
    /// Regions to use, in order, or "nearest"; with --host, the region of that host
    #[arg(long, value_name = "A,B", help_heading = "Cluster", value_hint = ValueHint::Other)]
    region: Option<String>,
    /// The cluster's CA certificate (PEM), or "system"
    #[arg(long, value_name = "FILE", help_heading = "Cluster", value_hint = ValueHint::FilePath)]
    ca_file: Option<String>,
    /// Name that the cluster's certificate must carry, where it is not the host
    #[arg(long, value_name = "NAME", help_heading = "Cluster", value_hint = ValueHint::Other)]
    tls_server_name: Option<String>,

    /// SQL user that every session logs in as
    #[arg(long, value_name = "NAME", help_heading = "Login", value_hint = ValueHint::Other)]
    user: Option<String>,
    /// File with the user's password
    #[arg(long, value_name = "FILE", help_heading = "Login", value_hint = ValueHint::FilePath)]
    password_file: Option<String>,
    /// Command that prints the user's password; words are split at blanks, without a shell
    #[arg(long, value_name = "COMMAND", help_heading = "Login", value_hint = ValueHint::CommandName)]
    password_command: Option<String>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Login", value_hint = ValueHint::FilePath)]
    cert_file: Option<String>,
    /// Key of the client certificate (PEM, not encrypted)
    #[arg(long, value_name = "FILE", help_heading = "Login", value_hint = ValueHint::FilePath)]
    key_file: Option<String>,

    /// Address of metrics and status: localhost:PORT, IP:PORT, unix:PATH or off
    /// [default: localhost:9257]
    #[arg(long, value_name = "ADDR|off", help_heading = "Operation", value_hint = ValueHint::Other)]
    admin: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Operation", value_parser = OneOf(&["text", "json"]), hide_possible_values = true)]
    log_format: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Operation", value_parser = OneOf(&["error", "warn", "info", "debug", "trace"]), hide_possible_values = true)]
    log_level: Option<String>,
}

impl SettingsFlags {
    /// As the settings take them.
    pub(super) fn flags(self) -> Result<Flags, Declined> {
        // Whether it is a good one is for those to say who read connection strings.
        if let Some(argument) = self.url.iter().chain(&self.more).find(|argument| !argument.contains("://")) {
            return Err(Declined::Wrong(wrong::neither(argument)));
        }
        if !self.more.is_empty() {
            return Err(Declined::Wrong(wrong::several()));
        }
        let mut given: Vec<(Flag, String)> = self.listen.into_iter().map(|address| (Flag::Listen, address)).collect();
        let single = [
            (Flag::Admin, self.admin),
            (Flag::Host, self.host),
            (Flag::Port, self.port),
            (Flag::User, self.user),
            (Flag::Database, self.database),
            (Flag::PasswordFile, self.password_file),
            (Flag::PasswordCommand, self.password_command),
            (Flag::CaFile, self.ca_file),
            (Flag::TlsServerName, self.tls_server_name),
            (Flag::CertFile, self.cert_file),
            (Flag::KeyFile, self.key_file),
            (Flag::Region, self.region),
            (Flag::LogFormat, self.log_format),
            (Flag::LogLevel, self.log_level),
            (Flag::UnsafeAllowRemote, self.unsafe_allow_remote.then(|| "true".to_owned())),
        ];
        given.extend(single.into_iter().filter_map(|(flag, said)| Some((flag, said?))));
        Ok(Flags { config: self.config, url: self.url, given })
    }
}

impl SettingsFlags {
    /// The same where one word may stand that is no connection string: the name of a cluster.
    pub(super) fn flags_and_cluster(mut self) -> Result<(Flags, Option<String>), Declined> {
        let cluster = self.url.take_if(|said| !said.contains("://"));
        Ok((self.flags()?, cluster))
    }
}

/// Which daemon a command speaks to.
#[derive(Args)]
pub(super) struct DaemonFlags {
    /// The daemon's settings file (TOML), which says where its admin address is
    #[arg(long, value_name = "FILE", help_heading = "Daemon", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Its admin address: localhost:PORT, IP:PORT or unix:PATH [default: localhost:9257]
    #[arg(long, value_name = "ADDR", help_heading = "Daemon", value_hint = ValueHint::Other)]
    admin: Option<String>,
}

impl From<DaemonFlags> for Flags {
    fn from(DaemonFlags { config, admin }: DaemonFlags) -> Self {
        let given = admin.into_iter().map(|said| (Flag::Admin, said)).collect();
        Self { config, url: None, given }
    }
}

/// Which endpoint an order is for.
#[derive(Args)]
pub(super) struct EndpointFlags {
    /// The endpoint's name, as the settings and /status have it
    #[arg(value_name = "NAME", value_hint = ValueHint::Other)]
    pub(super) endpoint: String,
    /// The endpoint's cluster, where several have an endpoint of this name
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub(super) cluster: Option<String>,
    #[command(flatten)]
    pub(super) daemon: DaemonFlags,
}

/// How long it stands.
#[derive(Args)]
pub(super) struct SpanFlag {
    /// How long the order stands, from 1s to 24h [default: 1h]
    #[arg(long = "for", value_name = "SPAN", value_hint = ValueHint::Other)]
    pub(super) span: Option<String>,
}

/// The flags of `demo`, unchecked.
#[cfg(feature = "demo")]
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DemoFlags {
    /// Address to listen on: localhost:PORT, IP:PORT or unix:FOLDER; may be repeated
    #[arg(long, value_name = "ADDR", value_hint = ValueHint::Other)]
    pub listen: Vec<String>,
    /// Address of metrics and status: localhost:PORT, IP:PORT, unix:PATH or off
    #[arg(long, value_name = "ADDR|off", value_hint = ValueHint::Other)]
    pub admin: Option<String>,
}

/// Any text, of which shells complete these: whether it is a good one is for those to say who read settings.
#[derive(Clone)]
struct OneOf(&'static [&'static str]);

impl TypedValueParser for OneOf {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}
