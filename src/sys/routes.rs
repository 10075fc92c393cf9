//! The networks that this machine reaches by routes of its own (IPv4).

use std::net::Ipv4Addr;

/// A route that is no default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// First address.
    pub network: Ipv4Addr,
    /// Length of the prefix.
    pub prefix: u8,
    /// The interface that it leads to.
    pub interface: String,
}

/// The kernel's table; nothing where it cannot be read.
#[cfg(target_os = "linux")]
pub fn routes() -> Vec<Route> {
    parse(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// The same; this system does not tell so simply.
#[cfg(not(target_os = "linux"))]
pub fn routes() -> Vec<Route> {
    Vec::new()
}

/// Lines of `iface destination gateway flags refcnt use metric mask …`, addresses as words lie in memory (proc(5)).
#[cfg(any(target_os = "linux", test))]
fn parse(table: &str) -> Vec<Route> {
    let route = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (interface, destination) = (fields.next()?, fields.next()?);
        let mask = fields.nth(5)?;
        let address = |text| u32::from_str_radix(text, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes()));
        let prefix = u8::try_from(address(mask)?.to_bits().leading_ones()).ok()?;
        Some(Route { network: address(destination)?, prefix, interface: interface.to_owned() })
    };
    table.lines().skip(1).filter_map(route).filter(|route| route.prefix > 0).collect()
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_the_default_route_is_none() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     br-1\t00001CAC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     half\t00001CAC\n";

        let routes = parse(table);

        let expected = Route { network: Ipv4Addr::new(172, 28, 0, 0), prefix: 16, interface: "br-1".to_owned() };
        assert_eq!(routes, [expected]);
    }
}
