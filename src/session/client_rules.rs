//! Whether the rules about a listener's clients are still those that its clients on their way in came under. Such a client
//! goes by the parts of its accept, whole; but once a reload has changed who may come in, and as whom, those let nobody
//! in any more.

use super::Parts;
use crate::settings::SqlUser;
use std::{
    mem::discriminant,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// The rules that several parts of a listener have in common, one after the other: they are changed for all of them.
#[derive(Clone, Default)]
pub(crate) struct ClientRules {
    are_changed: Arc<AtomicBool>,
}

impl ClientRules {
    /// Whether clients that came under them are to come again.
    pub(super) fn are_changed(&self) -> bool {
        self.are_changed.load(Relaxed)
    }
}

impl Parts {
    /// These parts take the place of `before`. Clients that came under those and are on their way in go on, unless these
    /// have other rules about clients.
    pub(crate) fn succeed(&mut self, before: &Self) {
        if self.has_rules_of(before) {
            self.client_rules = before.client_rules.clone();
        } else {
            before.client_rules.are_changed.store(true, Relaxed);
        }
    }

    /// The same where clients of `before` have another address: later changes are told once more.
    pub(crate) fn overrule(&self, before: &Self) {
        if !self.has_rules_of(before) {
            before.client_rules.are_changed.store(true, Relaxed);
        }
    }

    fn has_rules_of(&self, before: &Self) -> bool {
        let (own, old) = (&self.listener, &before.listener);
        own.access == old.access
            && own.local_password == old.local_password
            && discriminant(&own.tls) == discriminant(&old.tls)
            && own.user == old.user
            && own.client_choices == old.client_choices
            && self.possible_users().map(rule_of).eq(before.possible_users().map(rule_of))
    }
}

/// What of a user is a rule about clients.
fn rule_of(user: &SqlUser) -> (&str, bool) {
    (&user.name, user.asks_client)
}
