//! Who may read what tells of hosts and sessions, and who may give orders: this machine, and for orders the
//! daemon's own user and root; or those that were let in by name.

use super::Peer;
use crate::{
    settings::Settings,
    sys::{self, PeerUids},
};
use hyper::{
    HeaderMap, Request,
    header::{HOST, ORIGIN},
    http::uri::Authority,
};
use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::AsFd,
};

/// Whether this may be read; `Err` says why not.
pub(super) fn check<B>(request: &Request<B>, peer: &Peer, settings: &Settings) -> Result<(), &'static str> {
    if !is_of_this_machine(peer) && !settings.admin_unsafe_allow_remote {
        return Err("other hosts may not read this; \"admin_unsafe_allow_remote\" would let them");
    }
    expected_host(request, settings).map(drop)
}

/// Whether an order may be given; the user who gives it, where that is known. `Err` says why not.
pub(super) async fn check_post<B>(
    request: &Request<B>,
    peer: &Peer,
    (settings, peer_uids): (&Settings, &PeerUids),
) -> Result<Option<u32>, String> {
    if !is_of_this_machine(peer) {
        return Err("orders are taken over loopback and the Unix socket only".to_owned());
    }
    let host = expected_host(request, settings)?;
    if !is_from_own_page(request.headers(), host) {
        return Err("this request comes from another site's page (Origin), which may give no orders".to_owned());
    }
    let uid = uid_of(peer, peer_uids).await;
    if settings.admin_post {
        return Ok(uid.unwrap_or_default());
    }
    judge(uid?, sys::own_uid(), sys::is_own_user).map(Some)
}

/// The user at the other end; `None` once that end is closed.
async fn uid_of(peer: &Peer, peer_uids: &PeerUids) -> Result<Option<u32>, String> {
    let socket = match peer {
        Peer::Unix(uid) => return Ok(*uid),
        Peer::Tcp { socket: Some(socket), .. } => socket,
        Peer::Tcp { socket: None, .. } => return Ok(None),
    };
    peer_uids.of_tcp(socket.as_fd()).await.map_err(|error| {
        format!("the user who gives this order cannot be told: {error}; use a Unix socket as \"admin\"")
    })
}

fn judge(uid: Option<u32>, own: u32, is_own: impl FnOnce(u32) -> bool) -> Result<u32, String> {
    match uid {
        Some(uid) if is_own(uid) => Ok(uid),
        Some(uid) if uid == own => Err(format!(
            "the user who gives this order cannot be told: in the daemon's user namespace all users that it does not \
             have look like {uid}, its own among them; \"admin_post\" would let every user of this machine give orders"
        )),
        Some(uid) => Err(format!(
            "user ID {uid} may give no orders; the daemon's own ({own}) and root may, and \"admin_post\" would let \
             every user of this machine"
        )),
        None => Err("the user who gives this order cannot be told: the connection was closed meanwhile".to_owned()),
    }
}

fn is_of_this_machine(peer: &Peer) -> bool {
    match peer {
        Peer::Tcp { peer, .. } => peer.ip().to_canonical().is_loopback(),
        Peer::Unix(_) => true,
    }
}

/// The one `Host`, if it is a name of this machine. A page that rebinds its own name to this address still
/// sends that name. Where the request's own target names a host too, which then counts, it is the same.
fn expected_host<'r, B>(request: &'r Request<B>, settings: &Settings) -> Result<&'r str, &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let target = request.uri().authority().map(Authority::as_str);
    match (host, hosts.next()) {
        (Some(host), None)
            if is_expected(without_port(host), &settings.admin_hosts)
                && target.is_none_or(|target| target.eq_ignore_ascii_case(host)) =>
        {
            Ok(host)
        }
        _ => Err("this Host is not expected here; use localhost or an IP address, or add it to \"admin_hosts\""),
    }
}

/// Whether no page at all made this request, or one that was served here.
fn is_from_own_page(headers: &HeaderMap, host: &str) -> bool {
    let own = |origin: &str| origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host));
    headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(own))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn is_expected(host: &str, admin_hosts: &[String]) -> bool {
    if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return literal.parse::<Ipv6Addr>().is_ok();
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || is_below_localhost(host)
        || admin_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

/// `app.localhost`, and nothing that only ends so: before it stand names, and no path and no user.
fn is_below_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let is_name = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(known)
    };
    host.strip_suffix(".localhost").is_some_and(|below| below.split('.').all(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_left_its_port_to_another_is_not_taken_for_that_one() {
        use socket2::{Domain, Socket, Type};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let connect = |from: std::net::SocketAddr| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect(&own.into()).unwrap();
            socket
        };
        let first = connect("127.0.0.1:0".parse().unwrap());
        let (accepted, peer) = listener.accept().unwrap();
        let asks = Peer::Tcp { peer, socket: Some(std::sync::Arc::new(accepted.into())) };
        let peer_uids = PeerUids::new();
        assert_eq!(uid_of(&asks, &peer_uids).await, Ok(Some(sys::own_uid())));

        // Its close is a reset.
        drop(first);
        let _second = connect(peer);

        assert_eq!(uid_of(&asks, &peer_uids).await, Ok(None));
    }
    use hyper::header::HeaderValue;

    #[test]
    fn orders_are_for_the_daemons_own_user_and_root() {
        let judge = |uid, own| judge(uid, own, |uid| uid == own || uid == 0);
        assert_eq!((judge(Some(1000), 1000), judge(Some(0), 1000)), (Ok(1000), Ok(0)));

        assert!(judge(Some(1001), 1000).unwrap_err().contains("1001"));
        assert!(judge(Some(1000), 0).is_err() && judge(None, 0).is_err());
        let among_strangers = super::judge(Some(65534), 65534, |_| false);
        assert!(among_strangers.unwrap_err().contains("user namespace"));
    }

    #[test]
    fn a_page_may_give_orders_only_where_it_was_served() {
        let from = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            is_from_own_page(&headers, "localhost:9257")
        };

        assert!(from(&[]) && from(&["http://localhost:9257"]) && from(&["http://LOCALHOST:9257"]));
        for origin in
            ["null", "https://localhost:9257", "http://localhost", "http://localhost:9258", "http://evil.example", ""]
        {
            assert!(!from(&[origin]), "{origin}");
        }
        assert!(!from(&["http://localhost:9257", "http://evil.example"]));
    }

    #[test]
    fn loopback_names_literals_and_listed_hosts_are_expected() {
        let listed = ["proxy.internal".to_owned()];
        let expected = |host: &str| is_expected(without_port(host), &listed);

        for host in [
            "localhost",
            "LOCALHOST:9257",
            "app.localhost",
            "a_b.c-d.localhost:1",
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
            "evil.com/.localhost",
            "a@b.localhost",
            "evil.com#.localhost",
            "evil.com%2f.localhost",
            ".localhost",
            "evil..localhost",
            "evil.com\\.localhost",
            "evil.com:1.localhost",
            "[127.0.0.1]",
            "[localhost]",
            "a@127.0.0.1",
        ] {
            assert!(!expected(host), "{host}");
        }
    }
}
