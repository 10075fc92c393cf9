//! The sentences: what is wrong with a file, what could happen, what to do.

use super::{Distrust, Doubt, EVERYBODY_WRITES, Stakes};
use std::fmt;

impl Distrust {
    /// Goes on after the file's name: what is wrong, what could happen, what to do.
    pub fn told(&self, stakes: Stakes) -> String {
        match self {
            Self::Writable { path, mode } => format!(
                "can be written by {} (mode {mode:04o}), who could {stakes}, so it is refused; take that right away: chmod go-w {}",
                who(*mode),
                path.display()
            ),
            Self::Folder { folder, mode } => format!(
                "lies in {0}, where {1} can put another in its place (mode {mode:04o}), who could {stakes}, so it is refused; \
                 take that right away: chmod go-w {0}",
                folder.display(),
                who(*mode)
            ),
            Self::Link { link, owner } => format!(
                "is reached by the symbolic link {}, which belongs to user {owner}, who could {stakes}, so the link is not followed; \
                 make the link as root or as the daemon's user, or name the file itself",
                link.display()
            ),
            Self::Doubted(doubt) => {
                format!("{}, which strict_secrets refuses; {}", doubt.what(), doubt.remedy())
            }
            Self::Since(doubt) => format!(
                "{}, and who did not own it when it was read last, so it is not read again; {} (a restart takes it with a warning)",
                doubt.what(),
                doubt.remedy()
            ),
        }
    }

    /// What most likely is behind it.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Writable { .. } => "it was written under a umask that lets others write, or mounted so",
            Self::Folder { .. } => "the folder was made for everybody to write in, as shared folders are",
            Self::Link { .. } => "another user made the link, or the folder was unpacked or copied with its owners",
            Self::Doubted(Doubt::Readable { .. }) => "it was written under a umask that lets others read",
            Self::Doubted(_) | Self::Since(_) => "it was written, copied or mounted by or for another user",
        }
    }

    /// What to do next.
    pub fn fix(&self) -> String {
        match self {
            Self::Writable { path: shown, .. } | Self::Folder { folder: shown, .. } => {
                format!("take the right to write from all others: chmod go-w {}", shown.display())
            }
            Self::Link { link, .. } => {
                format!("make {} as root or as the daemon's user, or name the file itself", link.display())
            }
            Self::Doubted(doubt) | Self::Since(doubt) => doubt.remedy(),
        }
    }
}

impl Doubt {
    fn what(&self) -> String {
        match self {
            Self::Owner { owner, .. } => format!("belongs to user {owner}, who can change it"),
            Self::Folder { folder, mode } => format!(
                "lies in {}, where {} can put another in its place (mode {mode:04o})",
                folder.display(),
                who(*mode)
            ),
            Self::FolderOwner { folder, owner } => {
                format!("lies in {}, which belongs to user {owner}, who can put another in its place", folder.display())
            }
            Self::Readable { mode, .. } => format!("is readable by others (mode {mode:04o})"),
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Owner { path, .. } => {
                format!("give it to root or to the daemon's user: chown root {}", path.display())
            }
            Self::Folder { folder, .. } => format!("chmod go-w {}", folder.display()),
            Self::FolderOwner { folder, .. } => {
                format!("give the folder to root or to the daemon's user: chown root {}", folder.display())
            }
            Self::Readable { path, .. } => format!("make it 0600: chmod 600 {}", path.display()),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}

fn who(mode: u32) -> &'static str {
    if mode & EVERYBODY_WRITES == 0 { "its group" } else { "every user" }
}

impl fmt::Display for Stakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "run commands as the daemon's user or send its secrets elsewhere",
            Self::Secret => "put another secret there",
            Self::Program => "run commands as the daemon's user",
            Self::Ca => "have the daemon trust another server with its password",
            Self::Identity => "have the daemon show another certificate",
        })
    }
}
