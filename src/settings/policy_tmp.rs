use super::{Endpoint, EndpointKind, Policy, Regions};
use std::sync::Arc;
impl Policy {
    /// Temporary.
    pub fn allows(&self, endpoint: &Endpoint, all: &[Arc<Endpoint>]) -> bool {
        let is_private = |e: &Endpoint| e.kind != EndpointKind::Public;
        let by_kind = if self.path.is_empty() {
            is_private(endpoint) == all.iter().any(|e| is_private(e))
        } else {
            self.path.contains(&endpoint.kind)
        };
        let (Regions::Listed(regions) | Regions::Nearest(regions)) = &self.regions;
        by_kind && (regions.is_empty() || endpoint.region.as_ref().is_some_and(|r| regions.contains(r)))
    }
}
