//! What this machine itself lacks.

use super::Advice;
use crate::{credentials::SecretError, diagnostics::Chain};
use std::path::{Path, PathBuf};

/// The secret cannot be read.
pub(super) fn secret(error: &SecretError) -> Advice {
    let (cause, fix) = error.likely();
    Advice::new("secret_unreadable", Chain(error).to_string(), cause, fix)
}

/// Others can read the file of the secret.
pub(crate) fn secret_exposed(file: &Path, mode: u32) -> Advice {
    let file = file.display();
    Advice::new(
        "secret_exposed",
        format!("the password file {file} is readable by others (mode {mode:04o})"),
        "it was written with the usual mode of new files",
        format!("chmod 600 {file}; \"strict_secrets\" refuses such a file"),
    )
}

/// The file of the cluster's CA is not there; `candidates` are others that are.
pub(crate) fn ca_missing(file: &Path, candidates: &[PathBuf]) -> Advice {
    let found = match candidates {
        [] => "it was never downloaded, or \"ca\" names another place".to_owned(),
        some => {
            let some: Vec<_> = some.iter().map(|path| path.display().to_string()).collect();
            format!("the name is wrong, since there is {}; or it was never downloaded", some.join(", "))
        }
    };
    Advice::new(
        "ca_missing",
        format!("the CA file {} is not there", file.display()),
        found,
        "`crdb-proxy ca fetch --cluster-id ID` downloads it (no key needed); else the Connect dialog of the Cloud Console does",
    )
}
