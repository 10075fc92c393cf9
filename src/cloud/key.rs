//! Where the key comes from.

use super::CloudError;
use crate::{credentials::Credentials, secret::Secret, settings::SecretSource};
use std::os::unix::ffi::OsStringExt;

/// What the variable holds, without the line end that a shell may have put there; nothing where it is empty.
pub(super) fn of_env() -> Option<Secret> {
    let mut text = std::env::var_os(VARIABLE)?.into_vec();
    text.truncate(text.trim_ascii_end().len());
    (!text.is_empty()).then(|| Secret::new(text))
}

/// What a source in the settings says.
pub(super) async fn of_source(source: &SecretSource, strict: bool) -> Result<Secret, CloudError> {
    let lease = Credentials::new(source.clone(), strict).current().await.map_err(CloudError::KeyUnreadable)?;
    Ok(lease.secret.as_ref().clone())
}

const VARIABLE: &str = "COCKROACH_API_KEY";
