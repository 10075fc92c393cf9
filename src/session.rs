//! One client from accept to close: startup, admission, an upstream of its own, relay, close. The steps
//! are called here, in order; each lives in its own file.

mod admission;
mod cancel;
mod claim;
mod client_password;
mod client_rules;
mod client_stream;
mod closing;
mod end;
mod greeting;
mod local_access;
mod local_password;
mod refusal;
mod relay;
mod reuse;
mod startup;
mod startups;

use crate::{
    credentials::Lease,
    jitter,
    metrics::{Held, ListenerMetrics},
    pool::Pool,
    sessions::{self, Admitted, Registered, SessionState, Sessions},
    settings::{self, Limits},
    shutdown::Stop,
    sys::{self, PeerUids},
    upstream::{Audience, Choice, Cluster, Encrypted, LoggedIn, Setup},
    wire::{CancelKey, StartupParameters, options::Allowed},
};
use cancel::Issued;
use claim::Waiting;
use greeting::Hello;
use refusal::Refusal;
pub(crate) use relay::OnError;
use relay::{Ended, Path, Relay, Rules};
use socket2::SockRef;
use startup::{Asked, Gate, Startup, Wish};
use startups::Patience;
use std::{sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt, sync::OwnedSemaphorePermit, time::Instant};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

pub(crate) use admission::{Admission, Limit};
pub(crate) use cancel::CancelKeys;
pub(crate) use client_rules::ClientRules;
pub(crate) use client_stream::ClientStream;
pub(crate) use local_password::LocalPassword;
use local_password::NotPassed;
pub(crate) use startups::Startups;

/// What every session of one listener needs.
pub(crate) struct Parts {
    /// The listener's settings.
    pub(crate) listener: Arc<settings::Listener>,
    /// The daemon's.
    pub(crate) limits: Arc<Limits>,
    /// Where its sessions go.
    pub(crate) cluster: Arc<Cluster>,
    /// What the cluster is reached with.
    pub(crate) setup: Arc<Setup>,
    /// How its sessions choose an endpoint.
    pub(crate) choice: Arc<Choice>,
    /// What stands ready for its sessions.
    pub(crate) pool: Arc<Pool>,
    /// Told of every error that a server gives its sessions.
    pub(crate) on_error: OnError,
    /// Local TLS, when it is on.
    pub(crate) tls: Option<TlsAcceptor>,
    /// What clients must prove to know.
    pub(crate) local_password: Option<LocalPassword>,
    /// Whether what these say of who may come in still holds.
    pub(crate) client_rules: ClientRules,
    /// How many sessions there may be.
    pub(crate) admission: Admission,
    /// Places for sockets in startup, of all listeners.
    pub(crate) startups: Arc<Startups>,
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
    /// Asks the kernel whose process a client is.
    pub(crate) peer_uids: Arc<PeerUids>,
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
    /// Present when the next process takes over its socket: a client that was taken from it before a drain
    /// is served, and the drain waits for it.
    pub(crate) kept: Option<Admitted>,
}

/// A client with an upstream, joined.
struct Session {
    relay: Relay<ClientStream, Box<Encrypted>>,
    /// Absent when the server gave no key: then nothing can be cancelled.
    issued: Option<Issued>,
    place: Place,
    /// Counts the upstream, and says where it is.
    login: LoggedIn,
    /// What the upstream was logged in with, if it is to be used again.
    parameters: Option<StartupParameters>,
}

/// A client's place among the sessions.
struct Place {
    permit: admission::Permit,
    /// A drain waits for it.
    admitted: Admitted,
}

/// What the steps of one client's way share.
struct Visit {
    live: Registered,
    stop: Stop,
    began: Instant,
    /// Held until the client is admitted, or was told why not: so many sockets at once, and no more.
    startup_place: Option<OwnedSemaphorePermit>,
    /// A drain waits for it, and it is served in spite of that.
    kept: Option<Admitted>,
    /// Counts it among the active, until it is counted as closed or refused.
    active: Held,
}

/// Serves one client to its end. Dropping the future cuts it off.
pub(crate) async fn run(parts: Arc<Parts>, accepted: Accepted, stop: Stop) {
    // All that is not the relay is in boxes of its own: what an idle session holds counts thousandfold.
    if let Some((session, visit)) = Box::pin(enter(&parts, accepted, stop)).await {
        session.serve(&parts, visit).await;
    }
}

/// From accept to a session; a client that gets none is told why.
async fn enter(parts: &Parts, accepted: Accepted, stop: Stop) -> Option<(Box<Session>, Visit)> {
    parts.metrics.accepted.inc();
    let began = Instant::now();
    let mut visit = Visit {
        live: parts.sessions.register(&parts.listener.name, accepted.client, &parts.metrics),
        stop,
        began,
        startup_place: Some(accepted.startup_place),
        kept: accepted.kept,
        active: Held::new(&parts.metrics.active),
    };
    let mut stop = visit.stop.clone();
    let opened = tokio::select! {
        biased;
        opened = parts.way_in(accepted.stream, &mut visit) => opened,
        () = stop.cutting() => Err(Refusal::cut_off()),
    };
    match opened {
        Ok(session) => session.map(|session| (Box::new(session), visit)),
        Err(refusal) => {
            Box::pin(refusal.tell(parts, visit)).await;
            None
        }
    }
}

impl Parts {
    fn patience(&self, visit: &Visit) -> Patience<'_> {
        self.startups.patience(visit.began, self.limits.startup_limit)
    }

    fn gate(&self, visit: &Visit) -> Gate<'_> {
        Gate {
            bytes_max: self.limits.startup_bytes_max,
            tls: self.tls.as_ref(),
            bulk_bytes: self.limits.relay_buffer_bytes,
            requires_tls: matches!(self.listener.tls, settings::LocalTls::Require(_)),
            patience: self.patience(visit),
        }
    }

    fn client_choices(&self) -> Allowed {
        let choices = &self.listener.client_choices;
        Allowed { cluster: choices.cluster_option, database: !choices.database_locked }
    }

    /// From accept to a session, or to nothing more to do after a cancel request.
    async fn way_in(&self, stream: ClientStream, visit: &mut Visit) -> Result<Option<Session>, Refusal> {
        let mut drain = visit.stop.clone();
        let read = tokio::select! {
            biased;
            read = startup::read(stream, self.gate(visit)) => read,
            () = drain.out_of_patience(), if visit.kept.is_some() => return Err(Refusal::cut_off()),
        };
        let Startup { wish, stream } = read.map_err(Refusal::of_startup)?;
        if let Err(error) = self.let_in(&stream, &wish, &visit.live, self.patience(visit)).await {
            return Err(Refusal::not_let_in(&error, &wish, stream));
        }
        match wish {
            Wish::Session(asked) => self.open(stream, asked, visit).await.map(Some),
            Wish::Cancel(key) => {
                self.cancel(&key, stream, visit).await;
                Ok(None)
            }
        }
    }

    /// The client reads nothing; it waits for the close, which comes once the server has the request.
    async fn cancel(&self, key: &CancelKey, stream: ClientStream, visit: &Visit) {
        let result = self.cancel_keys.cancel(key).await;
        self.daemon_metrics.cancels.at(result).inc();
        debug!(session.id = visit.live.id, client.addr = visit.live.client, %result, "cancel request");
        drop(stream);
    }

    /// From a startup message to a session: local password, admission, upstream, greeting.
    async fn open(&self, stream: ClientStream, asked: Asked, visit: &mut Visit) -> Result<Session, Refusal> {
        if visit.kept.is_none() && !visit.stop.phase().is_serving() {
            return Err(Refusal::draining(visit.stop.leaver(), stream));
        }
        let live = &visit.live;
        self.note_asked(&asked.parameters, live);
        let mut preface = asked.negotiation();
        let (stream, of_client) = self.prove(stream, &asked, &mut preface, self.patience(visit)).await?;
        // Who may not come in learns nothing of what the listener lets clients choose.
        if let Some(reserved) = asked.parameters.reserved(self.client_choices()) {
            return Err(Refusal::of_startup(startup::Failed::reserved(reserved, stream)));
        }
        if self.client_rules.are_changed() {
            return Err(Refusal::rules_changed(stream));
        }
        let place = match self.admission.admit() {
            Ok(permit) => Place { permit, admitted: visit.kept.take().unwrap_or_else(|| self.sessions.admit()) },
            Err(full) => return Err(Refusal::not_admitted(full, stream)),
        };
        visit.startup_place = None;

        live.enter(SessionState::Login);
        let client = Waiting { stream, read_ahead: asked.read_ahead };
        let claimed = self.claim(&asked.parameters, client, of_client.as_ref(), &visit.stop).await?;
        drop(of_client);
        let session = self.join(claimed, Hello { preface, minor: asked.minor }, place, live).await?;
        let (asked, joined) = (live.asked.get(), live.upstream.get());
        debug!(
            session.id = live.id,
            listener.name = %self.listener.name,
            client.addr = live.client,
            peer_uid = live.peer_uid.get().copied(),
            client.database = asked.map(|asked| asked.database.as_str()),
            cluster.name = %self.cluster.name(),
            endpoint.name = joined.map(|joined| joined.endpoint.name.as_str()),
            endpoint.addr = joined.map(|joined| joined.address.as_str()),
            "session opened"
        );
        Ok(session)
    }

    /// Has the client prove what its listener wants it to know, and gives the password that it brings where it brings one.
    /// `preface` goes first, if anything is asked.
    async fn prove(
        &self,
        mut stream: ClientStream,
        asked: &Asked,
        preface: &mut Vec<u8>,
        patience: Patience<'_>,
    ) -> Result<(ClientStream, Option<Lease>), Refusal> {
        let asks_client = self.asks_client(&asked.parameters);
        if self.local_password.is_none() && !asks_client {
            return Ok((stream, None));
        }
        if let Err(error) = stream.write_all(&std::mem::take(preface)).await {
            return Err(Refusal::client_left(&error));
        }
        let proven = match &self.local_password {
            _ if !asked.read_ahead.is_empty() => Err(NotPassed::Early),
            Some(local) => local.check(&mut stream, patience).await.map(|()| None),
            None => client_password::ask(&mut stream, patience).await.map(Some),
        };
        match proven {
            Ok(of_client) => Ok((stream, of_client)),
            Err(error) => Err(Refusal::local_password(&error, stream)),
        }
    }

    fn note_asked(&self, parameters: &StartupParameters, live: &Registered) {
        let is_own = |database: &String| !database.is_empty() && !self.listener.client_choices.database_locked;
        let database = parameters.text("database").filter(is_own);
        // Set once a session: it has one startup message.
        let _ = live.asked.set(sessions::Asked {
            database: database.unwrap_or_else(|| self.listener.database.clone()),
            application_name: parameters.text("application_name").unwrap_or_default(),
        });
    }

    /// The session is over, and counts as open no longer.
    fn note_closed(&self, ended: &Ended, visit: Visit) {
        let (asked, joined, totals) = (visit.live.asked.get(), visit.live.upstream.get(), visit.live.totals());
        let duration = visit.began.elapsed();
        self.metrics.closed.at(ended.reason).inc();
        self.metrics.session_seconds.observe(duration.as_secs_f64());
        info!(
            session.id = visit.live.id,
            listener.name = %self.listener.name,
            client.addr = visit.live.client,
            peer_uid = visit.live.peer_uid.get().copied(),
            client.database = asked.map(|asked| asked.database.as_str()),
            cluster.name = %self.cluster.name(),
            endpoint.name = joined.map(|joined| joined.endpoint.name.as_str()),
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

impl Path for Box<Encrypted> {
    fn set_user_timeout(&self, limit: Option<Duration>) {
        // Where it cannot be set, the kernel's own limits hold.
        let _ = sys::set_tcp_user_timeout(&SockRef::from(self.get_ref().0), limit);
    }

    fn sent(&self) -> Option<sys::Sent> {
        sys::tcp_sent(self.get_ref().0)
    }

    fn settle(&mut self) {
        self.get_mut().0.begin_anew();
    }
}

impl Session {
    async fn serve(mut self: Box<Self>, parts: &Parts, visit: Visit) {
        let live = &visit.live;
        let rules = Rules {
            idle_limit: parts.listener.session_idle_limit,
            ends_at: parts.listener.session_age_limit.map(|limit| visit.began + jitter::around(limit)),
            close_limit: parts.limits.close_limit,
            tcp_user_timeout: parts.limits.tcp_user_timeout,
        };
        let ended = self.relay.run(&rules, &visit.stop).await;
        live.enter(SessionState::Closing);
        Box::pin(self.close(parts, &ended, visit)).await;
    }
}
