//! Names to addresses by the system's resolver, with an error of its own type, so that a failed lookup is told
//! from a failed connection.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{error::Error, fmt, io, net::SocketAddr};

/// Asks the system.
pub(in crate::cloud) struct Lookup {
    /// Of a name that means this machine, and must go on meaning it.
    pub(in crate::cloud) only_loopback: bool,
}

/// A name has no address.
#[derive(Debug)]
pub(super) struct NotFound(pub(super) String);

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let only_loopback = self.only_loopback;
        Box::pin(async move {
            let failed = |cause: io::Error| NotFound(format!("{}: {cause}", name.as_str()));
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(failed)?;
            let fits = |address: &SocketAddr| !only_loopback || address.ip().is_loopback();
            let addresses: Vec<_> = found.filter(fits).collect();
            if addresses.is_empty() {
                return Err(NotFound(format!("{} has no address", name.as_str())).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NotFound {}
