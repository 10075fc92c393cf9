//! What this machine itself lacks.

use super::Advice;
use crate::{credentials::SecretError, diagnostics::Chain};
use std::path::{Path, PathBuf};

/// The secret cannot be read.
pub(super) fn secret(error: &SecretError) -> Advice {
    Advice::new(
        "secret_unreadable",
        Chain(error).to_string(),
        "the source is named wrongly, or this user may not read it: the daemon may run as another one",
        "correct \"password\" of the cluster; the file needs to be readable by the daemon's user alone (mode 0600)",
    )
}

/// The file of the cluster's CA is not there; `candidates` are others that are.
pub(crate) fn ca_missing(file: &Path, candidates: &[PathBuf]) -> Advice {
    let found = match candidates {
        [] => String::new(),
        some => {
            let some: Vec<_> = some.iter().map(|path| path.display().to_string()).collect();
            format!("; there is {}", some.join(", "))
        }
    };
    Advice::new(
        "ca_missing",
        format!("the CA file {} is not there{found}", file.display()),
        "it was never downloaded, or \"ca\" names another place (a relative path counts from the settings file's folder)",
        "`crdb-proxy ca fetch --cluster-id ID` downloads it (no key needed); else the Connect dialog of the Cloud Console does",
    )
}
