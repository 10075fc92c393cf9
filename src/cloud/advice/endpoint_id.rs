//! Which ID of a private endpoint is meant: three consoles show several that look alike.

use crate::cloud::Provider;

/// Why this cannot be the ID of a private endpoint of this provider, and where that is found; nothing where it can.
pub fn wrong_endpoint_id(provider: Option<&Provider>, id: &str) -> Option<&'static str> {
    let lower = id.to_ascii_lowercase();
    match provider? {
        Provider::Azure => azure(&lower),
        Provider::Aws => aws(&lower),
        Provider::Gcp => gcp(&lower),
        Provider::Other(_) => None,
    }
}

fn azure(id: &str) -> Option<&'static str> {
    if id.contains("/privatelinkservices/") {
        return Some(
            "this is the resource ID of a Private Link service (…/privateLinkServices/…), and that of the private endpoint \
             which you made for it is wanted (…/privateEndpoints/…): in the Azure portal open the private endpoint, \
             Properties, and copy its Resource ID",
        );
    }
    if id.ends_with(".privatelinkservice") {
        return Some(
            "this is the alias of the cluster's service, which a private endpoint is made with; then the Resource ID of that \
             private endpoint is wanted (…/privateEndpoints/…): in the Azure portal, its Properties",
        );
    }
    let is_endpoint = id.starts_with("/subscriptions/") && id.contains("/privateendpoints/");
    (!is_endpoint).then_some(
        "on Azure the Resource ID of the private endpoint is wanted \
         (/subscriptions/…/resourceGroups/…/providers/Microsoft.Network/privateEndpoints/…): in the Azure portal, its \
         Properties",
    )
}

fn aws(id: &str) -> Option<&'static str> {
    if id.contains("vpce-svc-") {
        return Some(
            "this is the name of the cluster's endpoint service (vpce-svc-…), which an interface endpoint is made with; then \
             the ID of that endpoint is wanted (vpce-…): in the AWS console under VPC, Endpoints",
        );
    }
    let rest = id.strip_prefix("vpce-").filter(|rest| !rest.is_empty());
    let is_endpoint = rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (!is_endpoint).then_some(
        "on AWS the ID of the interface endpoint is wanted (vpce-0123456789abcdef0): in the AWS console under VPC, \
         Endpoints",
    )
}

fn gcp(id: &str) -> Option<&'static str> {
    if id.contains("/serviceattachments/") {
        return Some(
            "this is the target service, which a Private Service Connect endpoint is made with; then the PSC Connection ID \
             of that endpoint is wanted, a number: in the Google Cloud console under Private Service Connect, Connected \
             endpoints",
        );
    }
    let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    (!is_number).then_some(
        "on GCP the PSC Connection ID of the endpoint is wanted, a number and not the endpoint's name: in the Google Cloud \
         console under Private Service Connect, Connected endpoints",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(provider: &str, id: &str) -> String {
        wrong_endpoint_id(Some(&Provider::from_word(provider)), id).unwrap_or_default().to_owned()
    }

    #[test]
    fn an_endpoints_id_is_taken() {
        let azure = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/mine";
        for (provider, id) in [("AZURE", azure), ("AWS", "vpce-0abc123def"), ("GCP", "102512345678"), ("OTHER", "x")] {
            assert_eq!(wrong(provider, id), "", "{id}");
        }
        assert_eq!(wrong_endpoint_id(None, "anything"), None);
    }

    #[test]
    fn a_services_id_is_told_from_an_endpoints_at_each_provider() {
        let azure = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Network/privateLinkServices/theirs";
        assert!(wrong("AZURE", azure).starts_with("this is the resource ID of a Private Link service"));
        assert!(wrong("AZURE", "crl-1.guid.eastus.azure.privatelinkservice").starts_with("this is the alias"));
        assert!(wrong("AWS", "com.amazonaws.vpce.us-east-1.vpce-svc-0abc").starts_with("this is the name"));
        assert!(wrong("GCP", "projects/p/regions/r/serviceAttachments/s").starts_with("this is the target service"));
    }

    #[test]
    fn anything_else_is_told_what_is_wanted_and_where_it_stands() {
        for (provider, id) in
            [("AZURE", "mine"), ("AWS", "vpce-"), ("AWS", "eni-1"), ("GCP", "my-endpoint"), ("GCP", "")]
        {
            assert!(wrong(provider, id).contains(" is wanted"), "{provider} {id}");
        }
    }
}
