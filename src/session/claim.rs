//! An upstream for a client that waits for it, and may leave.

use super::{
    Parts,
    client_stream::ClientStream,
    refusal::{self, Refusal},
};
use crate::{
    credentials::Lease,
    metrics::labels::ClaimSource,
    pool::Ready,
    settings::{AuthKind, ListenerUser, Name, SqlUser, UserMode},
    shutdown::Stop,
    upstream::{Account, Claim, ClaimError, Facts, LoginError, Told, Upstream},
    wire::{ServerError, SqlState, StartupParameters, parameters::Injected},
};
use tokio::{io::AsyncReadExt, time::Instant};

/// A client that waits for its upstream.
pub(super) struct Waiting {
    pub(super) stream: ClientStream,
    /// What it has sent meanwhile.
    pub(super) read_ahead: Vec<u8>,
}

/// A client and the upstream that it is to have.
pub(super) struct Claimed {
    pub(super) client: Waiting,
    pub(super) upstream: Upstream,
    /// It stood ready, and may have led nowhere meanwhile.
    pub(super) is_unproven: bool,
    /// What the upstream was logged in with, if it is to be used again.
    pub(super) parameters: Option<StartupParameters>,
}

struct Obtained {
    upstream: Upstream,
    source: ClaimSource,
    is_unproven: bool,
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

impl Parts {
    /// An upstream for this client, unless it leaves first.
    pub(super) async fn claim(
        &self,
        parameters: &StartupParameters,
        mut client: Waiting,
        of_client: Option<&Lease>,
        stop: &Stop,
    ) -> Result<Claimed, Refusal> {
        let Some(account) = self.account(parameters) else {
            return Err(Refusal::user_not_allowed(parameters, of_client.is_some(), client.stream));
        };
        let for_upstream = parameters.for_upstream(&Injected {
            user: &account.user.name,
            database: &self.listener.database,
            is_database_locked: self.listener.client_choices.database_locked,
            session_parameters: &self.listener.session_parameters,
            jwt: account.user.auth == AuthKind::Jwt,
        });
        let began = Instant::now();
        let mut stop = stop.clone();
        let claimed = tokio::select! {
            biased;
            claimed = self.obtain(&for_upstream, of_client) => claimed,
            error = client.leaves() => return Err(Refusal::client_left(&error)),
            () = stop.cutting() => return Err(Refusal::draining(stop.leaver(), client.stream)),
        };
        match claimed {
            Ok(obtained) => Ok(self.claimed(client, obtained, for_upstream, began)),
            Err(error) => {
                let source = account.credentials().map(|credentials| credentials.describe());
                let facts = Facts {
                    cluster: self.cluster.name(),
                    user: &account.user.name,
                    secret_source: source.as_deref(),
                    has_own_table: account.user.has_own_table,
                };
                let (told, cause) = match &error {
                    ClaimError::Login { error: LoginError::Server(own), .. } if of_client.is_some() => {
                        self.told_to_who_brought(parameters, &facts, own)
                    }
                    _ => (error.to_client(&facts, self.audience), error.cause(&facts)),
                };
                let is_locked = self.listener.client_choices.database_locked;
                let told = refusal::explain_missing_database(told, parameters, &self.listener.database, is_locked);
                Err(Refusal::claim(&error, told, cause, client.stream))
            }
        }
    }

    /// What a client whose own password was to log in reads of the server's refusal, and what the log says: it was not the
    /// daemon's secret.
    fn told_to_who_brought(
        &self,
        parameters: &StartupParameters,
        facts: &Facts<'_>,
        own: &ServerError,
    ) -> (Told, String) {
        if own.sqlstate != SqlState::INVALID_PASSWORD {
            return (Told::Servers(own.clone()), own.message.clone());
        }
        let cause = format!("the password that the client brought for \"{}\" is wrong: {}", facts.user, own.message);
        (self.told_of_wrong(parameters, own), cause)
    }

    /// The user that this client's session logs in as; none where it asks for one that it may not be. Every name is
    /// compared, so that the time says nothing of which there are.
    pub(super) fn account(&self, parameters: &StartupParameters) -> Option<&Account> {
        let ListenerUser { name, mode } = &self.listener.user;
        let asked = parameters.text("user").unwrap_or_default();
        let mut found = None;
        for account in self.setup.accounts() {
            let (is_asked_for, is_listeners) = (account.user.is_called(&asked), account.user.name == *name);
            let is_meant = match mode {
                UserMode::Replace => is_listeners,
                UserMode::Map => is_asked_for,
                UserMode::MustMatch => is_listeners && is_asked_for,
            };
            found = if is_meant { Some(account) } else { found };
        }
        found
    }

    /// Those that a session of this listener may log in as, whatever name a client says.
    pub(super) fn possible_users(&self) -> impl Iterator<Item = &SqlUser> {
        let ListenerUser { name, mode } = &self.listener.user;
        let users = self.setup.accounts().map(|account| &account.user);
        users.filter(move |user| *mode == UserMode::Map || user.name == *name)
    }

    /// One that stands ready, or a new one.
    async fn obtain(&self, parameters: &StartupParameters, of_client: Option<&Lease>) -> Result<Obtained, ClaimError> {
        if let Some(Ready { upstream, is_reused, is_proven }) = self.pool.take(parameters).await {
            let source = if is_reused { ClaimSource::Reused } else { ClaimSource::Warm };
            return Ok(Obtained { upstream, source, is_unproven: !is_proven });
        }
        let claim = Claim { setup: &self.setup, parameters, choice: &self.choice, of_client };
        // In a box: a client that finds one ready needs no room for all that.
        let upstream = Box::pin(self.cluster.claim(&claim)).await?;
        self.pool.learn(parameters);
        Ok(Obtained { upstream, source: ClaimSource::Cold, is_unproven: false })
    }

    fn claimed(&self, client: Waiting, obtained: Obtained, parameters: StartupParameters, began: Instant) -> Claimed {
        let Obtained { upstream, source, is_unproven } = obtained;
        let waited = began.elapsed();
        self.metrics.claim_seconds.at(source).observe(waited.as_secs_f64());
        self.metrics.recent_claims.note(self.cluster.clock().now(), waited);
        self.note_served(&upstream.login.route.endpoint.name);
        let is_clients = self.setup.account_of(&parameters).user.asks_client;
        let is_kept = self.listener.reuse && !is_clients;
        Claimed { client, upstream, is_unproven, parameters: is_kept.then_some(parameters) }
    }

    fn note_served(&self, endpoint: &Name) {
        let belongs = self.cluster.belongs(&self.setup, &self.choice);
        if self.choice.note_served(endpoint, belongs.as_ref().map(|way| way.name())) {
            self.metrics.failovers.inc();
        }
    }
}

const READ_AHEAD_MAX: usize = 16 * 1024;
