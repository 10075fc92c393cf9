//! One session of a region, from its startup message to its end. Owns the message loop, by the
//! `pgwire` crate, and the ways in which a drain or a bad message ends it.

use super::{
    cancel::{CancelKey, Cancels, Running},
    error::fatal,
    gate::Gate,
    login::Login,
    protocol::Protocol,
    region::{Shared, State},
};
use async_trait::async_trait;
use futures::StreamExt;
use pgwire::api::{ClientInfo, DefaultClient, NoopHandler, PgWireConnectionState, cancel::CancelHandler};
use pgwire::error::PgWireError;
use pgwire::messages::{PgWireFrontendMessage, cancel::CancelRequest, response::TransactionStatus, startup::SecretKey};
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::codec::Framed;

/// Serves one client until it leaves, has been told to, or has not logged in by `deadline`.
/// Cancel safety: dropping the future cuts the client off; its open transaction is taken back.
pub(super) async fn serve<S>(stream: S, address: SocketAddr, shared: Arc<Shared>, deadline: Instant) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let running = Arc::new(Running::default());
    let registration = shared.cancels.register(&running)?;
    let login = Arc::new(Login::new(Arc::clone(&shared), registration.key));
    let cancel = Arc::new(Cancel(Arc::clone(&shared.cancels)));
    let protocol = Arc::new(Protocol::new(Arc::clone(&shared), running, registration.key.process));
    let mut state = shared.state.clone();
    let mut framed = Framed::new(Gate::new(stream), PgWireMessageServerCodec::new(DefaultClient::new(address, true)));
    framed.set_state(PgWireConnectionState::AwaitingStartup);
    loop {
        let message = tokio::select! {
            biased;
            () = sleep_until(deadline), if !is_logged_in(&framed) => return Ok(()),
            () = drained(&mut state), if is_idle(&framed) => {
                return process_error(&mut framed, fatal("57P01", "server is shutting down"), true).await;
            }
            message = framed.next() => message,
        };
        let message = match message {
            None | Some(Ok(PgWireFrontendMessage::Terminate(_))) => return Ok(()),
            Some(Err(PgWireError::IoError(error))) if error.kind() != io::ErrorKind::InvalidData => {
                return Err(error);
            }
            Some(Err(error)) => {
                return process_error(&mut framed, fatal("08P01", &error.to_string()), true).await;
            }
            Some(Ok(message)) => message,
        };
        let last = matches!(message, PgWireFrontendMessage::CancelRequest(_));
        let extended = message.is_extended_query();
        let noop = Arc::new(NoopHandler);
        let done = process_message(
            message,
            &mut framed,
            Arc::clone(&login),
            Arc::clone(&protocol),
            Arc::clone(&protocol),
            noop,
            Arc::clone(&cancel),
        )
        .await;
        let ended = done.as_ref().is_err_and(PgWireError::is_fatal);
        if let Err(error) = done {
            // After a last word no ReadyForQuery may follow.
            process_error(&mut framed, error, extended || ended).await?;
        }
        if last || ended {
            return Ok(());
        }
    }
}

/// Resolves while the region drains. Cancel safety: nothing is lost.
async fn drained(state: &mut watch::Receiver<State>) {
    if state.wait_for(|state| *state == State::Draining).await.is_err() {
        std::future::pending::<()>().await; // The region is gone, and this session with it.
    }
}

fn is_logged_in(client: &impl ClientInfo) -> bool {
    !matches!(
        client.state(),
        PgWireConnectionState::AwaitingSslRequest
            | PgWireConnectionState::AwaitingStartup
            | PgWireConnectionState::AuthenticationInProgress
    )
}

/// Nothing runs and no transaction is open: where CockroachDB closes a session of a draining node.
fn is_idle(client: &impl ClientInfo) -> bool {
    matches!(client.state(), PgWireConnectionState::ReadyForQuery)
        && client.transaction_status() == TransactionStatus::Idle
}

/// A CancelRequest that came over TLS.
struct Cancel(Arc<Cancels>);

#[async_trait]
impl CancelHandler for Cancel {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let bytes = request.secret_key.to_bytes();
        if let Ok(secret) = <[u8; 4]>::try_from(bytes.as_ref()) {
            self.0.cancel(CancelKey { process: request.pid, secret: i32::from_be_bytes(secret) });
        } else if let SecretKey::I32(secret) = request.secret_key {
            self.0.cancel(CancelKey { process: request.pid, secret });
        }
    }
}
