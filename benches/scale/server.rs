//! A server that holds thousands of connections: this program again, in a process of its own.

use crate::harness::{Authority, DEADLINE, settings::Cluster};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// Tells this program to be the server; the folder with its certificate follows.
pub(crate) const ARGUMENT: &str = "serve";
/// A row with `1` in it, to every query.
pub(crate) const ANSWER: &[u8; 66] = b"T\0\0\0\x21\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0\
    D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
/// AuthenticationOk, a cancel key, ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

/// The process; it ends when its standard input does.
pub(crate) struct Server {
    authority: Authority,
    address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let authority = Authority::new();
        let identity = authority.server();
        let folder = tempfile::Builder::new().prefix("crdb-proxy-bench-").tempdir().unwrap();
        fs::write(folder.path().join("cert.der"), &identity.chain()[0]).unwrap();
        fs::write(folder.path().join("key.der"), identity.private_key().secret_der()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ARGUMENT).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap();
        Self { authority, address, child, _folder: folder }
    }
}

impl Cluster for Server {
    fn authority(&self) -> &Authority {
        &self.authority
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Serves until standard input ends.
pub(crate) fn serve(folder: &Path) {
    let chain = vec![CertificateDer::from(fs::read(folder.join("cert.der")).unwrap())];
    let key = PrivateKeyDer::try_from(fs::read(folder.join("key.der")).unwrap()).unwrap();
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let runtime = Runtime::new().unwrap();
    runtime.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // What a client does to its connection is no concern of the others.
            tokio::spawn(hold(socket, acceptor.clone()));
        }
    });
    std::io::stdin().lines().for_each(drop);
    runtime.shutdown_background();
}

async fn hold(mut socket: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut ssl_request = [0; 8];
    socket.read_exact(&mut ssl_request).await?;
    socket.write_all(b"S").await?;
    let mut stream = timeout(DEADLINE, acceptor.accept(socket)).await??;
    let length = stream.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await?;
    stream.write_all(GREETING).await?;
    stream.flush().await?;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        body.resize(length as usize - 4, 0);
        stream.read_exact(&mut body).await?;
        match kind {
            b'Q' => stream.write_all(ANSWER).await?,
            b'X' => return stream.shutdown().await,
            _ => {}
        }
        stream.flush().await?;
    }
}
