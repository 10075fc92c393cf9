//! What the startup parameter `options` would set, in every way in which a server may read it.
//!
//! CockroachDB decodes it as a form before v23.1 and takes it as it is since, parts it at blanks byte by byte, and
//! lower-cases keys as Unicode has it. Which server will read it is not known here, so every reading counts: a key that
//! only one of them finds is found. Its sources: pkg/server/pgurl/extended_options.go, pkg/sql/pgwire/pre_serve_options.go.

use super::StartupParameters;
use std::{borrow::Cow, fmt};

/// Something that a client asks for in its startup and that is not its to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// A key that speaks as the vendor's own proxy, or as another identity: `crdb:…`, `system_identity`.
    Vendor(String),
    /// `cluster` chooses another virtual cluster.
    Cluster,
    /// So does a database of this form.
    ClusterInDatabase,
    /// `database` among the options, where the listener's stands.
    Database,
}

/// What a client may choose in its startup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// A virtual cluster.
    pub cluster: bool,
    /// A database; else the one of the startup itself is replaced, and those of `options` are refused.
    pub database: bool,
}

/// A key of `options`, as the server would compare it, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// In lower case, with `_` for `-`.
    pub key: Vec<u8>,
    /// All behind the first `=`; nothing where there is none.
    pub value: Vec<u8>,
}

impl StartupParameters {
    /// The first thing that this client may not ask for. Keys that the server would not even understand are not looked
    /// at: they pass, and it answers.
    pub fn reserved(&self, allowed: Allowed) -> Option<Reserved> {
        let mut of_options = self.options().flat_map(settings);
        of_options.find_map(|setting| setting.reserved(allowed)).or_else(|| {
            let mut databases = self.pairs().filter(|(name, _)| same_name(name, "database"));
            // One that is replaced anyway chooses nothing.
            let counts = allowed.database && !allowed.cluster;
            (counts && databases.any(|(_, value)| chooses_cluster(value))).then_some(Reserved::ClusterInDatabase)
        })
    }

    /// Every `options`: the server reads them all.
    fn options(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs().filter(|(name, _)| same_name(name, "options")).map(|(_, value)| value)
    }
}

impl Setting {
    fn reserved(&self, allowed: Allowed) -> Option<Reserved> {
        match &*self.key {
            key if key.starts_with(b"crdb:") || key == b"system_identity" => Some(Reserved::Vendor(shown(key))),
            b"cluster" if !allowed.cluster => Some(Reserved::Cluster),
            b"database" if !allowed.database => Some(Reserved::Database),
            b"database" if !allowed.cluster && chooses_cluster(&self.value) => Some(Reserved::ClusterInDatabase),
            _ => None,
        }
    }
}

/// Every key that some reading of `options` names, with its value; some more than once.
pub fn settings(options: &[u8]) -> Vec<Setting> {
    let mut found = Vec::new();
    for reading in readings(options) {
        let mut follows_c = false;
        for item in items(&reading).0 {
            if item == b"-c" {
                follows_c = true;
                continue;
            }
            let bare = item.strip_prefix(b"--").or_else(|| item.strip_prefix(b"-c"));
            let candidates = [bare, follows_c.then_some(&*item)];
            found.extend(candidates.into_iter().flatten().map(setting));
            follows_c = false;
        }
    }
    found
}

/// Whether some reading of `options` would take what is appended behind a blank for a part of what stands there: it ends
/// in a backslash or in a bare `-c`.
pub fn swallows_what_follows(options: &[u8]) -> bool {
    readings(options).iter().any(|reading| {
        let (items, ends_in_escape) = items(reading);
        ends_in_escape || items.last().is_some_and(|last| last == b"-c")
    })
}

/// Names of startup parameters as CockroachDB compares them.
pub(super) fn same_name(own: &[u8], name: &str) -> bool {
    own.eq_ignore_ascii_case(name.as_bytes()) || (!own.is_ascii() && lower(own) == name.as_bytes())
}

/// As it came, and decoded once and twice.
fn readings(options: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut readings = vec![Cow::Borrowed(options)];
    for _ in 0..DECODINGS {
        let decoded = readings.last().map(|last| decode(last)).filter(|decoded| readings.last() != Some(decoded));
        match decoded {
            Some(decoded) => readings.push(Cow::Owned(decoded.into_owned())),
            None => break,
        }
    }
    readings
}

/// As forms are decoded; what is no escape stays as it is, where the server would refuse all of it.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') && !text.contains(&b'+') {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = if first == b'%' { after.split_at_checked(2) } else { None };
        match escaped.and_then(|(digits, behind)| Some((hex(digits)?, behind))) {
            Some((byte, behind)) => {
                decoded.push(byte);
                rest = behind;
            }
            None => {
                decoded.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    Cow::Owned(decoded)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// Parts at blanks that no backslash escapes, and whether a backslash is left over at the end.
fn items(text: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut items, mut item): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
    let mut is_escaped = false;
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let blank = if is_escaped { 0 } else { blank_at(rest) };
        if blank > 0 {
            items.extend(item.take());
            rest = rest.get(blank..).unwrap_or_default();
            continue;
        }
        let own = item.get_or_insert_default();
        is_escaped = !is_escaped && first == b'\\';
        if !is_escaped {
            own.push(first);
        }
        rest = after;
    }
    items.extend(item);
    (items, is_escaped)
}

/// How many bytes the blank takes that stands here; 0: none does. The server looks at single bytes as if they were
/// Latin-1; a blank of UTF-8 counts as well, in case that it learns to look at letters.
fn blank_at(text: &[u8]) -> usize {
    match text {
        [0xc2, 0x85 | 0xa0, ..] => 2,
        [0xe1, 0x9a, 0x80, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
        | [0xe2, 0x81, 0x9f, ..]
        | [0xe3, 0x80, 0x80, ..] => 3,
        [b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | b' ' | 0x85 | 0xa0, ..] => 1,
        _ => 0,
    }
}

fn setting(item: &[u8]) -> Setting {
    let mut parts = item.splitn(2, |&byte| byte == b'=');
    let key = parts.next().unwrap_or_default();
    // Wider than the server, to which a key with one of these in front is another key.
    let start = key.iter().position(|byte| !b" \t\n\r-_\\\"'".contains(byte)).unwrap_or(key.len());
    let mut key = lower(key.get(start..).unwrap_or_default().trim_ascii_end());
    key.iter_mut().filter(|byte| **byte == b'-').for_each(|byte| *byte = b'_');
    Setting { key, value: parts.next().unwrap_or_default().to_vec() }
}

/// Go's `strings.ToLower`, as far as it makes ASCII: besides A to Z it maps the Kelvin sign and the I with a dot.
fn lower(text: &[u8]) -> Vec<u8> {
    let mut lower = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, behind) = match rest {
            [0xe2, 0x84, 0xaa, behind @ ..] => (b'k', behind),
            [0xc4, 0xb0, behind @ ..] => (b'i', behind),
            _ => (first.to_ascii_lowercase(), after),
        };
        lower.push(byte);
        rest = behind;
    }
    lower
}

/// `cluster:NAME/DATABASE`, or without the database.
fn chooses_cluster(database: &[u8]) -> bool {
    readings(database).iter().any(|reading| {
        let start = reading.trim_ascii_start().get(..CLUSTER_PREFIX.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(CLUSTER_PREFIX))
    })
}

/// A client chose it: no control characters, and not for long.
fn shown(key: &[u8]) -> String {
    let shown = String::from_utf8_lossy(key.get(..SHOWN_BYTES_MAX).unwrap_or(key));
    shown.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '\u{fffd}' }).collect()
}

impl Reserved {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let whence = "\"options\" may come from the connection string, PGOPTIONS or the driver's settings";
        match self {
            Self::Vendor(key) => format!("Take {key} out of \"options\". {whence}."),
            Self::Cluster => format!(
                "Take cluster out of \"options\", or set \"allow_cluster_option\" to true for this listener of \
                 crdb-proxy. {whence}."
            ),
            Self::Database => format!(
                "Take database out of \"options\": this listener of crdb-proxy always uses its own (\"database_locked\"). \
                 {whence}."
            ),
            Self::ClusterInDatabase => "Name the database alone, or set \"allow_cluster_option\" to true for this \
                                        listener of crdb-proxy."
                .to_owned(),
        }
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vendor(key) => write!(f, "its \"options\" name {key}, which clients may not set"),
            Self::Cluster => {
                f.write_str("its \"options\" choose a virtual cluster (cluster=), which is not allowed here")
            }
            Self::Database => f.write_str("its \"options\" name a database, which is not a client's choice here"),
            Self::ClusterInDatabase => {
                f.write_str("its \"database\" chooses a virtual cluster (cluster:…/…), which is not allowed here")
            }
        }
    }
}

/// Once more than any server does it.
const DECODINGS: usize = 2;
const CLUSTER_PREFIX: &[u8] = b"cluster:";
const SHOWN_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests;
