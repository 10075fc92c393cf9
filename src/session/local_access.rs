//! Whether a client's user may come in. What the client reads is the same whatever the reason; the rule, and
//! how to change it, is the operator's to read.

use super::{Parts, client_stream::ClientStream, startup::Wish, startups::Patience};
use crate::{
    sessions::Registered,
    settings::LocalAccess,
    sys,
    wire::{ClientError, SqlState},
};
use std::{fmt, io};

/// Why a client's user does not come in.
#[derive(Debug)]
pub(super) struct NotLetIn {
    why: Why,
    rule: LocalAccess,
}

#[derive(Debug)]
enum Why {
    /// The rule says so.
    User(u32),
    /// The other end of the connection is closed, so that it has no user any more.
    Gone,
    /// The kernel does not say whose it is.
    Untold(io::Error),
    /// The kernel's answer took longer than the startup may.
    TooSlow,
}

impl Parts {
    /// Finds out whose process this client is, where the listener asks for that, and whether it may come in.
    pub(super) async fn let_in(
        &self,
        stream: &ClientStream,
        wish: &Wish,
        live: &Registered,
        patience: Patience<'_>,
    ) -> Result<(), NotLetIn> {
        let rule = &self.listener.access;
        let asks = rule.asks_for_user();
        let found = match stream {
            ClientStream::Unix(socket) => socket.peer_cred().map(|peer| Some(peer.uid())),
            ClientStream::Tcp(_) | ClientStream::Tls(_) if !asks => return Ok(()),
            ClientStream::Tcp(_) | ClientStream::Tls(_) => {
                let asked = patience.bound(self.peer_uids.of_tcp(stream.descriptor())).await;
                asked.map_err(|_late| NotLetIn { why: Why::TooSlow, rule: rule.clone() })?
            }
        };
        if let Ok(Some(uid)) = found {
            // Set once a session: it has one startup.
            let _ = live.peer_uid.set(uid);
        }
        let why = match found {
            _ if !asks => return Ok(()),
            Ok(Some(uid)) if rule.admits(uid, sys::is_own_user) => return Ok(()),
            // Some drivers close as soon as they have sent it, and then the key alone says whose session it is.
            Ok(None) if matches!(wish, Wish::Cancel(_)) => return Ok(()),
            Ok(Some(uid)) => Why::User(uid),
            Ok(None) => Why::Gone,
            Err(error) => Why::Untold(error),
        };
        Err(NotLetIn { why, rule: rule.clone() })
    }
}

impl NotLetIn {
    /// Tells nothing of the rule and of the reason.
    pub(super) fn to_client() -> ClientError {
        ClientError::new(SqlState::INVALID_AUTHORIZATION, "crdb-proxy does not let this client in")
            .hint("Ask whoever runs crdb-proxy on this machine; its log says why.")
    }
}

/// For the log.
impl fmt::Display for NotLetIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(sys::own_uid(), f)
    }
}

impl NotLetIn {
    /// What happened, the rule of a daemon of the user `own`, and what would let such a client in.
    fn tell(&self, own: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::User(uid) => write!(f, "user ID {uid} may not come in")?,
            Why::Gone => f.write_str("the client had closed its connection before its user could be told")?,
            Why::Untold(error) => write!(f, "the client's user cannot be told: {error}")?,
            Why::TooSlow => f.write_str("the client's user could not be told within \"startup_limit\"")?,
        }
        let rule = self.rule.shown(false);
        let is_list = matches!(self.rule, LocalAccess::Uids(_));
        match (is_list, own) {
            (true, _) => write!(f, ": the listener lets in {rule} and nobody else")?,
            (false, 0) => {
                write!(f, ": the listener's \"local_access\" is \"{rule}\", which lets in root, the daemon's user")?
            }
            (false, own) => {
                write!(f, ": the listener's \"local_access\" is \"{rule}\", which lets in user ID {own} and root")?;
            }
        }
        match &self.why {
            Why::User(uid) if is_list => write!(f, "; to let it in, add {uid} to the listener's \"allowed_uids\"")?,
            Why::User(uid) => {
                write!(f, "; to let it in, set local_access = \"uids\" and allowed_uids = [{uid}] for the listener")?;
            }
            Why::Gone | Why::Untold(_) | Why::TooSlow => f.write_str("; two rules ask for no user")?,
        }
        let or = if matches!(self.why, Why::User(_)) { ", or" } else { ":" };
        write!(
            f,
            "{or} local_access = \"any\" lets in every user of this machine and \"password\" those who know local_password\
             {}",
            if is_list { "" } else { " (crdb-proxy demo has no settings: start it as the user who is to come in)" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_who_it_was_what_the_rule_is_and_how_to_change_it() {
        let told = |why, rule, own| Told(NotLetIn { why, rule }, own).to_string();
        let uids = || LocalAccess::Uids(vec![5, 6]);

        let of_user = told(Why::User(1001), LocalAccess::SameUser, 990);
        for word in [
            "user ID 1001 may",
            "\"same-user\"",
            "user ID 990 and root",
            "allowed_uids = [1001]",
            "local_access = \"any\"",
            "demo",
        ] {
            assert!(of_user.contains(word), "{word}: {of_user}");
        }
        let of_root = told(Why::User(1001), LocalAccess::SameUser, 0);
        assert!(of_root.contains("lets in root, the daemon's user") && !of_root.contains("user ID 0"), "{of_root}");

        let listed = told(Why::User(7), uids(), 0);
        for word in ["lets in uids 5, 6 and nobody else", "add 7 to the listener's \"allowed_uids\""] {
            assert!(listed.contains(word), "{word}: {listed}");
        }
        // It has that already.
        assert!(!listed.contains("\"uids\"") && !listed.contains("demo"), "{listed}");
        let gone = told(Why::Gone, uids(), 0);
        assert!(gone.contains("closed its connection") && !gone.contains("add "), "{gone}");
    }

    /// As the log of a daemon of this user has it.
    struct Told(NotLetIn, u32);

    impl fmt::Display for Told {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.tell(self.1, f)
        }
    }
}
