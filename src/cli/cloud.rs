//! The commands that ask the Cloud API, as clap reads them, with their texts.

use super::Command;
use crate::settings::Flags;
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// What the Cloud API is to be asked or told, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudOrder {
    /// Print the allowlist.
    AllowlistList {
        /// As JSON.
        json: bool,
    },
    /// Add an entry.
    AllowlistAdd {
        /// The range.
        network: AllowFlags,
        /// Without asking back.
        yes: bool,
    },
    /// Remove an entry.
    AllowlistRemove {
        /// The range.
        cidr: String,
        /// Without asking back.
        yes: bool,
    },
    /// Print the private endpoints.
    PrivateList {
        /// As JSON.
        json: bool,
    },
    /// Print what private endpoints are made for.
    PrivateServices {
        /// As JSON.
        json: bool,
    },
    /// Have the cluster accept one.
    PrivateAdd {
        /// Its ID.
        endpoint_id: String,
        /// Without asking back.
        yes: bool,
    },
    /// Say what to do next about each.
    PrivateStatus,
    /// Print the SQL users.
    UsersList {
        /// As JSON.
        json: bool,
    },
}

#[derive(Subcommand)]
pub(super) enum AllowlistSub {
    /// Print who may connect over the public path, and what is odd about it
    List(ListFlags),
    /// Allow a range of IPv4 addresses, for SQL and the DB Console unless told otherwise
    #[command(after_help = OWN_ADDRESS)]
    Add {
        #[command(flatten)]
        network: AllowFlags,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Take a range out of the allowlist
    Remove {
        /// The range, as `allowlist list` shows it
        #[arg(value_name = "CIDR", value_hint = ValueHint::Other)]
        cidr: String,
        #[command(flatten)]
        change: ChangeFlags,
    },
}

#[derive(Subcommand)]
pub(super) enum PrivateEndpointSub {
    /// Print the private endpoints that the cluster knows, with their status
    List(ListFlags),
    /// Print what a private endpoint is made for, per region: target service, service name or alias
    Services(ListFlags),
    /// Have the cluster accept a private endpoint
    Add {
        /// GCP: the PSC Connection ID, a number; AWS: the endpoint's ID, vpce-0123; Azure: its Resource ID
        #[arg(value_name = "ENDPOINT_ID", value_hint = ValueHint::Other)]
        endpoint_id: String,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Say how far each private endpoint has come, and what to do next
    Status(CloudFlags),
}

#[derive(Subcommand)]
pub(super) enum UsersSub {
    /// Print the cluster's SQL users, and what to do about a forgotten password
    List(ListFlags),
}

/// Which cluster is meant.
#[derive(Args)]
pub(super) struct CloudFlags {
    /// The cluster: its name in the settings file, or its name or ID in the Cloud
    #[arg(long, value_name = "NAME|ID", help_heading = "Cloud", value_hint = ValueHint::Other)]
    cluster: Option<String>,
    /// Settings file (TOML), whose cluster_id and api_key are used
    #[arg(long, value_name = "FILE", help_heading = "Cloud", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct ListFlags {
    /// Print JSON in one line
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    cloud: CloudFlags,
}

#[derive(Args)]
pub(super) struct ChangeFlags {
    /// Do not ask back; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    cloud: CloudFlags,
}

/// A range that is to be allowed, unchecked.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowFlags {
    /// The range, as 192.0.2.0/24; an address alone is a range of one
    #[arg(value_name = "CIDR", value_hint = ValueHint::Other)]
    pub cidr: Option<String>,
    /// Allow this machine's own public address; with --address or --address-from
    #[arg(long)]
    pub me: bool,
    /// The public IPv4 address of this machine, for --me
    #[arg(long, value_name = "ADDRESS", value_hint = ValueHint::Other)]
    pub address: Option<String>,
    /// Ask this https address, which answers with the IPv4 address that asks, for --me
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub address_from: Option<String>,
    /// What the range is, for whoever reads the list
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub name: Option<String>,
    /// For SQL clients only, not for the DB Console
    #[arg(long, conflicts_with = "ui")]
    pub sql_only: bool,
    /// For the DB Console only, not for SQL clients
    #[arg(long)]
    pub ui: bool,
}

impl From<AllowlistSub> for Command {
    fn from(command: AllowlistSub) -> Self {
        match command {
            AllowlistSub::List(ListFlags { json, cloud }) => cloud.with(CloudOrder::AllowlistList { json }),
            AllowlistSub::Add { network, change: ChangeFlags { yes, cloud } } => {
                cloud.with(CloudOrder::AllowlistAdd { network, yes })
            }
            AllowlistSub::Remove { cidr, change: ChangeFlags { yes, cloud } } => {
                cloud.with(CloudOrder::AllowlistRemove { cidr, yes })
            }
        }
    }
}

impl From<PrivateEndpointSub> for Command {
    fn from(command: PrivateEndpointSub) -> Self {
        match command {
            PrivateEndpointSub::List(ListFlags { json, cloud }) => cloud.with(CloudOrder::PrivateList { json }),
            PrivateEndpointSub::Services(ListFlags { json, cloud }) => cloud.with(CloudOrder::PrivateServices { json }),
            PrivateEndpointSub::Add { endpoint_id, change: ChangeFlags { yes, cloud } } => {
                cloud.with(CloudOrder::PrivateAdd { endpoint_id, yes })
            }
            PrivateEndpointSub::Status(cloud) => cloud.with(CloudOrder::PrivateStatus),
        }
    }
}

impl From<UsersSub> for Command {
    fn from(command: UsersSub) -> Self {
        match command {
            UsersSub::List(ListFlags { json, cloud }) => cloud.with(CloudOrder::UsersList { json }),
        }
    }
}

impl CloudFlags {
    fn with(self, order: CloudOrder) -> Command {
        let flags = Flags { config: self.config, ..Flags::default() };
        Command::Cloud { flags, cluster: self.cluster, order }
    }
}

const OWN_ADDRESS: &str = "\
Where a public endpoint of the settings lets this machine in already, --me asks the cluster by SQL which address it sees. \
Else nobody tells: the Cloud API does not, and crdb-proxy asks no third party of its own accord, so --me needs the address \
(--address), or a service of your choice that answers with it (--address-from). The Cloud \
Console's own dialog finds it too (Networking, Add Network, Current Network).";
