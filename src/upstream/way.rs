//! One way into a cluster: an endpoint of the settings, and everything that is known of it.

use super::health::Health;
use crate::{
    clock::Moment,
    metrics::EndpointMetrics,
    settings::{Endpoint, EndpointKind, Name},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tracing::warn;

/// An endpoint, and what is known of it.
pub(crate) struct Way {
    /// What the settings say.
    pub(crate) endpoint: Arc<Endpoint>,
    /// Its series.
    pub(crate) metrics: EndpointMetrics,
    health: Mutex<Health>,
    /// It is none of the cluster's any more; what is learned of it is not shown.
    is_gone: AtomicBool,
    /// An address in public space that its private name was last seen to have.
    exposed: Mutex<Option<IpAddr>>,
}

impl Way {
    /// Nothing is known yet.
    pub(super) fn new(endpoint: Arc<Endpoint>, metrics: EndpointMetrics, now: Moment) -> Self {
        Self {
            endpoint,
            metrics,
            health: Mutex::new(Health::unknown(now)),
            is_gone: AtomicBool::new(false),
            exposed: Mutex::default(),
        }
    }

    /// Its name in the settings.
    pub(crate) fn name(&self) -> &Name {
        &self.endpoint.name
    }

    /// Takes it out of what is shown.
    pub(super) fn leave(&self) {
        self.is_gone.store(true, Relaxed);
    }

    /// Whether it is one of the cluster's still.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Relaxed)
    }

    /// A copy of what is known of its health.
    pub(crate) fn health(&self) -> Health {
        self.lock().clone()
    }

    /// Changes what is known of its health.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        change(&mut self.lock())
    }

    /// The address in public space that the name of this private endpoint has, if it has one: then private
    /// DNS is off, and what should be private is not.
    pub(crate) fn exposed_at(&self) -> Option<IpAddr> {
        *self.exposed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what its name means now; says so once when a private endpoint shows up in public space.
    pub(super) fn note_addresses(&self, cluster: &Name, addresses: &[IpAddr]) {
        if !matches!(self.endpoint.kind, EndpointKind::Internal | EndpointKind::Psc) {
            return;
        }
        let public = addresses.iter().copied().find(|address| is_public(*address));
        let before = {
            let mut exposed = self.exposed.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *exposed, public)
        };
        if let Some(address) = public.filter(|_| before != public) {
            warn!(
                cluster.name = %cluster, endpoint.name = %self.endpoint.name, %address,
                "a private endpoint's name has an address in public space; is private DNS on, and its zone linked to this network?"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an address can be reached from everywhere (the ranges that cannot: RFC 6890 and its registry).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let within = |network: Ipv4Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0;
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_documentation()
                // Shared by carriers (RFC 6598), and for benchmarks (RFC 2544).
                || within(Ipv4Addr::new(100, 64, 0, 0), 10)
                || within(Ipv4Addr::new(198, 18, 0, 0), 15))
        }
        IpAddr::V6(address) => {
            let within = |network: Ipv6Addr, bits: u32| (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0;
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || within(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_endpoint_in_public_space_is_noticed_until_it_is_private_again() {
        let endpoint = |kind| Endpoint {
            name: Name::new("e").unwrap(),
            region: None,
            kind,
            host: "internal-prod.example".into(),
            endpoint_name: None,
            port: 26257,
            tls_server_name: "internal-prod.example".try_into().unwrap(),
        };
        let cluster = Name::new("prod").unwrap();
        let metrics = crate::metrics::Metrics::new().unwrap();
        let way = |kind| {
            let of_endpoint = metrics.endpoint(&cluster, &Name::new("e").unwrap());
            Way::new(Arc::new(endpoint(kind)), of_endpoint, Moment::default())
        };
        let (private, public) =
            (["10.0.0.1".parse().unwrap()], ["10.0.0.1".parse().unwrap(), "8.8.8.8".parse().unwrap()]);

        let internal = way(EndpointKind::Internal);
        internal.note_addresses(&cluster, &public);
        assert_eq!(internal.exposed_at(), Some(public[1]));
        internal.note_addresses(&cluster, &private);
        assert_eq!(internal.exposed_at(), None);

        let known_as_public = way(EndpointKind::Public);
        known_as_public.note_addresses(&cluster, &public);
        assert_eq!(known_as_public.exposed_at(), None);
    }

    #[test]
    fn public_space_is_told_from_all_else() {
        for private in [
            "10.1.2.3",
            "172.28.0.1",
            "192.168.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "198.20.0.1", "2600::1", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
