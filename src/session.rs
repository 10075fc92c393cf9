//! One client from accept to close: startup, admission, an upstream of its own, relay, close. The steps
//! are called here, in order; each lives in its own file.

mod admission;
mod cancel;
mod client_stream;
mod closing;
mod local_password;
mod refusal;
mod relay;
mod startup;

use crate::{
    metrics::{Held, ListenerMetrics, labels::ClaimSource},
    sessions::{self, Joined, Registered, SessionState, Sessions},
    settings::{self, AuthKind, Limits},
    shutdown::{Phase, Stop},
    upstream::{Audience, Claim, Cluster, Facts, Upstream},
    wire::{StartupParameters, first_message, messages, parameters::Injected},
};
use cancel::{Issued, Target};
use refusal::Refusal;
use relay::{ReadAhead, Relay, Rules};
use startup::{Asked, Gate, Startup, Wish};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

pub(crate) use admission::{Admission, Limit};
pub(crate) use cancel::CancelKeys;
pub(crate) use client_stream::ClientStream;
pub(crate) use local_password::LocalPassword;

/// What every session of one listener needs.
pub(crate) struct Parts {
    /// The listener's settings.
    pub(crate) listener: Arc<settings::Listener>,
    /// The daemon's.
    pub(crate) limits: Arc<Limits>,
    /// Where its sessions go.
    pub(crate) cluster: Arc<Cluster>,
    /// Local TLS, when it is on.
    pub(crate) tls: Option<TlsAcceptor>,
    /// What clients must prove to know.
    pub(crate) local_password: Option<LocalPassword>,
    /// How many sessions there may be.
    pub(crate) admission: Admission,
    /// Keys of all sessions of the daemon.
    pub(crate) cancel_keys: Arc<CancelKeys>,
    /// All sessions of the daemon.
    pub(crate) sessions: Arc<Sessions>,
    /// The listener's series.
    pub(crate) metrics: Arc<ListenerMetrics>,
    /// What became of cancels.
    pub(crate) daemon_metrics: Arc<crate::metrics::Metrics>,
    /// The last refusals, for `/status` and for quiet logs.
    pub(crate) refusals: Arc<crate::refusals::Refusals>,
    /// Who reads this listener's errors.
    pub(crate) audience: Audience,
}

/// A client that was just accepted.
pub(crate) struct Accepted {
    /// Its byte stream.
    pub(crate) stream: ClientStream,
    /// Its address, for people.
    pub(crate) client: String,
    /// Its place among the sockets in startup.
    pub(crate) startup_place: OwnedSemaphorePermit,
}

/// A client with an upstream, joined.
struct Session {
    relay: Relay<ClientStream, tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    /// Absent when the server gave no key: then nothing can be cancelled.
    issued: Option<Issued>,
    _permit: admission::Permit,
    _held: Held,
}

/// Serves one client to its end. Dropping the future cuts it off.
pub(crate) async fn run(parts: Arc<Parts>, accepted: Accepted, stop: Stop) {
    parts.metrics.accepted.inc();
    let _active = Held::new(&parts.metrics.active);
    let began = Instant::now();
    let live = parts.sessions.register(&parts.listener.name, accepted.client, &parts.metrics);
    let gate = parts.gate(began);
    let startup = startup::read(accepted.stream, gate).await;
    drop(accepted.startup_place);
    let opened = match startup {
        Ok(Startup { wish: Wish::Cancel(key), stream }) => {
            let result = parts.cancel_keys.cancel(&key).await;
            parts.daemon_metrics.cancels.at(result).inc();
            debug!(session.id = live.id, client.addr = live.client, %result, "cancel request");
            // The client waits for the close: by then the server has read the request.
            return drop(stream);
        }
        Ok(Startup { wish: Wish::Session(asked), stream }) => {
            parts.open(stream, asked, &live, &stop, gate.deadline).await
        }
        Err(failed) => Err(Refusal::of_startup(failed)),
    };
    match opened {
        Ok(session) => session.serve(&parts, &live, &stop, began).await,
        Err(refusal) => refusal.tell(&parts, &live).await,
    }
}

impl Parts {
    fn gate(&self, began: Instant) -> Gate<'_> {
        Gate {
            bytes_max: self.limits.startup_bytes_max,
            tls: self.tls.as_ref(),
            requires_tls: matches!(self.listener.tls, settings::LocalTls::Require(_)),
            deadline: began + self.limits.startup_limit,
        }
    }

    /// From a startup message to a session: admission, local password, upstream, greeting.
    async fn open(
        &self,
        mut stream: ClientStream,
        asked: Asked,
        live: &Registered,
        stop: &Stop,
        deadline: Instant,
    ) -> Result<Session, Refusal> {
        if stop.phase() != Phase::Running {
            return Err(Refusal::draining(stream));
        }
        let permit = match self.admission.admit() {
            Ok(permit) => permit,
            Err(full) => return Err(Refusal::not_admitted(full, stream)),
        };
        self.note_asked(&asked.parameters, live);
        let mut preface = asked.negotiation();
        if let Some(local) = &self.local_password {
            if let Err(error) = stream.write_all(&std::mem::take(&mut preface)).await {
                return Err(Refusal::client_left(&error));
            }
            if let Err(error) = local.check(&mut stream, deadline).await {
                return Err(Refusal::local_password(&error, stream));
            }
        }

        live.enter(SessionState::Login);
        let client = Waiting { stream, read_ahead: asked.read_ahead };
        let (client, upstream) = self.claim(&asked.parameters, client, stop).await?;
        let session = self.join(client, upstream, &preface, asked.minor, permit, live).await?;
        debug!(
            session.id = live.id, client.addr = live.client, cluster.name = %self.cluster.name(),
            endpoint.name = live.upstream.get().map(|joined| joined.endpoint.as_str()), "session opened"
        );
        Ok(session)
    }

    fn note_asked(&self, parameters: &StartupParameters, live: &Registered) {
        let database = parameters.text("database").filter(|database| !database.is_empty());
        // Set once a session: it has one startup message.
        let _ = live.asked.set(sessions::Asked {
            database: database.unwrap_or_else(|| self.listener.database.clone()),
            application_name: parameters.text("application_name").unwrap_or_default(),
        });
    }

    /// An upstream for this client, unless it leaves first.
    async fn claim(
        &self,
        parameters: &StartupParameters,
        mut client: Waiting,
        stop: &Stop,
    ) -> Result<(Waiting, Upstream), Refusal> {
        let cluster = self.cluster.settings();
        let for_upstream = parameters.for_upstream(&Injected {
            user: &cluster.user,
            database: &self.listener.database,
            session_parameters: &self.listener.session_parameters,
            jwt: cluster.auth == AuthKind::Jwt,
        });
        let claim = Claim { parameters: &for_upstream, regions: &self.listener.regions };
        let began = Instant::now();
        let mut stop = stop.clone();
        let claimed = tokio::select! {
            biased;
            claimed = self.cluster.claim(&claim) => claimed,
            error = client.leaves() => return Err(Refusal::client_left(&error)),
            () = stop.cutting() => return Err(Refusal::draining(client.stream)),
        };
        match claimed {
            Ok(upstream) => {
                self.metrics.claim_seconds.at(ClaimSource::Cold).observe(began.elapsed().as_secs_f64());
                Ok((client, upstream))
            }
            Err(error) => {
                let source = self.cluster.credentials().map(|credentials| credentials.describe());
                let facts =
                    Facts { cluster: self.cluster.name(), user: &cluster.user, secret_source: source.as_deref() };
                let told = error.to_client(&facts, self.audience);
                Err(Refusal::claim(&error, refusal::explain_missing_database(told, parameters), client.stream))
            }
        }
    }

    /// Tells the client what the server said at login, and joins the two.
    async fn join(
        &self,
        client: Waiting,
        upstream: Upstream,
        preface: &[u8],
        minor: u16,
        permit: admission::Permit,
        live: &Registered,
    ) -> Result<Session, Refusal> {
        let Waiting { mut stream, read_ahead } = client;
        let Upstream { stream: upstream, route, greeting, held } = upstream;
        let _ = live.upstream.set(Joined { endpoint: route.endpoint.name.clone(), address: route.address.to_string() });
        let issued = match greeting.key {
            Some(key) => {
                let target = Target { cluster: Arc::clone(&self.cluster), route, key };
                let Some(issued) = self.cancel_keys.issue(target, minor) else {
                    return Err(Refusal::no_random_bytes(stream));
                };
                Some(issued)
            }
            None => None,
        };
        let key = issued.as_ref().map(|issued| messages::backend_key_data(&issued.key)).unwrap_or_default();
        let hello = [preface, messages::AUTHENTICATION_OK, &greeting.before_key, &key, &greeting.after_key].concat();
        let told = timeout(self.limits.startup_limit, async {
            stream.write_all(&hello).await?;
            stream.flush().await
        });
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Refusal::client_left(&error)),
            Err(_elapsed) => return Err(Refusal::client_left(&std::io::ErrorKind::TimedOut.into())),
        }
        let read_ahead = ReadAhead { client: &read_ahead, upstream: &greeting.read_ahead };
        let buffer_bytes = self.limits.relay_buffer_bytes.get();
        live.enter(SessionState::Idle);
        let relay = Relay::new(stream, upstream, read_ahead, buffer_bytes, Arc::clone(live), Arc::clone(&self.metrics));
        Ok(Session { relay, issued, _permit: permit, _held: held })
    }
}

impl Session {
    async fn serve(mut self, parts: &Parts, live: &Registered, stop: &Stop, began: Instant) {
        let rules = Rules {
            idle_limit: parts.listener.session_idle_limit,
            ends_at: parts.listener.session_age_limit.map(|limit| began + limit),
            close_limit: parts.limits.close_limit,
        };
        let ended = self.relay.run(&rules, stop).await;
        live.enter(SessionState::Closing);
        if ended.abandons_query
            && let Some(issued) = &self.issued
        {
            let result = issued.cancel().await;
            debug!(session.id = live.id, %result, "cancelled what nobody waits for");
        }
        // From here on the client's key means nothing.
        drop(self.issued);
        closing::close(self.relay, &ended).await;

        let (asked, joined, totals) = (live.asked.get(), live.upstream.get(), live.totals());
        let duration = began.elapsed();
        parts.metrics.closed.at(ended.reason).inc();
        parts.metrics.session_seconds.observe(duration.as_secs_f64());
        info!(
            session.id = live.id,
            listener.name = %parts.listener.name,
            client.addr = live.client,
            client.database = asked.map(|asked| asked.database.as_str()),
            cluster.name = %parts.cluster.name(),
            endpoint.name = joined.map(|joined| joined.endpoint.as_str()),
            endpoint.addr = joined.map(|joined| joined.address.as_str()),
            close.by = ended.reason.by(),
            close.reason = %ended.reason,
            close.detail = ended.detail,
            bytes.to_upstream = totals.to_upstream,
            bytes.to_client = totals.to_client,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "session closed"
        );
    }
}

impl Asked {
    /// NegotiateProtocolVersion, if the client asked for what is not spoken here; else nothing.
    fn negotiation(&self) -> Vec<u8> {
        let version = if self.minor < 2 { first_message::VERSION_3_0 } else { first_message::VERSION_3_2 };
        let mut unknown = self.parameters.protocol_options().peekable();
        if matches!(self.minor, 0 | 2) && unknown.peek().is_none() {
            return Vec::new();
        }
        messages::negotiate_protocol_version(version, unknown)
    }
}

/// A client that waits for its upstream.
struct Waiting {
    stream: ClientStream,
    read_ahead: Vec<u8>,
}

impl Waiting {
    /// Returns when the client closes. What it sends meanwhile is kept, up to a bound. Cancel safe.
    async fn leaves(&mut self) -> std::io::Error {
        loop {
            if self.read_ahead.len() >= READ_AHEAD_MAX {
                return std::future::pending().await;
            }
            match self.stream.read_buf(&mut self.read_ahead).await {
                Ok(0) => return std::io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }
}

const READ_AHEAD_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiation(minor: u16, body: &[u8]) -> Vec<u8> {
        Asked { minor, parameters: StartupParameters::parse(body).unwrap(), read_ahead: Vec::new() }.negotiation()
    }

    #[test]
    fn versions_that_are_spoken_here_are_not_negotiated() {
        assert_eq!(negotiation(0, b"user\0u\0\0"), b"");
        assert_eq!(negotiation(2, b"user\0u\0\0"), b"");
    }

    #[test]
    fn other_minors_and_unknown_options_are_answered_with_what_is_spoken() {
        assert_eq!(negotiation(1, b"user\0u\0\0"), b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0");
        assert_eq!(negotiation(9999, b"user\0u\0\0"), b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
        assert_eq!(negotiation(0, b"user\0u\0_pq_.x\x001\0\0"), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0");
    }
}
