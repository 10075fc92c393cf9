//! One region: a TLS server on 127.0.0.1 that can be taken down, brought up and drained. Owns the
//! listening socket and every session on it.

use super::{cancel::Cancels, distance, handshake, login::Users, store::Store};
use rustls::ServerConfig;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep,
};

/// What a region does with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Serves.
    Up,
    /// Turns new clients away and sends idle ones off, as a node does that is about to restart.
    Draining,
    /// Refuses connections.
    Down,
}

/// What the sessions of a region share.
#[derive(Debug)]
pub(super) struct Shared {
    /// As SQL shows it.
    pub(super) name: String,
    /// As people type it: one word.
    pub(super) short: &'static str,
    /// The one database.
    pub(super) store: Arc<Store>,
    /// The cancel keys of the whole cluster.
    pub(super) cancels: Arc<Cancels>,
    /// Who may log in.
    pub(super) users: Users,
    /// The region's certificate and key.
    pub(super) tls: Arc<ServerConfig>,
    /// How far away the region pretends to be, there and back.
    pub(super) round_trip: Duration,
    /// One for each session that may log in; taken for good by the session.
    pub(super) places: Arc<Semaphore>,
    /// What the region does with clients now.
    pub(super) state: watch::Receiver<State>,
}

/// A running region; dropping it ends it and its sessions.
#[derive(Debug)]
pub(super) struct Region {
    /// Where it listens while it is not down.
    pub(super) address: SocketAddr,
    /// What its sessions share.
    pub(super) shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    _task: JoinSet<()>,
}

type Order = (State, oneshot::Sender<io::Result<()>>);

impl Region {
    /// Listens on any free port of 127.0.0.1 and serves. `share` gets the receiving end of the
    /// region's state.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub(super) async fn start(share: impl FnOnce(watch::Receiver<State>) -> Shared) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (state, receiver) = watch::channel(State::Up);
        let shared = Arc::new(share(receiver));
        let (orders, receiver) = mpsc::channel(1);
        let mut task = JoinSet::new();
        let lifecycle = Lifecycle { address, state, shared: Arc::clone(&shared), sessions: JoinSet::new() };
        task.spawn(lifecycle.run(listener, receiver));
        Ok(Self { address, shared, orders, _task: task })
    }

    /// Changes what the region does, and returns once it does so: after `Down` the port is closed
    /// and every session has been reset.
    ///
    /// # Errors
    /// When the port was taken by somebody else meanwhile. Cancel safety: the change still happens.
    pub(super) async fn turn(&self, state: State) -> io::Result<()> {
        let gone = |_| io::Error::other("the region has ended");
        let (answer, answered) = oneshot::channel();
        self.orders.send((state, answer)).await.map_err(|_closed| io::Error::other("the region has ended"))?;
        answered.await.map_err(gone)?
    }

    /// What the region does now.
    pub(super) fn state(&self) -> State {
        *self.shared.state.borrow()
    }
}

struct Lifecycle {
    address: SocketAddr,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
    sessions: JoinSet<()>,
}

impl Lifecycle {
    async fn run(mut self, listener: TcpListener, mut orders: mpsc::Receiver<Order>) {
        let mut listener = Some(listener);
        loop {
            let room = self.sessions.len() < SOCKETS_MAX;
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some((state, answer)) = order else { return };
                    let _ = answer.send(self.turn(state, &mut listener).await);
                }
                Some(_) = self.sessions.join_next() => (),
                client = accept(listener.as_ref()), if room => {
                    self.sessions.spawn(converse(client, Arc::clone(&self.shared)));
                }
            }
        }
    }

    async fn turn(&mut self, state: State, listener: &mut Option<TcpListener>) -> io::Result<()> {
        if state == State::Down {
            *listener = None;
            self.state.send_replace(state);
            while self.sessions.join_next().await.is_some() {}
            return Ok(());
        }
        if listener.is_none() {
            *listener = Some(TcpListener::bind(self.address).await?);
        }
        self.state.send_replace(state);
        Ok(())
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn converse(mut client: TcpStream, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true); // A delay of the kernel's own would blur the distance.
    let Ok(address) = client.peer_addr() else {
        return;
    };
    let mut state = shared.state.clone();
    let (near, far) = duplex(STREAM_BYTES);
    let distance = shared.round_trip;
    let talk = async {
        let serve = async { drop(handshake::serve(far, address, shared).await) };
        tokio::join!(distance::carry(&mut client, near, distance), serve);
    };
    let down = state.wait_for(|state| *state == State::Down);
    let reset = tokio::select! {
        () = Box::pin(talk) => false,
        _ = down => true,
    };
    if reset {
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }
}

/// With what is still in its handshake.
const SOCKETS_MAX: usize = 300;
const STREAM_BYTES: usize = 64 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
