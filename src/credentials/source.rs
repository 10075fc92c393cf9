//! One reading of a source, whichever kind it is, and the rules for a secret's text.

use super::{Surroundings, command, error::Fault, file};
use crate::{
    secret::Secret,
    settings::SecretSource,
    stamp::Stamp,
    trusted_file::{self, Distrust, Doubt, OpenError},
};
use std::{
    fmt,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

/// A secret's source; as text it is what people may see of it.
pub(super) struct Source(pub(super) SecretSource);

pub(super) enum Reading {
    /// A file that still is what it was.
    Unchanged,
    Text {
        secret: Secret,
        stamp: Option<Stamp>,
        /// The file's mode, if others can read it and should not.
        open_mode: Option<u32>,
        /// How others could change the file.
        doubts: Vec<Doubt>,
    },
}

impl Source {
    pub(super) fn is_command(&self) -> bool {
        matches!(self.0, SecretSource::Command { .. })
    }

    /// How long a secret may be used before the source is looked at again; a file is looked at
    /// each time.
    pub(super) fn rest(&self) -> Option<Duration> {
        match &self.0 {
            SecretSource::File(_) | SecretSource::Credential(_) => None,
            SecretSource::Command { lifetime, .. } => Some(*lifetime),
            // Neither changes while the process lives.
            SecretSource::Env(_) | SecretSource::Given { .. } => Some(Duration::MAX),
        }
    }

    /// Whether a login may use a reading that began before it. A command takes long and its output
    /// is used for minutes anyhow; a file that was just replaced must count at once.
    pub(super) fn shares_a_reading_under_way(&self) -> bool {
        matches!(self.0, SecretSource::Command { .. })
    }

    /// Longest wait for an answer: the reading under way, then one's own.
    pub(super) fn patience(&self) -> Duration {
        match &self.0 {
            SecretSource::Command { limit, .. } => limit.saturating_mul(2).saturating_add(GRACE),
            _ => FILE_LIMIT,
        }
    }

    /// Cancel safety: dropping it kills a command; a file's reading goes on unheard.
    pub(super) async fn read(&self, seen: Option<Stamp>, surroundings: &Surroundings) -> Result<Reading, Fault> {
        let folder = (surroundings.variable)(CREDENTIALS_DIRECTORY).map(PathBuf::from);
        let text = match &self.0 {
            SecretSource::File(path) => {
                let private = folder.is_none_or(|folder| !path.starts_with(folder));
                return read_file(path.clone(), seen, private).await;
            }
            SecretSource::Credential(name) => {
                let folder = folder.ok_or(Fault::NoCredentials)?;
                if Path::new(name).file_name() != Some(name.as_ref()) {
                    return Err(Fault::BadName);
                }
                // Its mode shows an access list, not who may read it.
                return read_file(folder.join(name), seen, false).await;
            }
            SecretSource::Env(name) => {
                let value = (surroundings.variable)(name).ok_or(Fault::Unset)?;
                secret_text(&Zeroizing::new(value.into_vec()))?
            }
            SecretSource::Command { argv, limit, withheld, .. } => {
                let doubts = self.examine_program().await?;
                let secret = secret_text(&command::run(argv, withheld, *limit).await?)?;
                return Ok(Reading::Text { secret, stamp: None, open_mode: None, doubts });
            }
            SecretSource::Given { secret, .. } => check(secret.clone())?,
        };
        Ok(Reading::Text { secret: text, stamp: None, open_mode: None, doubts: Vec::new() })
    }
}

impl Source {
    /// Whether others could change a command's program. One that is looked up in `PATH` is not looked at, and one that
    /// cannot be is told by the attempt to run it.
    pub(super) async fn examine_program(&self) -> Result<Vec<Doubt>, Fault> {
        let SecretSource::Command { argv, .. } = &self.0 else { return Ok(Vec::new()) };
        let Some(program) = argv.first().filter(|program| program.contains('/')).map(PathBuf::from) else {
            return Ok(Vec::new());
        };
        let looked = tokio::task::spawn_blocking(move || trusted_file::look_at_program(&program));
        match tokio::time::timeout(FILE_LIMIT, looked).await {
            Ok(Ok(Err(OpenError::Distrusted(distrust)))) => Err(self.distrusted(distrust)),
            Ok(Ok(doubts)) => Ok(doubts.unwrap_or_default()),
            Ok(Err(_)) => Err(Fault::Interrupted),
            Err(_) => Err(Fault::Hangs { limit: FILE_LIMIT }),
        }
    }

    /// Others could change what it is read from.
    pub(super) fn distrusted(&self, distrust: Distrust) -> Fault {
        if self.is_command() { Fault::DistrustedProgram(distrust) } else { Fault::Distrusted(distrust) }
    }

    /// What others could change, in a warning.
    pub(super) fn thing(&self) -> &'static str {
        if self.is_command() { "the program of a password command" } else { "secret file" }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SecretSource::File(path) => write!(f, "file {}", path.display()),
            SecretSource::Env(name) => write!(f, "variable {name}"),
            SecretSource::Credential(name) => write!(f, "credential {name}"),
            SecretSource::Command { argv, .. } => {
                // The arguments may hold a token.
                write!(f, "command {}", argv.first().map_or("", String::as_str))
            }
            SecretSource::Given { by, .. } => f.write_str(by),
        }
    }
}

async fn read_file(path: PathBuf, seen: Option<Stamp>, private: bool) -> Result<Reading, Fault> {
    let reading = tokio::task::spawn_blocking(move || file::read(&path, seen));
    match reading.await {
        Ok(Ok(None)) => Ok(Reading::Unchanged),
        Ok(Ok(Some(found))) => Ok(Reading::Text {
            secret: secret_text(&found.text)?,
            stamp: Some(found.stamp),
            open_mode: Some(found.mode).filter(|mode| private && mode & trusted_file::OTHERS_READ != 0),
            doubts: found.doubts,
        }),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::Interrupted),
    }
}

/// Editors and `echo` end a line; a password does not end in one.
fn secret_text(text: &Zeroizing<Vec<u8>>) -> Result<Secret, Fault> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let line = if line.len() < text.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    check(Secret::new(line.to_vec()))
}

fn check(secret: Secret) -> Result<Secret, Fault> {
    let text = secret.expose();
    if text.is_empty() {
        Err(Fault::Empty)
    } else if text.len() > BYTES_MAX {
        Err(Fault::TooLong)
    } else if text.contains(&0) {
        Err(Fault::Nul)
    } else {
        Ok(secret)
    }
}

impl From<std::io::Error> for Fault {
    fn from(cause: std::io::Error) -> Self {
        Self::Unreadable(Arc::new(cause))
    }
}

/// Longest secret, in bytes.
pub(super) const BYTES_MAX: usize = 64 * 1024;

/// What is read at most: the longest secret with its line end, and one byte to see that it is longer.
pub(super) const READ_MAX: usize = BYTES_MAX + 3;

const FILE_LIMIT: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(1);
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        secret_text(&Zeroizing::new(bytes.to_vec())).map(|secret| secret.expose().to_vec())
    }

    #[test]
    fn exactly_one_line_end_is_removed() {
        assert_eq!(text(b"pw\n").unwrap(), b"pw");
        assert_eq!(text(b"pw\r\n").unwrap(), b"pw");
        assert_eq!(text(b"pw\n\n").unwrap(), b"pw\n");
        assert_eq!(text(b"pw\r").unwrap(), b"pw\r");
        assert_eq!(text(b" p w ").unwrap(), b" p w ");
    }

    #[test]
    fn what_no_password_can_be_is_refused() {
        assert!(matches!(text(b""), Err(Fault::Empty)));
        assert!(matches!(text(b"\r\n"), Err(Fault::Empty)));
        assert!(matches!(text(b"a\0b"), Err(Fault::Nul)));
        assert!(matches!(text(&[b'x'; BYTES_MAX + 1]), Err(Fault::TooLong)));
    }

    #[test]
    fn the_longest_secret_may_have_a_line_end() {
        let mut longest = vec![b'x'; BYTES_MAX];
        longest.extend(b"\r\n");

        assert_eq!(text(&longest).unwrap().len(), BYTES_MAX);
        assert!(longest.len() < READ_MAX);
    }
}
