//! The password that a listener asks of its clients (SCRAM-SHA-256). What the client proves here is
//! never passed on; the login upstream is the daemon's own.

use super::{
    client_stream::ClientStream,
    startups::{Late, Patience},
};
use crate::{
    credentials::{Credentials, Lease},
    scram::{ServerExchange, Verifier},
    wire::{ClientError, SqlState, messages},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    time::sleep,
};

/// What the clients of one listener must prove to know.
pub(crate) struct LocalPassword {
    credentials: Credentials,
    /// Derived from the secret of this generation; deriving takes thousands of hash rounds.
    verifier: Mutex<Option<(u64, Arc<Verifier>)>>,
}

/// Why a client did not pass.
#[derive(Debug)]
pub(crate) enum NotPassed {
    /// It proved nothing, or the wrong thing.
    Wrong,
    /// The same, and others waited for its place while it waited for the answer.
    WrongAndGaveWay,
    /// It left.
    Gone,
    /// What it sent is no password.
    Malformed,
    /// It says that it is longer than any password may be.
    TooLong,
    /// It took too long.
    TooSlow,
    /// It took its time while others waited for its place.
    GaveWay,
    /// It answered before it was asked.
    Early,
    /// There is nothing to check it against; the text is for the log.
    NothingToCheckAgainst(String),
}

impl From<Late> for NotPassed {
    fn from(late: Late) -> Self {
        match late {
            Late::Limit => Self::TooSlow,
            Late::CalledAway => Self::GaveWay,
        }
    }
}

impl LocalPassword {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, verifier: Mutex::default() }
    }

    /// Has the client prove that it knows the password, in time; one that does not waits for its answer. AuthenticationOk is left to the
    /// caller. Not cancel safe: the exchange cannot be taken up again.
    pub(crate) async fn check(&self, client: &mut ClientStream, patience: Patience<'_>) -> Result<(), NotPassed> {
        let verifier = self.verifier().await?;
        let proven = patience.bound(exchange(client, verifier)).await.unwrap_or_else(|late| Err(late.into()));
        match proven {
            // Whoever guesses passwords waits for each guess, and holds a startup's place meanwhile.
            Err(NotPassed::Wrong) => match patience.bound(sleep(PENALTY)).await {
                Err(Late::CalledAway) => Err(NotPassed::WrongAndGaveWay),
                Ok(()) | Err(Late::Limit) => Err(NotPassed::Wrong),
            },
            proven => proven,
        }
    }

    async fn verifier(&self) -> Result<Arc<Verifier>, NotPassed> {
        let fault = |error: String| NotPassed::NothingToCheckAgainst(error);
        let Lease { secret, generation } =
            self.credentials.current().await.map_err(|error| fault(error.to_string()))?;
        let mut known = self.verifier.lock().await;
        if let Some((of, verifier)) = &*known
            && *of == generation
        {
            return Ok(Arc::clone(verifier));
        }
        let verifier = Arc::new(Verifier::of(secret).await.map_err(|error| fault(error.to_string()))?);
        *known = Some((generation, Arc::clone(&verifier)));
        Ok(verifier)
    }
}

impl NotPassed {
    /// What the client reads; never why in detail.
    pub(crate) fn to_client(&self) -> Option<ClientError> {
        match self {
            Self::Wrong | Self::WrongAndGaveWay => Some(
                ClientError::new(SqlState::INVALID_PASSWORD, "password authentication failed at crdb-proxy")
                    .hint("This listener asks for its own password (\"local_password\"), not for the database user's."),
            ),
            Self::Gone | Self::GaveWay => None,
            Self::TooSlow => Some(ClientError::new(
                SqlState::PROTOCOL_VIOLATION,
                "crdb-proxy refused the startup: the password exchange took longer than \"startup_limit\"",
            )),
            Self::Malformed => Some(ClientError::new(
                SqlState::PROTOCOL_VIOLATION,
                "crdb-proxy refused the startup: it asked for the user's password, of 1 to 1024 bytes, and got none",
            )),
            Self::TooLong => Some(
                ClientError::new(
                    SqlState::PROTOCOL_VIOLATION,
                    "crdb-proxy refused the startup: the password that it brought is longer than 1024 bytes",
                )
                .hint("Is it the user's password that the client sends? A token takes auth = \"jwt\" and a secret of crdb-proxy's own."),
            ),
            Self::Early => Some(ClientError::new(
                SqlState::PROTOCOL_VIOLATION,
                "crdb-proxy refused the startup: bytes followed the startup message before its answer",
            )),
            Self::NothingToCheckAgainst(_) => Some(
                ClientError::new(SqlState::INVALID_AUTHORIZATION, "crdb-proxy cannot check passwords just now")
                    .hint("Its log says why; the listener's \"local_password\" is what to look at."),
            ),
        }
    }
}

async fn exchange(client: &mut ClientStream, verifier: Arc<Verifier>) -> Result<(), NotPassed> {
    send(client, &messages::authentication_sasl("SCRAM-SHA-256")).await?;
    let first = read_answer(client).await?;
    let first = initial_response(&first).ok_or(NotPassed::Wrong)?;
    let (challenge, awaits_proof) =
        ServerExchange::new(verifier).client_first(first).map_err(|_wrong| NotPassed::Wrong)?;
    send(client, &messages::authentication_sasl_continue(&challenge)).await?;
    let proof = read_answer(client).await?;
    let signature = awaits_proof.client_final(&proof).map_err(|_wrong| NotPassed::Wrong)?;
    send(client, &messages::authentication_sasl_final(&signature)).await
}

/// The data of a SASLInitialResponse for SCRAM-SHA-256.
fn initial_response(body: &[u8]) -> Option<&[u8]> {
    let rest = body.strip_prefix(b"SCRAM-SHA-256\0")?;
    let (length, data) = rest.split_first_chunk()?;
    (usize::try_from(u32::from_be_bytes(*length)).ok()? == data.len()).then_some(data)
}

pub(super) async fn send(client: &mut ClientStream, message: &[u8]) -> Result<(), NotPassed> {
    let work = async {
        client.write_all(message).await?;
        client.flush().await
    };
    work.await.map_err(|_gone: io::Error| NotPassed::Gone)
}

/// The body of the client's next message, which must be an answer to ours. Reads not a byte more.
async fn read_answer(client: &mut ClientStream) -> Result<Vec<u8>, NotPassed> {
    let mut header = [0; 5];
    client.read_exact(&mut header).await.map_err(|_gone| NotPassed::Gone)?;
    let [kind, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if kind != b'p' || !(4..=ANSWER_BYTES_MAX).contains(&length) {
        return Err(NotPassed::Wrong);
    }
    let mut body = vec![0; length.saturating_sub(4)];
    client.read_exact(&mut body).await.map_err(|_gone| NotPassed::Gone)?;
    Ok(body)
}

/// As long as a wrong cancel key's.
const PENALTY: Duration = Duration::from_secs(1);
/// Far more than SCRAM's messages take.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initial_response_must_be_of_our_mechanism_and_whole() {
        assert_eq!(initial_response(b"SCRAM-SHA-256\0\0\0\0\x02ab"), Some(&b"ab"[..]));
        for odd in [&b""[..], b"SCRAM-SHA-256", b"SCRAM-SHA-256\0\0\0\0\x03ab", b"SCRAM-SHA-256-PLUS\0\0\0\0\x02ab"] {
            assert_eq!(initial_response(odd), None);
        }
    }
}
