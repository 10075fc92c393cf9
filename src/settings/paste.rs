//! The connection string by which an application on this machine reaches a listener. Pure.

use super::{ListenAddress, Listener, LocalTls};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
};

/// Ready to be pasted, for a listener at this address; `real_port` is where it really listens. `None` where that is
/// needed and not known.
pub fn connection_string(
    address: &ListenAddress,
    needs_tls: bool,
    (user, database): (&str, &str),
    real_port: Option<u16>,
) -> Option<String> {
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let (user, database) = (escaped(user), escaped(database));
    let sslmode = if needs_tls { "require" } else { "disable" };
    let port = |port: u16| if port == 0 { real_port } else { Some(port) };
    let place = match address {
        ListenAddress::Localhost(said) => format!("localhost:{}", port(*said)?),
        ListenAddress::Tcp(address) => match reachable(address.ip()) {
            IpAddr::V4(ip) => format!("{ip}:{}", port(address.port())?),
            IpAddr::V6(ip) => format!("[{ip}]:{}", port(address.port())?),
        },
        ListenAddress::Unix(path) => {
            let folder = percent_encode(path.parent()?.as_os_str().as_bytes(), ESCAPED);
            let port = path.extension()?.to_str()?;
            return Some(format!("postgresql://{user}@/{database}?host={folder}&port={port}&sslmode={sslmode}"));
        }
    };
    Some(format!("postgresql://{user}@{place}/{database}?sslmode={sslmode}"))
}

impl Listener {
    /// How it is reached, with `user` as the user's name; as [`connection_string`].
    pub fn connection_string(&self, user: &str, real_port: Option<u16>) -> Option<String> {
        let needs_tls = matches!(self.tls, LocalTls::Require(_));
        connection_string(&self.address, needs_tls, (user, &self.database), real_port)
    }

    /// Whether only the running daemon knows its port.
    pub fn has_any_port(&self) -> bool {
        match &self.address {
            ListenAddress::Localhost(port) => *port == 0,
            ListenAddress::Tcp(address) => address.port() == 0,
            ListenAddress::Unix(_) => false,
        }
    }
}

impl ListenAddress {
    /// The address of sockets that listen at these, as logs and `/status` write them; `None` if there is none.
    pub fn of_sockets(addresses: &[String]) -> Option<Self> {
        if let Some(path) = addresses.iter().find_map(|address| address.strip_prefix("unix:")) {
            return Some(Self::Unix(path.into()));
        }
        let sockets: Vec<_> = addresses.iter().filter_map(|address| address.parse::<SocketAddr>().ok()).collect();
        match sockets.as_slice() {
            [one, other] if one.port() == other.port() && one.ip().is_loopback() && other.ip().is_loopback() => {
                Some(Self::Localhost(one.port()))
            }
            [first, ..] => Some(Self::Tcp(*first)),
            [] => None,
        }
    }
}

/// Where a socket is reached that listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Everything that could mean something in a connection string.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, Inputs, load};

    fn string(listener: &str, user: &str, real_port: Option<u16>) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        let cluster = "[cluster.c]\nca = \"system\"\nuser = \"app\"\npassword = { file = \"/pw\" }\n\
            [[cluster.c.endpoint]]\nhost = \"db.example\"\n";
        std::fs::write(&file, format!("{cluster}[[listener]]\n{listener}\n")).unwrap();
        let flags = Flags { config: Some(file), ..Flags::default() };
        let loaded = load(&Inputs { flags, working_folder: "/".into(), cores: 1, ..Inputs::default() }).unwrap();
        loaded.settings.listeners[0].connection_string(user, real_port)
    }

    #[test]
    fn it_says_where_the_listener_is() {
        for (address, expected) in [
            ("localhost:26257", "postgresql://app@localhost:26257/defaultdb?sslmode=disable"),
            ("127.0.0.2:5", "postgresql://app@127.0.0.2:5/defaultdb?sslmode=disable"),
            ("[::1]:5", "postgresql://app@[::1]:5/defaultdb?sslmode=disable"),
            ("localhost:0", "postgresql://app@localhost:7/defaultdb?sslmode=disable"),
            ("unix:/run/x", "postgresql://app@/defaultdb?host=%2Frun%2Fx&port=26257&sslmode=disable"),
            (
                "unix:/run/a b&c/.s.PGSQL.5",
                "postgresql://app@/defaultdb?host=%2Frun%2Fa%20b%26c&port=5&sslmode=disable",
            ),
        ] {
            let found = string(&format!("address = \"{address}\""), "app", Some(7));
            assert_eq!(found.as_deref(), Some(expected), "{address}");
        }
        let remote = string("address = \"0.0.0.0:5\"\nunsafe_allow_remote = true", "app", None).unwrap();
        assert!(remote.contains("@127.0.0.1:5/"), "{remote}");
        assert_eq!(string("address = \"localhost:0\"", "app", None), None);
    }

    #[test]
    fn names_are_escaped_and_a_listener_that_requires_tls_is_reached_by_it() {
        let found =
            string("database = \"a/b?c d\"\ntls = \"require\"\ntls_cert = \"/c\"\ntls_key = \"/k\"", "x@y:z%", None);

        let expected = "postgresql://x%40y%3Az%25@localhost:26257/a%2Fb%3Fc%20d?sslmode=require";
        assert_eq!(found.as_deref(), Some(expected));
    }

    #[test]
    fn sockets_at_both_loopback_addresses_are_localhost() {
        let of = |addresses: &[&str]| {
            ListenAddress::of_sockets(&addresses.iter().map(|&address| address.to_owned()).collect::<Vec<_>>())
        };

        assert_eq!(of(&["127.0.0.1:5", "[::1]:5"]), Some(ListenAddress::Localhost(5)));
        assert_eq!(of(&["127.0.0.1:5"]), Some(ListenAddress::Tcp("127.0.0.1:5".parse().unwrap())));
        assert_eq!(of(&["unix:/run/.s.PGSQL.5"]), Some(ListenAddress::Unix("/run/.s.PGSQL.5".into())));
        assert_eq!(of(&["nothing"]), None);
    }
}
