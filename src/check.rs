//! Walks every way to a cluster and says, in one sentence that mends it, where it fails.
//!
//! Logs in as the daemon would, serves nobody, and changes nothing. `walk` meets facts, `cloud` asks for more of them,
//! `advice` makes sense of both, `report` is what is told.

mod advice;
mod cloud;
mod cluster;
mod local;
mod report;
mod stage;
mod verdict;
mod walk;

pub use advice::Advice;
pub use report::{ClusterReport, EndpointReport, ListenerReport, Report, StageReport};
pub use stage::Stage;

use crate::{
    credentials::Credentials,
    daemon,
    diagnostics::{Chain, rfc3339},
    metrics::Metrics,
    settings::{self, Loaded, Settings},
    tls::{self, TlsSetupError},
    upstream::{Means, UserMeans, World},
};
use cluster::Checked;
use report::SCHEMA;
use std::{sync::Arc, time::SystemTime};

/// What is to be checked.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Only the cluster of this name.
    pub cluster: Option<String>,
    /// Every listener must have an endpoint that could take over.
    pub failover: bool,
}

/// Who watches.
pub trait Watch {
    /// This endpoint of this cluster is at this stage now.
    fn at(&self, cluster: &str, endpoint: &str, stage: Stage);
    /// It is done.
    fn done(&self, cluster: &str, endpoint: &EndpointReport);
}

/// Nobody.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn at(&self, _: &str, _: &str, _: Stage) {}
    fn done(&self, _: &str, _: &EndpointReport) {}
}

/// Why there is nothing to walk.
#[derive(Debug)]
pub enum CheckError {
    /// The settings have no cluster of this name, but these.
    NoCluster(String, Vec<String>),
    /// A CA or certificate file of a cluster, or rules of users that cannot be kept here; what to do, where that is known.
    Files(String, Option<Advice>),
    /// Something that the system did not give.
    Internal(String),
}

/// Checks what the settings speak of. Ends by itself: every stage has a limit. Cancel safe: whatever is open is closed.
///
/// # Errors
/// There is nothing to walk.
pub async fn check(
    loaded: &Loaded,
    wish: &Wish,
    world: &World,
    running: &[String],
    watch: &Arc<dyn Watch + Send + Sync>,
) -> Result<Report, CheckError> {
    let at = SystemTime::now();
    let settings = &loaded.settings;
    let metrics = Arc::new(Metrics::new().map_err(|error| CheckError::Internal(error.to_string()))?);
    let chosen = chosen(settings, wish)?;
    if let Some(fault) = daemon::users_fault(settings) {
        return Err(CheckError::Files(fault, None));
    }
    let mut warnings = loaded.warnings.clone();
    let mut walkable = Vec::new();
    for cluster in &chosen {
        let mut users = Vec::new();
        for user in cluster.users() {
            let tls = tls::cluster_tls(&cluster.ca, user.client_certificate.as_ref(), at);
            let tls = tls.map_err(|error| files_fault(cluster, &error))?;
            if let Some(error) = tls.doubts.refused().filter(|_| settings.strict_secrets) {
                return Err(files_fault(cluster, &error));
            }
            let texts = tls.warnings.iter().map(|text| format!("cluster \"{}\": {text}", cluster.name));
            let texts: Vec<_> = texts.filter(|text| !warnings.contains(text)).collect();
            warnings.extend(texts);
            let credentials = user.password.clone().map(|source| Credentials::new(source, settings.strict_secrets));
            users.push(UserMeans { tls, credentials });
        }
        walkable.extend(Means::of(Arc::clone(cluster), users, Arc::new(settings.limits.clone())));
    }
    let (mut clusters, mut listeners) = (Vec::new(), Vec::new());
    for means in walkable {
        let name = &means.settings.name;
        let of_cluster: Vec<_> = settings.listeners.iter().filter(|one| one.cluster == *name).collect();
        let (report, of_listeners) = Checked::of(means, world, &metrics).walk(&of_cluster, watch).await;
        clusters.push(report);
        listeners.extend(of_listeners);
    }
    for report in &mut listeners {
        let listener = settings.listeners.iter().find(|listener| listener.name.as_str() == report.name);
        report.notes.extend(listener.and_then(|listener| local::look(listener, running)));
    }
    let exit = exit_code(&clusters, &listeners, wish);
    Ok(Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        at: rfc3339(at),
        ok: exit == 0,
        exit,
        file: settings.file.as_ref().map(|file| file.display().to_string()),
        warnings,
        clusters,
        listeners,
    })
}

fn chosen(settings: &Settings, wish: &Wish) -> Result<Vec<Arc<settings::Cluster>>, CheckError> {
    let Some(wanted) = &wish.cluster else { return Ok(settings.clusters.clone()) };
    match settings.clusters.iter().find(|cluster| cluster.name.as_str() == wanted) {
        Some(cluster) => Ok(vec![Arc::clone(cluster)]),
        None => {
            let names = settings.clusters.iter().map(|cluster| cluster.name.to_string());
            Err(CheckError::NoCluster(wanted.clone(), names.collect()))
        }
    }
}

fn files_fault(cluster: &settings::Cluster, error: &TlsSetupError) -> CheckError {
    let text = format!("cluster \"{}\": {}", cluster.name, Chain(error));
    let missing = match error {
        TlsSetupError::Unreadable { place: tls::Place::CaFile(path), source }
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Some(advice::ca_missing(path, &local::other_cas(path)))
        }
        _ => None,
    };
    CheckError::Files(text, missing)
}

/// The first failing endpoint's; then the API's, then a failover that is not there.
fn exit_code(clusters: &[ClusterReport], listeners: &[ListenerReport], wish: &Wish) -> u8 {
    let failing = clusters.iter().flat_map(|cluster| &cluster.endpoints).find_map(|endpoint| endpoint.failed_at);
    if let Some(stage) = failing.and_then(Stage::of_name) {
        return stage.exit_code();
    }
    if clusters.iter().any(|cluster| cluster.cloud.as_ref().is_some_and(|cloud| cloud.error.is_some())) {
        return Stage::Cloud.exit_code();
    }
    u8::from(wish.failover && listeners.iter().any(|listener| listener.failover.is_empty()))
}
