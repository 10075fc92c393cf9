//! Secrets are looked for in whatever a daemon of any test says: no test has to ask for it.
//!
//! What a secret is comes from what the daemon was given: the files beside its settings, its variables, and what a
//! test adds. Looked for are the texts themselves, and cancel keys as numbers.

use super::PASSWORD;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::Mutex,
    time::Duration,
};

/// The secrets that one daemon knows.
pub(crate) struct Secrets(Mutex<BTreeSet<String>>);

/// A secret where none may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leak {
    /// `log`, `stdout`, `/metrics`, `/status`, `/`.
    pub(crate) channel: &'static str,
    pub(crate) secret: String,
    pub(crate) line: String,
}

impl Secrets {
    /// What lies beside the settings, and what the daemon's variables hold.
    pub(crate) fn of(folder: &Path, command: &Command) -> Self {
        let secrets = Self(Mutex::new([PASSWORD.to_owned()].into()));
        secrets.add_files(folder);
        let is_secret = |name: &OsStr| {
            let name = name.to_string_lossy().to_ascii_uppercase();
            ["PASSWORD", "SECRET", "TOKEN", "API_KEY"].iter().any(|part| name.contains(part))
                && !["_FILE", "_COMMAND", "STRICT_SECRETS"].iter().any(|end| name.ends_with(end))
        };
        for (_, value) in command.get_envs().filter(|(name, _)| is_secret(name)) {
            if let Some(value) = value {
                secrets.add(&value.to_string_lossy());
            }
        }
        for text in command.get_args().chain(command.get_envs().filter_map(|(_, value)| value)) {
            secrets.add_of_url(&text.to_string_lossy());
        }
        secrets
    }

    /// One more, unless it is so short that it may stand anywhere.
    pub(crate) fn add(&self, secret: &str) {
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.len() >= LEAST_BYTES && secret.len() <= MOST_BYTES {
            self.0.lock().unwrap().insert(secret.to_owned());
        }
    }

    /// A cancel key, in the forms in which a number is printed.
    pub(crate) fn add_cancel_key(&self, key: &[u8]) {
        let Some(half) = key.get(4..).filter(|half| half.len() >= 4) else { return };
        let hexadecimal = half.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let list = half.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        self.0.lock().unwrap().extend([hexadecimal, list]);
    }

    /// Forgets all of them: only for a test of this search itself.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Files may have been rotated since.
    pub(crate) fn add_files(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_secret =
                path.extension().is_some_and(|end| ["pw", "key", "token", "secret"].iter().any(|x| end == *x));
            // A pipe would be waited for.
            if !is_secret || !fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() < 1 << 20) {
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if text.contains("-----BEGIN") {
                text.lines().filter(|line| line.len() > 40 && !line.starts_with('-')).for_each(|line| self.add(line));
            } else {
                self.add(&text);
            }
        }
    }

    /// The password of a connection string.
    fn add_of_url(&self, text: &str) {
        let after_scheme = text.split_once("://").map(|(_, rest)| rest);
        let authority = after_scheme.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        if let Some((_, password)) = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
            self.add(password);
        }
        let parameters = text.split_once('?').map_or("", |(_, after)| after);
        parameters.split('&').filter_map(|pair| pair.strip_prefix("password=")).for_each(|password| self.add(password));
    }

    /// Where any of them stands.
    pub(crate) fn in_text(&self, channel: &'static str, text: &str) -> Vec<Leak> {
        let secrets = self.0.lock().unwrap();
        let leak = |secret: &String| {
            let line = text.lines().find(|line| line.contains(secret.as_str()) || line.contains(&escaped(secret)))?;
            Some(Leak { channel, secret: secret.clone(), line: line.to_owned() })
        };
        secrets.iter().filter_map(leak).collect()
    }
}

/// As JSON writes it.
fn escaped(secret: &str) -> String {
    serde_json::to_string(secret).unwrap().trim_matches('"').to_owned()
}

/// What the admin address shows, if one was announced and answers: it may be off, and the daemon stopped or in its
/// last moments.
pub(crate) fn served(log: &[String]) -> Vec<(&'static str, String)> {
    let Some(address) = log.iter().find_map(|line| admin_address(line)) else { return Vec::new() };
    ["/metrics", "/status", "/"].into_iter().filter_map(|path| Some((path, get(&address, path)?))).collect()
}

fn admin_address(line: &str) -> Option<String> {
    if let Ok(line) = serde_json::from_str::<serde_json::Value>(line) {
        let is_admin = line["message"] == "listening" && line["listener.name"] == "admin";
        return line["listener.addr"].as_str().filter(|_| is_admin).map(str::to_owned);
    }
    let (_, after) = line.split_once("listening listener.name=admin listener.addr=")?;
    after.split_whitespace().next().map(|address| address.trim_matches('"').to_owned())
}

fn get(address: &str, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    if let Some(path) = address.strip_prefix("unix:") {
        let mut socket = UnixStream::connect(path).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.write_all(request.as_bytes()).ok()?;
        socket.read_to_end(&mut answer).ok()?;
    } else {
        let mut socket = TcpStream::connect_timeout(&address.parse().ok()?, PATIENCE).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.write_all(request.as_bytes()).ok()?;
        socket.read_to_end(&mut answer).ok()?;
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Shorter ones stand in other words.
const LEAST_BYTES: usize = 8;
/// Longer ones are files of another kind.
const MOST_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(2);
