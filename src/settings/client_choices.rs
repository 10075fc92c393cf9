//! What a listener's clients may choose for themselves, of what its settings could decide for them.

use super::{
    Cluster, ListenAddress, Listener,
    address::is_remote,
    reader::{Reader, Section},
    source::did_you_mean,
    tree::Value,
    values::{boolean, choice, nonempty},
};

/// What clients of a listener may choose for themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientChoices {
    /// A virtual cluster: `cluster` in `options`, or in front of the database.
    pub cluster_option: bool,
    /// No database: the listener's it is, whatever a client asks for.
    pub database_locked: bool,
}

/// Whom the sessions of a listener log in as.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerUser {
    /// One of the cluster's, as it is spelled there; with [`UserMode::Map`] its first, for logins that no client asks for.
    pub name: String,
    /// What the client's own name counts for.
    pub mode: UserMode,
}

/// What the name counts for that a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserMode {
    /// Nothing: it is replaced.
    #[default]
    Replace,
    /// It picks the user.
    Map,
    /// It must be the very user.
    MustMatch,
}

/// A password that a listener's clients are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsksFor {
    /// `local_password`.
    LocalPassword,
    /// The SQL user's own; with [`UserMode::Map`] of some users.
    UserPassword,
}

impl AsksFor {
    /// As `/status` says it.
    pub fn text(self) -> &'static str {
        match self {
            Self::LocalPassword => "local_password",
            Self::UserPassword => "user_password",
        }
    }
}

impl Listener {
    /// What its clients are asked for; `cluster` is its own.
    pub fn asks_for(&self, cluster: &Cluster) -> Option<AsksFor> {
        let ListenerUser { name, mode } = &self.user;
        let mut possible = cluster.users().filter(|user| *mode == UserMode::Map || user.name == *name);
        match self.local_password {
            Some(_) => Some(AsksFor::LocalPassword),
            None => possible.any(|user| user.asks_client).then_some(AsksFor::UserPassword),
        }
    }
}

/// Reads the keys of one listener.
pub(super) fn read_client_choices(reader: &mut Reader<'_>, section: &mut Section) -> ClientChoices {
    let mut switch = |key| reader.read(section, key, boolean).unwrap_or(false);
    ClientChoices { cluster_option: switch("allow_cluster_option"), database_locked: switch("database_locked") }
}

/// Reads `user` and `user_mode`; `cluster` is absent where it has a fault of its own.
pub(super) fn read_listener_user(
    reader: &mut Reader<'_>,
    section: &mut Section,
    cluster: Option<&Cluster>,
    address: &ListenAddress,
) -> Option<ListenerUser> {
    let mode = reader.read(section, "user_mode", |node, _| choice(node, &USER_MODES)).unwrap_or_default();
    let is_named = section.has("user");
    if is_named && mode == UserMode::Map {
        reader.fault_in(section, "user", "has no effect with user_mode = \"map\": the client's name picks the user");
    }
    let named = reader.read(section, "user", |node, places| {
        let name = nonempty(node, places)?;
        let Some(cluster) = cluster else { return Ok(name) };
        let found = cluster.users().find(|user| user.is_called(&name)).map(|user| user.name.clone());
        let known = cluster.users().map(|user| user.name.as_str());
        found.ok_or_else(|| format!("the cluster has no user of this name{}", did_you_mean(&name, known)))
    });
    let cluster = cluster?;
    if !is_named && mode != UserMode::Map && !cluster.other_users.is_empty() {
        let names: Vec<_> = cluster.users().map(|user| format!("\"{}\"", user.name)).collect();
        let names = names.join(", ");
        let rule = format!("missing; the cluster has several users ({names}), so say which, or user_mode = \"map\"");
        reader.fault_in(section, "user", rule);
    }
    let name = named.unwrap_or_else(|| cluster.user.name.clone());
    let mut possible = cluster.users().filter(|user| mode == UserMode::Map || user.name == name);
    if possible.any(|user| user.asks_client) {
        refuse_beside_client_passwords(reader, section, mode, address);
    }
    Some(ListenerUser { name, mode })
}

/// What cannot be where clients are asked for their own passwords: those are not kept, and never sent in clear to another
/// host. With `map` what is kept is that of users with credentials here.
fn refuse_beside_client_passwords(reader: &mut Reader<'_>, section: &Section, mode: UserMode, address: &ListenAddress) {
    if section.has("local_password") {
        let rule = "cannot be asked for beside the user's own password (credential = \"client\")";
        reader.fault(section.source_of("local_password"), section.key("local_password"), rule);
    }
    let wants = |key| match section.peek(key) {
        Some(Value::Boolean(wanted)) => *wanted,
        Some(Value::Integer(number)) => *number > 0,
        _ => false,
    };
    for key in ["reuse", "warm_max"].into_iter().filter(|key| mode != UserMode::Map && wants(key)) {
        let rule = "cannot be with credential = \"client\": nobody else may use what a client's password opened";
        reader.fault(section.source_of(key), section.key(key), rule);
    }
    let requires_tls = matches!(section.peek("tls"), Some(Value::Text(said) | Value::Plain(said)) if said == "require");
    if is_remote(address) && !requires_tls {
        let rule =
            "needs tls = \"require\" on an address that other hosts can reach: clients send their passwords in clear";
        reader.fault(section.source_of("address"), section.key("address"), rule);
    }
}

impl ClientChoices {
    /// The keys, as a settings file says them.
    pub(super) fn show(&self) -> Vec<(&'static str, toml::Value)> {
        vec![("database_locked", self.database_locked.into()), ("allow_cluster_option", self.cluster_option.into())]
    }
}

impl ListenerUser {
    /// The keys, as a settings file says them.
    pub(super) fn show(&self) -> Vec<(&'static str, toml::Value)> {
        let name = (self.mode != UserMode::Map).then(|| ("user", self.name.as_str().into()));
        name.into_iter().chain([("user_mode", self.mode.text().into())]).collect()
    }
}

impl UserMode {
    /// As settings say it.
    pub fn text(self) -> &'static str {
        USER_MODES.iter().find(|(_, mode)| *mode == self).map_or("replace", |(word, _)| word)
    }
}

const USER_MODES: [(&str, UserMode); 3] =
    [("replace", UserMode::Replace), ("map", UserMode::Map), ("must-match", UserMode::MustMatch)];
