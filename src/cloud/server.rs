//! Where the API is: https, or plain http on this machine alone.

use super::CloudError;
use reqwest::Url;
use std::{fmt, net::IpAddr};

/// The API's address: `https://cockroachlabs.cloud`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    text: String,
    is_secure: bool,
}

impl Server {
    /// Checks an address.
    ///
    /// # Errors
    /// It is none, or the key would travel in clear.
    pub fn new(text: &str) -> Result<Self, CloudError> {
        let rule = |rule: &str| CloudError::BadServer(rule.to_owned());
        let url = Url::parse(text.trim()).ok().ok_or_else(|| rule(FORM))?;
        let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !is_bare || url.path() != "/" || url.fragment().is_some() {
            return Err(rule(FORM));
        }
        match (url.scheme(), url.host_str()) {
            ("https", Some(_)) => Ok(Self { text: plain(&url), is_secure: true }),
            ("http", Some(host)) if is_loopback(host) => Ok(Self { text: plain(&url), is_secure: false }),
            ("http", Some(_)) => Err(rule(IN_CLEAR)),
            _ => Err(rule(FORM)),
        }
    }

    /// What `COCKROACH_SERVER` names, or [`Server::default`], the one that everybody uses.
    ///
    /// # Errors
    /// As [`Server::new`].
    pub fn from_env() -> Result<Self, CloudError> {
        match std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
            None => Ok(Self::default()),
            Some(text) => text.to_str().map_or_else(|| Err(CloudError::BadServer(FORM.to_owned())), Self::new),
        }
    }

    /// Whether the key travels encrypted.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Always there, since the text was one.
    pub(super) fn url(&self) -> Option<Url> {
        Url::parse(&self.text).ok()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self { text: DEFAULT.to_owned(), is_secure: true }
    }
}

fn plain(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Whether a host in an address can only be this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const VARIABLE: &str = "COCKROACH_SERVER";
const DEFAULT: &str = "https://cockroachlabs.cloud";
const FORM: &str = "must be an address without a path, as https://cockroachlabs.cloud is";
const IN_CLEAR: &str =
    "must begin with https:// for another machine: over plain http the API key would travel in clear";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_taken_for_any_host_and_plain_http_for_this_machine_alone() {
        for good in [
            "https://cockroachlabs.cloud",
            "https://x:8443/",
            "http://localhost:1",
            "http://127.0.0.2",
            "http://[::1]:9",
        ] {
            assert_eq!(Server::new(good).unwrap().to_string(), good.trim_end_matches('/'));
        }
        assert_eq!(Server::new(DEFAULT).unwrap(), Server::default());
        for clear in
            ["http://cockroachlabs.cloud", "http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example"]
        {
            let Err(CloudError::BadServer(rule)) = Server::new(clear) else { panic!("{clear} was taken") };
            assert_eq!(rule, IN_CLEAR, "{clear}");
        }
        for bad in
            ["", "cockroachlabs.cloud", "ftp://x", "https://u:p@x", "https://x/api", "https://x?y", "https://x#y"]
        {
            let Err(CloudError::BadServer(rule)) = Server::new(bad) else { panic!("{bad} was taken") };
            assert_eq!(rule, FORM, "{bad}");
        }
    }
}
