//! What to do next about a private endpoint and the service that it is made for, at each provider.

use crate::{
    cloud::{
        Cluster, PrivateConnection, PrivateConnectionStatus as Status, PrivateService, PrivateServiceStatus, Provider,
        Region,
    },
    diagnostics::printable,
};

/// What the provider's console calls the name of a service.
pub fn service_term(provider: Option<&Provider>) -> &'static str {
    match provider {
        Some(Provider::Gcp) => "target service",
        Some(Provider::Aws) => "service name",
        Some(Provider::Azure) => "alias",
        Some(Provider::Other(_)) | None => "service",
    }
}

/// What a service is good for now.
pub fn service_advice(cluster: &Cluster, service: &PrivateService) -> String {
    let provider = service.cloud_provider.as_ref().or(cluster.cloud_provider.as_ref());
    match service.status.as_ref() {
        Some(PrivateServiceStatus::Available) | None => make(provider).to_owned(),
        Some(PrivateServiceStatus::Creating) => {
            "the service is being created: ask again in some minutes, endpoints can be made only then".to_owned()
        }
        Some(PrivateServiceStatus::CreateFailed) => {
            "the service could not be created: create it again in the Cloud Console (Networking, Private endpoint), and ask \
             support if that fails too"
                .to_owned()
        }
        Some(PrivateServiceStatus::Deleting | PrivateServiceStatus::DeleteFailed) => {
            "the service goes away, and its endpoints with it: let `path` in the settings have \"public\" too, or ask support"
                .to_owned()
        }
        Some(PrivateServiceStatus::Other(word)) => {
            format!("this version does not know the status {}: see the Cloud Console (Networking)", printable(word))
        }
    }
}

fn make(provider: Option<&Provider>) -> &'static str {
    match provider {
        Some(Provider::Gcp) => {
            "in Google Cloud make a Private Service Connect endpoint for this target service, in the same region, with \
             global access if clients are elsewhere, and with a Service Directory namespace; its name becomes part of the \
             host. Then `crdb-proxy private-endpoint add` with its PSC Connection ID"
        }
        Some(Provider::Aws) => {
            "in AWS make an interface endpoint for this service name, in the same region and in the zones listed, with a \
             security group that lets in TCP 26257 from the clients, and leave private DNS off for now. Then \
             `crdb-proxy private-endpoint add` with its ID (vpce-…)"
        }
        Some(Provider::Azure) => {
            "in Azure make a private endpoint for this alias, in your network's region. Then \
             `crdb-proxy private-endpoint add` with its Resource ID (…/privateEndpoints/…)"
        }
        Some(Provider::Other(_)) | None => {
            "make a private endpoint for this service. Then `crdb-proxy private-endpoint add` with its ID"
        }
    }
}

/// What to do next about an endpoint.
pub fn connection_advice(cluster: &Cluster, connection: &PrivateConnection) -> String {
    let provider = connection.cloud_provider.as_ref().or(cluster.cloud_provider.as_ref());
    match connection.status.as_ref() {
        Some(Status::Available) => {
            let region = region_of(cluster, connection.region_name.as_deref());
            use_it(provider, region)
        }
        Some(Status::Pending) => "it is being set up: ask again in some minutes".to_owned(),
        Some(Status::PendingAcceptance) => {
            "it waits until the cluster accepts it: run `crdb-proxy private-endpoint add` with this ID, and ask again in \
             some minutes"
                .to_owned()
        }
        Some(Status::Rejected) => rejected(provider).to_owned(),
        Some(Status::Failed) => {
            "the provider reports a fault: see the endpoint's own state in its console, delete it there, make it again for \
             the service that `crdb-proxy private-endpoint services` names, and add it again"
                .to_owned()
        }
        Some(Status::Expired) => {
            "nobody accepted it in time: delete it in the provider's console, make it again, and run `crdb-proxy \
             private-endpoint add` with the new ID soon"
                .to_owned()
        }
        Some(Status::Deleting) => {
            "it is being removed: sessions over it end, so make another one, or let `path` in the settings have \"public\" too"
                .to_owned()
        }
        Some(Status::Deleted) => deleted(provider).to_owned(),
        Some(Status::Other(word)) => {
            format!("this version does not know the status {}: see the Cloud Console (Networking)", printable(word))
        }
        None => "its status is not told: see the Cloud Console (Networking)".to_owned(),
    }
}

fn rejected(provider: Option<&Provider>) -> &'static str {
    match provider {
        Some(Provider::Aws) => {
            "the cluster does not accept it: is it made for this cluster's service name (crdb-proxy private-endpoint \
             services), and is its AWS account the cluster's or a trusted owner? Delete it in AWS, make it again, add it again"
        }
        _ => {
            "the cluster does not accept it: is it made for this cluster's service (crdb-proxy private-endpoint services)? \
             Delete it in the provider's console, make it again, and add it again"
        }
    }
}

fn deleted(provider: Option<&Provider>) -> &'static str {
    match provider {
        Some(Provider::Gcp) => {
            "it is gone: on GCP, removing the endpoint or changing its target service removes it here too; make another one, \
             or take it out of the settings"
        }
        _ => "it is gone: make another one, or take it out of the settings",
    }
}

/// From an endpoint that works to a client that connects.
fn use_it(provider: Option<&Provider>, region: Option<&Region>) -> String {
    let internal = region.and_then(|region| region.internal_dns.as_deref());
    let internal = internal.map_or_else(|| "the region's internal host".to_owned(), printable);
    let psc = region.and_then(|region| region.private_endpoint_dns.as_deref());
    let psc = psc.map_or_else(|| "the region's private endpoint host".to_owned(), printable);
    match provider {
        Some(Provider::Gcp) => format!(
            "it works: clients connect to NAME.{psc}, NAME being the endpoint's name in Google Cloud (in the settings: \
             kind = \"psc\", host = \"{psc}\", endpoint_name = \"NAME\"). If that name has no address: is the Service \
             Directory API on, and has the endpoint a namespace? If it does not answer from another region: is global \
             access on? Endpoints made later in the same VPC network are accepted by themselves, those of other networks \
             are added one by one"
        ),
        Some(Provider::Aws) => format!(
            "it works: now turn on private DNS names of the endpoint in AWS (which is possible only after acceptance), and \
             clients connect to {internal} (in the settings: kind = \"internal\", host = \"{internal}\"). If that times \
             out: does the endpoint's security group let in TCP 26257 from the clients?"
        ),
        Some(Provider::Azure) => format!(
            "it works: now make a private DNS zone named {internal} in Azure, in it one A record named @ with the private \
             address of the endpoint, and link the zone to the clients' network. Leave auto-registration off: it is not \
             needed, and a network may have it for one zone only. Clients connect to {internal} (in the settings: \
             kind = \"internal\", host = \"{internal}\")"
        ),
        Some(Provider::Other(_)) | None => format!("it works: clients connect to {internal}"),
    }
}

/// The region that is meant, or the only one.
fn region_of<'c>(cluster: &'c Cluster, name: Option<&str>) -> Option<&'c Region> {
    match (name, cluster.regions.as_slice()) {
        (Some(name), regions) => regions.iter().find(|region| region.name == name),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::testing::{cluster, connection, service};

    fn advice(provider: &str, status: &str) -> String {
        let provider = Some(Provider::from_word(provider));
        let cluster = Cluster { cloud_provider: provider.clone(), ..cluster() };
        let status = Some(Status::from_word(status));
        connection_advice(&cluster, &PrivateConnection { cloud_provider: provider, status, ..connection() })
    }

    #[test]
    fn an_endpoint_that_works_is_told_how_to_be_used_at_each_provider() {
        let (gcp, aws, azure) = (advice("GCP", "AVAILABLE"), advice("AWS", "AVAILABLE"), advice("AZURE", "AVAILABLE"));

        assert!(gcp.contains("connect to NAME.private-prod-abc.gcp-us-east1.example"), "{gcp}");
        assert!(gcp.contains("Service Directory") && gcp.contains("global access"), "{gcp}");
        assert!(aws.contains("private DNS names") && aws.contains("only after acceptance"), "{aws}");
        assert!(
            aws.contains("TCP 26257") && aws.contains("connect to internal-prod-abc.gcp-us-east1.example"),
            "{aws}"
        );
        assert!(azure.contains("zone named internal-prod-abc.gcp-us-east1.example"), "{azure}");
        assert!(azure.contains("one A record named @ with the private address of the endpoint"), "{azure}");
        assert!(azure.contains("Leave auto-registration off"), "{azure}");
    }

    #[test]
    fn every_status_has_a_next_step_of_its_own() {
        let statuses = [
            "AVAILABLE",
            "PENDING",
            "PENDING_ACCEPTANCE",
            "REJECTED",
            "FAILED",
            "EXPIRED",
            "DELETING",
            "DELETED",
            "ODD",
        ];
        let told: std::collections::BTreeSet<_> = statuses.iter().map(|status| advice("AWS", status)).collect();

        assert_eq!(told.len(), statuses.len());
        assert!(advice("AWS", "STATUS_PENDING_ACCEPTANCE").contains("crdb-proxy private-endpoint add"));
        assert!(
            advice("AWS", "REJECTED").contains("trusted owner") && !advice("GCP", "REJECTED").contains("trusted owner")
        );
        assert!(advice("GCP", "DELETED").contains("changing its target service"));
        assert!(advice("GCP", "ODD\u{7}").contains("the status ODD\\u{7}"));
    }

    #[test]
    fn a_service_is_told_how_to_be_used_once_it_is_there() {
        let told = |provider: &str, status: &str| {
            let service = PrivateService {
                cloud_provider: Some(Provider::from_word(provider)),
                status: Some(PrivateServiceStatus::from_word(status)),
                ..service()
            };
            service_advice(&cluster(), &service)
        };

        assert!(told("GCP", "AVAILABLE").contains("PSC Connection ID"));
        assert!(told("AWS", "AVAILABLE").contains("security group"));
        assert!(told("AZURE", "AVAILABLE").contains("Resource ID"));
        assert!(told("GCP", "CREATING").contains("being created"));
        assert!(told("GCP", "CREATE_FAILED").contains("could not be created"));
        assert!(told("GCP", "DELETING").contains("goes away"));
        assert!(told("GCP", "ODD").contains("the status ODD"));
    }
}
