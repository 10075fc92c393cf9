//! Why a secret could not be read, in sentences that name the source and never its content.

use super::source::Source;
use crate::trusted_file::{Distrust, Stakes};
use std::{borrow::Cow, error::Error, fmt, io, process::ExitStatus, sync::Arc, time::Duration};

/// Why a secret could not be read: the operator's to mend. Names the source, never the value.
#[derive(Clone, Debug)]
pub struct SecretError {
    source: String,
    fault: Fault,
}

/// What is wrong with a source. Causes are shared, since all that waited get the same answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Unreadable(Arc<io::Error>),
    NotAFile,
    Distrusted(Distrust),
    DistrustedProgram(Distrust),
    ReadableByOthers { mode: u32 },
    Unset,
    NoCredentials,
    BadName,
    Empty,
    TooLong,
    Nul,
    NotStarted(Arc<io::Error>),
    Failed(ExitStatus),
    Slow { limit: Duration },
    HeldOpen { limit: Duration },
    Hangs { limit: Duration },
    Interrupted,
}

impl SecretError {
    pub(super) fn new(source: &Source, fault: Fault) -> Self {
        Self { source: source.to_string(), fault }
    }
}

impl SecretError {
    /// What most likely is behind it, and what to do.
    pub(crate) fn likely(&self) -> (&'static str, Cow<'static, str>) {
        let (cause, fix) = match &self.fault {
            Fault::Distrusted(distrust) | Fault::DistrustedProgram(distrust) => {
                return (distrust.cause(), distrust.fix().into());
            }
            Fault::Unreadable(cause) if cause.kind() == io::ErrorKind::NotFound => (
                "a typing error in its name, or it was never written; a relative path counts from the settings file's folder",
                "correct \"password\" of the cluster (--password-file), or write the password there",
            ),
            Fault::Unreadable(_) | Fault::NotAFile | Fault::ReadableByOthers { .. } => (
                "its owner or mode is not what the daemon needs, or another thing has that name",
                "have the daemon's user own a regular file there that nobody else can read (mode 0600)",
            ),
            Fault::Empty => (
                "whatever wrote it failed: a paste without an end, or a variable that was not set",
                "write the password there again, and nothing else",
            ),
            Fault::Unset | Fault::NoCredentials | Fault::BadName => (
                "the daemon was started without it, or it is called otherwise",
                "set it where the daemon is started (for a service in its unit), or name another source",
            ),
            Fault::TooLong | Fault::Nul => {
                ("it is another file, or not text", "name the source that gives the password as text, and nothing else")
            }
            Fault::HeldOpen { .. } => (
                "the command starts something that stays, an agent, and leaves it its own output",
                "have the command start that with its output elsewhere (>/dev/null)",
            ),
            Fault::NotStarted(_) | Fault::Failed(_) | Fault::Slow { .. } | Fault::Hangs { .. } | Fault::Interrupted => {
                (
                    "the command or the file system does not do what it should for this user",
                    "run the command by hand as the daemon's user, with its environment",
                )
            }
        };
        (cause, fix.into())
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match &self.fault {
            Fault::Unreadable(cause) => match cause.kind() {
                io::ErrorKind::NotFound => f.write_str(" does not exist; check its name"),
                io::ErrorKind::PermissionDenied => f.write_str(" may not be read; let the daemon's user read it"),
                _ => f.write_str(" cannot be read"),
            },
            Fault::NotAFile => f.write_str(" is not a regular file; for a program's output name a command"),
            Fault::Distrusted(distrust) => write!(f, " {}", distrust.told(Stakes::Secret)),
            Fault::DistrustedProgram(distrust) => write!(f, " {}", distrust.told(Stakes::Program)),
            Fault::ReadableByOthers { mode } => {
                write!(f, " is readable by others (mode {mode:04o}), which strict_secrets refuses; make it 0600")
            }
            Fault::Unset => f.write_str(" is not set in the daemon's environment"),
            Fault::NoCredentials => {
                f.write_str(" cannot be found: CREDENTIALS_DIRECTORY is not set; has the unit a LoadCredential=?")
            }
            Fault::BadName => f.write_str(" has a name that is no plain file name"),
            Fault::Empty => f.write_str(" is empty where a secret was expected"),
            Fault::TooLong => f.write_str(" gives more than 64 KiB; is it the right one?"),
            Fault::Nul => f.write_str(" holds a NUL byte, which no password can; is it text?"),
            Fault::NotStarted(_) => f.write_str(" could not be started; is it installed and executable?"),
            Fault::Failed(status) => {
                write!(f, " failed ({status}); run it by hand as the daemon's user to see why")
            }
            Fault::Slow { limit } => {
                write!(f, " did not finish within {limit:?} and was killed; raise its limit if it needs longer")
            }
            Fault::HeldOpen { limit } => write!(
                f,
                " ended, but something that it started kept its output open for {limit:?}, and was killed; have it start \
                 that with its output elsewhere (>/dev/null)"
            ),
            Fault::Hangs { limit } => {
                write!(f, " could not be read within {limit:?}; does its file system answer?")
            }
            Fault::Interrupted => f.write_str(" was not read: the reading was interrupted"),
        }
    }
}

impl Error for SecretError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.fault {
            // Said in full by the sentence itself.
            Fault::Unreadable(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Fault::Unreadable(cause) | Fault::NotStarted(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}

/// The error and its cause in one line.
pub(super) fn chain(error: &SecretError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
