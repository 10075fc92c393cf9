//! What is read out of answers, quirks included.

use super::{client, sentence, wait};
use crate::harness::cloud_api::{CLUSTER_ID, CloudApi, KEY, Role, cluster};
use crdb_proxy::cloud::{
    AllowedNetwork, ClusterState, ConnectionWish, Known, Plan, PrivateConnectionStatus, PrivateServiceStatus, Provider,
    known,
};
use serde_json::json;
use std::time::{Duration, SystemTime};

#[test]
fn a_cluster_is_read_with_its_regions_and_what_is_missing_or_at_rest_is_none() {
    let api = CloudApi::start();

    let cluster = wait(client(&api).cluster(CLUSTER_ID)).unwrap();

    assert_eq!((cluster.id.as_str(), cluster.name.as_str()), (CLUSTER_ID, "prod"));
    assert_eq!((cluster.plan, cluster.state), (Some(Plan::Advanced), Some(ClusterState::Created)));
    assert_eq!(cluster.cloud_provider, Some(Provider::Gcp));
    assert_eq!((cluster.operation_status.clone(), cluster.num_virtual_cpus), (None, Some(4)));
    assert_eq!(cluster.upgrade_status, None);
    let [region] = &cluster.regions[..] else { panic!("{:?}", cluster.regions) };
    assert_eq!(region.sql_dns.as_deref(), Some("prod-abc.gcp-us-east1.cockroachlabs.example"));
    assert_eq!(region.internal_dns.as_deref(), Some("internal-prod-abc.gcp-us-east1.cockroachlabs.example"));
    assert_eq!(region.private_endpoint_dns.as_deref(), Some("private-prod-abc.gcp-us-east1.cockroachlabs.example"));
    assert_eq!(region.node_count, Some(3));
}

#[test]
fn words_that_nobody_knows_stay_text_and_values_of_another_type_are_none() {
    let api = CloudApi::start();
    for (key, value) in [
        ("plan", json!("PLANETARY")),
        ("state", json!(7)),
        ("operation_status", json!("CRDB_NEWEST_RUNNING")),
        ("cloud_provider", json!(null)),
        ("cidr_range", json!({})),
        ("config", json!([])),
        ("regions", json!([{"name": "r", "sql_dns": "", "node_count": "5"}, {"sql_dns": "x"}, 7])),
    ] {
        api.cluster(key, value);
    }

    let cluster = wait(client(&api).cluster(CLUSTER_ID)).unwrap();

    assert_eq!(cluster.plan, Some(Plan::Other("PLANETARY".to_owned())));
    assert_eq!(cluster.state, Some(ClusterState::Other("7".to_owned())));
    assert!(cluster.expects_restarts());
    assert_eq!((cluster.cloud_provider, cluster.cidr_range, cluster.num_virtual_cpus), (None, None, None));
    let [region] = &cluster.regions[..] else { panic!("{:?}", cluster.regions) };
    assert_eq!((region.name.as_str(), region.sql_dns.clone(), region.node_count), ("r", None, Some(5)));
}

#[test]
fn lists_are_read_to_their_last_page() {
    let api = CloudApi::start();
    let entry = |number: u8| json!({"cidr_ip": format!("192.0.2.{number}"), "cidr_mask": 32, "sql": true, "ui": false});
    api.state(|state| {
        state.page_size = 2;
        state.users = (0..5).map(|number| format!("user{number}")).collect();
        state.allowlist = (0..3).map(entry).collect();
        state.propagating = true;
        state.nodes.push(json!({"name": "node-2", "status": "STATUS_NOT_READY"}));
    });
    let cloud = client(&api);

    let users = wait(cloud.users(CLUSTER_ID)).unwrap();
    let list = wait(cloud.allowlist(CLUSTER_ID)).unwrap();
    let databases = wait(cloud.databases(CLUSTER_ID)).unwrap();
    let nodes = wait(cloud.nodes(CLUSTER_ID)).unwrap();

    assert_eq!(
        users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>().join(" "),
        "user0 user1 user2 user3 user4"
    );
    assert_eq!((list.entries.len(), list.propagating), (3, true));
    let last = AllowedNetwork { cidr_ip: "192.0.2.2".to_owned(), cidr_mask: 32, name: None, sql: true, ui: false };
    assert_eq!(list.entries[2], last);
    assert_eq!(databases.iter().map(|database| database.table_count).collect::<Vec<_>>(), [Some(0), Some(7)]);
    assert_eq!(nodes.iter().map(crdb_proxy::cloud::Node::is_live).collect::<Vec<_>>(), [true, false]);
    let pages = api.lines().iter().filter(|line| line.contains("sql-users?pagination.page=")).count();
    assert_eq!(pages, 2, "{:?}", api.lines());
}

#[test]
fn connection_parameters_are_read_whatever_the_case_of_their_keys() {
    let api = CloudApi::start();
    let wish = ConnectionWish { database: Some("shop".to_owned()), sql_user: Some("a&b=c".to_owned()) };

    let told = wait(client(&api).connection_parameters(CLUSTER_ID, &wish)).unwrap();

    assert_eq!((told.database.as_deref(), told.port), (Some("shop"), Some(26257)));
    assert_eq!(told.host.as_deref(), Some("prod-abc.gcp-us-east1.cockroachlabs.example"));
    assert!(api.lines()[0].ends_with("connection-string?database=shop&sql_user=a%26b%3Dc"), "{:?}", api.lines());
}

#[test]
fn private_endpoints_are_read_with_and_without_prefixes_and_by_both_names_of_the_region() {
    let api = CloudApi::start();
    api.state(|state| {
        state.services = vec![
            json!({"region_name": "us-east1", "cloud_provider": "GCP", "status": "AVAILABLE", "name": "target"}),
            json!({"region_name": "r", "status": "STATUS_CREATING", "aws": {"service_name": "com.x"},
                "availability_zone_ids": ["use1-az1", 7]}),
        ];
        state.connections = vec![
            json!({"endpoint_id": "1", "region_name": "us-east1", "status": "STATUS_AVAILABLE"}),
            json!({"endpoint_id": "2", "region": "us-east1", "status": "PENDING_ACCEPTANCE"}),
            json!({"endpoint_id": "3", "status": "STATUS_ODD"}),
        ];
    });
    let cloud = client(&api);

    let services = wait(cloud.private_services(CLUSTER_ID)).unwrap();
    let connections = wait(cloud.private_connections(CLUSTER_ID)).unwrap();

    assert_eq!(services[0].status, Some(PrivateServiceStatus::Available));
    assert_eq!(services[1].status, Some(PrivateServiceStatus::Creating));
    assert_eq!((services[1].name.as_deref(), services[1].availability_zone_ids.len()), (Some("com.x"), 1));
    let statuses: Vec<_> = connections.iter().map(|connection| connection.status.clone().unwrap()).collect();
    let odd = PrivateConnectionStatus::Other("ODD".to_owned());
    assert_eq!(statuses, [PrivateConnectionStatus::Available, PrivateConnectionStatus::PendingAcceptance, odd]);
    assert_eq!(connections[1].region_name.as_deref(), Some("us-east1"));
}

#[test]
fn a_cluster_is_found_by_id_and_by_name_and_names_that_are_near_are_offered() {
    let api = CloudApi::start();
    let other = "11111111-89ab-cdef-0123-456789abcdef";
    api.state(|state| {
        state.clusters.push(cluster(other, "twin", "AWS", &["us-east-1"]));
        state.clusters.push(cluster("22222222-89ab-cdef-0123-456789abcdef", "twin", "AWS", &["us-east-1"]));
    });
    let cloud = client(&api);

    assert_eq!(wait(cloud.find("prod")).unwrap().id, CLUSTER_ID);
    assert_eq!(wait(cloud.find(other)).unwrap().name, "twin");
    let ambiguous = "2 clusters are called \"twin\"; name one by its ID: 11111111-89ab-cdef-0123-456789abcdef, \
                     22222222-89ab-cdef-0123-456789abcdef";
    assert_eq!(sentence(wait(cloud.find("twin"))), ambiguous);
    let none = "no cluster that the API key may see is called \"prid\" (did you mean \"prod\"?); there are \"prod\", \
                \"twin\", \"twin\"";
    assert_eq!(sentence(wait(cloud.find("prid"))), none);
    api.state(|state| state.clusters.clear());
    assert!(sentence(wait(cloud.find("prod"))).contains("none at all is to be seen; give its service account a role"));
}

#[test]
fn what_a_role_may_not_read_is_unknown_and_the_role_that_may_is_named() {
    let api = CloudApi::start();
    api.state(|state| state.keys.insert(KEY.to_owned(), Role::Monitor));
    let cloud = client(&api);

    let users = known(wait(cloud.users(CLUSTER_ID))).unwrap();
    let nodes = known(wait(cloud.nodes(CLUSTER_ID))).unwrap();

    assert!(matches!(&users, Known::Unknown(why) if why.contains("the role Cluster Developer")), "{users:?}");
    assert_eq!(nodes.value().map(Vec::len), Some(1));
    api.state(|state| state.keys.clear());
    assert!(known(wait(cloud.users(CLUSTER_ID))).is_err());
}

#[test]
fn the_ca_is_read_without_the_key_and_has_to_be_pem() {
    let api = CloudApi::start();
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    api.state(|state| state.ca = pem.to_owned());

    assert_eq!(wait(super::client_of(&api.url(), None).ca(CLUSTER_ID)).unwrap(), pem);
    assert_eq!(wait(client(&api).ca(CLUSTER_ID)).unwrap(), pem);

    assert_eq!(api.lines(), ["GET /clusters/01234567-89ab-cdef-0123-456789abcdef/cert"; 2]);
    assert!(api.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
    api.state(|state| state.ca = "<html>".to_owned());
    assert!(
        sentence(wait(client(&api).ca(CLUSTER_ID))).contains("no certificate (PEM) where the cluster's CA was due")
    );
}

#[test]
fn the_clock_of_an_answer_is_kept_even_if_it_refuses() {
    let api = CloudApi::start();
    api.state(|state| state.date = Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()));
    let cloud = super::client_of(&api.url(), Some("CCDB1_other_secret"));
    assert_eq!(cloud.clocks(), None);

    assert!(wait(cloud.clusters()).is_err());

    let clocks = cloud.clocks().unwrap();
    assert_eq!(clocks.server, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
    assert!(clocks.local.elapsed().unwrap() < Duration::from_secs(60));
}
