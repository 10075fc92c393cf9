//! Which region or cluster of the API's a host, region or endpoint of the settings is.

use super::{Cluster, Provider, Region};
use crate::settings::{self, Endpoint};

impl Region {
    /// Whether this is one of its names, or a Private Service Connect endpoint's below one.
    pub fn has_host(&self, host: &str) -> bool {
        let names = [&self.sql_dns, &self.internal_dns, &self.private_endpoint_dns];
        names.into_iter().flatten().any(|name| is_or_is_below(host, name))
    }

    /// Whether an endpoint leads to it, by the region that the settings say, or by its host.
    pub fn is_led_to_by(&self, endpoint: &Endpoint) -> bool {
        let is_named = |said: &str| settings::same_region(said, &self.name);
        endpoint.region.as_deref().is_some_and(is_named) || self.has_host(&endpoint.host)
    }
}

impl Cluster {
    /// Whether an endpoint of the settings' cluster dials, or expects the certificate of, one of its names.
    pub fn has_a_host_of(&self, cluster: &settings::Cluster) -> bool {
        let is_ours = |host: &str| {
            self.sql_dns.as_deref().is_some_and(|name| is_or_is_below(host, name))
                || self.regions.iter().any(|region| region.has_host(host))
        };
        let hosts = |endpoint: &Endpoint| is_ours(&endpoint.host) || is_ours(&endpoint.tls_server_name.to_str());
        cluster.endpoints.iter().any(|endpoint| hosts(endpoint))
    }

    /// A region's name as SQL shows it: `gcp-us-east1`.
    pub fn sql_region(&self, name: &str) -> String {
        let cloud = match &self.cloud_provider {
            Some(provider @ (Provider::Aws | Provider::Gcp | Provider::Azure)) => {
                format!("{}-", provider.word().to_ascii_lowercase())
            }
            _ => String::new(),
        };
        if name.starts_with(&cloud) { name.to_owned() } else { format!("{cloud}{name}") }
    }
}

/// The name itself, or one with further labels in front.
fn is_or_is_below(host: &str, name: &str) -> bool {
    let (host, name) = (host.to_ascii_lowercase(), name.to_ascii_lowercase());
    host.strip_suffix(&name).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::testing::cluster;

    #[test]
    fn a_host_is_a_regions_by_whole_labels_and_in_any_case() {
        let region = Region { private_endpoint_dns: Some("private-a.example".into()), ..cluster().regions[0].clone() };

        assert!(region.has_host("mine.private-a.example") && region.has_host("PRIVATE-A.example"));
        assert!(!region.has_host("evilprivate-a.example") && !region.has_host("private-a.example.org"));
    }

    #[test]
    fn a_region_is_called_as_sql_calls_it() {
        let of = |provider: &str, name: &str| {
            Cluster { cloud_provider: Some(Provider::from_word(provider)), ..cluster() }.sql_region(name)
        };

        assert_eq!(of("GCP", "us-east1"), "gcp-us-east1");
        assert_eq!(of("AWS", "aws-us-east-1"), "aws-us-east-1");
        assert_eq!(of("MOON", "crater"), "crater");
    }
}
