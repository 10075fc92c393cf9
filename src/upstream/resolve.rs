//! Names to addresses, by the system's own rules: split horizons, VPNs, `/etc/hosts`, Kubernetes.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
};
use tokio::sync::Semaphore;

/// Looks names up; handed in, so that tests decide what names mean.
pub trait Resolve: Send + Sync {
    /// Addresses of `host`, the preferred first. An answer without any is an error. Dropping the future
    /// drops the answer, not the question.
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a>;
}

/// Addresses on their way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// The system's resolver. A question occupies a thread until the system answers, however long that takes;
/// so there are few at a time, and a resolver that hangs leaves threads for everything else.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    questions: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { questions: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            if let Ok(literal) = host.parse() {
                return Ok(vec![literal]);
            }
            let place = Arc::clone(&self.questions).acquire_owned().await.map_err(io::Error::other)?;
            let host = host.to_owned();
            let ask = move || {
                let _place = place;
                (host, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            };
            let found: Vec<_> = tokio::task::spawn_blocking(ask).await.map_err(io::Error::other)??;
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(found)
        })
    }
}

const QUESTIONS_MAX: usize = 16;

/// Addresses in the order in which they are to be dialled: families in turn, so that a family which leads
/// nowhere costs one attempt (RFC 8305, section 4).
pub(super) fn in_dialling_order(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let family = |v6: bool| addresses.iter().filter(move |address| address.is_ipv6() == v6);
    let (mut preferred, mut other) = (family(prefers_v6), family(!prefers_v6));
    let mut order: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    loop {
        let pair = [preferred.next(), other.next()];
        if pair == [None, None] {
            return order;
        }
        for address in pair.into_iter().flatten() {
            let address = SocketAddr::new(*address, port);
            if !order.contains(&address) {
                order.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_repeats_are_dialled_once() {
        let addresses: Vec<IpAddr> =
            ["::1", "::2", "::1", "10.0.0.1"].iter().map(|address| address.parse().unwrap()).collect();

        let order: Vec<_> = in_dialling_order(&addresses, 7).iter().map(ToString::to_string).collect();

        assert_eq!(order, ["[::1]:7", "10.0.0.1:7", "[::2]:7"]);
        assert!(in_dialling_order(&[], 7).is_empty());
    }

    #[tokio::test]
    async fn a_literal_address_needs_no_resolver() {
        assert_eq!(SystemResolver::default().resolve("127.0.0.1").await.unwrap(), [IpAddr::from([127, 0, 0, 1])]);
    }
}
