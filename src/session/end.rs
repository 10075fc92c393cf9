//! What follows a relay: both sides are closed, or the client's alone while the upstream is given back.

use super::{
    Parts, Session, Visit,
    cancel::Issued,
    client_stream::ClientStream,
    closing,
    relay::Ended,
    reuse::{self, Inseparable, Parted},
};
use crate::{pool::Used, upstream::Upstream, wire::StartupParameters};
use std::time::Duration;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::debug;

impl Session {
    /// Closes both sides, or the client's alone where the upstream can serve another session.
    pub(super) async fn close(self: Box<Self>, parts: &Parts, ended: &Ended, visit: Visit) {
        let Self { relay, issued, mut place, login, parameters } = *self;
        place.admitted.end();
        // The client has its end already: its place is free for the next one.
        drop(place.permit);
        let parameters = parameters.filter(|_| visit.stop.phase().is_serving());
        let mut whole = Inseparable { relay, issued };
        if let Some(parameters) = parameters {
            match reuse::part(whole.relay, whole.issued, ended) {
                Ok(Parted { client, upstream, reported, was_plain }) => {
                    let used = Used { upstream: Upstream { stream: upstream, login }, reported, was_plain };
                    return Box::pin(give_back(parts, parameters, used, client, ended, visit)).await;
                }
                Err(inseparable) => {
                    parts.pool.note_refused();
                    whole = *inseparable;
                }
            }
        }
        let Inseparable { relay, issued } = whole;
        let is_closed = Notify::new();
        let close = async {
            closing::close(relay, ended, visit.stop.leaver()).await;
            is_closed.notify_one();
        };
        let abandon = async {
            if let Some(issued) = issued.filter(|_| ended.abandons_query) {
                Box::pin(abandon(issued, &visit, &is_closed)).await;
            }
        };
        tokio::join!(close, abandon);
        parts.note_closed(ended, visit);
    }
}

/// Ends the session for the client, and lets the pool have the upstream meanwhile, unless the daemon stops.
async fn give_back(
    parts: &Parts,
    parameters: StartupParameters,
    used: Used,
    client: ClientStream,
    ended: &Ended,
    visit: Visit,
) {
    let mut stop = visit.stop.clone();
    let close = async {
        closing::release(client).await;
        parts.note_closed(ended, visit);
    };
    let take_back = async {
        tokio::select! {
            () = parts.pool.take_back(parameters, used) => {}
            () = stop.draining() => {}
        }
    };
    tokio::join!(close, take_back);
}

/// Cancels what nobody waits for any more: again while the server does not close, since a cancel that overtakes its
/// query finds nothing to cancel.
async fn abandon(issued: Issued, visit: &Visit, is_closed: &Notify) {
    let mut stop = visit.stop.clone();
    let cancel = async {
        loop {
            let result = issued.cancel().await;
            debug!(session.id = visit.live.id, ?result, "cancelled what nobody waits for");
            if timeout(CANCEL_AGAIN, is_closed.notified()).await.is_ok() {
                return;
            }
        }
    };
    let out_of_time = async {
        stop.cutting().await;
        sleep(closing::LINGER).await;
    };
    // Each within `cancel_limit`; a daemon that cuts sessions off waits no longer than for their close.
    tokio::select! {
        () = cancel => {}
        () = out_of_time => {}
    }
}

/// Long enough for a query to be read that is on its way.
const CANCEL_AGAIN: Duration = Duration::from_millis(250);
