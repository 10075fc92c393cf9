//! The daemon's own keys: the settings file's first block, each also a variable. Owns the one table
//! of their names, bounds, defaults and places in [`Settings`]; a key that is not in it does not exist.

use super::{
    AccessWord, AdminAddress, Limits, LogFormat, Settings,
    access::{ACCESS_WORDS, set_access},
    address::{ADMIN_PORT, admin_address, admin_text},
    reader::{Places, Reader, Section},
    tree::Node,
    values::{DURATIONS, YEAR, boolean, choice, duration, duration_or_off, duration_text, list, whole},
};
use std::{num::NonZero, ops::RangeInclusive, time::Duration};
use tracing::Level;

/// One key of the first block.
pub(super) struct ScalarKey {
    pub(super) name: &'static str,
    pub(super) slot: Slot,
}

/// What kind of value a key takes, and where it goes.
pub(super) enum Slot {
    /// A duration within bounds.
    Span { bounds: RangeInclusive<Duration>, of: fn(&mut Settings) -> &mut Duration },
    /// A duration, or `"off"`.
    SpanOrOff { of: fn(&mut Settings) -> &mut Option<Duration> },
    /// A number that is never 0.
    Count { most: usize, least: usize, of: fn(&mut Settings) -> &mut NonZero<usize> },
    /// A number that may be 0.
    Number { most: usize, of: fn(&mut Settings) -> &mut usize },
    /// `true` or `false`.
    Switch { of: fn(&mut Settings) -> &mut bool },
    /// A key with a rule of its own.
    Special { set: fn(&Node, &Places<'_>, &mut Settings) -> Result<(), String>, show: fn(&Settings) -> toml::Value },
}

/// Reads every key of the first block into `settings`; `cores` is what `threads = 0` stands for.
pub(super) fn read_scalars(reader: &mut Reader<'_>, root: &mut Section, settings: &mut Settings) {
    for key in SCALARS {
        reader.read(root, key.name, |node, places| key.slot.set(node, places, settings));
    }
}

/// Whether the first block has such a key; none of them holds a secret.
pub(crate) fn is_daemon_key(name: &str) -> bool {
    SCALARS.iter().any(|key| key.name == name)
}

impl Slot {
    fn set(&self, node: &Node, places: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
        match self {
            Self::Span { bounds, of } => *of(settings) = duration(node, bounds.clone())?,
            Self::SpanOrOff { of } => *of(settings) = duration_or_off(node)?,
            Self::Count { least, most, of } => *of(settings) = count(node, *least, *most)?,
            Self::Number { most, of } => *of(settings) = whole(node, 0, *most)?,
            Self::Switch { of } => *of(settings) = boolean(node, places)?,
            Self::Special { set, .. } => set(node, places, settings)?,
        }
        Ok(())
    }

    /// The value as a settings file would say it. `settings` stays as it is: the table of slots has
    /// one accessor each, and that one can also write.
    pub(super) fn show(&self, settings: &mut Settings) -> toml::Value {
        match self {
            Self::Span { of, .. } => duration_text(*of(settings)).into(),
            Self::SpanOrOff { of } => span_or_off_text(*of(settings)).into(),
            Self::Count { of, .. } => number(of(settings).get()),
            Self::Number { of, .. } => number(*of(settings)),
            Self::Switch { of } => (*of(settings)).into(),
            Self::Special { show, .. } => show(settings),
        }
    }
}

/// A number that is never 0, whatever `least` says.
pub(super) fn count(node: &Node, least: usize, most: usize) -> Result<NonZero<usize>, String> {
    let least = least.max(1);
    NonZero::new(whole(node, least, most)?).ok_or_else(|| format!("must be at least {least}"))
}

/// `"10s"` or `"off"`.
pub(super) fn span_or_off_text(span: Option<Duration>) -> String {
    span.map_or("off".to_owned(), duration_text)
}

/// A number as TOML has it.
pub(super) fn number(number: usize) -> toml::Value {
    toml::Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Every default, with neither clusters nor listeners.
pub(super) fn defaults(cores: usize) -> Settings {
    Settings {
        file: None,
        admin: AdminAddress::Localhost(ADMIN_PORT),
        admin_hosts: Vec::new(),
        admin_unsafe_allow_remote: false,
        log_format: LogFormat::Text,
        log_level: Level::INFO,
        log_repeat: Duration::from_secs(10),
        threads: threads_of_cores(cores),
        threads_configured: 0,
        strict_secrets: false,
        ready_requires_upstream: false,
        startup_requires_upstream: false,
        watch_settings: false,
        admin_post: false,
        local_access: AccessWord::SameUser,
        limits: Limits {
            sessions_max: at_least_one(10_000),
            startups_max: at_least_one(1000),
            startup_limit: Duration::from_secs(10),
            startup_bytes_max: at_least_one(10_000),
            connect_limit: Duration::from_secs(10),
            endpoint_limit: Duration::from_secs(4),
            logins_max: at_least_one(64),
            login_queue_limit: Duration::from_secs(30),
            close_limit: Duration::from_secs(10),
            session_idle_limit: None,
            session_age_limit: None,
            keepalive_idle: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_count: NonZero::<u32>::MIN.saturating_add(2),
            tcp_user_timeout: Duration::from_secs(30),
            relay_buffer_bytes: at_least_one(65_536),
            cancel_limit: Duration::from_secs(5),
            cancels_max: at_least_one(32),
            drain_delay: Duration::ZERO,
            drain_limit: Duration::from_secs(25),
            idle_close: Duration::from_secs(1),
            warm_max: 4,
            warm_idle: Duration::from_secs(300),
            warm_age: Duration::from_secs(300),
            warm_total_max: 64,
            probe_interval: Duration::from_secs(60),
            probe_down_interval: Duration::from_secs(5),
            dns_refresh: Duration::from_secs(30),
            failback_after: Duration::from_secs(60),
        },
        clusters: Vec::new(),
        listeners: Vec::new(),
    }
}

fn at_least_one(number: usize) -> NonZero<usize> {
    NonZero::new(number).unwrap_or(NonZero::<usize>::MIN)
}

/// One core is left to whoever is at the other ends of the connections: on two cores one thread moves more than two,
/// which wake each other (`docs/performance.md`).
fn threads_of_cores(cores: usize) -> NonZero<usize> {
    at_least_one(cores.saturating_sub(1).min(4))
}

fn set_admin(node: &Node, places: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
    settings.admin = admin_address(node, places)?;
    Ok(())
}

fn set_admin_hosts(node: &Node, _: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
    let hosts = list(node)?;
    if hosts.iter().any(|host| host.is_empty() || host.contains([':', '/', ' '])) {
        return Err("must be host names, without scheme and port".to_owned());
    }
    settings.admin_hosts = hosts;
    Ok(())
}

fn set_log_format(node: &Node, _: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
    settings.log_format = choice(node, &LOG_FORMATS)?;
    Ok(())
}

fn set_log_level(node: &Node, _: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
    settings.log_level = choice(node, &LOG_LEVELS)?;
    Ok(())
}

fn set_threads(node: &Node, _: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
    // The defaults already hold what 0 stands for on this machine.
    settings.threads_configured = whole(node, 0, 1024)?;
    if let Some(threads) = NonZero::new(settings.threads_configured) {
        settings.threads = threads;
    }
    Ok(())
}

fn set_keepalive_count(node: &Node, _: &Places<'_>, settings: &mut Settings) -> Result<(), String> {
    let count = u32::try_from(whole(node, 1, KEEPALIVES_MAX)?).ok().and_then(NonZero::new);
    settings.limits.keepalive_count = count.ok_or(KEEPALIVE_RULE)?;
    Ok(())
}

/// The word for a value.
pub(super) fn word_of<T: PartialEq>(value: &T, words: &[(&str, T)]) -> toml::Value {
    let word = words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word);
    word.into()
}

const fn span(name: &'static str, of: fn(&mut Settings) -> &mut Duration) -> ScalarKey {
    ScalarKey { name, slot: Slot::Span { bounds: DURATIONS, of } }
}

/// For what would keep a cluster or the network busy if it came too often.
const fn span_from(name: &'static str, least: Duration, of: fn(&mut Settings) -> &mut Duration) -> ScalarKey {
    ScalarKey { name, slot: Slot::Span { bounds: least..=YEAR, of } }
}

/// Linux counts these in seconds, from 1 to 32767.
const fn seconds(name: &'static str, of: fn(&mut Settings) -> &mut Duration) -> ScalarKey {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(32_767);
    ScalarKey { name, slot: Slot::Span { bounds, of } }
}

const fn span_or_off(name: &'static str, of: fn(&mut Settings) -> &mut Option<Duration>) -> ScalarKey {
    ScalarKey { name, slot: Slot::SpanOrOff { of } }
}

const fn counted(
    name: &'static str,
    least: usize,
    most: usize,
    of: fn(&mut Settings) -> &mut NonZero<usize>,
) -> ScalarKey {
    ScalarKey { name, slot: Slot::Count { least, most, of } }
}

const fn numbered(name: &'static str, most: usize, of: fn(&mut Settings) -> &mut usize) -> ScalarKey {
    ScalarKey { name, slot: Slot::Number { most, of } }
}

const fn switch(name: &'static str, of: fn(&mut Settings) -> &mut bool) -> ScalarKey {
    ScalarKey { name, slot: Slot::Switch { of } }
}

const fn special(
    name: &'static str,
    set: fn(&Node, &Places<'_>, &mut Settings) -> Result<(), String>,
    show: fn(&Settings) -> toml::Value,
) -> ScalarKey {
    ScalarKey { name, slot: Slot::Special { set, show } }
}

/// The first block, in the order in which it is documented and shown.
pub(super) const SCALARS: &[ScalarKey] = &[
    special("admin", set_admin, |s| admin_text(&s.admin).into()),
    special("admin_hosts", set_admin_hosts, |s| s.admin_hosts.clone().into()),
    switch("admin_unsafe_allow_remote", |s| &mut s.admin_unsafe_allow_remote),
    special("log_format", set_log_format, |s| word_of(&s.log_format, &LOG_FORMATS)),
    special("log_level", set_log_level, |s| word_of(&s.log_level, &LOG_LEVELS)),
    span("log_repeat", |s| &mut s.log_repeat),
    special("threads", set_threads, |s| number(s.threads_configured)),
    switch("strict_secrets", |s| &mut s.strict_secrets),
    switch("ready_requires_upstream", |s| &mut s.ready_requires_upstream),
    switch("startup_requires_upstream", |s| &mut s.startup_requires_upstream),
    counted("sessions_max", 1, SESSIONS_MAX, |s| &mut s.limits.sessions_max),
    counted("startups_max", 1, 1_000_000, |s| &mut s.limits.startups_max),
    span("startup_limit", |s| &mut s.limits.startup_limit),
    counted("startup_bytes_max", 64, 1 << 20, |s| &mut s.limits.startup_bytes_max),
    span("connect_limit", |s| &mut s.limits.connect_limit),
    span("endpoint_limit", |s| &mut s.limits.endpoint_limit),
    counted("logins_max", 1, 100_000, |s| &mut s.limits.logins_max),
    span("login_queue_limit", |s| &mut s.limits.login_queue_limit),
    span("close_limit", |s| &mut s.limits.close_limit),
    span_or_off("session_idle_limit", |s| &mut s.limits.session_idle_limit),
    span_or_off("session_age_limit", |s| &mut s.limits.session_age_limit),
    seconds("keepalive_idle", |s| &mut s.limits.keepalive_idle),
    seconds("keepalive_interval", |s| &mut s.limits.keepalive_interval),
    special("keepalive_count", set_keepalive_count, |s| i64::from(s.limits.keepalive_count.get()).into()),
    ScalarKey {
        name: "tcp_user_timeout",
        slot: Slot::Span { bounds: USER_TIMEOUTS, of: |s| &mut s.limits.tcp_user_timeout },
    },
    counted("relay_buffer_bytes", 4096, 1 << 20, |s| &mut s.limits.relay_buffer_bytes),
    span("cancel_limit", |s| &mut s.limits.cancel_limit),
    counted("cancels_max", 1, 100_000, |s| &mut s.limits.cancels_max),
    switch("watch_settings", |s| &mut s.watch_settings),
    switch("admin_post", |s| &mut s.admin_post),
    special("local_access", set_access, |s| word_of(&s.local_access, &ACCESS_WORDS)),
    ScalarKey {
        name: "drain_delay",
        slot: Slot::Span { bounds: Duration::ZERO..=YEAR, of: |s| &mut s.limits.drain_delay },
    },
    span("drain_limit", |s| &mut s.limits.drain_limit),
    span("idle_close", |s| &mut s.limits.idle_close),
    numbered("warm_max", WARM_MAX, |s| &mut s.limits.warm_max),
    span("warm_idle", |s| &mut s.limits.warm_idle),
    span_from("warm_age", Duration::from_secs(1), |s| &mut s.limits.warm_age),
    numbered("warm_total_max", 100_000, |s| &mut s.limits.warm_total_max),
    span_from("probe_interval", Duration::from_secs(1), |s| &mut s.limits.probe_interval),
    span_from("probe_down_interval", Duration::from_millis(100), |s| &mut s.limits.probe_down_interval),
    span("dns_refresh", |s| &mut s.limits.dns_refresh),
    span("failback_after", |s| &mut s.limits.failback_after),
];

/// More descriptors than any host gives a process.
pub(super) const SESSIONS_MAX: usize = 10_000_000;
/// Far more than a cluster should hold ready for one application.
pub(super) const WARM_MAX: usize = 1000;
/// Linux keeps this in 32 bits of milliseconds.
const USER_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
/// Linux takes at most so many.
const KEEPALIVES_MAX: usize = 127;
const KEEPALIVE_RULE: &str = "must be a whole number from 1 to 127";
const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOG_LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_left_to_others_where_there_are_two() {
        let threads = [1, 2, 3, 5, 64].map(|cores| threads_of_cores(cores).get());

        assert_eq!(threads, [1, 1, 2, 4, 4]);
    }
}
