//! `private-endpoint list`, `services`, `add`, `status`.

use super::{changes, refusal, told};
use crate::harness::cloud_api::{CLUSTER_ID, CloudApi, cluster};
use serde_json::{Value, json};

fn on(provider: &str, region: &str) -> CloudApi {
    let api = CloudApi::start();
    api.state(|state| {
        state.clusters = vec![cluster(CLUSTER_ID, "prod", provider, &[region])];
        state.services = vec![json!({
            "region_name": region, "cloud_provider": provider, "status": "AVAILABLE", "name": "their-service",
            "endpoint_service_id": "svc", "availability_zone_ids": if provider == "AWS" { json!(["use1-az1", "use1-az2"]) } else { json!([]) },
        })];
    });
    api
}

fn with_connection(api: &CloudApi, id: &str, status: &str) {
    let region = api.state(|state| state.services[0]["region_name"].clone());
    let connection = json!({
        "endpoint_id": id, "endpoint_service_id": "svc", "service_name": "their-service", "region_name": region,
        "status": status,
    });
    api.state(|state| state.connections = vec![connection]);
}

#[test]
fn services_says_what_to_paste_where_in_the_providers_words() {
    let (gcp, aws, azure) = (on("GCP", "us-east1"), on("AWS", "us-east-1"), on("AZURE", "eastus"));

    let (gcp, aws, azure) = (
        told(&gcp, "private-endpoint services").0,
        told(&aws, "private-endpoint services").0,
        told(&azure, "private-endpoint services").0,
    );

    let expected = "REGION    STATUS     ZONES  TARGET SERVICE\n\
        us-east1  AVAILABLE  -      their-service\n\
        \n\
        us-east1: in Google Cloud make a Private Service Connect endpoint for this target service, in the same region, with \
        global access if clients are elsewhere, and with a Service Directory namespace; its name becomes part of the host. \
        Then `crdb-proxy private-endpoint add` with its PSC Connection ID";
    assert_eq!(gcp, expected);
    assert!(
        aws.contains("ZONES              SERVICE NAME\nus-east-1  AVAILABLE  use1-az1,use1-az2  their-service"),
        "{aws}"
    );
    assert!(aws.contains("lets in TCP 26257 from the clients, and leave private DNS off for now"), "{aws}");
    assert!(azure.contains("ALIAS\n") && azure.contains("with its Resource ID (…/privateEndpoints/…)"), "{azure}");
}

#[test]
fn status_says_what_to_do_next_about_each_and_which_region_has_none() {
    let api = on("GCP", "us-east1");
    with_connection(&api, "102512345678", "STATUS_EXPIRED");
    api.state(|state| {
        state.services.push(json!({"region_name": "us-west2", "cloud_provider": "GCP", "status": "CREATING"}));
    });

    let (status, notes) = told(&api, "private-endpoint status");

    let expected = "us-east1: 102512345678 is EXPIRED\n  nobody accepted it in time: delete it in the provider's console, make \
        it again, and run `crdb-proxy private-endpoint add` with the new ID soon\n\
        us-west2: no private endpoint\n  the service is being created: ask again in some minutes, endpoints can be made only \
        then";
    assert_eq!((status.as_str(), notes.as_str()), (expected, ""));
}

#[test]
fn status_of_an_endpoint_that_works_is_how_to_use_it_at_each_provider() {
    let gcp = on("GCP", "us-east1");
    with_connection(&gcp, "102512345678", "STATUS_AVAILABLE");
    let aws = on("AWS", "us-east-1");
    with_connection(&aws, "vpce-0abc", "STATUS_AVAILABLE");
    let azure = on("AZURE", "eastus");
    with_connection(
        &azure,
        "/subscriptions/1/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/e",
        "AVAILABLE",
    );

    let (gcp, aws) = (told(&gcp, "private-endpoint status").0, told(&aws, "private-endpoint status").0);
    let azure = told(&azure, "private-endpoint status").0;

    assert!(gcp.contains("connect to NAME.private-prod-abc.gcp-us-east1.cockroachlabs.example"), "{gcp}");
    assert!(
        aws.contains("turn on private DNS names of the endpoint in AWS (which is possible only after acceptance)"),
        "{aws}"
    );
    assert!(aws.contains("connect to internal-prod-abc.aws-us-east-1.cockroachlabs.example"), "{aws}");
    let zone = "make a private DNS zone named internal-prod-abc.azure-eastus.cockroachlabs.example in Azure, in it one A \
                record named @ with the private address of the endpoint, and link the zone to the clients' network. Leave \
                auto-registration off: it is not needed, and a network may have it for one zone only";
    assert!(azure.contains(zone), "{azure}");
}

#[test]
fn list_prints_a_table_or_json_with_the_advice() {
    let api = on("GCP", "us-east1");
    let (none, notes) = told(&api, "private-endpoint list");
    assert_eq!(none, "");
    let expected = "crdb-proxy: cluster \"prod\" knows no private endpoint; what to make one for: crdb-proxy \
                    private-endpoint services";
    assert_eq!(notes, expected);
    with_connection(&api, "102512345678", "STATUS_PENDING");

    let (table, notes) = told(&api, "private-endpoint list");
    let (text, _) = told(&api, "private-endpoint list --json");

    let expected = "ENDPOINT      REGION    STATUS   SERVICE\n102512345678  us-east1  PENDING  their-service";
    assert_eq!(table, expected);
    assert_eq!(notes, "crdb-proxy: what to do next about each: crdb-proxy private-endpoint status");
    let json: Value = serde_json::from_str(&text).unwrap();
    let expected = json!([{
        "endpoint_id": "102512345678", "endpoint_service_id": "svc", "service_name": "their-service",
        "cloud_provider": null, "region_name": "us-east1", "external_owner_id": null, "status": "PENDING",
        "advice": "it is being set up: ask again in some minutes",
    }]);
    assert_eq!(json["connections"], expected);
    let services: Value = serde_json::from_str(&told(&api, "private-endpoint services --json").0).unwrap();
    let keys: Vec<_> = services["services"][0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["advice", "availability_zone_ids", "cloud_provider", "endpoint_service_id", "name", "region_name", "status"];
    assert_eq!(keys, expected);
}

#[test]
fn without_a_service_it_is_said_where_to_make_one() {
    let api = on("AWS", "us-east-1");
    api.state(|state| state.services.clear());

    for words in ["private-endpoint services", "private-endpoint status"] {
        let (said, notes) = told(&api, words);

        assert_eq!(said, "");
        assert!(
            notes.starts_with("crdb-proxy: there is no private endpoint service yet: create it in the Cloud Console")
        );
        assert!(notes.contains("VPC peering needs none"), "{notes}");
    }
}

#[test]
fn add_sends_the_id_once_and_says_how_it_goes_on() {
    let api = on("GCP", "us-east1");

    let (said, _) = told(&api, "private-endpoint add 102512345678 --yes");

    let expected = "102512345678 is added, and is PENDING_ACCEPTANCE now\n  the cluster accepts it in some minutes: see \
                    crdb-proxy private-endpoint status";
    assert_eq!(said, expected);
    assert_eq!(changes(&api), 1);
    assert_eq!(api.asked().last().unwrap().body, "{\"endpoint_id\":\"102512345678\"}");
}

#[test]
fn an_azure_service_given_for_an_endpoint_is_recognised_before_it_is_sent() {
    let api = on("AZURE", "eastus");
    let id = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Network/privateLinkServices/theirs";

    let refused = refusal(&api, &format!("private-endpoint add {id} --yes"));

    let expected = "crdb-proxy: this is the resource ID of a Private Link service (…/privateLinkServices/…), and that of the \
        private endpoint which you made for it is wanted (…/privateEndpoints/…): in the Azure portal open the private \
        endpoint, Properties, and copy its Resource ID";
    assert_eq!(refused, (2, expected.to_owned()));
    assert_eq!(changes(&api), 0);
}

#[test]
fn add_needs_yes_where_nobody_can_be_asked() {
    let api = on("AWS", "us-east-1");

    let refused = refusal(&api, "private-endpoint add vpce-0abc");

    let expected = "crdb-proxy: nobody can be asked here whether to let private endpoint vpce-0abc connect to cluster \
                    \"prod\"; say --yes if it is to be done";
    assert_eq!(refused, (2, expected.to_owned()));
    assert_eq!(changes(&api), 0);
}
