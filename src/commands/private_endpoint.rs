//! `private-endpoint list`, `services`, `add`, `status`.

use super::{
    CommandError,
    cloud::{Target, cell, confirm, table},
    note, say,
};
use crate::{
    cloud::{self, PrivateConnection, PrivateService},
    diagnostics::printable,
};
use serde_json::{Value, json};

/// Prints the endpoints that the cluster knows.
pub(super) async fn list(target: &Target, json: bool) -> Result<(), CommandError> {
    let connections = target.cloud.private_connections(target.id()).await?;
    if json {
        let advised = connections.iter().map(|connection| advised(connection, next(target, connection))).collect();
        return target.say_json("connections", advised, Value::Null, &[]);
    }
    let row = |connection: &PrivateConnection| {
        let PrivateConnection { endpoint_id, region_name, status, service_name, .. } = connection;
        [endpoint_id.clone(), cell(region_name.as_ref()), cell(status.as_ref()), cell(service_name.as_ref())]
    };
    let rows: Vec<_> = connections.iter().map(row).collect();
    say(&table(["ENDPOINT", "REGION", "STATUS", "SERVICE"], &rows))?;
    target.remark();
    match connections.is_empty() {
        true => note(&format!("{} knows no private endpoint; {SEE_SERVICES}", target.title())),
        false => note("what to do next about each: crdb-proxy private-endpoint status"),
    }
    Ok(())
}

/// Prints what endpoints are made for.
pub(super) async fn services(target: &Target, json: bool) -> Result<(), CommandError> {
    let services = target.cloud.private_services(target.id()).await?;
    let advice = |service: &PrivateService| cloud::service_advice(&target.cluster, service);
    if json {
        let advised = services.iter().map(|service| advised(service, advice(service))).collect();
        return target.say_json("services", advised, Value::Null, &[]);
    }
    let term = cloud::service_term(target.cluster.cloud_provider.as_ref()).to_uppercase();
    let row = |service: &PrivateService| {
        let zones = service.availability_zone_ids.join(",");
        let zones = if zones.is_empty() { "-".to_owned() } else { zones };
        [cell(service.region_name.as_ref()), cell(service.status.as_ref()), zones, cell(service.name.as_ref())]
    };
    let rows: Vec<_> = services.iter().map(row).collect();
    say(&table(["REGION", "STATUS", "ZONES", &term], &rows))?;
    for service in &services {
        say(&format!("\n{}: {}\n", region(service.region_name.as_ref()), advice(service)))?;
    }
    target.remark();
    if services.is_empty() {
        note(NO_SERVICE);
    }
    Ok(())
}

/// Prints each endpoint with what to do next, and the regions that have none.
pub(super) async fn status(target: &Target) -> Result<(), CommandError> {
    let connections = target.cloud.private_connections(target.id()).await?;
    let services = target.cloud.private_services(target.id()).await?;
    for connection in &connections {
        let place = region(connection.region_name.as_ref());
        let status = printable(&cell(connection.status.as_ref()));
        let id = printable(&connection.endpoint_id);
        say(&format!("{place}: {id} is {status}\n  {}\n", next(target, connection)))?;
    }
    let has_endpoint = |service: &&PrivateService| {
        connections
            .iter()
            .any(|connection| connection.region_name.is_none() || connection.region_name == service.region_name)
    };
    for service in services.iter().filter(|service| !has_endpoint(service)) {
        let (place, advice) = (region(service.region_name.as_ref()), cloud::service_advice(&target.cluster, service));
        say(&format!("{place}: no private endpoint\n  {advice}\n"))?;
    }
    target.remark();
    if services.is_empty() {
        note(NO_SERVICE);
    }
    Ok(())
}

/// Has the cluster accept an endpoint.
pub(super) async fn add(target: &Target, endpoint_id: &str, yes: bool) -> Result<(), CommandError> {
    if let Some(wrong) = cloud::wrong_endpoint_id(target.cluster.cloud_provider.as_ref(), endpoint_id) {
        return Err(CommandError::Said(2, wrong.to_owned()));
    }
    target.remark();
    let shown = printable(endpoint_id);
    confirm(&format!("let private endpoint {shown} connect to {}", target.title()), yes)?;
    let connection = target.cloud.connect_privately(target.id(), endpoint_id).await?;
    let status = printable(&cell(connection.status.as_ref()));
    say(&format!("{shown} is added, and is {status} now\n"))?;
    // What it has just been told to do need not be told again.
    let is_waiting = connection.status == Some(cloud::PrivateConnectionStatus::PendingAcceptance);
    let next = if is_waiting { IN_MINUTES.to_owned() } else { next(target, &connection) };
    say(&format!("  {next}\n"))
}

fn next(target: &Target, connection: &PrivateConnection) -> String {
    cloud::connection_advice(&target.cluster, connection)
}

fn region(name: Option<&String>) -> String {
    name.map_or_else(|| "in some region".to_owned(), |name| printable(name))
}

/// What the API said, and a sentence of ours.
fn advised(thing: &impl serde::Serialize, advice: String) -> Value {
    let mut value = json!(thing);
    if let Some(object) = value.as_object_mut() {
        object.insert("advice".to_owned(), json!(advice));
    }
    value
}

const SEE_SERVICES: &str = "what to make one for: crdb-proxy private-endpoint services";
const IN_MINUTES: &str = "the cluster accepts it in some minutes: see crdb-proxy private-endpoint status";
const NO_SERVICE: &str = "there is no private endpoint service yet: create it in the Cloud Console (the cluster's Networking \
    page, Private endpoint, Add a private endpoint), which takes some minutes. VPC peering needs none: the Cloud Console has \
    it on the same page, and the Cloud API does not tell about it";
