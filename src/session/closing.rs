//! The end of a session: last words to the client, a gentle close towards both sides.
//!
//! A close over unread bytes is a reset, which eats the text that was just sent; so each side is told
//! that no more comes, and read until it closes too, for a moment.

use super::{
    client_stream::ClientStream,
    relay::{Ended, Path, Relay},
};
use crate::{
    metrics::labels::CloseReason,
    shutdown::Leaver,
    wire::{ClientError, SqlState, messages},
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Ends both sides of a relay. Takes at most about a second.
pub(super) async fn close<C, U>(mut relay: Relay<C, U>, ended: &Ended, leaver: Leaver)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin + Path,
{
    let mut for_client = relay.pending_for_client().to_vec();
    if relay.talk.client_can_read_a_message()
        && !relay.talk.server_said_fatal()
        && let Some(error) = last_words(ended, leaver)
    {
        for_client.extend(error.encode());
    }
    let says_goodbye = relay.talk.server_can_read_a_message()
        && relay.pending_for_upstream().is_empty()
        && (!relay.talk.client_said_goodbye() || relay.talk.withholds_goodbye());
    let for_upstream = if says_goodbye { messages::TERMINATE } else { &[] };
    tokio::join!(part(&mut relay.client, &for_client), part(&mut relay.upstream, for_upstream));
}

/// Tells a client why it gets no session, and closes. Takes at most about a second.
pub(super) async fn refuse<C: AsyncRead + AsyncWrite + Unpin>(mut client: C, last: &[u8]) {
    part(&mut client, last).await;
}

/// Closes a client that has ended its session itself. If it has closed its side already, nothing that it sends can
/// turn the close into a reset, and it need not be waited for.
pub(super) async fn release(client: ClientStream) {
    if !client.has_closed() {
        refuse(client, &[]).await;
    }
}

/// Sends `last`, says that no more comes, and waits a moment for the peer to close.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, last: &[u8]) {
    let work = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A peer that is gone, or does not go, changes nothing for anybody else.
    let _ = timeout(LINGER, work).await;
}

/// What the client reads when it was not the one to end the session.
fn last_words(ended: &Ended, leaver: Leaver) -> Option<ClientError> {
    let lost = |what: &'static str| {
        ClientError::new(SqlState::CONNECTION_FAILURE, format!("the connection to the cluster was lost: {what}"))
            .hint("Connect again. If a transaction was open, it was rolled back; if a COMMIT was under way, look whether it took effect.")
    };
    let shutdown = |message: &'static str| ClientError::new(SqlState::ADMIN_SHUTDOWN, message).hint("Connect again.");
    Some(match ended.reason {
        CloseReason::ClientTerminate
        | CloseReason::ClientEof
        | CloseReason::ClientReset
        | CloseReason::UpstreamFatal => {
            return None;
        }
        CloseReason::UpstreamEof => lost("the server closed it"),
        CloseReason::UpstreamReset => lost("it was reset"),
        CloseReason::UpstreamTimeout => lost("the server no longer answers"),
        CloseReason::UpstreamProtocol => ClientError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("the server sent what is no message: {}", ended.detail.as_deref().unwrap_or("unknown")),
        )
        .hint("Connect again. Is it really the cluster that \"host\" and \"port\" lead to?"),
        CloseReason::ClientProtocol => ClientError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("the client sent what is no message: {}", ended.detail.as_deref().unwrap_or("unknown")),
        )
        .hint("This is a fault of the driver, or of something between it and crdb-proxy."),
        CloseReason::IdleLimit => ClientError::new(
            SqlState::IDLE_SESSION_TIMEOUT,
            "the session was idle longer than crdb-proxy's \"session_idle_limit\"",
        )
        .hint("Connect again, or raise \"session_idle_limit\"."),
        CloseReason::AgeLimit => shutdown("the session is older than crdb-proxy's \"session_age_limit\""),
        CloseReason::Drain | CloseReason::DrainLimit => leaves(leaver, ended.reason == CloseReason::DrainLimit),
        CloseReason::Internal => {
            ClientError::new(SqlState::INTERNAL, "crdb-proxy failed; its log says how").hint("Connect again.")
        }
    })
}

fn leaves(leaver: Leaver, is_late: bool) -> ClientError {
    let (message, hint) = match (leaver, is_late) {
        (Leaver::Daemon, false) => ("crdb-proxy is stopping", "Connect again."),
        (Leaver::Daemon, true) => ("crdb-proxy is stopping, and its \"drain_limit\" has passed", "Connect again."),
        (Leaver::Listener, false) => ("this listener was taken out of crdb-proxy's settings", ELSEWHERE),
        (Leaver::Listener, true) => {
            ("this listener was taken out of crdb-proxy's settings, and \"drain_limit\" has passed", ELSEWHERE)
        }
    };
    ClientError::new(SqlState::ADMIN_SHUTDOWN, message).hint(hint)
}

const ELSEWHERE: &str = "Connect to an address that the settings have now; crdb-proxy url prints it.";

/// How long a peer that was told of the end has to go.
pub(super) const LINGER: Duration = Duration::from_secs(1);
