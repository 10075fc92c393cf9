//! The flags of `setup` and `ca`, unchecked, and their texts of `--help`.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// What `setup` is told.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupFlags {
    /// The cluster's name or ID
    #[arg(long, value_name = "NAME|ID", value_hint = ValueHint::Other)]
    pub cluster: String,
    /// SQL user that every session is to log in as
    #[arg(long, value_name = "NAME", help_heading = "Connection", value_hint = ValueHint::Other)]
    pub user: Option<String>,
    /// Database of clients that name none; defaultdb where there is nobody to ask
    #[arg(long, value_name = "NAME", help_heading = "Connection", value_hint = ValueHint::Other)]
    pub database: Option<String>,
    /// Ways into the cluster, in order: public, internal, psc; public where there is nobody to ask
    #[arg(long, value_name = "A,B", help_heading = "Connection", value_hint = ValueHint::Other)]
    pub path: Option<String>,
    /// Regions to use, in order, or "nearest"; nearest where there is nobody to ask
    #[arg(long, value_name = "A,B", help_heading = "Connection", value_hint = ValueHint::Other)]
    pub region: Option<String>,
    /// What the Private Service Connect endpoint of a region is called in your network; may be repeated
    #[arg(long, value_name = "REGION=NAME", help_heading = "Connection", value_hint = ValueHint::Other)]
    pub psc_endpoint: Vec<String>,
    /// File with the user's password; at a terminal it is made, mode 0600, where it is not there
    #[arg(long, value_name = "FILE", help_heading = "Password", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// Variable of the daemon that holds the user's password
    #[arg(long, value_name = "NAME", help_heading = "Password", value_hint = ValueHint::Other)]
    pub password_env: Option<String>,
    /// Command that prints the user's password; words are split at blanks, without a shell
    #[arg(long, value_name = "COMMAND", help_heading = "Password", value_hint = ValueHint::CommandName)]
    pub password_command: Option<String>,
    /// Settings file to write; crdb-proxy/crdb-proxy.toml in $XDG_CONFIG_HOME or ~/.config where it is not given
    #[arg(long, value_name = "FILE", help_heading = "Output", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Replace what is there and differs
    #[arg(long, help_heading = "Output")]
    pub force: bool,
    /// Do not try the new settings out
    #[arg(long, help_heading = "Output")]
    pub no_check: bool,
}

#[derive(Subcommand)]
pub(super) enum CaSub {
    /// Fetch a cluster's CA certificate and show its fingerprint; needs no API key
    #[command(after_help = CA_AFTER_HELP)]
    Fetch(CaFetchFlags),
}

/// What `ca fetch` is told.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct CaFetchFlags {
    /// The cluster's ID, a UUID: it is in the address bar of the Cloud Console
    #[arg(long, value_name = "ID", value_hint = ValueHint::Other)]
    pub cluster_id: String,
    /// File to write; ID-ca.crt in the working folder where it is not given
    #[arg(long, value_name = "FILE", help_heading = "Output", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Replace a file that holds another CA
    #[arg(long, help_heading = "Output")]
    pub force: bool,
}

pub(super) const SETUP_AFTER_HELP: &str = "\
Asks the Cloud API with the key in COCKROACH_API_KEY, that of a service account with the role Cluster Developer on the \
cluster (a lesser role cannot list users); COCKROACH_SERVER names another server. At a terminal it asks for what no \
flag says; elsewhere it asks nothing, and tells everything that is missing at once.

Writes the settings (mode 0600), and beside them the CA certificate and, where you type it, the password. Nothing is \
written before everything is fetched and checked, and nothing that is there is replaced without --force. Then it does \
what crdb-proxy check does, and exits with that one's code; the files stay whatever it finds.";

const CA_AFTER_HELP: &str = "\
The certificate is public. Nothing but this network vouches for the first one: compare its fingerprint with one that was \
fetched over another network. A file that holds the same CA is left as it is (exit 0); one that holds another CA is \
replaced with --force only (else exit 2). COCKROACH_SERVER names another server.";
