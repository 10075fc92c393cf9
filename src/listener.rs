//! Local sockets: bound or inherited once, accepting until the daemon has stopped, each the owner of its sessions.

mod acceptor;
mod inherited;
mod unix;

pub(crate) use inherited::{InheritError, Inherited, check};
pub(crate) use unix::{accounts, folder_fault};

use crate::{
    metrics::{ListenerMetrics, labels::CloseReason},
    session::{self, Parts},
    settings::{ListenAddress, SocketRights},
    shutdown::Stop,
};
use acceptor::Acceptor;
use socket2::SockRef;
use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinError, JoinSet},
};
use tracing::info;

/// A socket that clients can connect to.
pub(crate) struct Socket {
    pub(crate) listening: Listening,
    /// That of a Unix socket that was bound here; it goes when this does.
    _file: Option<unix::SocketFile>,
    is_inherited: bool,
}

/// The kinds of socket.
pub(crate) enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

/// Where a socket is.
pub(crate) struct Place {
    /// The address, as people write it.
    pub(crate) address: String,
    pub(crate) reach: Reach,
}

/// From where a socket can be reached, as far as its address tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// By processes of this machine.
    Loopback,
    /// From other hosts.
    Remote,
    /// By processes that may open its file.
    Unix,
}

impl Place {
    /// Whether nobody could bind `address` while this is bound.
    pub(crate) fn overlaps(&self, address: &str) -> bool {
        let (Ok(own), Ok(other)) = (self.address.parse::<SocketAddr>(), address.parse::<SocketAddr>()) else {
            return self.address == address;
        };
        let is_any = own.ip().is_unspecified() || other.ip().is_unspecified();
        own.port() == other.port() && (own.ip() == other.ip() || (is_any && own.is_ipv4() == other.is_ipv4()))
    }
}

/// An address that could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// What it was for: a listener's name, or `admin`.
    pub name: String,
    /// The address.
    pub address: String,
    /// Why.
    pub source: io::Error,
    /// Who is in the way, where that is known.
    pub holder: Option<Holder>,
}

/// Who has an address that is wanted; the name is a listener's.
#[derive(Clone, Debug)]
pub enum Holder {
    /// This very daemon.
    Ours(String),
    /// The service manager, which passed it, and here it was closed.
    Manager(String),
}

/// Binds every socket of an address. `localhost` is both loopback families on one port; a family that
/// this machine does not have is passed over, with a log line.
pub(crate) fn bind(name: &str, address: &ListenAddress, rights: &SocketRights) -> Result<Vec<Socket>, BindError> {
    let failed = |address| move |source| BindError::new(name, address, source);
    match address {
        ListenAddress::Localhost(port) => bind_loopback(name, *port),
        ListenAddress::Tcp(address) => {
            let socket = bind_tcp(*address).map_err(failed(address.to_string()))?;
            Ok(vec![Socket::tcp(socket)])
        }
        ListenAddress::Unix(path) => {
            let (socket, file) = unix::bind(path, rights).map_err(failed(format!("unix:{}", path.display())))?;
            Ok(vec![Socket { listening: Listening::Unix(socket), _file: Some(file), is_inherited: false }])
        }
    }
}

/// Whether an address could be bound now. Opens nothing that a client could reach.
pub(crate) fn rehearse(name: &str, address: &ListenAddress) -> Result<(), BindError> {
    let attempt = |address: SocketAddr| match bound_tcp(address) {
        Err(error) if !is_family_missing(&error) => Err(BindError::new(name, address.to_string(), error)),
        _ => Ok(()),
    };
    match address {
        ListenAddress::Localhost(port) => {
            attempt((Ipv4Addr::LOCALHOST, *port).into())?;
            attempt((Ipv6Addr::LOCALHOST, *port).into())
        }
        ListenAddress::Tcp(address) => {
            bound_tcp(*address).map(drop).map_err(|error| BindError::new(name, address.to_string(), error))
        }
        ListenAddress::Unix(path) => {
            unix::rehearse(path).map_err(|error| BindError::new(name, format!("unix:{}", path.display()), error))
        }
    }
}

fn bind_loopback(name: &str, port: u16) -> Result<Vec<Socket>, BindError> {
    let mut sockets = Vec::new();
    let mut missing = Vec::new();
    let mut port = port;
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        let address = SocketAddr::new(address.ip(), port);
        match bind_tcp(address) {
            Ok(socket) => {
                // Both families share the port that the system gave to the first.
                port = socket.local_addr().map_or(port, |bound| bound.port());
                sockets.push(Socket::tcp(socket));
            }
            Err(error) if is_family_missing(&error) => missing.push((address, error)),
            Err(source) => return Err(BindError::new(name, address.to_string(), source)),
        }
    }
    for (address, error) in missing {
        if sockets.is_empty() {
            return Err(BindError::new(name, address.to_string(), error));
        }
        info!(listener.name = name, listener.addr = %address, %error, "address family not here, passed over");
    }
    Ok(sockets)
}

fn is_family_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let missing = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(|errno| Some(errno.raw_os_error()));
    missing.contains(&error.raw_os_error())
}

/// SO_REUSEADDR, so that a restart finds its port; never SO_REUSEPORT, which would let a second process
/// take half of the clients.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound_tcp(address)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Not listening yet.
fn bound_tcp(address: SocketAddr) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Socket {
    fn tcp(socket: TcpListener) -> Self {
        Self { listening: Listening::Tcp(socket), _file: None, is_inherited: false }
    }

    /// Where clients connect.
    pub(crate) fn place(&self) -> Place {
        let (address, reach) = match &self.listening {
            Listening::Tcp(socket) => {
                let is_remote = socket.local_addr().is_ok_and(|own| !own.ip().to_canonical().is_loopback());
                (SockRef::from(socket).local_addr(), if is_remote { Reach::Remote } else { Reach::Loopback })
            }
            Listening::Unix(socket) => (SockRef::from(socket).local_addr(), Reach::Unix),
        };
        let address = address.map_or_else(|error| error.to_string(), |address| inherited::shown(&address));
        Place { address, reach }
    }

    /// Whether another process bound it, which will hand it to the next one too.
    pub(crate) fn is_inherited(&self) -> bool {
        self.is_inherited
    }
}

/// What a bound socket is to do.
#[derive(Clone)]
pub(crate) enum Order {
    /// Take clients, and serve each new one with these.
    Serve(Arc<Parts>),
    /// Take no more clients; those that are there stay.
    Leave,
}

/// Accepts clients and owns their sessions, until `stop` says that what is open is cut off; while the
/// daemon drains, new clients are accepted to be told so, but not from an inherited socket: they wait there
/// for the next process. Returns once every session has ended, or right away for those that an order to leave
/// finds none. Cancel safety: dropping the future cuts all of them off.
pub(crate) async fn serve(socket: Socket, mut orders: watch::Receiver<Order>, stop: Stop) {
    let Order::Serve(parts) = orders.borrow_and_update().clone() else { return };
    let is_inherited = socket.is_inherited();
    let mut sessions = JoinSet::new();
    let (mut cut, mut drain) = (stop.clone(), stop.clone());
    let mut acceptor = Acceptor::new(socket, parts);
    let accepting = async {
        loop {
            tokio::select! {
                biased;
                Some(ended) = sessions.join_next(), if !sessions.is_empty() => note_end(&acceptor.parts().metrics, &ended),
                () = drain.draining(), if is_inherited => return,
                _ = orders.changed() => match orders.borrow_and_update().clone() {
                    Order::Serve(parts) => acceptor.go_on_with(parts),
                    Order::Leave => return,
                },
                accepted = acceptor.accept() => {
                    sessions.spawn(session::run(Arc::clone(acceptor.parts()), accepted, stop.clone()));
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = cut.cutting() => {}
        () = accepting => {}
    }
    // The socket goes; the series stay for as long as sessions do.
    let metrics = Arc::clone(&acceptor.parts().metrics);
    drop(acceptor);
    while let Some(ended) = sessions.join_next().await {
        note_end(&metrics, &ended);
    }
}

/// A session counts its own end, unless it panicked.
fn note_end(metrics: &ListenerMetrics, ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        metrics.closed.at(CloseReason::Internal).inc();
    }
}

/// The name under which the admin address is bound and logged.
pub(crate) const ADMIN: &str = "admin";

/// Says where clients can connect, and of a listener who may come in, once for each socket.
pub(crate) fn announce(name: &str, socket: &Socket, access: Option<&str>) {
    // Absent where it says nothing new.
    let (address, inherited) = (socket.place().address, socket.is_inherited().then_some(true));
    info!(
        listener.name = name,
        listener.addr = address,
        listener.access = access,
        listener.inherited = inherited,
        "listening"
    );
}

impl BindError {
    fn new(name: &str, address: String, source: io::Error) -> Self {
        Self { name: name.to_owned(), address, source, holder: None }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address, source, holder } = self;
        write!(f, "\"{name}\" cannot listen on {address}: {source}")?;
        match holder {
            Some(Holder::Ours(name)) => {
                return write!(
                    f,
                    "; listener \"{name}\" of this daemon has that port and lets go of it at a restart only. Restart crdb-proxy, or choose another port"
                );
            }
            Some(Holder::Manager(name)) => {
                return write!(
                    f,
                    "; the service manager has it, which passed it for listener \"{name}\" until that was taken out of the settings. Restart crdb-proxy to be passed it again"
                );
            }
            None => {}
        }
        f.write_str(match source.kind() {
            io::ErrorKind::AddrInUse => "; does another crdb-proxy or a local database use it? Choose another address with --listen or \"address\" (for the admin address --admin or \"admin\")",
            io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
            io::ErrorKind::NotFound => "; does its folder exist? crdb-proxy makes the socket and not the folder",
            io::ErrorKind::PermissionDenied => "; ports below 1024 and some folders need more rights",
            _ => "",
        })
    }
}

impl std::error::Error for BindError {}

const BACKLOG: i32 = 4096;
