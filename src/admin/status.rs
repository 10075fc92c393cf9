//! `/status`: what the daemon is doing, as JSON. Field names are a promise (`names.md` of the
//! documentation); what is not known is null and never left out.

use super::{Admin, ListenerView};
use crate::{
    diagnostics::rfc3339,
    metrics::labels::{Direction, ErrorClass, Label, RefuseReason, UpstreamState},
    refusals::Entry,
    sessions::{Joined, Live, SessionState},
    settings::{AsksFor, Endpoint, EndpointKind, LocalTls, UserMode},
    upstream::{Account, Cluster, Way},
};
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

#[derive(Serialize)]
pub(super) struct Status {
    schema: u32,
    version: &'static str,
    now: String,
    started_at: String,
    state: &'static str,
    ready: bool,
    reasons: Vec<String>,
    config: Config,
    listeners: Vec<Listener>,
    clusters: Vec<ClusterStatus>,
    warm: Vec<Warm>,
    sessions: Vec<Session>,
    sessions_left_out: usize,
    refusals: Vec<Refusal>,
}

#[derive(Serialize)]
struct Config {
    file: Option<String>,
    loaded_at: String,
    last_error: Option<String>,
    needs_restart: Vec<String>,
}

#[derive(Serialize)]
struct Listener {
    name: String,
    addresses: Vec<String>,
    cluster: String,
    user: Option<String>,
    user_mode: &'static str,
    asks_for: Option<&'static str>,
    database: String,
    access: String,
    tls: &'static str,
    reuse: bool,
    sessions: usize,
    sessions_max: usize,
    endpoint: Option<String>,
    why: Option<String>,
    accepted: u64,
    refused: u64,
    statements: u64,
    errors: u64,
    bytes_to_upstream: u64,
    bytes_to_client: u64,
    connect_ms_p50: Option<f64>,
    connect_ms_p99: Option<f64>,
}

#[derive(Serialize)]
struct ClusterStatus {
    name: String,
    user: String,
    ca: Option<Ca>,
    certificate: Option<Certificate>,
    secret: Option<SecretStatus>,
    users: Vec<UserStatus>,
    endpoints: Vec<EndpointStatus>,
}

#[derive(Serialize)]
struct UserStatus {
    name: String,
    certificate: Option<Certificate>,
    secret: Option<SecretStatus>,
}

#[derive(Serialize)]
struct Ca {
    sha256: Option<String>,
    not_after: String,
}

#[derive(Serialize)]
struct Certificate {
    not_after: String,
}

#[derive(Serialize)]
struct SecretStatus {
    source: String,
    read_at: Option<String>,
    error: Option<String>,
}

#[derive(Serialize)]
struct EndpointStatus {
    name: String,
    region: Option<String>,
    kind: &'static str,
    host: String,
    port: u16,
    tls_server_name: String,
    state: &'static str,
    reason: Option<String>,
    since: Option<String>,
    tried_at: Option<String>,
    latency_ms: Option<f64>,
    addresses: Vec<String>,
    certificate_not_after: Option<String>,
    sessions: usize,
    warm: usize,
    by_hand: Option<ByHand>,
}

#[derive(Serialize)]
struct ByHand {
    order: &'static str,
    until: String,
}

#[derive(Serialize)]
struct Warm {
    listener: String,
    endpoint: Option<String>,
    database: Option<String>,
    application_name: Option<String>,
    ready: usize,
    wanted: usize,
}

#[derive(Serialize)]
struct Session {
    id: u64,
    listener: String,
    client: String,
    peer_uid: Option<u32>,
    endpoint: Option<String>,
    address: Option<String>,
    database: Option<String>,
    application_name: Option<String>,
    state: &'static str,
    opened_at: String,
    state_since: String,
    statements: u64,
    bytes_to_upstream: u64,
    bytes_to_client: u64,
}

#[derive(Serialize)]
struct Refusal {
    at: String,
    listener: String,
    sqlstate: String,
    message: String,
    hint: Option<String>,
    peer_uid: Option<u32>,
    count: u64,
}

/// Everything, as of now.
pub(super) fn status(admin: &Admin) -> Status {
    admin.sessions.count();
    let (open, all) = admin.sessions.list(usize::MAX);
    let now = SystemTime::now();
    let not_ready = admin.not_ready_because();
    let view = admin.view();
    Status {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        now: rfc3339(now),
        started_at: rfc3339(admin.started_at),
        state: admin.state().text(),
        ready: not_ready.is_none(),
        reasons: not_ready.into_iter().collect(),
        config: Config {
            file: view.settings.file.as_ref().map(|file| file.display().to_string()),
            loaded_at: rfc3339(view.loaded_at),
            last_error: admin.faults().text(),
            needs_restart: view.needs_restart.clone(),
        },
        listeners: view.listeners.iter().map(|view| listener(view, &open)).collect(),
        clusters: view.clusters.iter().map(|one| cluster(one, &open)).collect(),
        warm: view.listeners.iter().flat_map(warm).collect(),
        sessions: open.iter().take(SESSIONS_MAX).map(|live| session(live, now)).collect(),
        sessions_left_out: all.saturating_sub(SESSIONS_MAX),
        refusals: admin.refusals.list().iter().rev().map(refusal).collect(),
    }
}

fn listener(view: &ListenerView, open: &[Arc<Live>]) -> Listener {
    let parts = &view.parts;
    let (settings, metrics) = (&parts.listener, &parts.metrics);
    let own = || open.iter().filter(|live| live.listener == settings.name);
    let next = parts.cluster.explain(&parts.setup, &parts.choice);
    let waits = metrics.recent_claims.percentiles(parts.cluster.clock().now());
    Listener {
        name: settings.name.to_string(),
        addresses: view.addresses.clone(),
        cluster: settings.cluster.to_string(),
        user: (settings.user.mode != UserMode::Map).then(|| settings.user.name.clone()),
        user_mode: settings.user.mode.text(),
        asks_for: settings.asks_for(&parts.setup.settings).map(AsksFor::text),
        database: settings.database.clone(),
        access: settings.access.shown(settings.local_password.is_some()),
        tls: match settings.tls {
            LocalTls::Off => "off",
            LocalTls::Allow(_) => "allow",
            LocalTls::Require(_) => "require",
        },
        reuse: settings.reuse,
        sessions: own().filter(|live| is_session(live)).count(),
        sessions_max: settings.sessions_max.get(),
        endpoint: next.as_ref().map(|(endpoint, _)| endpoint.to_string()),
        why: next.map(|(_, why)| why),
        accepted: metrics.accepted.get(),
        refused: RefuseReason::ALL.iter().map(|reason| metrics.refused.at(*reason).get()).sum(),
        statements: metrics.statements.get(),
        errors: ErrorClass::ALL.iter().map(|class| metrics.errors.at(*class).get()).sum(),
        bytes_to_upstream: metrics.bytes.at(Direction::ToUpstream).get(),
        bytes_to_client: metrics.bytes.at(Direction::ToClient).get(),
        connect_ms_p50: waits.map(|waits| ms(waits.p50)),
        connect_ms_p99: waits.map(|waits| ms(waits.p99)),
    }
}

fn cluster(cluster: &Cluster, open: &[Arc<Live>]) -> ClusterStatus {
    let setup = cluster.setup();
    let settings = &setup.settings;
    let sessions_at = |endpoint: &Arc<Endpoint>| {
        let is_there = |joined: &Joined| joined.cluster == settings.name && joined.endpoint == *endpoint;
        open.iter().filter(|live| live.upstream.get().is_some_and(is_there)).count()
    };
    ClusterStatus {
        name: settings.name.to_string(),
        user: settings.user.name.clone(),
        ca: setup
            .account
            .tls
            .ca
            .as_ref()
            .map(|ca| Ca { sha256: ca.sha256.first().cloned(), not_after: rfc3339(ca.not_after) }),
        certificate: certificate(&setup.account),
        secret: secret(&setup.account),
        users: setup.accounts().map(user).collect(),
        endpoints: cluster.ways().iter().map(|way| endpoint_status(cluster, way, sessions_at(&way.endpoint))).collect(),
    }
}

fn user(account: &Account) -> UserStatus {
    UserStatus { name: account.user.name.clone(), certificate: certificate(account), secret: secret(account) }
}

fn certificate(account: &Account) -> Option<Certificate> {
    account.tls.certificate_not_after.map(|at| Certificate { not_after: rfc3339(at) })
}

fn secret(account: &Account) -> Option<SecretStatus> {
    account.credentials().map(|credentials| SecretStatus {
        source: credentials.describe(),
        read_at: credentials.read_at().map(rfc3339),
        error: credentials.fault(),
    })
}

fn endpoint_status(cluster: &Cluster, way: &Way, sessions: usize) -> EndpointStatus {
    let (endpoint, health) = (&way.endpoint, way.health());
    let exposed = way.exposed_at().map(|address| format!("its private name has the public address {address}"));
    let addresses = cluster.addresses(endpoint);
    EndpointStatus {
        name: endpoint.name.to_string(),
        region: endpoint.region.clone(),
        kind: match endpoint.kind {
            EndpointKind::Public => "public",
            EndpointKind::Internal => "internal",
            EndpointKind::Psc => "psc",
            EndpointKind::Custom => "custom",
        },
        host: endpoint.host.clone(),
        port: endpoint.port,
        tls_server_name: endpoint.tls_server_name.to_str().into_owned(),
        state: health.state().text(),
        reason: health.reason().map(str::to_owned).or(exposed),
        since: Some(rfc3339(cluster.clock().time_of(health.since()))),
        tried_at: health.tried_at().map(|at| rfc3339(cluster.clock().time_of(at))),
        latency_ms: health.latency().map(ms),
        addresses: addresses.iter().flat_map(|addresses| addresses.iter()).map(ToString::to_string).collect(),
        certificate_not_after: Cluster::server_certificate_not_after(way).map(rfc3339),
        sessions,
        warm: usize::try_from(way.metrics.upstreams.at(UpstreamState::Warm).get()).unwrap_or(0),
        by_hand: cluster
            .ordered(&endpoint.name)
            .map(|(order, until)| ByHand { order: order.text(), until: rfc3339(until) }),
    }
}

fn warm(view: &ListenerView) -> Vec<Warm> {
    let parts = &view.parts;
    let endpoint = parts.cluster.explain(&parts.setup, &parts.choice).map(|(endpoint, _)| endpoint.to_string());
    let shown = parts.pool.list().into_iter().take(WARM_MAX);
    shown
        .map(|shown| Warm {
            listener: parts.listener.name.to_string(),
            endpoint: endpoint.clone(),
            database: shown.parameters.text("database"),
            application_name: shown.parameters.text("application_name"),
            ready: shown.ready,
            wanted: shown.wanted,
        })
        .collect()
}

fn session(live: &Live, now: SystemTime) -> Session {
    let (asked, joined, totals) = (live.asked.get(), live.upstream.get(), live.totals());
    Session {
        id: live.id,
        listener: live.listener.to_string(),
        client: live.client.clone(),
        peer_uid: live.peer_uid.get().copied(),
        endpoint: joined.map(|joined| joined.endpoint.name.to_string()),
        address: joined.map(|joined| joined.address.clone()),
        database: asked.map(|asked| asked.database.clone()),
        application_name: asked.map(|asked| asked.application_name.clone()),
        state: live.state().text(),
        opened_at: rfc3339(live.opened_at),
        state_since: rfc3339(now.checked_sub(live.state_age()).unwrap_or(live.opened_at)),
        statements: totals.statements,
        bytes_to_upstream: totals.to_upstream,
        bytes_to_client: totals.to_client,
    }
}

fn refusal(entry: &Entry) -> Refusal {
    Refusal {
        at: rfc3339(entry.at),
        listener: entry.told.listener.to_string(),
        sqlstate: entry.told.sqlstate.to_string(),
        message: entry.told.message.clone(),
        hint: entry.told.hint.clone(),
        peer_uid: entry.told.peer_uid,
        count: entry.count,
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

fn is_session(live: &Live) -> bool {
    !matches!(live.state(), SessionState::Startup | SessionState::Login)
}

const SESSIONS_MAX: usize = 1000;
/// Of each listener.
const WARM_MAX: usize = 100;
