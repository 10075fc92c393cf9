//! Who may come in to a listener: the users of this machine that may, whether a password is asked for, and
//! whose a Unix socket is. Owns the rules between these keys and a listener's address; looks at no user.

use super::{
    ListenAddress, Settings,
    address::{is_remote, listen_text},
    reader::{Places, Reader, Section},
    tree::{Node, Value},
    values::{choice, kind, text},
};
use std::fmt;

/// The word for who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessWord {
    /// `same-user`
    SameUser,
    /// `any`
    Any,
    /// `uids`
    Uids,
    /// `password`
    Password,
}

/// Which users of this machine may come in to a listener. Where it has a local password, that is asked for
/// besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAccess {
    /// The daemon's own and root.
    SameUser,
    /// Whoever can connect.
    Any,
    /// These and no others, neither root nor the daemon's own.
    Uids(Vec<u32>),
    /// Whoever knows the local password.
    Password,
}

/// A user or group of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By its number.
    Id(u32),
    /// By its name.
    Name(String),
}

/// Who may open the file of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketRights {
    /// Permission bits.
    pub mode: u32,
    /// Its user; the daemon's own unless set.
    pub owner: Option<Account>,
    /// Its group; the daemon's, or that of its folder where that says so, unless set.
    pub group: Option<Account>,
}

impl LocalAccess {
    /// Whether the daemon must know whose process a client is.
    pub fn asks_for_user(&self) -> bool {
        matches!(self, Self::SameUser | Self::Uids(_))
    }

    /// Whether a client of this user may come in; `is_own` says which users are the daemon's own or root.
    pub fn admits(&self, uid: u32, is_own: impl FnOnce(u32) -> bool) -> bool {
        match self {
            Self::SameUser => is_own(uid),
            Self::Uids(uids) => uids.contains(&uid),
            Self::Any | Self::Password => true,
        }
    }

    /// As the settings file says it.
    pub fn word(&self) -> AccessWord {
        match self {
            Self::SameUser => AccessWord::SameUser,
            Self::Any => AccessWord::Any,
            Self::Uids(_) => AccessWord::Uids,
            Self::Password => AccessWord::Password,
        }
    }

    /// All that is asked of a client, for people.
    pub fn shown(&self, asks_for_password: bool) -> String {
        let rule = match self {
            Self::Any if asks_for_password => return "password".to_owned(),
            Self::Any | Self::Password | Self::SameUser => self.word().to_string(),
            Self::Uids(uids) => {
                let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
                format!("uids {}", uids.join(", "))
            }
        };
        if asks_for_password && self.asks_for_user() { format!("{rule} and password") } else { rule }
    }
}

impl AccessWord {
    /// As the settings file says it.
    pub fn text(self) -> &'static str {
        ACCESS_WORDS.iter().find(|(_, known)| *known == self).map_or("", |(word, _)| word)
    }
}

impl fmt::Display for AccessWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl SocketRights {
    /// The daemon's own file, with these permission bits.
    pub fn of_mode(mode: u32) -> Self {
        Self { mode, owner: None, group: None }
    }

    /// Whether users other than the daemon's may connect.
    fn lets_others_connect(&self) -> bool {
        // To connect is to write.
        self.mode & 0o022 != 0 || self.owner.is_some()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Reads `mode`, `owner` and `group`.
pub(super) fn read_rights(reader: &mut Reader<'_>, section: &mut Section, on_unix: bool) -> SocketRights {
    for (key, what) in [("mode", "a mode"), ("owner", "an owner"), ("group", "a group")] {
        if section.has(key) && !on_unix {
            let key = section.key(key);
            reader.warnings.push(format!("{key}: only Unix sockets have {what}; it has no effect here"));
        }
    }
    let mode = reader.read(section, "mode", |node, _| mode(node)).unwrap_or(DEFAULT_MODE);
    let owner = reader.read(section, "owner", account);
    let group = reader.read(section, "group", account);
    SocketRights { mode, owner, group }
}

/// Reads `local_access` and `allowed_uids` of a listener at `address`. Before `local_password` is read.
pub(super) fn read_access(
    reader: &mut Reader<'_>,
    section: &mut Section,
    settings: &Settings,
    (address, rights): (&ListenAddress, &SocketRights),
) -> LocalAccess {
    let has_password = section.has("local_password");
    let on_unix = matches!(address, ListenAddress::Unix(_));
    let (is_said, lists) = (section.has("local_access"), section.has("allowed_uids"));
    let (source, key) = (section.source_of("local_access"), section.key("local_access"));
    let (uids_source, uids_key) = (section.source_of("allowed_uids"), section.key("allowed_uids"));
    let said = reader.read(section, "local_access", |node, _| choice(node, &ACCESS_WORDS));
    let uids = reader.read(section, "allowed_uids", |node, _| user_ids(node));
    if is_said && said.is_none() {
        // What was meant is not known, so nothing else can be said about it.
        return LocalAccess::SameUser;
    }
    let word = match said {
        None if lists && on_unix => AccessWord::Uids,
        None => default_word(settings.local_access, has_password, is_remote(address) || !(on_unix || CAN_TELL)),
        Some(word) => word,
    };
    if word == AccessWord::Password && !has_password {
        reader.fault(source.clone(), key.clone(), "\"password\" needs local_password, which clients are asked for");
    }
    if lists && word != AccessWord::Uids {
        let rule = "has an effect beside local_access = \"uids\" only; set that too, or take this away";
        reader.fault(uids_source, uids_key, rule);
    } else if !lists && word == AccessWord::Uids {
        let rule = "\"uids\" needs the listener's allowed_uids, a list of user IDs such as [1000]";
        reader.fault(source.clone(), key.clone(), rule);
    }
    let access = match word {
        AccessWord::SameUser => LocalAccess::SameUser,
        AccessWord::Any => LocalAccess::Any,
        AccessWord::Uids => LocalAccess::Uids(uids.unwrap_or_default()),
        AccessWord::Password => LocalAccess::Password,
    };
    if access.asks_for_user() && is_remote(address) {
        let rule = format!(
            "\"{word}\" cannot be kept at {}: a client of another host has no user here; let tls = \"require\" and \
             local_password guard it, or listen on localhost",
            listen_text(address)
        );
        reader.fault(source, key, rule);
    }
    if !is_said && on_unix && access == LocalAccess::SameUser && rights.lets_others_connect() {
        reader.warnings.push(format!(
            "{}: its mode and owner let other users connect, and they are refused: local_access is \"same-user\" \
             unless set. Set local_access = \"any\" for all who may open the socket, or allowed_uids = [ … ]",
            section.label
        ));
    }
    access
}

/// What holds for a listener that says nothing itself.
fn default_word(of_daemon: AccessWord, has_password: bool, cannot_tell: bool) -> AccessWord {
    match of_daemon {
        AccessWord::SameUser | AccessWord::Any if has_password => AccessWord::Password,
        // That other hosts may come in was asked for in so many words, or is a fault of its own.
        AccessWord::SameUser if cannot_tell => AccessWord::Any,
        word => word,
    }
}

/// The daemon's own `local_access`.
pub(super) fn set_access(node: &Node, _: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
    settings.local_access = choice(node, &ACCESS_WORDS)?;
    Ok(())
}

fn user_ids(node: &Node) -> Result<Vec<u32>, String> {
    let Value::List(items) = &node.value else {
        return Err(format!("{UIDS_RULE}, not {}", kind(&node.value)));
    };
    let ids: Option<Vec<u32>> = items.iter().map(|item| integer(item).and_then(id)).collect();
    ids.filter(|ids| !ids.is_empty()).ok_or_else(|| UIDS_RULE.to_owned())
}

fn integer(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

/// The last number means nobody to every call that takes one.
fn id(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX)
}

fn account(node: &Node, _: &Places<'_>) -> Result<Account, String> {
    let rule = || ACCOUNT_RULE.to_owned();
    if let Some(number) = integer(node) {
        return id(number).map(Account::Id).ok_or_else(rule);
    }
    let said = text(node)?;
    if said.bytes().all(|byte| byte.is_ascii_digit()) {
        return said.parse().ok().and_then(id).map(Account::Id).ok_or_else(rule);
    }
    let known = |byte: u8| byte.is_ascii_graphic() && !b":,/\"'\\".contains(&byte);
    (said.len() <= NAME_MAX && said.bytes().all(known)).then(|| Account::Name(said.to_owned())).ok_or_else(rule)
}

fn mode(node: &Node) -> Result<u32, String> {
    let said = text(node).map_err(|rule| format!("{rule}: {MODE_RULE}"))?;
    let octal = (3..=4).contains(&said.len()) && said.bytes().all(|byte| byte.is_ascii_digit());
    let mode = octal.then(|| u32::from_str_radix(said, 8).ok()).flatten();
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| MODE_RULE.to_owned())
}

/// The words of `local_access`.
pub(super) const ACCESS_WORDS: [(&str, AccessWord); 4] = [
    ("same-user", AccessWord::SameUser),
    ("any", AccessWord::Any),
    ("uids", AccessWord::Uids),
    ("password", AccessWord::Password),
];
/// Whether the system tells whose a TCP connection over loopback is.
const CAN_TELL: bool = cfg!(target_os = "linux");
/// Only this user.
const DEFAULT_MODE: u32 = 0o600;
/// Longer than any system allows.
const NAME_MAX: usize = 256;
const MODE_RULE: &str = "must be permission bits as text, like \"0600\"";
const UIDS_RULE: &str = "must be a list of one or more user IDs, like [1000]";
const ACCOUNT_RULE: &str = "must be the name or the number of a user or group";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_come_in_is_told_in_one_word_or_two() {
        let shown = |access: LocalAccess| [false, true].map(|password| access.shown(password));

        assert_eq!(shown(LocalAccess::SameUser), ["same-user", "same-user and password"]);
        assert_eq!(shown(LocalAccess::Uids(vec![1000, 33])), ["uids 1000, 33", "uids 1000, 33 and password"]);
        assert_eq!(shown(LocalAccess::Any), ["any", "password"]);
        assert_eq!(LocalAccess::Password.shown(true), "password");
    }

    #[test]
    fn root_comes_in_with_the_daemons_user_and_of_a_list_only_who_is_on_it() {
        let is_own = |uid| uid == 0 || uid == 1000;
        let admitted = |access: LocalAccess| [0, 7, 1000, 1001].map(|uid| access.admits(uid, is_own));

        assert_eq!(admitted(LocalAccess::SameUser), [true, false, true, false]);
        assert_eq!(admitted(LocalAccess::Uids(vec![7, 1001])), [false, true, false, true]);
        assert_eq!(admitted(LocalAccess::Any), [true; 4]);
        assert_eq!(admitted(LocalAccess::Password), [true; 4]);
    }

    #[test]
    fn accounts_are_names_or_numbers() {
        let read = |value| {
            let node = Node { value, source: super::super::Source::Default };
            let home = std::path::PathBuf::new();
            account(&node, &Places { home: None, working_folder: &home, file_folder: home.clone() }).ok()
        };

        assert_eq!(read(Value::Integer(33)), Some(Account::Id(33)));
        assert_eq!(read(Value::Text("33".into())), Some(Account::Id(33)));
        assert_eq!(read(Value::Text("www-data".into())), Some(Account::Name("www-data".into())));
        for odd in [Value::Integer(-1), Value::Integer(i64::from(u32::MAX)), Value::Text("a:b".into())] {
            assert_eq!(read(odd), None);
        }
        assert_eq!(read(Value::Text(String::new())), None);
    }
}
