//! Startup parameters: kept byte for byte and in order, since clients may send any encoding.

use super::options::{same_name, swallows_what_follows};

/// Names and values of a startup message, each with its NUL, in one piece: what is kept for every session is small,
/// and read rarely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StartupParameters(Box<[u8]>);

/// Name and value, without their NULs.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// What the daemon puts into a client's startup parameters.
#[derive(Clone, Copy, Debug)]
pub struct Injected<'a> {
    /// Replaces every `user`.
    pub user: &'a str,
    /// For a client that sends no database or an empty one.
    pub database: &'a str,
    /// For every client, whatever it sends.
    pub is_database_locked: bool,
    /// Appended unless the client sends the same key.
    pub session_parameters: &'a [(String, String)],
    /// Appends `--crdb:jwt_auth_enabled=true` to `options`.
    pub jwt: bool,
}

impl StartupParameters {
    /// Reads the body of a startup message: NUL-terminated names and values in turn, then one NUL.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let (&last, text) = body.split_last().ok_or("it ends before its parameters do")?;
        if last != 0 {
            let is_ended = body.windows(2).any(|pair| pair == [0, 0]);
            return Err(if is_ended { "bytes follow its end" } else { "its parameters are not terminated" });
        }
        let mut rest = text;
        let mut names_user = false;
        while !rest.is_empty() {
            let name = take_text(&mut rest).ok_or("a parameter's name is not terminated")?;
            if name.is_empty() {
                return Err("bytes follow its end");
            }
            take_text(&mut rest).ok_or("a parameter has no value")?;
            names_user |= same_name(name, "user");
        }
        if names_user { Ok(Self(text.into())) } else { Err("it names no user") }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || Some((take_text(&mut rest)?, take_text(&mut rest)?)))
    }

    /// The last value of `name`, compared without case, as CockroachDB lower-cases names.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let with_name = self.pairs().filter(|(own, _)| same_name(own, name));
        with_name.last().map(|(_, value)| value)
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The last value of `name`, for a person to read: not UTF-8 is replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Protocol options (`_pq_.…`) of the client; the daemon knows none.
    pub fn protocol_options(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs().map(|(name, _)| name).filter(|name| has_prefix(name, "_pq_."))
    }

    /// What goes upstream: the client's parameters, in its order and byte for byte, but for `injected`
    /// and without `crdb:*` and `system_identity` (a local client must not speak as the vendor's proxy, nor be somebody
    /// else in the virtual cluster of the system) and `_pq_.*`.
    pub fn for_upstream(&self, injected: &Injected<'_>) -> Self {
        let is_vendors = |name: &[u8]| has_prefix(name, "crdb:") || same_name(name, "system_identity");
        let kept = |name: &[u8]| !same_name(name, "user") && !is_vendors(name) && !has_prefix(name, "_pq_.");
        let names_database = |(name, value): Pair<'_>| same_name(name, "database") && !value.is_empty();
        let has_database = !injected.is_database_locked && self.pairs().any(names_database);
        let is_unused_database = |name: &[u8]| !has_database && same_name(name, "database");
        let mut pairs = vec![(b"user".as_slice(), injected.user.as_bytes())];
        pairs.extend(self.pairs().filter(|(name, _)| kept(name) && !is_unused_database(name)));
        if !has_database {
            pairs.push((b"database", injected.database.as_bytes()));
        }
        let ours =
            injected.session_parameters.iter().filter(|(name, _)| !kept(name.as_bytes()) || self.get(name).is_none());
        pairs.extend(ours.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let options = if injected.jwt { with_option(&mut pairs, b"--crdb:jwt_auth_enabled=true") } else { None };
        let mut text = Vec::with_capacity(self.0.len().saturating_add(EXPECTED_BYTES));
        for (place, (name, value)) in pairs.iter().enumerate() {
            let changed = options.as_ref().filter(|(of, _)| *of == place).map(|(_, value)| &**value);
            for piece in [name, changed.unwrap_or(value)] {
                text.extend_from_slice(piece);
                text.push(0);
            }
        }
        Self(text.into())
    }

    /// Names and values as a startup message carries them, with the closing NUL.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0);
        into.push(0);
    }
}

/// Adds an item to `options`: to the last of `pairs` of that name, whose place and new value are given, or as a pair of
/// its own. Where an appended item could melt into the client's last one, it goes first.
fn with_option(pairs: &mut Vec<Pair<'_>>, item: &'static [u8]) -> Option<(usize, Vec<u8>)> {
    let Some(place) = pairs.iter().rposition(|(name, _)| same_name(name, "options")) else {
        pairs.push((b"options", item));
        return None;
    };
    let (_, options) = *pairs.get(place)?;
    let value = match (options.is_empty(), swallows_what_follows(options)) {
        (true, _) => item.to_vec(),
        (false, false) => [options, item].join(&b' '),
        (false, true) => [item, options].join(&b' '),
    };
    Some((place, value))
}

fn has_prefix(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == 0)?;
    let (text, after) = rest.split_at_checked(end)?;
    *rest = after.get(1..)?;
    Some(text)
}

/// What is put in besides what the client has said.
const EXPECTED_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn injected() -> Injected<'static> {
        Injected { user: "app", database: "defaultdb", is_database_locked: false, session_parameters: &[], jwt: false }
    }

    fn sent(body: &[u8], injected: &Injected<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        StartupParameters::parse(body).unwrap().for_upstream(injected).encode(&mut bytes);
        bytes
    }

    #[test]
    fn all_but_the_user_passes_byte_for_byte_and_in_order() {
        let body =
            b"zeta\0\xff\xfe\0user\0me\0database\0shop\0options\0-c a=b\\ c -cd=e\0replication\0database\0Zeta\0\0\0";

        assert_eq!(
            sent(body, &injected()),
            b"user\0app\0zeta\0\xff\xfe\0database\0shop\0options\0-c a=b\\ c -cd=e\0replication\0database\0Zeta\0\0\0"
        );
    }

    #[test]
    fn every_user_is_replaced_by_one_whatever_its_case() {
        assert_eq!(sent(b"USER\0root\0user\0me\0database\0d\0\0", &injected()), b"user\0app\0database\0d\0\0");
    }

    #[test]
    fn vendor_keys_and_protocol_options_do_not_reach_the_server() {
        let body = b"user\0me\0crdb:remote_addr\0x\0CRDB:session_revival_token_base64\0t\0_pq_.x\0on\0database\0d\0\0";

        assert_eq!(sent(body, &injected()), b"user\0app\0database\0d\0\0");
    }

    #[test]
    fn another_identity_of_the_server_is_not_for_clients_to_ask_for() {
        for name in ["system_identity", "System_Identity"] {
            let body = format!("user\0me\0{name}\0root\0database\0d\0\0");
            assert_eq!(sent(body.as_bytes(), &injected()), b"user\0app\0database\0d\0\0");
        }
        let ours = [("system_identity".to_owned(), "node".to_owned())];
        let injected = Injected { session_parameters: &ours, ..injected() };
        assert_eq!(
            sent(b"user\0me\0system_identity\0root\0database\0d\0\0", &injected),
            b"user\0app\0database\0d\0system_identity\0node\0\0"
        );
    }

    #[test]
    fn an_absent_or_empty_database_becomes_the_listeners() {
        assert_eq!(sent(b"user\0me\0\0", &injected()), b"user\0app\0database\0defaultdb\0\0");
        assert_eq!(sent(b"user\0me\0Database\0\0\0", &injected()), b"user\0app\0database\0defaultdb\0\0");
    }

    #[test]
    fn a_locked_database_replaces_all_that_a_client_sends() {
        let injected = Injected { is_database_locked: true, ..injected() };

        for database in ["", "database\0theirs\0", "Database\0theirs\0x\0y\0database\0\0DATABASE\0cluster:z\0"] {
            let sent = sent(format!("user\0me\0{database}\0").as_bytes(), &injected);
            assert!(sent.ends_with(b"database\0defaultdb\0\0"), "{}", sent.escape_ascii());
            assert!(!sent.windows(6).any(|part| part == b"theirs"), "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn the_clients_own_value_beats_a_session_parameter() {
        let session_parameters = [("application_name".to_owned(), "ours".to_owned()), ("a".to_owned(), "b".to_owned())];
        let injected = Injected { session_parameters: &session_parameters, ..injected() };

        assert_eq!(
            sent(b"user\0me\0database\0d\0Application_Name\0theirs\0\0", &injected),
            b"user\0app\0database\0d\0Application_Name\0theirs\0a\0b\0\0"
        );
    }

    #[test]
    fn the_jwt_option_stands_apart_from_the_clients_options() {
        let injected = Injected { jwt: true, ..injected() };
        let jwt = "--crdb:jwt_auth_enabled=true";
        let options =
            |body: &[u8]| StartupParameters::parse(body).unwrap().for_upstream(&injected).text("options").unwrap();

        assert_eq!(options(b"user\0me\0\0"), jwt);
        assert_eq!(options(b"user\0me\0options\0\0\0"), jwt);
        assert_eq!(options(b"user\0me\0options\0-c a=b\\\\\0\0"), format!("-c a=b\\\\ {jwt}"));
        assert_eq!(options(b"user\0me\0options\0-c a=b\\\0\0"), format!("{jwt} -c a=b\\"));
        assert_eq!(options(b"user\0me\0options\0-c a=b%5C\0\0"), format!("{jwt} -c a=b%5C"));
        assert_eq!(options(b"user\0me\0options\0--a=b -c \0\0"), format!("{jwt} --a=b -c "));
    }

    #[test]
    fn what_is_not_terminated_or_names_no_user_is_malformed() {
        for body in [
            &b""[..],
            b"\0",
            b"user",
            b"user\0",
            b"user\0me",
            b"user\0me\0",
            b"database\0d\0\0",
            b"user\0me\0\0x\0y\0\0",
        ] {
            assert!(StartupParameters::parse(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn reading_allocates_what_is_kept_and_nothing_else() {
        let body = b"user\0me\0database\0shop\0application_name\0psql\0client_encoding\0UTF8\0\0";

        let counted = allocation_counter::measure(|| drop(StartupParameters::parse(body).unwrap()));
        assert_eq!((counted.count_total, counted.bytes_total), (1, (body.len() - 1) as u64));

        let malformed = allocation_counter::measure(|| assert!(StartupParameters::parse(b"user\0me").is_err()));
        assert_eq!(malformed.count_total, 0);
    }
}
