//! This machine's own public IPv4 address, from whoever the operator names: the Cloud API does not tell it.

use super::{Limits, said, server::is_loopback, transport::Lookup};
use crate::tls;
use reqwest::{Client, Url, redirect};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// Asks this address, which answers with the address that asks, and with nothing else. It goes there over IPv4 and
/// past any proxy, as connections to a cluster do, and takes no key along.
///
/// # Errors
/// In one sentence, with the next step.
pub async fn own_address(url: &str, limits: Limits) -> Result<Ipv4Addr, String> {
    let meant = Url::parse(url).ok().ok_or(FORM)?;
    let is_good = match (meant.scheme(), meant.host_str()) {
        ("https", Some(_)) => true,
        ("http", Some(host)) => is_loopback(host),
        _ => false,
    };
    if !is_good {
        return Err(FORM.to_owned());
    }
    let host = said::shown(meant.host_str().unwrap_or_default());
    let failed = |why: &str| format!("{host} does not tell this machine's address ({why}); {OTHERWISE}");
    let body = ask(meant, limits).await.map_err(|why| failed(&why))?;
    let text = String::from_utf8_lossy(&body);
    match text.trim().parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(failed("it answers with an IPv6 address, and allowlists hold IPv4 only")),
        Err(_) => Err(failed("its answer is no address alone")),
    }
}

async fn ask(url: Url, limits: Limits) -> Result<Vec<u8>, String> {
    let only_loopback = url.scheme() != "https";
    let http = Client::builder()
        .tls_backend_preconfigured(tls::public_client().map_err(|error| error.to_string())?)
        .dns_resolver(Arc::new(Lookup { only_loopback }))
        .local_address(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("crdb-proxy/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .timeout(limits.request)
        .build()
        .map_err(|error| error.to_string())?;
    let reason = |error: reqwest::Error| match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (false, true) => "no connection".to_owned(),
        (false, false) => "no whole answer".to_owned(),
    };
    let mut response = http.get(url).send().await.map_err(reason)?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reason)? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err("its answer is no address alone".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An address, and what some put around it.
const BYTES_MAX: usize = 256;
const FORM: &str = "--address-from must be an address that begins with https://";
const OTHERWISE: &str = "name another one, or give the address itself with --address";
