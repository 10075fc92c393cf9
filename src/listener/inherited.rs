//! Listening sockets that a service manager opened and keeps, so that clients wait through a restart.
//! Which listener gets which, and whether it may have it. Such a socket is never bound, configured or
//! unlinked here, and closing it leaves the manager's own open.

use super::{Listening, Place, Reach, Socket};
use crate::{
    settings::{Listener, LocalTls},
    sys::{Passed, PassedDescriptor, UNNAMED},
};
use rustix::io::Errno;
use socket2::{SockAddr, SockRef, Type};
use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

/// What was passed and nobody has taken yet.
#[derive(Default)]
pub(crate) struct Inherited(Vec<PassedDescriptor>);

/// A socket that a listener was passed and cannot have.
#[derive(Debug)]
pub(crate) struct InheritError {
    /// The listener's name, or `admin`.
    name: String,
    why: Unfit,
}

#[derive(Debug)]
enum Unfit {
    /// The descriptor of this number.
    NoListeningStream(i32),
    /// The descriptor of this number.
    OtherFamily(i32),
    /// At this address.
    Remote(String),
    /// At this address, whose clients have no user here.
    RuleOfUsers(String),
    /// At this address.
    UnixBesideTls(String),
    /// The descriptor of this number.
    System(i32, io::Error),
}

impl Inherited {
    /// Tells what was odd about the passing.
    pub(crate) fn new(passed: Passed) -> Self {
        for warning in passed.warnings {
            warn!("{warning}");
        }
        Self(passed.descriptors)
    }

    /// The sockets that this listener is to use instead of its address: those with its name and, if it is the
    /// only listener, those that nobody gave a name. Needs a runtime.
    pub(crate) fn take_for(&mut self, listener: &Listener, is_only: bool) -> Result<Vec<Socket>, InheritError> {
        let is_its = |name: &str| name == listener.name.as_str() || (is_only && is_default_name(name));
        let sockets = self.take(listener.name.as_str(), is_its)?;
        for socket in &sockets {
            check(listener, &socket.place())?;
        }
        Ok(sockets)
    }

    /// The sockets of the admin address. Needs a runtime.
    pub(crate) fn take_for_admin(&mut self) -> Result<Vec<Socket>, InheritError> {
        self.take(super::ADMIN, |name| name == super::ADMIN)
    }

    /// Closes what nobody wants, with a warning each: the manager's own copy stays open, so that whoever connects
    /// there waits without end, and should not have to guess why.
    pub(crate) fn close_rest(self) {
        for PassedDescriptor { name, number, descriptor } in self.0 {
            let address = SockRef::from(&descriptor).local_addr().ok();
            let address = address.as_ref().map_or_else(|| "no socket".to_owned(), shown);
            warn!(
                descriptor.name = name,
                descriptor.number = number,
                descriptor.addr = address,
                "a passed descriptor has no listener and is closed; let FileDescriptorName= of its socket unit be the name of a listener, or \"admin\""
            );
        }
    }

    fn take(&mut self, name: &str, is_its: impl Fn(&str) -> bool) -> Result<Vec<Socket>, InheritError> {
        let its = self.0.extract_if(.., |passed| is_its(&passed.name));
        let socket = |passed: PassedDescriptor| {
            socket(passed.number, passed.descriptor).map_err(|why| InheritError { name: name.to_owned(), why })
        };
        its.map(socket).collect()
    }
}

/// Whether a listener may have an inherited socket: what holds for an address in the settings holds for this one.
pub(crate) fn check(listener: &Listener, place: &Place) -> Result<(), InheritError> {
    let is_guarded = matches!(listener.tls, LocalTls::Require(_)) && listener.local_password.is_some();
    let why = match place.reach {
        Reach::Remote if !listener.unsafe_allow_remote && !is_guarded => Unfit::Remote(place.address.clone()),
        Reach::Remote if listener.access.asks_for_user() => Unfit::RuleOfUsers(place.address.clone()),
        Reach::Unix if listener.tls != LocalTls::Off => Unfit::UnixBesideTls(place.address.clone()),
        _ => return Ok(()),
    };
    Err(InheritError { name: listener.name.to_string(), why })
}

/// A unit without `FileDescriptorName=` names its sockets after itself.
fn is_default_name(name: &str) -> bool {
    name.ends_with(".socket") || name == UNNAMED || name.is_empty()
}

fn socket(number: i32, descriptor: OwnedFd) -> Result<Socket, Unfit> {
    let system = |error| Unfit::System(number, error);
    let address = listening_at(&descriptor).map_err(system)?.ok_or(Unfit::NoListeningStream(number))?;
    // The manager only waits on its copy, so that the flag, which both share, is nothing to it.
    SockRef::from(&descriptor).set_nonblocking(true).map_err(system)?;
    let listening = if address.is_unix() {
        UnixListener::from_std(descriptor.into()).map(Listening::Unix)
    } else if address.as_socket().is_some() {
        TcpListener::from_std(descriptor.into()).map(Listening::Tcp)
    } else {
        return Err(Unfit::OtherFamily(number));
    };
    Ok(Socket { listening: listening.map_err(system)?, _file: None, is_inherited: true })
}

/// The address of a stream socket that takes connections; of anything else none.
fn listening_at(descriptor: &impl AsFd) -> io::Result<Option<SockAddr>> {
    let socket = SockRef::from(descriptor);
    match socket.r#type() {
        Ok(Type::STREAM) if socket.is_listener()? => socket.local_addr().map(Some),
        Ok(_) => Ok(None),
        // A file, a pipe, a timer.
        Err(error) if error.raw_os_error() == Some(Errno::NOTSOCK.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An address as people write it.
pub(super) fn shown(address: &SockAddr) -> String {
    if let Some(address) = address.as_socket() {
        return address.to_string();
    }
    let name = address.as_abstract_namespace().map(|name| format!("@{}", String::from_utf8_lossy(name)));
    let path = || address.as_pathname().map(|path| path.display().to_string());
    name.or_else(path).map_or_else(|| "no address".to_owned(), |place| format!("unix:{place}"))
}

impl fmt::Display for InheritError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, why } = self;
        write!(f, "\"{name}\" was passed ")?;
        match why {
            Unfit::NoListeningStream(number) => write!(
                f,
                "descriptor {number}, which is no listening stream socket; its socket unit needs ListenStream= and \
                 Accept=no"
            ),
            Unfit::OtherFamily(number) => {
                write!(f, "descriptor {number}, which is neither TCP nor a Unix socket; see ListenStream= of its unit")
            }
            Unfit::Remote(address) => write!(
                f,
                "a socket at {address}, which can be reached from other hosts, each of which would use the database \
                 with this daemon's credentials; let ListenStream= of its unit say 127.0.0.1:PORT and [::1]:PORT, or \
                 set the listener's tls = \"require\" with local_password, or unsafe_allow_remote = true"
            ),
            Unfit::RuleOfUsers(address) => write!(
                f,
                "a socket at {address}, and its \"local_access\" is a rule of users; a client of another host has no user \
                 here. Let ListenStream= of its unit say 127.0.0.1:PORT and [::1]:PORT, or set local_access = \"any\" or \
                 \"password\""
            ),
            Unfit::UnixBesideTls(address) => write!(
                f,
                "a socket at {address}, and its \"tls\" is on; a Unix socket has no TLS, its mode says who may \
                 connect. Give that socket a listener of its own"
            ),
            Unfit::System(number, error) => write!(f, "descriptor {number}, which cannot be used: {error}"),
        }
    }
}

impl std::error::Error for InheritError {}
