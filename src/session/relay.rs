//! Moves bytes between a client and its upstream, exactly as they came, until one of them or a rule
//! ends the session. One task polls both directions; nothing is copied, allocated, locked or logged for
//! a message. It always knows where both streams stand, so it can stop at an idle point.

mod flow;
mod on_wake;
mod pace;
mod stall;
mod trial;

use crate::{
    metrics::labels::CloseReason,
    sessions::{Live, SessionState, Totals},
    shutdown::{Phase, Stop},
    wire::{Conversation, SqlState, conversation::Activity},
};
use flow::{Flow, FlowEnd};
use on_wake::{Latch, OnWake};
use pace::{Pace, Verdict};
use stall::Stall;
use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use trial::Trial;

pub(crate) use pace::Rules;
pub(crate) use stall::Path;

/// A client and an upstream, joined.
pub(crate) struct Relay<C, U> {
    /// The client's stream.
    pub(crate) client: C,
    /// The upstream's stream.
    pub(crate) upstream: U,
    /// Where both streams stand.
    pub(crate) talk: Conversation,
    to_upstream: Flow,
    to_client: Flow,
    client_eof: bool,
    /// The upstream takes no more bytes, but may still have some to give: its last words.
    upstream_deaf: Option<CloseReason>,
    client_first: bool,
    /// Each flow is polled for what its own two sockets say: they never share the same side of one.
    to_upstream_latch: Latch,
    to_client_latch: Latch,
    /// What [`Relay::moved`] said when it was last shown.
    shown_moved: u64,
    trial: Trial,
    live: Arc<Live>,
    on_error: OnError,
}

/// Told of every error of the server.
pub(crate) type OnError = Arc<dyn Fn(SqlState) + Send + Sync>;

/// How a relay came to its end.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Why.
    pub(crate) reason: CloseReason,
    /// The server still works on something that nobody waits for any more.
    pub(crate) abandons_query: bool,
    /// What exactly went wrong, for the log.
    pub(crate) detail: Option<String>,
}

/// Bytes that were read before the relay began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadAhead<'a> {
    /// From the client, after its startup message.
    pub(crate) client: &'a [u8],
    /// From the server, after ReadyForQuery.
    pub(crate) upstream: &'a [u8],
}

impl<C, U> Relay<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin + Path,
{
    /// Joins a client that has read its ReadyForQuery and an upstream that has sent one.
    pub(crate) fn new(
        client: C,
        upstream: U,
        read_ahead: ReadAhead<'_>,
        mut talk: Conversation,
        buffer_bytes: usize,
        live: Arc<Live>,
        on_error: OnError,
    ) -> Self {
        let to_upstream = Flow::new(buffer_bytes, read_ahead.client, |piece| talk.follow_client(piece));
        let to_client = Flow::new(buffer_bytes, read_ahead.upstream, |piece| {
            talk.follow_server(piece, &mut |sqlstate| on_error(sqlstate))
        });
        Self {
            client,
            upstream,
            talk,
            to_upstream,
            to_client,
            client_eof: false,
            upstream_deaf: None,
            client_first: false,
            to_upstream_latch: Latch::default(),
            to_client_latch: Latch::default(),
            shown_moved: 0,
            trial: Trial::Over,
            live,
            on_error,
        }
    }

    /// The upstream stood ready: whether it leads anywhere is still to be seen.
    pub(crate) fn put_on_trial(&mut self) {
        self.trial = Trial::Untried;
    }

    /// Relays until the session has to end. Cancel safe: a relay that was dropped half-way can be run
    /// again, or taken apart; bytes that were read stay in it.
    pub(crate) async fn run(&mut self, rules: &Rules, stop: &Stop) -> Ended {
        let mut pace = Pace::new(rules, stop.phase());
        let mut phases = OnWake::new(next_phase(stop.clone()));
        let mut stall = Stall::new(rules.tcp_user_timeout);
        // Somebody else may have polled the streams since: what they woke is not known here.
        (self.to_upstream_latch, self.to_client_latch) = (Latch::default(), Latch::default());
        let heard_before = self.to_client.bytes();
        let ended = poll_fn(|cx| {
            while let Poll::Ready((phase, stop)) = phases.poll(cx) {
                pace.enter(phase);
                phases.set(next_phase(stop));
            }
            let ended = self.poll(cx, &mut pace);
            let (was_asked, was_heard) = (self.to_upstream.bytes() > 0, self.to_client.bytes() > heard_before);
            self.trial.look(was_asked, was_heard, rules.tcp_user_timeout, &self.upstream);
            if ended.is_pending() && stall.poll(cx, !self.talk.is_idle(), &self.upstream).is_ready() {
                return Poll::Ready(Ended::because(CloseReason::UpstreamTimeout));
            }
            ended
        })
        .await;
        // What the upstream serves next begins under the usual limit.
        stall.settle(&self.upstream);
        self.trial.settle(rules.tcp_user_timeout, &self.upstream);
        self.upstream.settle();
        ended
    }

    fn poll(&mut self, cx: &mut Context<'_>, pace: &mut Pace<'_>) -> Poll<Ended> {
        let (from_upstream, from_client) = self.poll_both(cx);
        let has_moved = self.publish();
        if let Poll::Ready(end) = from_upstream {
            return Poll::Ready(self.upstream_ended(end));
        }
        if let Poll::Ready(end) = from_client
            && let Some(ended) = self.client_ended(end)
        {
            return Poll::Ready(ended);
        }

        if self.talk.server_said_fatal() && self.to_client.is_drained() {
            // Its last word; a server that then does not close is not waited for.
            return Poll::Ready(Ended::because(self.upstream_reason()));
        }
        // What the client has not taken yet is owed as much as what the server has not said yet.
        let client_has_all = self.to_client.is_drained();
        let client_has_gone = self.client_eof || self.talk.client_said_goodbye();
        if client_has_gone && client_has_all && !self.talk.is_answer_owed() && self.to_upstream.is_drained() {
            return Poll::Ready(Ended::because(self.client_reason()));
        }
        let has_side_ended = client_has_gone || self.upstream_deaf.is_some() || self.to_client.source_end().is_some();
        pace.note(has_moved, self.talk.is_idle() && client_has_all, has_side_ended);
        pace.poll(cx).map(|verdict| Ended {
            reason: match verdict {
                Verdict::Close(reason) => reason,
                Verdict::Stalled if client_has_gone => self.client_reason(),
                Verdict::Stalled => self.upstream_reason(),
            },
            abandons_query: self.talk.is_answer_owed(),
            detail: self.to_client.source_end().and_then(FlowEnd::detail),
        })
    }

    /// Polls each direction once, the other one first next time: both draw on one budget of the runtime.
    fn poll_both(&mut self, cx: &Context<'_>) -> (Poll<FlowEnd>, Poll<FlowEnd>) {
        self.client_first = !self.client_first;
        if self.client_first {
            let from_client = self.poll_to_upstream(cx);
            (self.poll_to_client(cx), from_client)
        } else {
            let from_upstream = self.poll_to_client(cx);
            (from_upstream, self.poll_to_upstream(cx))
        }
    }

    /// Shows what has been counted; whether bytes have moved since the last time.
    fn publish(&mut self) -> bool {
        let moved = self.moved();
        if moved == self.shown_moved {
            return false;
        }
        self.shown_moved = moved;
        // In this order: who sees the totals sees the state that goes with them.
        self.live.enter(self.state());
        self.live.publish(self.totals());
        true
    }

    /// Bytes read and bytes written, both ways: a client that takes its time is not silent.
    fn moved(&self) -> u64 {
        let of = |flow: &Flow| flow.bytes().saturating_add(flow.written());
        of(&self.to_client).saturating_add(of(&self.to_upstream))
    }

    fn poll_to_client(&mut self, cx: &Context<'_>) -> Poll<FlowEnd> {
        let Some(waker) = self.to_client_latch.due(cx) else { return Poll::Pending };
        let (talk, on_error) = (&mut self.talk, &self.on_error);
        let mut follow = |piece: &[u8]| talk.follow_server(piece, &mut |sqlstate| on_error(sqlstate));
        self.to_client.poll(&mut Context::from_waker(waker), &mut self.upstream, &mut self.client, &mut follow)
    }

    fn poll_to_upstream(&mut self, cx: &Context<'_>) -> Poll<FlowEnd> {
        if self.client_eof || self.upstream_deaf.is_some() {
            return Poll::Pending;
        }
        let Some(waker) = self.to_upstream_latch.due(cx) else { return Poll::Pending };
        let talk = &mut self.talk;
        let mut follow = |piece: &[u8]| talk.follow_client(piece);
        self.to_upstream.poll(&mut Context::from_waker(waker), &mut self.client, &mut self.upstream, &mut follow)
    }

    fn upstream_ended(&self, end: FlowEnd) -> Ended {
        let detail = end.detail();
        let reason = match end {
            FlowEnd::SinkFailed(_) if !self.talk.client_said_goodbye() => CloseReason::ClientReset,
            FlowEnd::Malformed(_) => CloseReason::UpstreamProtocol,
            _ if self.talk.client_said_goodbye() || self.client_eof => self.client_reason(),
            FlowEnd::SourceFailed(error) if !self.talk.server_said_fatal() => upstream_failure(&error),
            _ => self.upstream_reason(),
        };
        let abandons_query = reason == CloseReason::ClientReset && self.talk.is_answer_owed();
        Ended { reason, abandons_query, detail }
    }

    /// `None` when the server may still have something to say.
    fn client_ended(&mut self, end: FlowEnd) -> Option<Ended> {
        let detail = end.detail();
        let reason = match end {
            FlowEnd::SourceEof => {
                self.client_eof = true;
                return None;
            }
            FlowEnd::SinkFailed(error) => {
                self.upstream_deaf = Some(upstream_failure(&error));
                self.to_upstream.discard();
                return None;
            }
            // Everything before it was handed on; what the client has coming still flows.
            FlowEnd::Malformed(_) if self.talk.client_said_goodbye() => {
                self.client_eof = true;
                return None;
            }
            FlowEnd::Malformed(_) => CloseReason::ClientProtocol,
            FlowEnd::SourceFailed(_) if self.talk.client_said_goodbye() => CloseReason::ClientTerminate,
            FlowEnd::SourceFailed(_) => CloseReason::ClientReset,
        };
        Some(Ended { reason, abandons_query: self.talk.is_answer_owed(), detail })
    }

    fn upstream_reason(&self) -> CloseReason {
        if self.talk.server_said_fatal() {
            return CloseReason::UpstreamFatal;
        }
        match self.to_client.source_end() {
            // It waits behind what the client does not take.
            Some(FlowEnd::SourceFailed(error)) => upstream_failure(error),
            Some(FlowEnd::Malformed(_)) => CloseReason::UpstreamProtocol,
            _ => self.upstream_deaf.unwrap_or(CloseReason::UpstreamEof),
        }
    }

    fn client_reason(&self) -> CloseReason {
        if self.talk.client_said_goodbye() { CloseReason::ClientTerminate } else { CloseReason::ClientEof }
    }

    fn totals(&self) -> Totals {
        Totals {
            to_upstream: self.to_upstream.bytes(),
            to_client: self.to_client.bytes(),
            statements: self.talk.statements(),
        }
    }

    fn state(&self) -> SessionState {
        match self.talk.activity() {
            Activity::Idle => SessionState::Idle,
            Activity::Active => SessionState::Active,
            Activity::Transaction => SessionState::Transaction,
            Activity::Failed => SessionState::Failed,
            Activity::Copy => SessionState::Copy,
        }
    }

    /// Whether the upstream could serve somebody else: nothing is open, owed, unread or half sent.
    pub(crate) fn leaves_nothing_behind(&self) -> bool {
        self.talk.is_idle() && self.to_upstream.is_drained() && self.to_client.is_drained()
    }

    /// Bytes of the server that the client has not got yet.
    pub(crate) fn pending_for_client(&self) -> &[u8] {
        self.to_client.pending()
    }

    /// Bytes of the client that the server has not got yet.
    pub(crate) fn pending_for_upstream(&self) -> &[u8] {
        self.to_upstream.pending()
    }
}

impl Ended {
    fn because(reason: CloseReason) -> Self {
        Self { reason, abandons_query: false, detail: None }
    }
}

impl FlowEnd {
    fn detail(&self) -> Option<String> {
        match self {
            Self::SourceEof => None,
            // rustls says more than operators want to know.
            Self::SourceFailed(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Some("closed without a goodbye of TLS".to_owned())
            }
            Self::SourceFailed(error) | Self::SinkFailed(error) => Some(error.to_string()),
            Self::Malformed(error) => Some(error.reason.to_owned()),
        }
    }
}

async fn next_phase(mut stop: Stop) -> (Phase, Stop) {
    (stop.phase_changed().await, stop)
}

fn upstream_failure(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::TimedOut => CloseReason::UpstreamTimeout,
        // TLS without close_notify: servers do that, and what came before is whole messages or it shows.
        io::ErrorKind::UnexpectedEof => CloseReason::UpstreamEof,
        _ => CloseReason::UpstreamReset,
    }
}

#[cfg(test)]
mod allocations;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
