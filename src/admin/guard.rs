//! Who may read what tells of hosts and sessions: this machine, or hosts that were let in by name.

use super::Peer;
use crate::settings::Settings;
use hyper::{HeaderMap, header::HOST};
use std::net::IpAddr;

/// `Err` says why not.
pub(super) fn check(headers: &HeaderMap, peer: Peer, settings: &Settings) -> Result<(), &'static str> {
    if let Peer::Tcp(ip) = peer
        && !ip.to_canonical().is_loopback()
        && !settings.admin_unsafe_allow_remote
    {
        return Err("other hosts may not read this; \"admin_unsafe_allow_remote\" would let them\n");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).map(without_port);
    match (host, hosts.next()) {
        // A page that rebinds its own name to this address still sends that name.
        (Some(host), None) if is_expected(host, &settings.admin_hosts) => Ok(()),
        _ => Err("this Host is not expected here; use localhost or an IP address, or add it to \"admin_hosts\"\n"),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn is_expected(host: &str, admin_hosts: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    literal.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || admin_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_literals_and_listed_hosts_are_expected() {
        let listed = ["proxy.internal".to_owned()];
        let expected = |host: &str| is_expected(without_port(host), &listed);

        for host in [
            "localhost",
            "LOCALHOST:9257",
            "app.localhost",
            "127.0.0.1:9257",
            "[::1]:9257",
            "10.0.0.7",
            "Proxy.Internal:80",
        ] {
            assert!(expected(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "proxy.internal.evil",
            "",
            "127.0.0.1.evil.example:9257",
            "notlocalhost",
        ] {
            assert!(!expected(host), "{host}");
        }
    }
}
