//! What is odd about an allowlist, or about an entry that is to be added to it.

use crate::{
    cloud::{AllowedNetwork, Allowlist, Cidr, Cluster, Plan, Provider},
    diagnostics::printable,
};
use std::net::{IpAddr, Ipv4Addr};

/// How many entries fit, where that is documented.
pub fn allowlist_limit(cluster: &Cluster) -> Option<usize> {
    match (cluster.plan.as_ref()?, cluster.cloud_provider.as_ref()) {
        (Plan::Basic | Plan::Standard, _) => Some(50),
        (Plan::Advanced, Some(Provider::Aws)) => Some(20),
        (Plan::Advanced, Some(Provider::Gcp | Provider::Azure)) => Some(200),
        _ => None,
    }
}

/// What to look at in a list, one sentence each.
pub fn allowlist_warnings(cluster: &Cluster, list: &Allowlist) -> Vec<String> {
    let mut warnings = Vec::new();
    if list.propagating {
        warnings
            .push("the last change is not in force everywhere yet: wait some seconds, then connect again".to_owned());
    }
    if list.entries.is_empty() {
        let advice = "crdb-proxy allowlist add --help, or a private endpoint (crdb-proxy private-endpoint services)";
        warnings.push(format!("the allowlist is empty: nothing can connect over the public path; {advice}"));
    }
    for entry in &list.entries {
        warnings.extend(entry_warnings(entry));
    }
    if let Some(limit) = allowlist_limit(cluster).filter(|limit| list.entries.len() >= *limit) {
        warnings.push(format!(
            "the allowlist is full ({} of {limit} entries): join networks that lie side by side in one entry, remove \
             what nobody needs, or connect privately",
            list.entries.len()
        ));
    }
    warnings
}

/// What to look at in an entry.
pub fn entry_warnings(entry: &AllowedNetwork) -> Vec<String> {
    let place = named(entry);
    let mut warnings = Vec::new();
    if entry.cidr_mask == 0 && (entry.sql || entry.ui) {
        warnings.push(format!(
            "{place} lets every address of the internet try to log in: allow only the networks that need it"
        ));
    }
    if !entry.sql {
        let only = if entry.ui { "is for the DB Console only" } else { "allows neither SQL nor the DB Console" };
        warnings.push(format!(
            "{place} {only}: SQL clients from there time out; remove it and add it again with --sql-only or without a flag"
        ));
    }
    if let Some(reason) = entry.cidr().and_then(never_seen) {
        warnings.push(format!("{place} {reason}"));
    }
    warnings
}

/// `192.0.2.0/24 (office)`.
fn named(entry: &AllowedNetwork) -> String {
    let range = format!("{}/{}", printable(&entry.cidr_ip), entry.cidr_mask);
    entry.name.as_ref().map_or_else(|| range.clone(), |name| format!("{range} ({})", printable(name)))
}

/// Addresses that no cluster ever sees a client come from.
fn never_seen(cidr: Cidr) -> Option<&'static str> {
    let first = cidr.first();
    let shared = Cidr { address: Ipv4Addr::new(100, 64, 0, 0), mask: 10 };
    let is_inside = first.is_private() || first.is_loopback() || first.is_link_local() || shared.contains(first);
    (cidr.mask >= 8 && is_inside).then_some(
        "is a range of private addresses, which never arrive over the internet: allow the public address behind which \
         they go out, or connect privately",
    )
}

/// Why a text is no range that an allowlist takes.
pub fn refused_range(text: &str) -> String {
    let address = text.split('/').next().unwrap_or(text);
    if address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
        return "this is an IPv6 range, and allowlists of CockroachDB Cloud hold IPv4 only, since its public hosts have \
                IPv4 addresses only: allow the IPv4 address behind which this network goes out"
            .to_owned();
    }
    "this is no range of IPv4 addresses; write it as 192.0.2.0/24, or as 192.0.2.7 for one address".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::testing::{allowed, cluster};

    fn list(entries: Vec<AllowedNetwork>) -> Allowlist {
        Allowlist { entries, propagating: false }
    }

    #[test]
    fn a_list_of_sound_entries_has_no_warning_and_an_empty_one_has() {
        assert_eq!(allowlist_warnings(&cluster(), &list(vec![allowed("192.0.2.0/24")])), Vec::<String>::new());

        let warnings = allowlist_warnings(&cluster(), &list(Vec::new()));

        assert!(warnings[0].starts_with("the allowlist is empty: nothing can connect"), "{warnings:?}");
    }

    #[test]
    fn what_is_odd_about_an_entry_is_told_with_its_name() {
        let odd = |range: &str, sql, ui| {
            let entry = AllowedNetwork { sql, ui, name: Some("off\nice".to_owned()), ..allowed(range) };
            allowlist_warnings(&cluster(), &list(vec![entry])).join("|")
        };

        assert!(odd("0.0.0.0/0", true, false).starts_with("0.0.0.0/0 (off\\nice) lets every address of the internet"));
        assert!(odd("192.0.2.0/24", false, true).starts_with("192.0.2.0/24 (off\\nice) is for the DB Console only"));
        assert!(odd("192.0.2.0/24", false, false).contains("allows neither SQL nor the DB Console"));
        for private in ["10.1.2.3/32", "192.168.0.0/16", "172.16.0.0/12", "100.100.0.0/16", "127.0.0.1/32"] {
            assert!(odd(private, true, true).contains("is a range of private addresses"), "{private}");
        }
    }

    #[test]
    fn a_list_is_full_at_the_documented_number_and_propagation_is_told() {
        let aws = Cluster { cloud_provider: Some(Provider::Aws), ..cluster() };
        let entries: Vec<_> = (0..20).map(|number| allowed(&format!("192.0.2.{number}/32"))).collect();
        let full = Allowlist { entries, propagating: true };

        let (of_aws, of_gcp) = (allowlist_warnings(&aws, &full), allowlist_warnings(&cluster(), &full));

        assert!(of_aws[1].starts_with("the allowlist is full (20 of 20 entries)"), "{of_aws:?}");
        assert_eq!(of_gcp, ["the last change is not in force everywhere yet: wait some seconds, then connect again"]);
        let standard = Cluster { plan: Some(Plan::Standard), ..aws };
        assert_eq!(allowlist_limit(&standard), Some(50));
        assert_eq!(allowlist_limit(&Cluster { cloud_provider: None, ..cluster() }), None);
    }

    #[test]
    fn ipv6_is_refused_with_the_reason_and_nonsense_with_an_example() {
        assert!(refused_range("2001:db8::/32").contains("IPv4 only"));
        assert!(refused_range("::1").contains("IPv4 only"));
        assert!(refused_range("office").contains("192.0.2.0/24"));
    }
}
