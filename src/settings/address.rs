//! The rules for addresses that the daemon listens on: loopback, IP or Unix socket. Pure; says which
//! addresses would collide and which can be reached from other hosts, and binds nothing.

use super::{
    AdminAddress, ListenAddress,
    reader::Places,
    shown::is_plain,
    source::Source,
    tree::Node,
    values::{path_of, text},
};
use std::{
    ffi::OsStr,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// `localhost:PORT`, `IP:PORT`, `unix:FOLDER` or `unix:FOLDER/.s.PGSQL.PORT`.
pub(super) fn listen_address(node: &Node, places: &Places<'_>) -> Result<ListenAddress, String> {
    let said = text(node)?;
    if let Some(path) = said.strip_prefix("unix:") {
        return unix_listener(path, &node.source, places).map(ListenAddress::Unix);
    }
    Ok(match tcp(said).ok_or_else(|| rule("unix:FOLDER or unix:FOLDER/.s.PGSQL.PORT", said, DEFAULT_PORT))? {
        Tcp::Localhost(port) => ListenAddress::Localhost(port),
        Tcp::Exactly(address) => ListenAddress::Tcp(address),
    })
}

/// `off`, `localhost:PORT`, `IP:PORT` or `unix:PATH`.
pub(super) fn admin_address(node: &Node, places: &Places<'_>) -> Result<AdminAddress, String> {
    let said = text(node)?;
    if said == "off" {
        return Ok(AdminAddress::Off);
    }
    if let Some(path) = said.strip_prefix("unix:") {
        return unix_path(path, &node.source, places).map(AdminAddress::Unix);
    }
    Ok(match tcp(said).ok_or_else(|| rule("unix:PATH or off", said, ADMIN_PORT))? {
        Tcp::Localhost(port) => AdminAddress::Localhost(port),
        Tcp::Exactly(address) => AdminAddress::Tcp(address),
    })
}

/// An address as the settings file says it.
pub(crate) fn listen_text(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Localhost(port) => format!("localhost:{port}"),
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// As [`listen_text`], of the admin address.
pub(super) fn admin_text(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Off => "off".to_owned(),
        AdminAddress::Localhost(port) => format!("localhost:{port}"),
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Whether both can not be bound at once. Port 0 collides with nothing.
pub(super) fn collide(one: &ListenAddress, other: &ListenAddress) -> bool {
    use ListenAddress::{Localhost, Tcp, Unix};
    match (one, other) {
        (Unix(one), Unix(other)) => one == other,
        (Unix(_), _) | (_, Unix(_)) => false,
        (Localhost(one), Localhost(other)) => one == other && *one != 0,
        (Localhost(port), Tcp(address)) | (Tcp(address), Localhost(port)) => {
            let ip = address.ip();
            *port != 0 && *port == address.port() && (on_loopback(ip) || ip.is_unspecified())
        }
        (Tcp(one), Tcp(other)) => {
            let same_family = one.is_ipv4() == other.is_ipv4();
            let overlap =
                one.ip() == other.ip() || (same_family && (one.ip().is_unspecified() || other.ip().is_unspecified()));
            one.port() != 0 && one.port() == other.port() && overlap
        }
    }
}

/// The admin address as a listener's, to tell whether they collide; `None` when it is off.
pub(super) fn as_listen_address(address: &AdminAddress) -> Option<ListenAddress> {
    match address {
        AdminAddress::Off => None,
        AdminAddress::Localhost(port) => Some(ListenAddress::Localhost(*port)),
        AdminAddress::Tcp(address) => Some(ListenAddress::Tcp(*address)),
        AdminAddress::Unix(path) => Some(ListenAddress::Unix(path.clone())),
    }
}

/// Whether other hosts can reach it.
pub(super) fn is_remote(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Localhost(_) | ListenAddress::Unix(_) => false,
        ListenAddress::Tcp(address) => !on_loopback(address.ip()),
    }
}

fn on_loopback(ip: IpAddr) -> bool {
    // ::ffff:127.0.0.1 is loopback too, which `is_loopback` of an IPv6 address denies.
    ip.to_canonical().is_loopback()
}

enum Tcp {
    Localhost(u16),
    Exactly(SocketAddr),
}

fn tcp(said: &str) -> Option<Tcp> {
    match said.strip_prefix("localhost:") {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok().map(Tcp::Localhost),
        Some(_) => None,
        None => said.parse().ok().map(Tcp::Exactly),
    }
}

/// What an address must be, and what `said` was probably meant to be.
fn rule(others: &str, said: &str, usual_port: u16) -> String {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    let meant = match said.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, usual_port).to_string()),
        Err(_) if said == "localhost" => Some(format!("localhost:{usual_port}")),
        Err(_) if is_port(said.trim_start_matches(':')) => Some(format!("localhost:{}", said.trim_start_matches(':'))),
        Err(_) if said.starts_with(['/', '~', '.']) && is_plain(said) => Some(format!("unix:{said}")),
        Err(_) => None,
    };
    let meant = meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
    format!(
        "must be localhost:PORT, IP:PORT ([IP]:PORT for IPv6), {others}, where PORT is a number from 0 to 65535{meant}"
    )
}

fn unix_listener(said: &str, source: &Source, places: &Places<'_>) -> Result<PathBuf, String> {
    let path = unix_path(said, source, places)?;
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    match name.strip_prefix(SOCKET_PREFIX.as_bytes()) {
        None => length_checked(path.join(format!("{SOCKET_PREFIX}{DEFAULT_PORT}"))),
        Some(port) => {
            let port = str::from_utf8(port).ok().filter(|port| !port.starts_with(['+', '0']));
            match port.and_then(|port| port.parse::<u16>().ok()) {
                Some(_) => Ok(path),
                None => Err(format!("after \"{SOCKET_PREFIX}\" must come a port, since clients look for it")),
            }
        }
    }
}

fn unix_path(said: &str, source: &Source, places: &Places<'_>) -> Result<PathBuf, String> {
    if said.starts_with('@') {
        return Err("abstract sockets have no permissions; name a folder".to_owned());
    }
    length_checked(path_of(said, source, places)?)
}

fn length_checked(path: PathBuf) -> Result<PathBuf, String> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes <= UNIX_PATH_MAX {
        return Ok(path);
    }
    Err(format!(
        "the socket's path would be {bytes} bytes long, and the system takes {UNIX_PATH_MAX}; \
         use a shorter folder"
    ))
}

/// The port of the admin address that names none.
pub(super) const ADMIN_PORT: u16 = 9257;
/// The port of CockroachDB, and of a listener that names none.
pub(crate) const DEFAULT_PORT: u16 = 26257;
const SOCKET_PREFIX: &str = ".s.PGSQL.";
/// `sun_path` holds 108 bytes, one of them a NUL.
const UNIX_PATH_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tree::Value;
    use std::path::Path;

    fn read(text: &str) -> Result<ListenAddress, String> {
        let node = Node { value: Value::Plain(text.to_owned()), source: Source::Flag("listen") };
        let places = Places { home: None, working_folder: Path::new("/w"), file_folder: "/f".into() };
        listen_address(&node, &places)
    }

    #[test]
    fn a_listener_takes_localhost_ips_and_unix_folders() {
        assert_eq!(read("localhost:26257"), Ok(ListenAddress::Localhost(26257)));
        assert_eq!(read("127.0.0.1:0"), Ok(ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())));
        assert_eq!(read("[::1]:5"), Ok(ListenAddress::Tcp("[::1]:5".parse().unwrap())));
        assert_eq!(read("unix:/run/x"), Ok(ListenAddress::Unix("/run/x/.s.PGSQL.26257".into())));
        assert_eq!(read("unix:s/.s.PGSQL.5432"), Ok(ListenAddress::Unix("/w/s/.s.PGSQL.5432".into())));
    }

    #[test]
    fn anything_else_is_no_address() {
        let bad = ["", "26257", ":26257", "localhost", "localhost:", "localhost:+5", "db:26257"];
        for text in bad.into_iter().chain(["localhost:99999", "::1:5", "unix:", "unix:@x"]) {
            assert!(read(text).is_err(), "{text} was taken");
        }
        assert!(read("unix:/x/.s.PGSQL.abc").unwrap_err().contains("port"));
    }

    #[test]
    fn a_unix_path_is_at_most_107_bytes() {
        let folder = |bytes: usize| format!("unix:/{}", "x".repeat(bytes - 1 - "/.s.PGSQL.26257".len()));

        assert!(read(&folder(107)).is_ok());
        assert!(read(&folder(108)).unwrap_err().contains("107"));
    }

    #[test]
    fn addresses_collide_when_one_socket_would_shadow_the_other() {
        let collides = |one, other| {
            let (one, other) = (read(one).unwrap(), read(other).unwrap());
            assert_eq!(collide(&one, &other), collide(&other, &one));
            collide(&one, &other)
        };

        assert!(collides("localhost:5", "localhost:5"));
        assert!(collides("localhost:5", "127.0.0.1:5"));
        assert!(collides("localhost:5", "0.0.0.0:5"));
        assert!(collides("10.0.0.1:5", "0.0.0.0:5"));
        assert!(collides("unix:/x", "unix:/x/.s.PGSQL.26257"));
        assert!(!collides("localhost:5", "localhost:6"));
        assert!(!collides("localhost:0", "localhost:0"));
        assert!(!collides("localhost:5", "10.0.0.1:5"));
        assert!(!collides("127.0.0.1:5", "[::1]:5"));
        assert!(!collides("localhost:5", "unix:/x"));
    }

    #[test]
    fn only_loopback_and_unix_are_local() {
        assert!(!is_remote(&read("localhost:5").unwrap()));
        assert!(!is_remote(&read("127.0.0.2:5").unwrap()));
        assert!(!is_remote(&read("[::ffff:127.0.0.1]:5").unwrap()));
        assert!(is_remote(&read("0.0.0.0:5").unwrap()));
        assert!(is_remote(&read("[::]:5").unwrap()));
        assert!(is_remote(&read("10.0.0.1:5").unwrap()));
    }
}
