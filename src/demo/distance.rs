//! Simulated distance: bytes arrive later, in order, in both directions. Owns the delay and the
//! gentle end of a socket; looks at no byte.

use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

/// Carries bytes between `client` and `server`, each for half of `round_trip` on its way, until the
/// server's side has ended and the client has had time to read the rest. At most 1 MiB is on the
/// way in each direction. Cancel safety: what is on the way is lost.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite,
    server: impl AsyncRead + AsyncWrite,
    round_trip: Duration,
) {
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let to_server = one_way(client_read, server_write, round_trip / 2);
    let to_client = one_way(server_read, client_write, round_trip / 2);
    tokio::pin!(to_server, to_client);
    tokio::select! {
        () = &mut to_server => to_client.await,
        () = &mut to_client => {
            // A close over unread bytes would be a reset, which eats the last words on their way.
            let _ = timeout(CLOSE_LIMIT, to_server).await;
        }
    }
}

async fn one_way(mut from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, delay: Duration) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = from.read(&mut chunk).await.unwrap_or(0);
            chunk.truncate(length);
            // Once nobody takes the bytes any more, they are read all the same: see `carry`.
            let _ = sender.send((Instant::now() + delay, chunk)).await;
            if length == 0 {
                return;
            }
        }
    };
    tokio::join!(read, async { drop(deliver(receiver, to).await) });
}

/// An empty chunk is the end.
async fn deliver(mut receiver: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some((due, chunk)) = receiver.recv().await {
        sleep_until(due).await;
        if chunk.is_empty() {
            break;
        }
        to.write_all(&chunk).await?;
        to.flush().await?;
    }
    to.shutdown().await
}

const CHUNK_BYTES: usize = 16 << 10;
const CHUNKS_MAX: usize = 64;
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[tokio::test(start_paused = true)]
    async fn a_round_trip_takes_the_distance_once_however_many_messages_it_has() {
        let (mut client, client_far) = duplex(1024);
        let (mut server, server_far) = duplex(1024);
        let carried = tokio::spawn(carry(client_far, server_far, Duration::from_millis(80)));
        let echo = tokio::spawn(async move {
            for _ in 0..10 {
                let byte = server.read_u8().await.unwrap();
                server.write_u8(byte).await.unwrap();
            }
        });

        let begin = Instant::now();
        client.write_all(b"0123456789").await.unwrap();
        let mut back = [0; 10];
        client.read_exact(&mut back).await.unwrap();

        let taken = begin.elapsed();
        assert_eq!(&back, b"0123456789");
        assert!((80..100).contains(&taken.as_millis()), "{taken:?}");
        echo.await.unwrap();
        drop(client);
        carried.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_said_last_arrives_before_the_end() {
        let (mut client, client_far) = duplex(1024);
        let (mut server, server_far) = duplex(1024);
        let carried = tokio::spawn(carry(client_far, server_far, Duration::from_millis(30)));

        server.write_all(b"goodbye").await.unwrap();
        drop(server);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();

        assert_eq!(read, b"goodbye");
        drop(client);
        carried.await.unwrap();
    }
}
