//! One cluster: all of its endpoints at once, and the Cloud API beside them.

use super::{
    ClusterReport, ListenerReport, Watch, advice,
    cloud::{self, Asked},
    local, walk,
};
use crate::{
    credentials::Credentials,
    metrics::Metrics,
    settings::{self, AuthKind, EndpointKind, Listener, Settings},
    sys,
    tls::ClusterTls,
    upstream::{Cluster, Means, World},
    wire::{StartupParameters, parameters::Injected},
};
use std::{sync::Arc, time::SystemTime};
use tokio::{sync::Semaphore, task::JoinSet};

/// A cluster that is walked to.
pub(super) struct Checked {
    pub(super) settings: Arc<settings::Cluster>,
    ca_sha256: Vec<String>,
    ca_not_after: Option<SystemTime>,
    pub(super) cluster: Arc<Cluster>,
}

impl Checked {
    pub(super) fn of(
        cluster: &Arc<settings::Cluster>,
        tls: ClusterTls,
        settings: &Settings,
        world: &World,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let credentials = cluster.password.clone().map(|source| Credentials::new(source, settings.strict_secrets));
        let (ca_sha256, ca_not_after) = tls.ca.clone().map_or((Vec::new(), None), |ca| (ca.sha256, Some(ca.not_after)));
        let means =
            Means { settings: Arc::clone(cluster), tls, credentials, limits: Arc::new(settings.limits.clone()) };
        let cluster_to_reach = Arc::new(Cluster::new(means, world, metrics));
        Self { settings: Arc::clone(cluster), ca_sha256, ca_not_after, cluster: cluster_to_reach }
    }

    /// All of its endpoints at once, and the API beside them.
    pub(super) async fn walk(
        self,
        listeners: &[&Arc<Listener>],
        watch: &Arc<dyn Watch + Send + Sync>,
    ) -> (ClusterReport, Vec<ListenerReport>) {
        let setup = self.cluster.setup();
        let (databases, parameters) = self.startup(listeners);
        let mut walks = JoinSet::new();
        let places = Arc::new(Semaphore::new(WALKS_AT_ONCE));
        for (place, way) in setup.ways().iter().enumerate() {
            let (cluster, setup, way) = (Arc::clone(&self.cluster), Arc::clone(&setup), Arc::clone(way));
            let (databases, parameters) = (databases.clone(), parameters.clone());
            let (places, watch) = (Arc::clone(&places), Arc::clone(watch));
            walks.spawn(async move {
                let _place = places.acquire().await;
                let begins = |stage| watch.at(cluster.name().as_str(), way.endpoint.name.as_str(), stage);
                let walk = walk::Walk {
                    cluster: &cluster,
                    setup: &setup,
                    way: &way,
                    databases: &databases,
                    parameters: &parameters,
                    begins: &begins,
                };
                let (seen, failure) = walk.walk().await;
                (place, seen, failure)
            });
        }
        let (asked, mut walked) = tokio::join!(cloud::ask(&self.settings), walks.join_all());
        walked.sort_by_key(|(place, ..)| *place);
        let facts = if let Asked::Facts(facts, _) = &asked { Some(&**facts) } else { None };
        let mut endpoints = Vec::new();
        for ((_, seen, failure), endpoint) in walked.into_iter().zip(&self.settings.endpoints) {
            let report = self.endpoint_report(endpoint, seen, failure.as_ref(), facts, listeners);
            watch.done(self.settings.name.as_str(), &report);
            endpoints.push(report);
        }
        let listeners = listeners.iter().map(|one| self.listener_report(one, &endpoints)).collect();
        (self.report(asked, endpoints), listeners)
    }

    /// What a client that asks for nothing would be logged in with, and every database that clients get so.
    fn startup(&self, listeners: &[&Arc<Listener>]) -> (Arc<[String]>, StartupParameters) {
        let mut databases: Vec<String> = Vec::new();
        for listener in listeners {
            if !databases.contains(&listener.database) {
                databases.push(listener.database.clone());
            }
        }
        if databases.is_empty() {
            databases.push("defaultdb".to_owned());
        }
        let mut session_parameters = listeners.first().map(|one| one.session_parameters.clone()).unwrap_or_default();
        if !session_parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case("application_name")) {
            session_parameters.push(("application_name".to_owned(), "crdb-proxy check".to_owned()));
        }
        let parameters = StartupParameters::default().for_upstream(&Injected {
            user: &self.settings.user,
            database: databases.first().map_or("defaultdb", String::as_str),
            is_database_locked: false,
            session_parameters: &session_parameters,
            jwt: self.settings.auth == AuthKind::Jwt,
        });
        (databases.into(), parameters)
    }

    fn report(self, asked: Asked, endpoints: Vec<super::EndpointReport>) -> ClusterReport {
        let mut notes = Vec::new();
        notes.extend(self.settings.password.as_ref().and_then(local::exposed));
        notes.extend(self.ca_not_after.and_then(|end| advice::ca_ends(end, SystemTime::now())));
        let cloud = match asked {
            Asked::Not => None,
            Asked::Facts(facts, server) => {
                let is_peered = self.settings.endpoints.iter().any(|endpoint| endpoint.kind == EndpointKind::Internal);
                let routes = if is_peered { sys::routes() } else { Vec::new() };
                notes.extend(advice::cloud_notes(&facts, &routes));
                Some(facts.report(&server))
            }
            Asked::Failed(report, text) => {
                notes.push(advice::cloud_unreachable(&text));
                Some(report)
            }
        };
        ClusterReport {
            name: self.settings.name.to_string(),
            user: self.settings.user.clone(),
            secret: self.cluster.setup().credentials().map(Credentials::describe),
            ca_sha256: self.ca_sha256,
            cloud,
            endpoints,
            notes,
        }
    }
}

/// Each opens a descriptor for every address.
const WALKS_AT_ONCE: usize = 8;
