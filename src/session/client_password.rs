//! The password that a client is asked for where the daemon holds none (`credential = "client"`): it goes into the login
//! upstream, and is wiped with that.

use super::{
    Parts,
    client_stream::ClientStream,
    local_password::{NotPassed, send},
    startups::Patience,
};
use crate::{
    credentials::Lease,
    diagnostics::printable,
    secret::Secret,
    settings::UserMode,
    upstream::Told,
    wire::{ClientError, ServerError, SqlState, StartupParameters, messages},
};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

impl Parts {
    /// Whether this client is to be asked. One that asks for a name that is none is asked too, where any name could
    /// be: it reads the same as whoever brings a wrong password. Only the time tells, since nobody logs in then.
    pub(super) fn asks_client(&self, parameters: &StartupParameters) -> bool {
        match self.account(parameters) {
            Some(account) => account.user.asks_client,
            None => self.possible_users().any(|user| user.asks_client),
        }
    }

    /// What the client of a wrong password reads of it: the server's own words, unless a client that asks for a name that
    /// is none would read others.
    pub(super) fn told_of_wrong(&self, parameters: &StartupParameters, own: &ServerError) -> Told {
        match self.listener.user.mode {
            UserMode::Replace => Told::Servers(own.clone().with_hint(BROUGHT)),
            UserMode::Map | UserMode::MustMatch => Told::Ours(wrong(parameters)),
        }
    }
}

/// As CockroachDB says it, of the name that the client has said.
pub(super) fn wrong(parameters: &StartupParameters) -> ClientError {
    let asked: String = parameters.text("user").unwrap_or_default().chars().take(NAME_CHARS_MAX).collect();
    let message = format!("password authentication failed for user {}", printable(&asked));
    ClientError::new(SqlState::INVALID_PASSWORD, message).hint(BROUGHT)
}

/// Asks for the password. Not cancel safe: the exchange cannot be taken up again.
pub(super) async fn ask(client: &mut ClientStream, patience: Patience<'_>) -> Result<Lease, NotPassed> {
    let secret = patience.bound(exchange(client)).await.unwrap_or_else(|late| Err(late.into()))?;
    Ok(Lease { secret: Arc::new(secret), generation: 0 })
}

async fn exchange(client: &mut ClientStream) -> Result<Secret, NotPassed> {
    send(client, &messages::frame(b'R', &CLEARTEXT.to_be_bytes())).await?;
    let mut header = [0; 5];
    client.read_exact(&mut header).await.map_err(|_gone| NotPassed::Gone)?;
    let [kind, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if kind != b'p' || length < 4 {
        return Err(NotPassed::Malformed);
    }
    if length > ANSWER_BYTES_MAX {
        return Err(NotPassed::TooLong);
    }
    let mut body = Zeroizing::new(vec![0; length.saturating_sub(4)]);
    client.read_exact(&mut body).await.map_err(|_gone| NotPassed::Gone)?;
    match body.strip_suffix(b"\0") {
        Some(password) if !password.is_empty() && !password.contains(&0) => Ok(Secret::new(password.to_vec())),
        _ => Err(NotPassed::Malformed),
    }
}

/// AuthenticationCleartextPassword.
const CLEARTEXT: u32 = 3;
/// More than any password takes.
const ANSWER_BYTES_MAX: usize = 1024 + 5;
/// As many as a name may have.
const NAME_CHARS_MAX: usize = 63;
const BROUGHT: &str = "This listener asks for the user's own password, and the client brought a wrong one or none: \
                       correct it there. crdb-proxy keeps none.";
