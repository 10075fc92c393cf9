//! What the Cloud API says of a cluster that is being checked. What the key's role may not read is unknown, and no
//! failure; that the API cannot be asked changes nothing of what the wire tells.

use super::report::CloudReport;
use crate::{
    cloud::{Allowlist, Cloud, CloudError, Known, PrivateConnection, PrivateService, Region, Server, known},
    settings::{self, Endpoint, EndpointKind},
};
use std::time::Duration;
use tokio::time::timeout;

/// What is known, as far as it is.
pub(super) struct CloudFacts {
    pub(super) cluster: crate::cloud::Cluster,
    pub(super) allowlist: Option<Allowlist>,
    pub(super) services: Option<Vec<PrivateService>>,
    pub(super) connections: Option<Vec<PrivateConnection>>,
    users: Option<Vec<String>>,
    databases: Option<Vec<String>>,
    /// By how many seconds this machine's clock is ahead of the API's; negative: behind.
    pub(super) clock_off_by: Option<i64>,
    /// What the role may not read.
    unknown: Vec<&'static str>,
}

impl CloudFacts {
    /// Whether the cluster is known not to have this SQL user.
    pub(super) fn lacks_user(&self, user: &str) -> bool {
        self.users.as_ref().is_some_and(|users| !users.iter().any(|known| known.eq_ignore_ascii_case(user)))
    }

    /// The databases, if the role may read them.
    pub(super) fn databases(&self) -> Option<Vec<&str>> {
        self.databases.as_ref().map(|names| names.iter().map(String::as_str).collect())
    }

    /// The region of an endpoint: by its name in the settings, or by its host.
    pub(super) fn region_of(&self, endpoint: &Endpoint) -> Option<&Region> {
        let regions = &self.cluster.regions;
        // What the settings say of its region goes before what its host looks like.
        let is_named =
            |region: &&Region| endpoint.region.as_deref().is_some_and(|said| settings::same_region(said, &region.name));
        regions.iter().find(is_named).or_else(|| regions.iter().find(|region| region.has_host(&endpoint.host)))
    }

    /// The cluster's own names for the way that an endpoint takes, of its region first.
    pub(super) fn names_of(&self, endpoint: &Endpoint) -> impl Iterator<Item = String> {
        let own = self.region_of(endpoint).into_iter().chain(&self.cluster.regions);
        let names: Vec<_> = own
            .flat_map(|region| match endpoint.kind {
                EndpointKind::Public => vec![region.sql_dns.clone()],
                EndpointKind::Internal => vec![region.internal_dns.clone()],
                EndpointKind::Psc => vec![with_name(endpoint, region.private_endpoint_dns.as_deref())],
                EndpointKind::Custom => vec![region.sql_dns.clone(), region.internal_dns.clone()],
            })
            .flatten()
            .collect();
        names.into_iter()
    }

    /// As it is reported.
    pub(super) fn report(&self, server: &Server) -> CloudReport {
        let cluster = &self.cluster;
        CloudReport {
            server: server.to_string(),
            cluster_id: Some(cluster.id.clone()),
            error: None,
            plan: cluster.plan.as_ref().map(ToString::to_string),
            state: cluster.state.as_ref().map(ToString::to_string),
            operation_status: cluster.operation_status.clone(),
            cockroach_version: cluster.cockroach_version.clone(),
            unknown: self.unknown.clone(),
        }
    }
}

fn with_name(endpoint: &Endpoint, base: Option<&str>) -> Option<String> {
    Some(format!("{}.{}", endpoint.endpoint_name.as_deref()?, base?))
}

/// What came of asking.
pub(super) enum Asked {
    /// There is no key, or nothing that says which cluster it is.
    Not,
    /// The API says so much.
    Facts(Box<CloudFacts>, Server),
    /// It could not be asked.
    Failed(CloudReport, String),
}

/// Asks for all that the role may read. Takes at most half a minute.
pub(super) async fn ask(cluster: &settings::Cluster) -> Asked {
    let cloud = match Cloud::with_source(cluster.api_key.as_ref(), false).await {
        Ok(cloud) if cloud.has_key() => cloud,
        Ok(_) => return Asked::Not,
        Err(error) => return failed(None, cluster, error.to_string()),
    };
    let server = cloud.server().clone();
    match timeout(LIMIT, facts(&cloud, cluster)).await {
        Ok(Ok(Some(facts))) => Asked::Facts(Box::new(facts), server),
        Ok(Ok(None)) => failed(Some(server), cluster, NOT_FOUND.to_owned()),
        Ok(Err(error)) => failed(Some(server), cluster, error.to_string()),
        Err(_elapsed) => failed(Some(server), cluster, "it took too long".to_owned()),
    }
}

async fn facts(cloud: &Cloud, cluster: &settings::Cluster) -> Result<Option<CloudFacts>, CloudError> {
    let found = match &cluster.cluster_id {
        Some(id) => cloud.cluster(id).await?,
        // A host of the settings tells which it is.
        None => match cloud.clusters().await?.into_iter().find(|known| known.has_a_host_of(cluster)) {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let id = found.id.clone();
    let mut unknown = Vec::new();
    let allowlist = readable(cloud.allowlist(&id).await, "allowlist", &mut unknown)?;
    let services = readable(cloud.private_services(&id).await, "private endpoint services", &mut unknown)?;
    let connections = readable(cloud.private_connections(&id).await, "private endpoint connections", &mut unknown)?;
    let users = readable(cloud.users(&id).await, "SQL users", &mut unknown)?;
    let databases = readable(cloud.databases(&id).await, "databases", &mut unknown)?;
    let clock_off_by = cloud.clocks().map(|clocks| match clocks.local.duration_since(clocks.server) {
        Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
        Err(behind) => i64::try_from(behind.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    });
    Ok(Some(CloudFacts {
        cluster: found,
        allowlist,
        services,
        connections,
        users: users.map(|users| users.into_iter().map(|user| user.name).collect()),
        databases: databases.map(|databases| databases.into_iter().map(|database| database.name).collect()),
        clock_off_by,
        unknown,
    }))
}

/// What the role may read; what it may not is noted.
fn readable<T>(
    answer: Result<T, CloudError>,
    what: &'static str,
    unknown: &mut Vec<&'static str>,
) -> Result<Option<T>, CloudError> {
    Ok(match known(answer)? {
        Known::Is(value) => Some(value),
        Known::Unknown(_) => {
            unknown.push(what);
            None
        }
    })
}

fn failed(server: Option<Server>, cluster: &settings::Cluster, error: String) -> Asked {
    let server = server.map(|server| server.to_string()).unwrap_or_default();
    let report = CloudReport {
        server,
        cluster_id: cluster.cluster_id.clone(),
        error: Some(error.clone()),
        ..CloudReport::default()
    };
    Asked::Failed(report, error)
}

const LIMIT: Duration = Duration::from_secs(30);
const NOT_FOUND: &str =
    "no cluster that this key may see has a host of these settings; set \"cluster_id\" of the cluster";
