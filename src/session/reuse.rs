//! Whether a session's upstream can serve another one: only if nothing of this session is left in it that a
//! reset would not take away.

use super::{
    cancel::Issued,
    relay::{Ended, Path, Relay},
};
use crate::{metrics::labels::CloseReason, wire::reported::Reported};
use tokio::io::{AsyncRead, AsyncWrite};

/// A session that has come apart.
pub(super) struct Parted<C, U> {
    /// The client has everything; it is only to be closed.
    pub(super) client: C,
    /// At an idle point.
    pub(super) upstream: U,
    /// What the server reported during the session.
    pub(super) reported: Reported,
    /// See [`crate::wire::Conversation::was_plain`].
    pub(super) was_plain: bool,
}

/// A session that must be closed on both sides.
pub(super) struct Inseparable<C, U> {
    pub(super) relay: Relay<C, U>,
    pub(super) issued: Option<Issued>,
}

/// Takes the upstream out of a session that has ended. Not when the server had a hand in the end, when a
/// transaction or COPY is open, answers are owed, bytes are unread or half sent, or a cancel was ever sent for
/// it: that may arrive late, and would hit the next session.
pub(super) fn part<C, U>(
    mut relay: Relay<C, U>,
    issued: Option<Issued>,
    ended: &Ended,
) -> Result<Parted<C, U>, Box<Inseparable<C, U>>>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin + Path,
{
    let is_by_client = matches!(ended.reason, CloseReason::ClientTerminate | CloseReason::ClientEof);
    if !is_by_client || !relay.leaves_nothing_behind() {
        return Err(Box::new(Inseparable { relay, issued }));
    }
    let is_uncancelled = issued.is_none_or(Issued::retire);
    match relay.talk.take_reported() {
        Some(reported) if is_uncancelled => {
            let was_plain = relay.talk.was_plain();
            Ok(Parted { client: relay.client, upstream: relay.upstream, reported, was_plain })
        }
        _ => Err(Box::new(Inseparable { relay, issued: None })),
    }
}
