//! The first thing a client hears: the version it gets, what the server said at login, and a cancel key
//! of ours in place of the server's.

use super::{
    Parts, Place, Session,
    cancel::Target,
    claim::{Claimed, Waiting},
    refusal::Refusal,
    relay::{ReadAhead, Relay},
    startup::Asked,
};
use crate::{
    sessions::{Joined, Registered, SessionState},
    upstream::{Greeting, Upstream},
    wire::{Conversation, first_message, messages},
};
use std::sync::{Arc, atomic::AtomicBool};
use tokio::{io::AsyncWriteExt, time::timeout};

/// What decides how a client is greeted.
pub(super) struct Hello {
    /// NegotiateProtocolVersion, if it is still to be sent.
    pub(super) preface: Vec<u8>,
    /// The client's minor version.
    pub(super) minor: u16,
}

impl Asked {
    /// NegotiateProtocolVersion, if the client asked for what is not spoken here; else nothing.
    pub(super) fn negotiation(&self) -> Vec<u8> {
        let version = if self.minor < 2 { first_message::VERSION_3_0 } else { first_message::VERSION_3_2 };
        let mut unknown = self.parameters.protocol_options().peekable();
        if matches!(self.minor, 0 | 2) && unknown.peek().is_none() {
            return Vec::new();
        }
        messages::negotiate_protocol_version(version, unknown)
    }
}

impl Parts {
    /// Tells the client what the server said at login, and joins the two.
    pub(super) async fn join(
        &self,
        claimed: Claimed,
        hello: Hello,
        place: Place,
        live: &Registered,
    ) -> Result<Session, Refusal> {
        let Claimed { client: Waiting { mut stream, read_ahead }, upstream, is_unproven, parameters } = claimed;
        let Upstream { stream: upstream, mut login } = upstream;
        let (route, greeting) = (login.route.clone(), &mut login.greeting);
        let read_ahead_of_server = std::mem::take(&mut greeting.read_ahead);
        let _ = live.upstream.set(Joined {
            cluster: self.cluster.name().clone(),
            endpoint: Arc::clone(&route.endpoint),
            address: route.address.to_string(),
        });
        let issued = match greeting.key.clone() {
            Some(key) => {
                let target = Target {
                    cluster: Arc::clone(&self.cluster),
                    setup: Arc::clone(&self.setup),
                    route,
                    key,
                    is_cancelled: AtomicBool::new(false),
                };
                let Some(issued) = self.cancel_keys.issue(target, hello.minor) else {
                    return Err(Refusal::no_random_bytes(stream));
                };
                Some(issued)
            }
            None => None,
        };
        let key = issued.as_ref().map(|issued| messages::backend_key_data(&issued.key)).unwrap_or_default();
        let hello =
            [&hello.preface, messages::AUTHENTICATION_OK, &greeting.before_key, &key, &greeting.after_key].concat();
        let told = timeout(self.limits.startup_limit, async {
            stream.write_all(&hello).await?;
            stream.flush().await
        });
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Refusal::client_left(&error)),
            Err(_elapsed) => return Err(Refusal::client_left(&std::io::ErrorKind::TimedOut.into())),
        }
        let read_ahead = ReadAhead { client: &read_ahead, upstream: &read_ahead_of_server };
        let buffer_bytes = self.limits.relay_buffer_bytes.get();
        live.enter(SessionState::Idle);
        let talk =
            if parameters.is_some() { Conversation::after_login_for_reuse() } else { Conversation::after_login() };
        let (live, on_error) = (Arc::clone(live), Arc::clone(&self.on_error));
        let mut relay = Relay::new(stream, upstream, read_ahead, talk, buffer_bytes, live, on_error);
        if is_unproven {
            relay.put_on_trial();
        }
        if parameters.is_none() {
            // Only needed to greet another one.
            login.greeting = Greeting::default();
        }
        Ok(Session { relay, issued, place, login, parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StartupParameters;

    fn negotiation(minor: u16, body: &[u8]) -> Vec<u8> {
        Asked { minor, parameters: StartupParameters::parse(body).unwrap(), read_ahead: Vec::new() }.negotiation()
    }

    #[test]
    fn versions_that_are_spoken_here_are_not_negotiated() {
        assert_eq!(negotiation(0, b"user\0u\0\0"), b"");
        assert_eq!(negotiation(2, b"user\0u\0\0"), b"");
    }

    #[test]
    fn other_minors_and_unknown_options_are_answered_with_what_is_spoken() {
        assert_eq!(negotiation(1, b"user\0u\0\0"), b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0");
        assert_eq!(negotiation(9999, b"user\0u\0\0"), b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
        assert_eq!(negotiation(0, b"user\0u\0_pq_.x\x001\0\0"), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0");
    }
}
