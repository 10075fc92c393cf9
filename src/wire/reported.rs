//! Parameters as a server reports them (ParameterStatus): the last value of each.

use std::collections::BTreeMap;

/// The last reported value of each parameter. Bounded; beyond the bound it only knows that it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
    is_too_much: bool,
}

impl Reported {
    /// What the ParameterStatus messages among `messages`, which are whole, say.
    pub fn of(messages: &[u8]) -> Self {
        let mut reported = Self::default();
        reported.follow(messages);
        reported
    }

    /// Takes in the ParameterStatus messages among `messages`, which are whole.
    pub fn follow(&mut self, messages: &[u8]) {
        let mut rest = messages;
        while let Some(([kind, length @ ..], after)) = rest.split_first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((body, next)) = length.checked_sub(4).and_then(|body| after.split_at_checked(body)) else {
                self.is_too_much = true;
                return;
            };
            if *kind == b'S' {
                self.note(body);
            }
            rest = next;
        }
    }

    /// Takes in the body of one ParameterStatus.
    pub fn note(&mut self, body: &[u8]) {
        let mut parts = body.splitn(3, |&byte| byte == 0);
        let (Some(name), Some(value), Some([])) = (parts.next(), parts.next(), parts.next()) else {
            self.is_too_much = true;
            return;
        };
        self.bytes = self.bytes.saturating_add(body.len());
        if self.bytes > BYTES_MAX {
            self.is_too_much = true;
            return;
        }
        if let Some(before) = self.values.insert(name.into(), value.into()) {
            self.bytes = self.bytes.saturating_sub(before.len().saturating_add(name.len()).saturating_add(2));
        }
    }

    /// Something was reported that could not be taken in.
    pub fn lose(&mut self) {
        self.is_too_much = true;
    }

    /// Whether everything reported since is what the login's messages reported already.
    pub fn is_as_at_login(&self, login: &[&[u8]]) -> bool {
        if self.values.is_empty() && !self.is_too_much {
            return true;
        }
        let mut at_login = Self::default();
        login.iter().for_each(|messages| at_login.follow(messages));
        let is_known = !self.is_too_much && !at_login.is_too_much;
        is_known && self.values.iter().all(|(name, value)| at_login.values.get(name) == Some(value))
    }
}

/// Servers report a dozen short ones.
const BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::frame;

    fn status(name: &str, value: &str) -> Vec<u8> {
        frame(b'S', format!("{name}\0{value}\0").as_bytes())
    }

    #[test]
    fn what_changed_and_came_back_is_as_at_login() {
        let login = [status("TimeZone", "UTC"), status("role", "app"), frame(b'Z', b"I")].concat();
        let mut since = Reported::default();
        assert!(since.is_as_at_login(&[&login]));

        since.note(b"TimeZone\0PST\0");
        assert!(!since.is_as_at_login(&[&login]));
        since.follow(&status("TimeZone", "UTC"));
        assert!(since.is_as_at_login(&[&login]));

        since.note(b"novel\x001\0");
        assert!(!since.is_as_at_login(&[&login]), "what login did not report");
    }

    #[test]
    fn what_could_not_be_taken_in_is_never_the_same() {
        for odd in [&b""[..], b"name", b"name\0value", b"name\0value\0more"] {
            let mut since = Reported::default();
            since.note(odd);
            assert!(!since.is_as_at_login(&[]), "{odd:?}");
        }
        let mut much = Reported::default();
        for index in 0..2000 {
            much.note(format!("name{index}\0value\0").as_bytes());
        }
        assert!(much.is_too_much && much.values.len() < 2000);
        let mut again = Reported::default();
        for _ in 0..10_000 {
            again.note(b"TimeZone\0UTC\0");
        }
        assert_eq!(again, Reported::of(&status("TimeZone", "UTC")), "the same again takes no more room");
    }
}
