//! What a walk comes to, for an endpoint and for a listener.

use super::{
    Advice, EndpointReport, ListenerReport,
    advice::{self, Case},
    cloud::CloudFacts,
    cluster::Checked,
    walk::{Failure, Seen},
};
use crate::{
    credentials::Credentials,
    settings::{Endpoint, Listener, Regions, kind_text, listen_text, same_region},
};
use std::{sync::Arc, time::Duration};

impl Checked {
    /// Of one endpoint.
    pub(super) fn endpoint_report(
        &self,
        endpoint: &Endpoint,
        seen: Seen,
        failure: Option<&Failure>,
        cloud: Option<&CloudFacts>,
        listeners: &[&Arc<Listener>],
    ) -> EndpointReport {
        let setup = self.cluster.setup();
        let account = setup.account_named(&seen.user);
        let source = account.credentials().map(Credentials::describe);
        let (user, secret_source) = (&account.user, source.as_deref());
        let case = Case { cluster: &self.settings, user, endpoint, secret_source, seen: &seen, cloud };
        let advice = failure.map(|failure| advice::advise(&case, failure));
        let users = listeners.iter().filter(|listener| listener.policy.allows(endpoint, &self.settings.endpoints));
        let users: Vec<_> = users.map(|listener| listener.name.to_string()).collect();
        let notes = notes(&case, failure.is_none(), users.is_empty() && !listeners.is_empty());
        EndpointReport {
            name: endpoint.name.to_string(),
            region: endpoint.region.clone(),
            kind: kind_text(endpoint.kind),
            host: endpoint.host.clone(),
            port: endpoint.port,
            tls_server_name: endpoint.tls_server_name.to_str().into_owned(),
            listeners: users,
            ok: failure.is_none(),
            failed_at: failure.map(|failure| failure.stage().name()),
            stages: seen.stages,
            addresses: seen.addresses,
            tls: seen.tls,
            certificates: seen.chain.into_iter().map(Into::into).collect(),
            server: seen.server,
            advice,
            notes,
        }
    }

    /// Of one listener, once its endpoints are known.
    pub(super) fn listener_report(&self, listener: &Listener, endpoints: &[EndpointReport]) -> ListenerReport {
        let setup = self.cluster.setup();
        let choice = self.cluster.choice(&listener.policy);
        let order: Vec<_> =
            self.cluster.order_of(&setup, &choice).iter().map(|way| way.endpoint.name.to_string()).collect();
        let find = |name: &String| endpoints.iter().find(|endpoint| endpoint.name == *name);
        let well: Vec<_> =
            order.iter().filter(|name| find(name).is_some_and(|endpoint| endpoint.ok)).cloned().collect();
        let in_order: Vec<_> = order.iter().filter_map(find).collect();
        ListenerReport {
            name: listener.name.to_string(),
            address: listen_text(&listener.address),
            cluster: listener.cluster.to_string(),
            database: listener.database.clone(),
            failover: well.iter().skip(1).cloned().collect(),
            notes: nearer(listener, &in_order).into_iter().collect(),
            endpoints: order,
        }
    }
}

/// What works and should be looked at still.
fn notes(case: &Case<'_>, is_well: bool, is_unused: bool) -> Vec<Advice> {
    let (endpoint, seen) = (case.endpoint, case.seen);
    let mut notes = Vec::new();
    if is_well {
        notes.extend(seen.exposed().map(|address| advice::exposed(case, address)));
        let dead: Vec<_> = seen.addresses.iter().filter(|address| address.error.is_some()).collect();
        if !dead.is_empty() {
            let which: Vec<_> = dead.iter().map(|address| address.address.as_str()).collect();
            notes.push(Advice::new(
                "address_dead",
                format!(
                    "{} of {} addresses of \"{}\" do not answer: {}",
                    dead.len(),
                    seen.addresses.len(),
                    endpoint.host,
                    which.join(", ")
                ),
                "a node or load balancer is down, or this network has no way there (IPv6 perhaps)",
                "nothing at once: crdb-proxy goes on to the next address; if it lasts, look at the route",
            ));
        }
        let region = seen.server.as_ref().and_then(|server| server.region.as_deref());
        if let (Some(said), Some(is)) = (&endpoint.region, region)
            && !same_region(said, is)
        {
            notes.push(Advice::new(
                "other_region",
                format!("\"{}\" should be in {said}, but its gateway is in {is}", endpoint.name),
                "\"host\" is another region's",
                "take the host of that region from the Connect dialog, or correct \"region\"",
            ));
        }
        let end = seen.chain.first().map(|shown| shown.not_after);
        notes.extend(end.and_then(|end| advice::certificate_ends(case, end)));
    }
    if is_unused {
        notes.push(Advice::new(
            "unused",
            format!("no listener uses \"{}\"", endpoint.name),
            "their \"path\" or \"regions\" leave it out: without a \"path\", public endpoints serve only where there is no private one",
            "name it in a listener's \"path\" or \"regions\", or take it away",
        ));
    }
    notes
}

/// The first endpoint is well, and another one is much nearer.
fn nearer(listener: &Listener, endpoints: &[&EndpointReport]) -> Option<Advice> {
    if matches!(listener.policy.regions, Regions::Nearest(_)) {
        return None;
    }
    let distance = |endpoint: &EndpointReport| endpoint.tls.as_ref()?.distance_ms;
    let well = || endpoints.iter().filter(|endpoint| endpoint.ok);
    let first = well().next()?;
    let nearest = well()
        .filter(|other| distance(other).is_some())
        .min_by(|one, other| distance(one).partial_cmp(&distance(other)).unwrap_or(std::cmp::Ordering::Equal))?;
    let (far, near) = (distance(first)?, distance(nearest)?);
    let is_much = far > near * NEARER_FACTOR && far - near > NEARER.as_secs_f64() * 1e3;
    is_much.then(|| {
        Advice::new(
            "nearer_region",
            format!(
                "listener \"{}\" goes to \"{}\" first, {far:.0} ms away; \"{}\" is {near:.0} ms away",
                listener.name, first.name, nearest.name
            ),
            "the endpoints' order was made for another place",
            "put the near one first, or set regions = \"nearest\"",
        )
    })
}

const NEARER_FACTOR: f64 = 1.5;
const NEARER: Duration = Duration::from_millis(5);
