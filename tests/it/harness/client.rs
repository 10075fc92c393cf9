//! A client that speaks the protocol byte by byte, for what drivers never send.

use super::{
    Authority, DEADLINE,
    wire::{Message, SSL_REQUEST, Wire, startup},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::pem::PemObject};
use std::{
    net::{SocketAddr, TcpStream},
    ops::{Deref, DerefMut},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};

/// A client that has read ReadyForQuery.
pub(crate) struct TestClient {
    /// What BackendKeyData gave.
    pub(crate) key: Vec<u8>,
    /// Everything that came before ReadyForQuery.
    pub(crate) greeting: Vec<Message>,
    wire: Wire,
}

impl TestClient {
    /// Sends a startup of protocol 3.0 and reads to ReadyForQuery.
    #[track_caller]
    pub(crate) fn log_in(mut wire: Wire, parameters: &[(&str, &str)]) -> Self {
        wire.send(&startup(parameters));
        Self::ready(wire)
    }

    /// Reads to ReadyForQuery after whatever was sent.
    #[track_caller]
    pub(crate) fn ready(mut wire: Wire) -> Self {
        let greeting = wire.until(b'Z');
        let key = greeting.iter().find(|message| message.tag == b'K').map(|message| message.body.clone());
        Self { key: key.unwrap_or_default(), greeting, wire }
    }

    /// Runs one simple query to its ReadyForQuery.
    #[track_caller]
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send(&super::wire::query(sql));
        self.until(b'Z')
    }

    /// The first column of the first row that a simple query gives.
    #[track_caller]
    pub(crate) fn value(&mut self, sql: &str) -> String {
        let messages = self.query(sql);
        let row = messages.iter().find(|message| message.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("no row: {messages:?}"));
        // Two bytes count the columns, four give the length of the first.
        let length = u32::from_be_bytes(row.body[2..6].try_into().unwrap()) as usize;
        String::from_utf8_lossy(&row.body[6..6 + length]).into_owned()
    }

    /// The connection itself.
    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }
}

impl Deref for TestClient {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for TestClient {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// Connects to a Unix socket.
pub(crate) fn connect_unix(path: &Path) -> Wire {
    Wire::new(UnixStream::connect(path).unwrap())
}

/// Asks for TLS with SSLRequest, verifies with `authority`, and gives the connection under TLS.
pub(crate) fn connect_tls(address: SocketAddr, authority: &Authority) -> Wire {
    let socket = TcpStream::connect(address).unwrap();
    let mut clear = Wire::new(socket.try_clone().unwrap());
    clear.send(&SSL_REQUEST);
    assert_eq!(clear.bytes(), *b"S", "local TLS is off");
    Wire::new(handshake(socket, authority, &[]).unwrap())
}

/// Begins with a ClientHello, as `sslnegotiation=direct` does.
pub(crate) fn connect_direct_tls(address: SocketAddr, authority: &Authority, alpn: &[&str]) -> std::io::Result<Wire> {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    handshake(socket, authority, alpn).map(Wire::new)
}

fn handshake(
    mut socket: TcpStream,
    authority: &Authority,
    alpn: &[&str],
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}
