//! TLS to servers of the public web, of which the daemon knows one: the Cloud API. The roots are compiled in,
//! since an image from scratch has none.

use super::{Clock, TlsSetupError, provider};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Verifies in full against the roots that browsers trust, TLS 1.2 or newer.
///
/// # Errors
/// None that a build which passed its tests would have.
pub fn public_client() -> Result<ClientConfig, TlsSetupError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Ok(ClientConfig::builder_with_details(provider(), Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsSetupError::Rustls { source })?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
