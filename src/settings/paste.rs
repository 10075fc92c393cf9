//! What an application on this machine has to know to reach a listener, and the connection string that says it.
//! Pure.

use super::{ListenAddress, Listener, LocalTls};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// How a listener is reached. There is no password in it: most clients need none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionParameters {
    /// The machine, or the folder of the Unix socket.
    pub host: ClientHost,
    /// Also of a Unix socket, whose name it is part of.
    pub port: u16,
    /// Any would do, since the daemon puts the cluster's in its place; drivers want one.
    pub user: String,
    /// The listener's.
    pub database: String,
    /// The listener takes no client in clear.
    pub needs_tls: bool,
}

/// What a client takes for `host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientHost {
    /// Both loopback addresses.
    Localhost,
    /// This address.
    Ip(IpAddr),
    /// The folder of a Unix socket.
    Folder(PathBuf),
}

impl ConnectionParameters {
    /// For a listener at this address; `real_port` is where it really listens. `None` where that is needed and not
    /// known.
    pub fn new(
        address: &ListenAddress,
        needs_tls: bool,
        (user, database): (&str, &str),
        real_port: Option<u16>,
    ) -> Option<Self> {
        let port = |port: u16| if port == 0 { real_port } else { Some(port) };
        let (host, port) = match address {
            ListenAddress::Localhost(said) => (ClientHost::Localhost, port(*said)?),
            ListenAddress::Tcp(address) => (ClientHost::Ip(reachable(address.ip())), port(address.port())?),
            ListenAddress::Unix(path) => {
                (ClientHost::Folder(path.parent()?.to_owned()), path.extension()?.to_str()?.parse().ok()?)
            }
        };
        Some(Self { host, port, user: user.to_owned(), database: database.to_owned(), needs_tls })
    }

    /// What `sslmode` must be. In clear it is said all the same, or a root certificate in the user's own folder
    /// (`~/.postgresql/root.crt`) would have libpq ask for TLS that is not there.
    pub fn sslmode(&self) -> &'static str {
        if self.needs_tls { "require" } else { "disable" }
    }

    /// The connection string, ready to be pasted.
    pub fn url(&self) -> String {
        let (user, database) = (escaped(self.user.as_bytes()), escaped(self.database.as_bytes()));
        let (port, sslmode) = (self.port, self.sslmode());
        match &self.host {
            ClientHost::Folder(folder) => {
                let folder = escaped(folder.as_os_str().as_bytes());
                format!("postgresql://{user}@/{database}?host={folder}&port={port}&sslmode={sslmode}")
            }
            host => format!("postgresql://{user}@{host}:{port}/{database}?sslmode={sslmode}"),
        }
    }
}

/// As it stands in a connection string; a folder does not stand there like that.
impl fmt::Display for ClientHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Folder(folder) => folder.display().fmt(f),
        }
    }
}

/// Text as part of a connection string: nothing in it means anything there.
pub fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

impl Listener {
    /// How it is reached; as [`ConnectionParameters::new`].
    pub fn connection_parameters(&self, real_port: Option<u16>) -> Option<ConnectionParameters> {
        let needs_tls = matches!(self.tls, LocalTls::Require(_));
        ConnectionParameters::new(&self.address, needs_tls, (&self.user.name, &self.database), real_port)
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
        let user = toml::Value::from(user);
        let cluster = format!(
            "[cluster.c]\nca = \"system\"\nuser = {user}\npassword = {{ file = \"/pw\" }}\n\
             [[cluster.c.endpoint]]\nhost = \"db.example\"\n"
        );
        std::fs::write(&file, format!("{cluster}[[listener]]\n{listener}\n")).unwrap();
        let flags = Flags { config: Some(file), ..Flags::default() };
        let loaded = load(&Inputs { flags, working_folder: "/".into(), cores: 1, ..Inputs::default() }).unwrap();
        loaded.settings.listeners[0].connection_parameters(real_port).map(|parameters| parameters.url())
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
