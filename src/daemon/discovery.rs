//! Endpoints that the Cloud API tells of, where `discover` is on: new regions come, regions that are gone get no new
//! session. What the settings say stands first; that the API cannot be asked changes nothing. A host that it tells of is
//! verified by the cluster's own CA as every other one.

use crate::{
    admin::Admin,
    cloud::{self, Cloud, Known, known},
    diagnostics::printable,
    jitter,
    settings::{self, Endpoint, EndpointKind, Name, kind_text},
    upstream::Cluster,
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

/// Asks for every cluster that wants it, until the future is dropped; that gives up what is being asked.
pub(super) async fn watch(admin: Arc<Admin>) {
    let mut rounds: HashMap<Name, Round> = HashMap::new();
    // Each cluster by itself: one whose API is slow holds up no other.
    let mut asking = JoinSet::new();
    loop {
        let view = admin.view();
        rounds.retain(|name, _| view.clusters.iter().any(|cluster| cluster.name() == name));
        for cluster in &view.clusters {
            let settings = Arc::clone(&cluster.setup().settings);
            if !settings.discover {
                rounds.remove(cluster.name());
                continue;
            }
            let round = rounds.entry(cluster.name().clone()).or_default();
            if round.is_due(&settings) {
                round.is_open = true;
                let (mut round, cluster) = (round.clone(), Arc::clone(cluster));
                asking.spawn(async move {
                    round.go(&cluster, &settings).await;
                    (cluster.name().clone(), round)
                });
            }
        }
        let next = rounds.values().filter(|round| !round.is_open).filter_map(|round| round.next.as_ref());
        let latest = Instant::now() + LOOK_EVERY;
        let until = next.map(|(_, at)| *at).min().map_or(latest, |at| at.min(latest));
        tokio::select! {
            Some(done) = asking.join_next() => match done {
                Ok((name, round)) => drop(rounds.get_mut(&name).map(|known| *known = round)),
                // One that panicked does not say whose it was: all that were asked are asked again.
                Err(_) => rounds.retain(|_, round| !round.is_open),
            },
            () = sleep_until(until) => {}
        }
    }
}

/// What is remembered from one question to the next.
#[derive(Clone, Default)]
struct Round {
    /// The question is under way.
    is_open: bool,
    /// Under which settings was asked, and when that is to be done again.
    next: Option<(Arc<settings::Cluster>, Instant)>,
    /// What went wrong the last time.
    fault: Option<String>,
    /// Whether the key may do more than read is known: to be found out once.
    is_key_known: bool,
}

impl Round {
    /// Other settings brought their own endpoints: what was discovered beside those of before is gone.
    fn is_due(&self, settings: &Arc<settings::Cluster>) -> bool {
        let is_due = |(before, at): &(_, Instant)| !Arc::ptr_eq(before, settings) || Instant::now() >= *at;
        !self.is_open && self.next.as_ref().is_none_or(is_due)
    }

    async fn go(&mut self, cluster: &Cluster, settings: &Arc<settings::Cluster>) {
        let cloud = Cloud::with_source(settings.api_key.as_ref(), false).await;
        let id = settings.cluster_id.as_deref().unwrap_or_default();
        let asked = match &cloud {
            Ok(cloud) => cloud.cluster(id).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.is_open = false;
        let fault = asked.and_then(|found| apply(cluster, settings, &found)).err();
        if !Arc::ptr_eq(settings, &cluster.setup().settings) {
            // An answer to what nobody asks any more.
            self.next = None;
            return;
        }
        self.next = Some((Arc::clone(settings), Instant::now() + jitter::around(settings.discover_interval)));
        self.note(cluster, fault);
        if let Ok(cloud) = cloud.as_ref().map_err(drop) {
            self.look_at_key(cloud, settings, id).await;
        }
    }

    fn note(&mut self, cluster: &Cluster, fault: Option<String>) {
        cluster.discovered(fault.is_none());
        match &fault {
            // Told once, and again when it is another one.
            Some(cause) if self.fault != fault => {
                warn!(cluster.name = %cluster.name(), cause, "regions could not be discovered; endpoints stay as they are");
            }
            None if self.fault.is_some() => info!(cluster.name = %cluster.name(), "regions are discovered again"),
            _ => {}
        }
        self.fault = fault;
    }

    /// Only those who may also change networks may read private endpoints.
    async fn look_at_key(&mut self, cloud: &Cloud, settings: &settings::Cluster, id: &str) {
        if self.is_key_known || self.fault.is_some() {
            return;
        }
        let answer = known(cloud.private_connections(id).await);
        self.is_key_known = answer.is_ok();
        if let Ok(Known::Is(_)) = answer {
            warn!(cluster.name = %settings.name, "{TOO_MUCH}");
        }
    }
}

/// Goes by what the API says, unless it says nothing of use.
fn apply(cluster: &Cluster, settings: &Arc<settings::Cluster>, found: &cloud::Cluster) -> Result<(), String> {
    if found.regions.len() > REGIONS_MAX {
        return Err(format!(
            "the Cloud API lists {} regions, and no cluster has more than {REGIONS_MAX}",
            found.regions.len()
        ));
    }
    if cluster.expect_restarts(found.expects_restarts()) != found.expects_restarts() {
        let status = found.operation_status.as_deref().or(found.upgrade_status.as_deref()).unwrap_or("none");
        info!(cluster.name = %cluster.name(), operation.status = status, "operation of the cluster changed");
    }
    let before: Vec<_> = cluster.ways().iter().map(|way| Arc::clone(&way.endpoint)).collect();
    let Some(now) = endpoints(settings, found) else {
        let name = printable(&found.name);
        return Err(format!("the Cloud API lists none of the settings' regions for \"{name}\"; is cluster_id right?"));
    };
    if before == now {
        return Ok(());
    }
    if !cluster.replace_endpoints_of(settings, &now) {
        return Ok(());
    }
    for new in now.iter().filter(|endpoint| !before.contains(endpoint)) {
        info!(cluster.name = %cluster.name(), endpoint.name = %new.name, host = new.host, "endpoint discovered");
    }
    for gone in before.iter().filter(|endpoint| !now.contains(endpoint)) {
        info!(cluster.name = %cluster.name(), endpoint.name = %gone.name, host = gone.host, "endpoint vanished");
    }
    Ok(())
}

/// The settings' endpoints whose regions there are, and one more of each of their kinds for each region that they do
/// not speak of; nothing if no endpoint of the settings is left.
fn endpoints(settings: &settings::Cluster, found: &cloud::Cluster) -> Option<Vec<Arc<Endpoint>>> {
    let mut endpoints: Vec<_> =
        settings.endpoints.iter().filter(|endpoint| is_there(endpoint, found)).cloned().collect();
    if endpoints.is_empty() || found.regions.is_empty() {
        return None;
    }
    // A Private Service Connect endpoint has a name of its own in each region, which nobody but its maker knows.
    for kind in [EndpointKind::Internal, EndpointKind::Public] {
        let Some(like) = settings.endpoints.iter().find(|endpoint| endpoint.kind == kind) else { continue };
        for region in &found.regions {
            let is_known = endpoints.iter().any(|endpoint| endpoint.kind == kind && region.is_led_to_by(endpoint));
            let Some(new) = new(like, region, found).filter(|_| !is_known) else { continue };
            if endpoints.iter().all(|endpoint| endpoint.name != new.name) {
                endpoints.push(Arc::new(new));
            }
        }
    }
    Some(endpoints)
}

/// Whether the API still has its region, or would not know of it anyway.
fn is_there(endpoint: &Endpoint, found: &cloud::Cluster) -> bool {
    endpoint.region.is_none()
        || endpoint.kind == EndpointKind::Custom
        || found.regions.iter().any(|region| region.is_led_to_by(endpoint))
}

/// The way to a region that the settings do not speak of; nothing where the API's words make none.
fn new(like: &Endpoint, region: &cloud::Region, found: &cloud::Cluster) -> Option<Endpoint> {
    let host = match like.kind {
        EndpointKind::Public => region.sql_dns.clone()?,
        EndpointKind::Internal => region.internal_dns.clone()?,
        EndpointKind::Psc | EndpointKind::Custom => return None,
    };
    let is_host =
        host.len() <= HOST_MAX && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let name = found.sql_region(&region.name);
    Some(Endpoint {
        name: Name::new(&format!("{name}-{}", kind_text(like.kind)))?,
        region: Some(Name::new(&name)?.to_string()),
        kind: like.kind,
        tls_server_name: host.clone().try_into().ok()?,
        host: Some(host).filter(|_| is_host)?,
        endpoint_name: None,
        port: like.port,
    })
}

/// Several times what the Cloud sells; each is an endpoint with series and probes of its own.
const REGIONS_MAX: usize = 32;
/// So soon other settings are noticed; each look is a wake-up of the daemon's.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A DNS name's.
const HOST_MAX: usize = 253;
const TOO_MUCH: &str = "the API key that discover uses may do more than read: whoever steals it from this machine may change \
                        the cluster's networks. Give it a service account whose only role is Cluster Monitor";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cloud::{Provider, testing},
        settings::{AuthKind, CaSource, SqlUser},
    };

    fn endpoint(name: &str, region: Option<&str>, kind: EndpointKind, host: &str) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            name: Name::new(name).unwrap(),
            region: region.map(str::to_owned),
            kind,
            host: host.to_owned(),
            endpoint_name: None,
            port: 26257,
            tls_server_name: "host.example".try_into().unwrap(),
        })
    }

    fn settings(endpoints: Vec<Arc<Endpoint>>) -> settings::Cluster {
        settings::Cluster {
            name: Name::new("prod").unwrap(),
            ca: CaSource::System,
            user: SqlUser {
                name: "app".to_owned(),
                auth: AuthKind::Password,
                password: None,
                client_certificate: None,
                asks_client: false,
                require_auth: None,
                has_own_table: false,
            },
            other_users: Vec::new(),
            cluster_id: None,
            api_key: None,
            discover: true,
            discover_interval: Duration::from_secs(300),
            endpoints,
        }
    }

    fn found(regions: &[&str]) -> cloud::Cluster {
        let region = |name: &&str| cloud::Region {
            name: (*name).to_owned(),
            sql_dns: Some(format!("prod-abc.gcp-{name}.example")),
            internal_dns: Some(format!("internal-prod-abc.gcp-{name}.example")),
            private_endpoint_dns: None,
            ui_dns: None,
            node_count: None,
        };
        let provider = Some(Provider::Gcp);
        cloud::Cluster { cloud_provider: provider, regions: regions.iter().map(region).collect(), ..testing::cluster() }
    }

    fn names(settings: &settings::Cluster, found: &cloud::Cluster) -> Option<Vec<String>> {
        endpoints(settings, found).map(|endpoints| endpoints.iter().map(|endpoint| endpoint.name.to_string()).collect())
    }

    #[test]
    fn a_new_region_becomes_an_endpoint_of_each_kind_that_the_settings_have() {
        use EndpointKind::{Internal, Public};
        let public = endpoint("east", Some("gcp-us-east1"), Public, "prod-abc.gcp-us-east1.example");
        let internal =
            endpoint("east-internal", Some("gcp-us-east1"), Internal, "internal-prod-abc.gcp-us-east1.example");
        let both = found(&["us-east1", "us-west2"]);

        let settings_of_one = settings(vec![Arc::clone(&public)]);
        assert_eq!(names(&settings_of_one, &both).unwrap(), ["east", "gcp-us-west2-public"]);
        let settings_of_two = settings(vec![public, internal]);
        let now = endpoints(&settings_of_two, &both).unwrap();
        let new: Vec<_> = now.iter().skip(2).map(|endpoint| (endpoint.name.as_str(), endpoint.host.as_str())).collect();
        assert_eq!(
            new,
            [
                ("gcp-us-west2-internal", "internal-prod-abc.gcp-us-west2.example"),
                ("gcp-us-west2-public", "prod-abc.gcp-us-west2.example"),
            ]
        );
        assert_eq!(now[2].region.as_deref(), Some("gcp-us-west2"));
    }

    #[test]
    fn a_region_that_is_gone_takes_its_endpoints_with_it_and_others_stay() {
        use EndpointKind::{Custom, Psc, Public};
        let all = settings(vec![
            endpoint("east", Some("gcp-us-east1"), Public, "prod-abc.gcp-us-east1.example"),
            endpoint("west", Some("us-west2"), Public, "prod-abc.gcp-us-west2.example"),
            endpoint("psc", Some("gcp-us-west2"), Psc, "mine.private-prod-abc.gcp-us-west2.example"),
            endpoint("tunnel", Some("gcp-us-west2"), Custom, "10.0.0.1"),
            endpoint("plain", None, Public, "prod-abc.example"),
        ]);

        assert_eq!(names(&all, &found(&["us-east1"])).unwrap(), ["east", "tunnel", "plain"]);
    }

    #[test]
    fn an_answer_that_would_leave_nothing_is_not_gone_by() {
        let east = settings(vec![endpoint("east", Some("gcp-us-east1"), EndpointKind::Public, "h.example")]);

        assert_eq!(names(&east, &found(&["europe-west1"])), None);
        assert_eq!(names(&east, &found(&[])), None);
    }

    #[test]
    fn words_that_make_no_host_or_name_make_no_endpoint() {
        let east = settings(vec![endpoint("east", Some("gcp-us-east1"), EndpointKind::Public, "h.example")]);
        let mut odd = found(&["us-east1", "us west", "us-west2"]);
        odd.regions[2].sql_dns = Some("h.example:1\n".to_owned());

        assert_eq!(names(&east, &odd).unwrap(), ["east"]);
    }
}
