//! What the API says, as far as it matters here. Every word of a closed list may be one that this version does
//! not know; it is kept as text then. Whatever is missing is `None`; an empty text counts as missing.

use serde::Serialize;
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Words of a closed list that is not closed for ever: without a prefix `STATUS_`, in any case.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A word that this version does not know.
            Other(String),
        }

        impl $name {
            /// Reads the API's word.
            pub fn from_word(word: &str) -> Self {
                let plain = plain_word(word);
                match plain.as_str() {
                    $($word => Self::$variant,)*
                    _ => Self::Other(plain),
                }
            }

            /// The API's word, without a prefix.
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}

/// Without the prefix that some answers have and others have not.
pub(super) fn plain_word(word: &str) -> String {
    let upper = word.trim().to_ascii_uppercase();
    upper.strip_prefix("STATUS_").map_or(upper.clone(), str::to_owned)
}

words! {
    /// What was bought.
    Plan {
        /// Not what this daemon is made for.
        Basic = "BASIC",
        /// Not what this daemon is made for.
        Standard = "STANDARD",
        /// What this daemon is made for.
        Advanced = "ADVANCED",
    }
}

words! {
    /// Whose machines it runs on.
    Provider {
        /// Private Service Connect, VPC peering.
        Gcp = "GCP",
        /// PrivateLink.
        Aws = "AWS",
        /// Private Link.
        Azure = "AZURE",
    }
}

words! {
    /// Where a cluster is in its life.
    ClusterState {
        /// Not there yet.
        Creating = "CREATING",
        /// It serves.
        Created = "CREATED",
        /// It never will.
        CreationFailed = "CREATION_FAILED",
        /// No more.
        Deleted = "DELETED",
        /// Not until whoever locked it lets go.
        Locked = "LOCKED",
    }
}

words! {
    /// Whether private endpoints can be made for a region.
    PrivateServiceStatus {
        /// Soon.
        Creating = "CREATING",
        /// Yes.
        Available = "AVAILABLE",
        /// No, and not by itself.
        CreateFailed = "CREATE_FAILED",
        /// No more.
        Deleting = "DELETING",
        /// No more, and stuck.
        DeleteFailed = "DELETE_FAILED",
    }
}

words! {
    /// How far a private endpoint has come.
    PrivateConnectionStatus {
        /// On its way.
        Pending = "PENDING",
        /// It waits for the cluster to accept it.
        PendingAcceptance = "PENDING_ACCEPTANCE",
        /// It works.
        Available = "AVAILABLE",
        /// On its way out.
        Deleting = "DELETING",
        /// Gone.
        Deleted = "DELETED",
        /// The cluster's side said no.
        Rejected = "REJECTED",
        /// The network's side said no.
        Failed = "FAILED",
        /// Nobody accepted it in time.
        Expired = "EXPIRED",
    }
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// A UUID.
    pub id: String,
    /// As the Cloud Console shows it.
    pub name: String,
    /// What was bought.
    pub plan: Option<Plan>,
    /// Whose machines.
    pub cloud_provider: Option<Provider>,
    /// As `v25.4.1`.
    pub cockroach_version: Option<String>,
    /// Where it is in its life.
    pub state: Option<ClusterState>,
    /// What is being done to it; `None` at rest. The list of words grows.
    pub operation_status: Option<String>,
    /// As `MAJOR_UPGRADE_RUNNING`.
    pub upgrade_status: Option<String>,
    /// As `PUBLIC`.
    pub network_visibility: Option<String>,
    /// Of its own network; GCP only.
    pub cidr_range: Option<String>,
    /// Host without a region, where there is one.
    pub sql_dns: Option<String>,
    /// Virtual CPUs of each node.
    pub num_virtual_cpus: Option<u64>,
    /// In the API's order.
    pub regions: Vec<Region>,
}

impl Cluster {
    /// Whether something is being done that restarts nodes.
    pub fn expects_restarts(&self) -> bool {
        self.operation_status.as_deref().is_some_and(|status| status.ends_with("RUNNING"))
            || self.upgrade_status.as_deref().is_some_and(|status| status.ends_with("RUNNING"))
    }
}

/// A region of a cluster, with the names by which it is reached. Never make one up from a cluster's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Region {
    /// As the API has it: `us-east1`.
    pub name: String,
    /// Over the internet.
    pub sql_dns: Option<String>,
    /// PrivateLink, Azure Private Link, VPC peering.
    pub internal_dns: Option<String>,
    /// Private Service Connect: the endpoint's own name goes in front. `None` before there is a service.
    pub private_endpoint_dns: Option<String>,
    /// DB Console.
    pub ui_dns: Option<String>,
    /// Nodes.
    pub node_count: Option<u64>,
}

/// What is to be connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionWish {
    /// The database.
    pub database: Option<String>,
    /// The SQL user.
    pub sql_user: Option<String>,
}

/// What to connect with, over the public path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionParameters {
    /// As the API wrote it; without a password.
    pub connection_string: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// The public host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The SQL user.
    pub username: Option<String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its region, as the API has it.
    pub region_name: Option<String>,
    /// `LIVE` or `NOT_READY`.
    pub status: Option<String>,
}

impl Node {
    /// Whether it serves.
    pub fn is_live(&self) -> bool {
        self.status.as_deref() == Some("LIVE")
    }
}

/// A SQL user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub name: String,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its tables.
    pub table_count: Option<u64>,
}

/// Who may come in over the public path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist {
    /// In the API's order.
    pub entries: Vec<AllowedNetwork>,
    /// The last change is not everywhere yet.
    pub propagating: bool,
}

/// One entry of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllowedNetwork {
    /// First address.
    pub cidr_ip: String,
    /// Length of the prefix.
    pub cidr_mask: u8,
    /// What it is for.
    pub name: Option<String>,
    /// SQL clients may come from there.
    pub sql: bool,
    /// Browsers may, to the DB Console.
    pub ui: bool,
}

impl AllowedNetwork {
    /// Its range, if it is one of IPv4.
    pub fn cidr(&self) -> Option<Cidr> {
        Cidr::new(self.cidr_ip.parse().ok()?, self.cidr_mask)
    }

    /// Whether an address is in it, whatever it is allowed to do.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.cidr().is_some_and(|cidr| cidr.contains(address))
    }
}

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Any address of it, as it was said.
    pub address: Ipv4Addr,
    /// At most 32.
    pub mask: u8,
}

impl Cidr {
    /// None has a longer prefix than 32.
    pub fn new(address: Ipv4Addr, mask: u8) -> Option<Self> {
        (mask <= 32).then_some(Self { address, mask })
    }

    /// The range's first address.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.bits())
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.bits() == 0
    }

    fn bits(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.mask)).unwrap_or(0)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.mask)
    }
}

/// An address alone is a range of one.
impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, mask) = text.split_once('/').unwrap_or((text, "32"));
        let is_number = !mask.is_empty() && mask.bytes().all(|byte| byte.is_ascii_digit());
        let mask = if is_number { mask.parse().map_err(drop)? } else { return Err(()) };
        Self::new(address.parse().map_err(drop)?, mask).ok_or(())
    }
}

/// What a private endpoint is made for, in one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrivateService {
    /// As the API has it.
    pub region_name: Option<String>,
    /// Whose network.
    pub cloud_provider: Option<Provider>,
    /// Whether endpoints can be made.
    pub status: Option<PrivateServiceStatus>,
    /// Target service (GCP), service name (AWS) or alias (Azure): what is pasted there.
    pub name: Option<String>,
    /// Its ID.
    pub endpoint_service_id: Option<String>,
    /// Where it can be reached (AWS).
    pub availability_zone_ids: Vec<String>,
}

/// A private endpoint that the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrivateConnection {
    /// PSC connection ID, `vpce-…`, or resource ID.
    pub endpoint_id: String,
    /// Its service's ID.
    pub endpoint_service_id: Option<String>,
    /// Its service's name.
    pub service_name: Option<String>,
    /// Whose network.
    pub cloud_provider: Option<Provider>,
    /// As the API has it.
    pub region_name: Option<String>,
    /// The AWS account, where it is a trusted one.
    pub external_owner_id: Option<String>,
    /// How far it has come.
    pub status: Option<PrivateConnectionStatus>,
}
