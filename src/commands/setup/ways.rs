//! Which ways into the cluster the settings name, from what there is and what was chosen. Pure. Hosts are the
//! Cloud's own words: none is ever put together here.

use super::{
    cluster::{Found, Region},
    wishes::{Regions, word},
};
use crate::{
    diagnostics::printable,
    settings::{EndpointKind, same_region},
};

/// One `[[cluster.NAME.endpoint]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) region: String,
    pub(super) kind: EndpointKind,
    pub(super) host: String,
    /// Of kind `psc`; none where nobody has said it.
    pub(super) endpoint_name: Option<String>,
}

/// The cluster's own region of this name, in either spelling.
pub(super) fn region<'f>(found: &'f Found, name: &str) -> Result<&'f Region, String> {
    let named = found.regions.iter().find(|region| same_region(&region.name, name));
    named.ok_or_else(|| {
        let names: Vec<_> = found.regions.iter().map(|region| printable(&region.name)).collect();
        format!("the cluster has no region \"{}\", but {}", printable(name), names.join(", "))
    })
}

/// The regions in the order in which they are preferred.
pub(super) fn in_order<'f>(found: &'f Found, regions: &Regions) -> Result<Vec<&'f Region>, String> {
    let names = match regions {
        Regions::Nearest => return Ok(found.regions.iter().collect()),
        Regions::These(names) => names,
    };
    let mut chosen: Vec<&Region> = Vec::new();
    for name in names {
        let region = region(found, name)?;
        if chosen.iter().any(|other| other.name == region.name) {
            return Err(format!("{} stands there twice", printable(&region.name)));
        }
        chosen.push(region);
    }
    Ok(chosen)
}

/// Why these kinds do not lead into these regions.
pub(super) fn fault(regions: &[&Region], kinds: &[EndpointKind]) -> Option<String> {
    for kind in kinds {
        if !regions.iter().any(|region| region.host(*kind).is_some()) {
            let why = match kind {
                EndpointKind::Psc => {
                    "there is no host name for Private Service Connect yet: create the service first (see crdb-proxy \
                     private-endpoint services)"
                }
                EndpointKind::Internal => "the Cloud gives no internal host name here",
                EndpointKind::Public | EndpointKind::Custom => "the Cloud gives no public host name here",
            };
            return Some(format!("{}: {why}", word(*kind)));
        }
    }
    let is_lost = |region: &&&Region| kinds.iter().all(|kind| region.host(*kind).is_none());
    let lost = regions.iter().find(is_lost)?;
    let kinds: Vec<_> = kinds.iter().map(|kind| word(*kind)).collect();
    Some(format!(
        "{} leads nowhere in region {}; add another path, or name the regions",
        kinds.join(", "),
        printable(&lost.name)
    ))
}

/// Endpoints in use, by region and then by kind, and all the others that there are. A way by Private Service
/// Connect without a name is none in use.
pub(super) fn ways(
    found: &Found,
    regions: &[&Region],
    kinds: &[EndpointKind],
    psc: &[(String, String)],
) -> (Vec<Way>, Vec<Way>) {
    let way = |region: &Region, kind: EndpointKind| {
        let named = psc.iter().find(|(named, _)| kind == EndpointKind::Psc && same_region(named, &region.name));
        let endpoint_name = named.map(|(_, name)| name.clone());
        let host = region.host(kind)?.to_owned();
        Some(Way { region: region.name.clone(), kind, host, endpoint_name })
    };
    let used = regions.iter().flat_map(|region| kinds.iter().filter_map(|kind| way(region, *kind)));
    let used: Vec<_> = used.filter(|way| way.kind != EndpointKind::Psc || way.endpoint_name.is_some()).collect();
    let every = found.regions.iter().flat_map(|region| {
        [EndpointKind::Public, EndpointKind::Internal, EndpointKind::Psc]
            .into_iter()
            .filter_map(|kind| way(region, kind))
    });
    let spare = every.filter(|way| !used.contains(way)).collect();
    (used, spare)
}
