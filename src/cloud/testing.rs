//! Things of the API for the tests of this room.

use super::{AllowedNetwork, Cidr, Cluster, ClusterState, Plan, PrivateConnection, PrivateService, Provider, Region};

pub(crate) fn cluster() -> Cluster {
    let host = |kind: &str| Some(format!("{kind}prod-abc.gcp-us-east1.example"));
    let region = Region {
        name: "us-east1".to_owned(),
        sql_dns: host(""),
        internal_dns: host("internal-"),
        private_endpoint_dns: host("private-"),
        ui_dns: host("admin-"),
        node_count: Some(3),
    };
    Cluster {
        id: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
        name: "prod".to_owned(),
        plan: Some(Plan::Advanced),
        cloud_provider: Some(Provider::Gcp),
        cockroach_version: Some("v25.4.1".to_owned()),
        state: Some(ClusterState::Created),
        operation_status: None,
        upgrade_status: None,
        network_visibility: None,
        cidr_range: None,
        sql_dns: None,
        num_virtual_cpus: Some(4),
        regions: vec![region],
    }
}

/// For SQL and the DB Console, without a name.
pub(crate) fn allowed(range: &str) -> AllowedNetwork {
    let cidr: Cidr = range.parse().unwrap();
    AllowedNetwork { cidr_ip: cidr.address.to_string(), cidr_mask: cidr.mask, name: None, sql: true, ui: true }
}

pub(crate) fn connection() -> PrivateConnection {
    PrivateConnection {
        endpoint_id: "102512345678".to_owned(),
        endpoint_service_id: None,
        service_name: None,
        cloud_provider: None,
        region_name: Some("us-east1".to_owned()),
        external_owner_id: None,
        status: None,
    }
}

pub(crate) fn service() -> PrivateService {
    PrivateService {
        region_name: Some("us-east1".to_owned()),
        cloud_provider: None,
        status: None,
        name: Some("projects/p/regions/us-east1/serviceAttachments/s".to_owned()),
        endpoint_service_id: None,
        availability_zone_ids: Vec::new(),
    }
}
