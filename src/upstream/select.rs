//! Which endpoints may serve a session, in order. Pure: no I/O, no clock.

use crate::settings::{Endpoint, Policy, Regions};
use std::sync::Arc;

/// The endpoints that a listener's policy allows, the preferred first: those of `regions` in that order,
/// within a region in the settings' order; all of them, in the settings' order, when `regions` is empty.
pub(super) fn candidates(endpoints: &[Arc<Endpoint>], policy: &Policy) -> Vec<Arc<Endpoint>> {
    let (Regions::Listed(regions) | Regions::Nearest(regions)) = &policy.regions;
    if regions.is_empty() {
        return endpoints.to_vec();
    }
    let is_in = |endpoint: &&Arc<Endpoint>, region: &String| endpoint.region.as_ref() == Some(region);
    regions
        .iter()
        .flat_map(|region| endpoints.iter().filter(move |endpoint| is_in(endpoint, region)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{EndpointKind, Name};

    fn endpoint(name: &str, region: Option<&str>) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            name: Name::new(name).unwrap(),
            region: region.map(Into::into),
            kind: EndpointKind::Public,
            host: "db.example".into(),
            endpoint_name: None,
            port: 26257,
            tls_server_name: "db.example".try_into().unwrap(),
        })
    }

    fn names(regions: &[&str]) -> Vec<String> {
        let endpoints =
            [endpoint("a1", Some("a")), endpoint("b1", Some("b")), endpoint("a2", Some("a")), endpoint("n", None)];
        let regions: Vec<_> = regions.iter().map(ToString::to_string).collect();
        candidates(&endpoints, &Policy { regions: Regions::Listed(regions), ..Policy::default() })
            .iter()
            .map(|endpoint| endpoint.name.to_string())
            .collect()
    }

    #[test]
    fn without_regions_the_order_is_the_settings() {
        assert_eq!(names(&[]), ["a1", "b1", "a2", "n"]);
    }

    #[test]
    fn regions_choose_and_order() {
        assert_eq!(names(&["b", "a"]), ["b1", "a1", "a2"]);
        assert_eq!(names(&["c"]), Vec::<String>::new());
    }
}
