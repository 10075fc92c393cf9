//! From JSON to shapes. `None` only where what names a thing is missing.

use super::{
    AllowedNetwork, Cluster, ClusterState, ConnectionParameters, Database, Node, Plan, PrivateConnection,
    PrivateConnectionStatus, PrivateService, PrivateServiceStatus, Provider, Region, User, lenient::Object,
    shapes::plain_word,
};

pub(super) fn cluster(object: Object<'_>) -> Option<Cluster> {
    let is_at_rest = |word: &String| word.ends_with("UNSPECIFIED");
    let status = |key: &str| object.text(key).map(|word| plain_word(&word)).filter(|word| !is_at_rest(word));
    let machines = object.object("config").and_then(|config| config.object("dedicated"));
    Some(Cluster {
        id: object.text("id")?,
        name: object.text("name")?,
        plan: word(object, "plan", Plan::from_word),
        cloud_provider: word(object, "cloud_provider", Provider::from_word),
        cockroach_version: object.text("cockroach_version"),
        state: word(object, "state", ClusterState::from_word),
        operation_status: status("operation_status"),
        upgrade_status: status("upgrade_status"),
        network_visibility: object.text("network_visibility"),
        cidr_range: object.text("cidr_range"),
        sql_dns: object.text("sql_dns"),
        num_virtual_cpus: machines.and_then(|machines| machines.number("num_virtual_cpus")),
        regions: object.list("regions").iter().filter_map(Object::of).filter_map(region).collect(),
    })
}

fn region(object: Object<'_>) -> Option<Region> {
    Some(Region {
        name: object.text("name")?,
        sql_dns: object.text("sql_dns"),
        internal_dns: object.text("internal_dns"),
        private_endpoint_dns: object.text("private_endpoint_dns"),
        ui_dns: object.text("ui_dns"),
        node_count: object.number("node_count"),
    })
}

/// The keys of `params` are capitalised, which [`Object`] does not mind.
pub(super) fn connection_parameters(object: Object<'_>) -> ConnectionParameters {
    let of = |key: &str| object.object("params").and_then(|params| params.text(key));
    let port = object.object("params").and_then(|params| params.number("port"));
    ConnectionParameters {
        connection_string: object.text("connection_string"),
        database: of("database"),
        host: of("host"),
        port: port.and_then(|port| u16::try_from(port).ok()),
        username: of("username"),
    }
}

pub(super) fn node(object: Object<'_>) -> Option<Node> {
    let status = object.text("status").map(|word| plain_word(&word));
    Some(Node { name: object.text("name")?, region_name: object.text("region_name"), status })
}

pub(super) fn user(object: Object<'_>) -> Option<User> {
    Some(User { name: object.text("name")? })
}

pub(super) fn database(object: Object<'_>) -> Option<Database> {
    Some(Database { name: object.text("name")?, table_count: object.number("table_count") })
}

pub(super) fn allowed(object: Object<'_>) -> Option<AllowedNetwork> {
    Some(AllowedNetwork {
        cidr_ip: object.text("cidr_ip")?,
        // What is false or 0 may be left out, as in 0.0.0.0/0.
        cidr_mask: object.number("cidr_mask").map_or(Some(0), |mask| u8::try_from(mask).ok())?,
        name: object.text("name"),
        sql: object.flag("sql").unwrap_or(false),
        ui: object.flag("ui").unwrap_or(false),
    })
}

pub(super) fn private_service(object: Object<'_>) -> Option<PrivateService> {
    let of_aws = |key: &str| object.object("aws").and_then(|aws| aws.text(key));
    let zones = object.list("availability_zone_ids").iter().filter_map(|zone| zone.as_str().map(str::to_owned));
    Some(PrivateService {
        region_name: object.text("region_name"),
        cloud_provider: word(object, "cloud_provider", Provider::from_word),
        status: word(object, "status", PrivateServiceStatus::from_word),
        // Older answers have them in a part of its own.
        name: object.text("name").or_else(|| of_aws("service_name")),
        endpoint_service_id: object.text("endpoint_service_id").or_else(|| of_aws("service_id")),
        availability_zone_ids: zones.collect(),
    })
}

pub(super) fn private_connection(object: Object<'_>) -> Option<PrivateConnection> {
    Some(PrivateConnection {
        endpoint_id: object.text("endpoint_id")?,
        endpoint_service_id: object.text("endpoint_service_id"),
        service_name: object.text("service_name"),
        cloud_provider: word(object, "cloud_provider", Provider::from_word),
        // The specification itself has both names.
        region_name: object.text("region_name").or_else(|| object.text("region")),
        external_owner_id: object.text("external_owner_id"),
        status: word(object, "status", PrivateConnectionStatus::from_word),
    })
}

fn word<T>(object: Object<'_>, key: &str, read: impl Fn(&str) -> T) -> Option<T> {
    object.text(key).map(|word| read(&word))
}
