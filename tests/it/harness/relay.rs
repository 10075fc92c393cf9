//! A link of a given length to a server, which a test can lengthen, cut or swallow while it runs.
//!
//! One thread carries all connections, so that a thousand of them cost no thousand threads. Each piece is
//! stamped with the time at which it is due as it arrives, hence many are under way at once and only
//! latency is added. Times are kept to a millisecond, rounded up.
//!
//! What a relay on loopback cannot do: the kernel accepts at once, whatever the length of the link. So the
//! round trip that a TCP connect costs is added before a connection's first bytes instead: the connect
//! itself looks instant, and whatever is asked first (SSLRequest) is answered after two round trips.
//! And a server that refuses looks like one that accepts and resets; [`Mode::Refuse`] refuses truly.

use super::{DEADLINE, port::Port};
use socket2::SockRef;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, mpsc as blocking},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// A running relay; its port refuses and its connections are reset once it is dropped.
pub(crate) struct Relay {
    port: SocketAddr,
    shared: Arc<Shared>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    carrying: Option<thread::JoinHandle<()>>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is carried.
    Up,
    /// The port refuses it with an RST; one that is open is reset at both ends.
    Refuse,
    /// The kernel accepts it, and nothing is read or answered; one that is open stalls. What was written
    /// meanwhile is carried if the connection comes up again.
    BlackHole,
}

/// What the test's thread and the relay's share.
struct Shared {
    server: SocketAddr,
    round_trip: Mutex<Duration>,
    connections: Mutex<usize>,
    changed: Condvar,
}

struct Order {
    mode: Mode,
    of_all: bool,
    done: blocking::Sender<()>,
}

impl Relay {
    /// Leads to `server`, which answers after `round_trip`.
    pub(crate) fn to(server: SocketAddr, round_trip: Duration) -> Self {
        let (round_trip, connections) = (Mutex::new(round_trip), Mutex::default());
        let shared = Arc::new(Shared { server, round_trip, connections, changed: Condvar::new() });
        let (port, (sender, orders)) = (Port::reserve(), mpsc::unbounded_channel());
        let (address, listener, carried) = (port.address(), port.listen(), Arc::clone(&shared));
        let carrying = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(&carried, &port, listener, orders));
        });
        Self { port: address, shared, orders: Some(sender), carrying: Some(carrying) }
    }

    /// Where clients of the server are to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port
    }

    /// Whatever arrives from now on takes this long there and back.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        *self.shared.round_trip.lock().unwrap() = round_trip;
    }

    /// What becomes of connections made from now on; has happened on return.
    pub(crate) fn set_new(&self, mode: Mode) {
        self.order(mode, false);
    }

    /// What becomes of connections made from now on and of those that are open; has happened on return.
    pub(crate) fn set_all(&self, mode: Mode) {
        self.order(mode, true);
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits until `count` connections were made since the start.
    #[track_caller]
    pub(crate) fn wait_for_connections(&self, count: usize) {
        let made = self.shared.connections.lock().unwrap();
        let (made, waited) = self.shared.changed.wait_timeout_while(made, DEADLINE, |made| *made < count).unwrap();
        assert!(!waited.timed_out(), "only {made} connections were made");
    }

    fn order(&self, mode: Mode, of_all: bool) {
        let (done, finished) = blocking::channel();
        let orders = self.orders.as_ref().unwrap();
        orders.send(Order { mode, of_all, done }).unwrap_or_else(|_| panic!("the relay has ended"));
        finished.recv_timeout(DEADLINE).expect("the relay takes no orders");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.orders.take(); // Which ends the thread.
        if let Some(carrying) = self.carrying.take() {
            carrying.join().ok();
        }
    }
}

/// Accepts, and takes orders before anything else: what a test does after an order finds it carried out.
async fn run(
    shared: &Arc<Shared>,
    port: &Port,
    listener: std::net::TcpListener,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let (mut listener, mut mode) = (Some(adopt(listener)), Mode::Up);
    let (all, mut connections) = (watch::Sender::new(Mode::Up), JoinSet::new());
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => {
                let Some(order) = order else { return };
                mode = order.mode;
                if mode == Mode::Refuse {
                    listener = None;
                } else if listener.is_none() {
                    listener = Some(adopt(port.listen()));
                }
                if order.of_all {
                    all.send_replace(mode);
                }
                order.done.send(()).ok();
            }
            Some(_) = connections.join_next() => {}
            client = accept(listener.as_ref()) => {
                *shared.connections.lock().unwrap() += 1;
                shared.changed.notify_all();
                let (shared, later) = (Arc::clone(shared), all.subscribe());
                connections.spawn(async move { shared.keep(client, mode, later).await });
            }
        }
    }
}

fn adopt(listener: std::net::TcpListener) -> TcpListener {
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

/// The next client; nobody while nothing listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
    }
}

impl Shared {
    /// Carries one connection while its mode is `Up`, and nothing of it while it is not.
    async fn keep(&self, client: TcpStream, mut mode: Mode, mut later: watch::Receiver<Mode>) {
        let carrying = self.carry(client);
        tokio::pin!(carrying);
        loop {
            tokio::select! {
                biased;
                changed = later.changed() => match changed {
                    Ok(()) => mode = *later.borrow_and_update(),
                    Err(_) => return,
                },
                () = &mut carrying, if mode == Mode::Up => return,
            }
            if mode == Mode::Refuse {
                return;
            }
        }
    }

    /// Both directions of a connection to their ends. Both ends are reset if one is, or when dropped.
    async fn carry(&self, mut client: TcpStream) {
        client.set_nodelay(true).ok();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).ok();
        let connected = Instant::now() + self.round_trip();
        let Ok(mut server) = TcpStream::connect(self.server).await else { return };
        SockRef::from(&server).set_linger(Some(Duration::ZERO)).ok();
        server.set_nodelay(true).ok();
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let there = self.one_way(from_client, to_server, connected);
        let back = self.one_way(from_server, to_client, connected);
        if tokio::try_join!(there, back).is_ok() {
            for socket in [&client, &server] {
                SockRef::from(socket).set_linger(None).ok();
            }
        }
    }

    /// Carries bytes and the end of file; an error at either side ends at its time, too. Nothing counts
    /// as sent before the link is `connected`.
    async fn one_way(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, connected: Instant) -> io::Result<()> {
        let (sender, mut arrived) = mpsc::channel(CHUNKS_MAX);
        let read = async move {
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let chunk = from.read(&mut buffer).await.map(|length| buffer[..length].to_vec());
                let due = connected.max(Instant::now()) + self.round_trip() / 2;
                let ended = !chunk.as_ref().is_ok_and(|chunk| !chunk.is_empty());
                if sender.send((due, chunk)).await.is_err() || ended {
                    return Ok(());
                }
            }
        };
        let write = async move {
            while let Some((due, chunk)) = arrived.recv().await {
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                to.write_all(&chunk?).await?;
            }
            to.shutdown().await
        };
        tokio::try_join!(read, write).map(|_: ((), ())| ())
    }

    fn round_trip(&self) -> Duration {
        *self.round_trip.lock().unwrap()
    }
}

const CHUNK_BYTES: usize = 16 << 10;
/// Enough for what a fast link of 100 ms holds; a client that does not read still stops the server in the end.
const CHUNKS_MAX: usize = 1024;
