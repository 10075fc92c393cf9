//! A client that gets no session: what it reads, what the operator reads, what is counted.

use super::{
    Parts, Visit,
    admission::NotAdmitted,
    client_password,
    client_stream::ClientStream,
    closing,
    local_access::NotLetIn,
    local_password::NotPassed,
    startup::{Failed, StartupError, Wish},
};
use crate::{
    metrics::labels::{CloseReason, RefuseReason},
    refusals,
    sessions::{Registered, SessionState},
    settings::Name,
    shutdown::Leaver,
    upstream::{ClaimError, Told},
    wire::{ClientError, SqlState, StartupParameters},
};
use std::io;
use tracing::{debug, warn};

/// Why there is no session, and how to say so.
pub(super) struct Refusal {
    outcome: Outcome,
    /// What the client reads, if it still can.
    told: Option<Told>,
    /// As bytes, when the client reads another protocol.
    encoded: Option<Vec<u8>>,
    /// What the operator reads.
    cause: String,
    blame: Blame,
    /// The server that let nobody in.
    endpoint: Option<Name>,
    stream: Option<ClientStream>,
}

enum Outcome {
    Refused(RefuseReason),
    /// The client closed before it could be served or refused.
    Left(CloseReason),
}

#[derive(PartialEq)]
enum Blame {
    /// The client: nothing for the operator to do.
    Client,
    /// The operator, the network or the cluster.
    Operator,
}

impl Refusal {
    pub(super) fn of_startup(Failed { error, stream }: Failed) -> Self {
        let told = error.to_client();
        let encoded = match &error {
            StartupError::Major(..3) => told.as_ref().map(ClientError::encode_for_protocol_2),
            _ => None,
        };
        Self { encoded, stream, ..Self::new(error.reason(), told.map(Told::Ours), error.to_string(), Blame::Client) }
    }

    /// The daemon ends at once; there is no time to tell anybody.
    pub(super) fn cut_off() -> Self {
        Self::new(RefuseReason::Draining, None, "the daemon has stopped".to_owned(), Blame::Client)
    }

    pub(super) fn draining(leaver: Leaver, stream: ClientStream) -> Self {
        let (message, hint) = match leaver {
            Leaver::Daemon => ("crdb-proxy is stopping and takes no new sessions", "Connect again in a moment."),
            Leaver::Listener => (
                "this listener was taken out of crdb-proxy's settings and takes no new sessions",
                "Connect to an address that the settings have now; crdb-proxy url prints it.",
            ),
        };
        let told = ClientError::new(SqlState::CANNOT_CONNECT_NOW, message).hint(hint);
        Self::ours(RefuseReason::Draining, told, Blame::Client, stream)
    }

    /// It came under rules that let nobody in any more.
    pub(super) fn rules_changed(stream: ClientStream) -> Self {
        let message = "this listener's rules have changed meanwhile: crdb-proxy was told so while the client came in";
        let told = ClientError::new(SqlState::CANNOT_CONNECT_NOW, message).hint("Connect again.");
        Self::ours(RefuseReason::Draining, told, Blame::Client, stream)
    }

    /// A cancel request is never answered.
    pub(super) fn not_let_in(error: &NotLetIn, wish: &Wish, stream: ClientStream) -> Self {
        let encoded = matches!(wish, Wish::Cancel(_)).then(Vec::new);
        let told = Some(Told::Ours(NotLetIn::to_client()));
        let refusal = Self::new(RefuseReason::LocalUid, told, error.to_string(), Blame::Operator);
        Self { stream: Some(stream), encoded, ..refusal }
    }

    pub(super) fn not_admitted(full: NotAdmitted, stream: ClientStream) -> Self {
        Self::ours(full.reason(), full.to_client(), Blame::Operator, stream)
    }

    pub(super) fn no_random_bytes(stream: ClientStream) -> Self {
        let told = ClientError::new(SqlState::INTERNAL, "the system gave crdb-proxy no random bytes");
        Self::ours(RefuseReason::Internal, told, Blame::Operator, stream)
    }

    pub(super) fn local_password(error: &NotPassed, stream: ClientStream) -> Self {
        let (reason, cause, blame) = match error {
            NotPassed::Wrong | NotPassed::WrongAndGaveWay => {
                (RefuseReason::LocalAuth, "wrong local password".to_owned(), Blame::Operator)
            }
            NotPassed::Early => {
                (RefuseReason::StartupMalformed, "an answer before the question".to_owned(), Blame::Client)
            }
            NotPassed::Malformed => (RefuseReason::LocalAuth, "no password came".to_owned(), Blame::Client),
            NotPassed::TooLong => (RefuseReason::LocalAuth, "the password is too long".to_owned(), Blame::Client),
            NotPassed::TooSlow => {
                (RefuseReason::StartupTimeout, "the password exchange took too long".to_owned(), Blame::Client)
            }
            NotPassed::GaveWay => {
                (RefuseReason::StartupTimeout, "it took its time while others waited".to_owned(), Blame::Client)
            }
            NotPassed::Gone => {
                (RefuseReason::LocalAuth, "the client left amid the password exchange".to_owned(), Blame::Client)
            }
            NotPassed::NothingToCheckAgainst(cause) => (RefuseReason::Secret, cause.clone(), Blame::Operator),
        };
        // Who gives way does it at once.
        let stream = Some(stream).filter(|_| !matches!(error, NotPassed::GaveWay | NotPassed::WrongAndGaveWay));
        Self { stream, ..Self::new(reason, error.to_client().map(Told::Ours), cause, blame) }
    }

    /// The client reads the same whatever names there are; one that has brought a password reads what a wrong one reads.
    pub(super) fn user_not_allowed(
        parameters: &StartupParameters,
        has_brought_password: bool,
        stream: ClientStream,
    ) -> Self {
        let told = if has_brought_password {
            client_password::wrong(parameters)
        } else {
            ClientError::new(SqlState::INVALID_AUTHORIZATION, "crdb-proxy refused the user that the client asks for")
                .hint("Ask whoever runs crdb-proxy which user to name.")
        };
        let asked = parameters.text("user").unwrap_or_default();
        let cause = format!("the client asks for user \"{asked}\", and the listener's \"user_mode\" does not let it");
        let refusal = Self::new(RefuseReason::LocalAuth, Some(Told::Ours(told)), cause, Blame::Client);
        Self { stream: Some(stream), ..refusal }
    }

    /// `cause` is for the log, which hides nothing from the operator.
    pub(super) fn claim(error: &ClaimError, told: Told, cause: String, stream: ClientStream) -> Self {
        let endpoint = error.endpoint().cloned();
        // A client that asks for what is not there is not the operator's to mend.
        let blame = if told.sqlstate() == SqlState::NO_DATABASE { Blame::Client } else { Blame::Operator };
        Self { endpoint, stream: Some(stream), ..Self::new(error.reason(), Some(told), cause, blame) }
    }

    pub(super) fn client_left(error: &io::Error) -> Self {
        let reason = if error.kind() == io::ErrorKind::UnexpectedEof {
            CloseReason::ClientEof
        } else {
            CloseReason::ClientReset
        };
        let cause = "the client left before it had a session".to_owned();
        Self { outcome: Outcome::Left(reason), ..Self::new(RefuseReason::Internal, None, cause, Blame::Client) }
    }

    /// Counts, logs and tells it, then closes. Takes at most about a second.
    pub(super) async fn tell(self, parts: &Parts, visit: Visit) {
        let Visit { live, active, startup_place: _held_until_told, .. } = visit;
        live.enter(SessionState::Closing);
        match self.outcome {
            Outcome::Refused(reason) => parts.metrics.refused.at(reason).inc(),
            Outcome::Left(reason) => parts.metrics.closed.at(reason).inc(),
        }
        drop(active);
        self.log(parts, &live);
        if let Some(stream) = self.stream {
            // Even without a word: a close over unread bytes is a reset.
            let told = self.told.map(|told| told.encode()).unwrap_or_default();
            closing::refuse(stream, &self.encoded.unwrap_or(told)).await;
        }
    }

    fn log(&self, parts: &Parts, live: &Registered) {
        let reason = match self.outcome {
            Outcome::Refused(reason) => reason.to_string(),
            Outcome::Left(reason) => reason.to_string(),
        };
        let sqlstate = self.told.as_ref().map(|told| told.sqlstate().to_string());
        let is_due = self.told.as_ref().and_then(|told| parts.refusals.note(Self::remembered(told, parts, live)));
        if self.blame == Blame::Client {
            debug!(
                session.id = live.id, listener.name = %parts.listener.name, client.addr = live.client,
                peer_uid = live.peer_uid.get().copied(), sqlstate, refuse.reason = reason, cause = self.cause, "session refused"
            );
        } else if let Some(left_out) = is_due {
            warn!(
                session.id = live.id, listener.name = %parts.listener.name, client.addr = live.client,
                peer_uid = live.peer_uid.get().copied(), cluster.name = %parts.cluster.name(), endpoint.name = self.endpoint.as_ref().map(Name::as_str), sqlstate, refuse.reason = reason, cause = self.cause,
                equal_left_out = left_out, "session refused"
            );
        }
    }

    fn remembered(told: &Told, parts: &Parts, live: &Registered) -> refusals::Told {
        let hint = match told {
            Told::Ours(error) => error.hint.as_deref().map(str::to_owned),
            Told::Servers(error) => error.hint.clone(),
        };
        refusals::Told {
            listener: parts.listener.name.clone(),
            sqlstate: told.sqlstate(),
            message: told.message().to_owned(),
            hint,
            peer_uid: live.peer_uid.get().copied(),
        }
    }

    fn ours(reason: RefuseReason, told: ClientError, blame: Blame, stream: ClientStream) -> Self {
        let cause = told.message.to_string();
        Self { stream: Some(stream), ..Self::new(reason, Some(Told::Ours(told)), cause, blame) }
    }

    fn new(reason: RefuseReason, told: Option<Told>, cause: String, blame: Blame) -> Self {
        Self { outcome: Outcome::Refused(reason), told, encoded: None, cause, blame, endpoint: None, stream: None }
    }
}

/// libpq fills in the user's name where no database is given; the server then says that there is no such
/// database, which puzzles whoever never named one. So does one that only the listener's settings name.
pub(super) fn explain_missing_database(
    told: Told,
    parameters: &StartupParameters,
    of_listener: &str,
    is_locked: bool,
) -> Told {
    let Told::Servers(error) = told else { return told };
    let counts = |name: &&[u8]| !name.is_empty() && !is_locked;
    let asked = parameters.get("database").filter(counts);
    let hint = match asked {
        _ if error.sqlstate != SqlState::NO_DATABASE => return Told::Servers(error),
        Some(name) if Some(name) == parameters.get("user") => MADE_UP_BY_LIBPQ,
        Some(name) if name != of_listener.as_bytes() => return Told::Servers(error),
        _ => OF_LISTENER,
    };
    Told::Servers(error.with_hint(hint))
}

const MADE_UP_BY_LIBPQ: &str = "The client asked for a database with its own user's name, as libpq does when none is given. Name one, for example psql -d defaultdb, or …/defaultdb in the URL.";
const OF_LISTENER: &str = "That is the \"database\" of crdb-proxy's listener, from its settings, --database or connection string. `crdb-proxy check`, with the daemon's flags and on its host, says which there are.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ServerError;

    #[test]
    fn a_database_that_libpq_made_up_is_explained() {
        let told = || Told::Servers(ServerError::parse(b"SFATAL\0C3D000\0Mno such database\0\0"));
        let explained_by = |body: &[u8], is_locked| {
            let parameters = StartupParameters::parse(body).unwrap();
            let told = explain_missing_database(told(), &parameters, "defaultdb", is_locked);
            String::from_utf8_lossy(&told.encode()).into_owned()
        };
        let explained = |body: &[u8]| explained_by(body, false);

        assert!(explained(b"user\0me\0database\0me\0\0").contains("psql -d defaultdb"));
        assert!(!explained(b"user\0me\0database\0shop\0\0").contains("crdb-proxy"));
        for of_listener in [&b"user\0me\0database\0defaultdb\0\0"[..], b"user\0me\0database\0\0\0", b"user\0me\0\0"] {
            assert!(explained(of_listener).contains("of crdb-proxy's listener"));
        }
        for locked in [&b"user\0me\0database\0me\0\0"[..], b"user\0me\0database\0shop\0\0"] {
            assert!(explained_by(locked, true).contains("of crdb-proxy's listener"));
        }
    }
}
