//! The first message of a connection, in clear: TLS, a cancel, or a refusal. Owns what CockroachDB
//! says to clients that do not ask for TLS; lets nothing that came in clear into a session.

use super::{cancel::CancelKey, error::fatal, region::Shared, session};
use pgwire::api::DefaultClient;
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::Framed;

/// Serves one connection to its end. Nothing is read beyond the first message before TLS has begun,
/// so bytes sent ahead in clear can only break the TLS handshake.
///
/// # Errors
/// When the client sends nonsense, nothing, or leaves.
pub(super) async fn serve<S>(mut stream: S, address: SocketAddr, shared: Arc<Shared>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let deadline = Instant::now() + LOGIN_LIMIT;
    let (length, code) = timeout_at(deadline, async {
        let length = stream.read_u32().await?;
        Ok::<_, io::Error>((length, stream.read_u32().await?))
    })
    .await??;
    match (length, code) {
        (8, SSL_REQUEST) => {
            stream.write_all(b"S").await?;
            stream.flush().await?;
            let acceptor = TlsAcceptor::from(Arc::clone(&shared.tls));
            let stream = timeout_at(deadline, acceptor.accept(stream)).await??;
            session::serve(stream, address, shared, deadline).await
        }
        (16, CANCEL_REQUEST) => {
            let key = async {
                let process = stream.read_i32().await?;
                Ok::<_, io::Error>(CancelKey { process, secret: stream.read_i32().await? })
            };
            shared.cancels.cancel(timeout_at(deadline, key).await??);
            Ok(())
        }
        (8, GSSENC_REQUEST) => refuse(stream, address, "GSSAPI encryption is not supported").await,
        (9..=STARTUP_BYTES_MAX, _) => {
            refuse(stream, address, "node is running secure mode, SSL connection required").await
        }
        _ => refuse(stream, address, "this is not a PostgreSQL startup message").await,
    }
}

async fn refuse<S>(stream: S, address: SocketAddr, why: &str) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let codec = PgWireMessageServerCodec::<()>::new(DefaultClient::new(address, false));
    process_error(&mut Framed::new(stream, codec), fatal("08P01", why), true).await
}

const SSL_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;
const GSSENC_REQUEST: u32 = 80_877_104;
const STARTUP_BYTES_MAX: u32 = 10_000;
const LOGIN_LIMIT: Duration = Duration::from_secs(10);
