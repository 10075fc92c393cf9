//! Both peers of one relay, and what they do: what the script says, and what is theirs to do then.

use super::{
    model::Model,
    pipe::{Log, Peer, Pipe, Side, Told, pipe},
    script::{self, Aside, Cuts, End, Exchange, Finale, Script, Step},
    server::{Mode, Server},
    *,
};

/// Both peers of one relay, and what they know.
pub(super) struct Case {
    pub(super) is_behaved: bool,
    pub(super) is_for_reuse: bool,
    log: Log,
    pub(super) client: Peer,
    pub(super) server: Peer,
    /// The relay's ends, until it has them.
    ends: Option<(Pipe, Pipe)>,
    postgres: Server,
    pub(super) rules: Rules,
    stopper: Stopper,
    pub(super) stop: Stop,
    sent: Vec<u8>,
    is_extended_open: bool,
    has_ended_copy: bool,
    /// Somebody said what no server can understand, or no server says.
    has_lied: bool,
    /// The server is ahead of what it has said.
    is_speaking: bool,
    pub(super) is_draining: Cell<bool>,
    pub(super) is_cut: Cell<bool>,
}

impl Case {
    pub(super) fn new(script: &Script) -> Self {
        let log = Log::default();
        let (client, ours) = pipe(Side::Client, &log, script.bites.0);
        let (server, theirs) = pipe(Side::Server, &log, script.bites.1);
        let (stopper, stop) = stop();
        let rules = Rules {
            idle_limit: script.idle_limit,
            ends_at: script.age_limit.map(|limit| Instant::now() + limit),
            close_limit: CLOSE_LIMIT,
            tcp_user_timeout: Duration::from_secs(30),
        };
        Self {
            is_behaved: script.is_behaved,
            is_for_reuse: script.is_for_reuse,
            log,
            client,
            server,
            ends: Some((ours, theirs)),
            postgres: Server::new(),
            rules,
            stopper,
            stop,
            sent: Vec::new(),
            is_extended_open: false,
            has_ended_copy: false,
            has_lied: false,
            is_speaking: false,
            is_draining: Cell::new(false),
            is_cut: Cell::new(false),
        }
    }

    /// The relay, which has a first query ahead of it; and how many errors it was told of.
    pub(super) fn relay(&mut self, script: &Script) -> (Relay<Pipe, Pipe>, Arc<AtomicUsize>) {
        let talk = match script.is_for_reuse {
            true => Conversation::after_login_for_reuse(),
            false => Conversation::after_login(),
        };
        let query = frame(b'Q', b"first\0");
        let (early, late) = query.split_at(script.read_ahead.min(query.len()));
        if !early.is_empty() {
            self.log.borrow_mut().push((Side::Client, Told::Bytes(early.to_vec())));
            self.sent.extend(&query);
            self.client.say(late);
        }
        let errors = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&errors);
        let on_error: OnError = Arc::new(move |_| _ = counted.fetch_add(1, Relaxed));
        let (ours, theirs) = self.ends.take().unwrap();
        let ahead = ReadAhead { client: early, upstream: b"" };
        (Relay::new(ours, theirs, ahead, talk, script.buffer_bytes, LIVE.with(Arc::clone), on_error), errors)
    }

    pub(super) async fn play(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        for (index, step) in steps.iter().enumerate() {
            self.step(step).await?;
            // What follows at once finds the relay at work, what follows later finds it waiting.
            if index % 2 == 0 { self.settle().await? } else { yield_now().await }
        }
        self.settle().await
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Look => {}
            Step::Pause(time) => self.pause(*time).await?,
            Step::Next(exchange, cuts) => {
                let bytes = self.exchange(*exchange);
                self.client_says(&bytes, *cuts).await;
            }
            Step::Client(said, cuts) => {
                self.has_lied |= said.iter().any(|said| !b"QPBDEHSCFdcfX".contains(&said.kind()));
                let bytes: Vec<u8> = said.iter().flat_map(script::Said::encode).collect();
                self.client_says(&bytes, *cuts).await;
            }
            Step::Answer(choices, cuts) => self.answer(choices, *cuts).await,
            Step::Aside(aside, cuts) => {
                let message = match aside {
                    Aside::Notice => frame(b'N', b"SNOTICE\0C00000\0Mhello\0\0"),
                    Aside::Parameter => frame(b'S', b"TimeZone\0UTC\0"),
                    Aside::Notification => frame(b'A', b"\0\0\0\x01channel\0payload\0"),
                };
                self.server_says(&message, *cuts).await;
            }
            Step::Server(said, cuts) => {
                self.has_lied = true;
                let bytes: Vec<u8> = said.iter().flat_map(script::Said::encode).collect();
                self.server_says(&bytes, *cuts).await;
            }
            Step::ClientReads(reads) => self.client.open_window(*reads),
            Step::ServerReads(reads) => self.server.open_window(*reads),
            Step::ClientEnds(end) => end_of(&self.client, *end),
            Step::ServerEnds(end) => end_of(&self.server, *end),
            Step::Drain => {
                self.is_draining.set(true);
                let hurry_from = Instant::now() + HURRY_AFTER;
                self.stopper.enter(Phase::Draining(Drain { idle_close: IDLE_CLOSE, hurry_from }));
            }
            Step::Cut => self.cut(),
        }
        Ok(())
    }

    fn cut(&self) {
        self.is_cut.set(true);
        self.stopper.enter(Phase::Cutting);
    }

    /// What a client does next that minds what it has sent and what it was told.
    fn exchange(&mut self, exchange: Exchange) -> Vec<u8> {
        if let Mode::CopyIn { is_extended } = self.postgres.mode() {
            if std::mem::replace(&mut self.has_ended_copy, true) {
                return Vec::new();
            }
            self.is_extended_open = false;
            let end = if exchange == Exchange::FunctionCall { b'f' } else { b'c' };
            let sync = if is_extended { frame(b'S', b"") } else { Vec::new() };
            return [frame(b'd', b"1\t2\n"), frame(b'd', b"3\t4\n"), frame(end, b""), sync].concat();
        }
        self.has_ended_copy = false;
        if std::mem::take(&mut self.is_extended_open) {
            return frame(b'S', b"");
        }
        let kinds: &[u8] = match exchange {
            Exchange::Query => b"Q",
            Exchange::Pipeline(count) => &b"QQQQQQQQ"[..usize::from(count)],
            Exchange::Extended => b"PBDES",
            Exchange::Flushed => {
                self.is_extended_open = true;
                b"PBEH"
            }
            Exchange::FunctionCall => b"F",
            Exchange::Terminate => b"X",
        };
        kinds.iter().flat_map(|kind| frame(*kind, if b"SHX".contains(kind) { b"" } else { b"body\0" })).collect()
    }

    async fn client_says(&mut self, bytes: &[u8], cuts: Cuts) {
        if !self.client.has_ended() {
            self.sent.extend(bytes);
        }
        say(&self.client, bytes, cuts).await;
    }

    async fn server_says(&self, bytes: &[u8], cuts: Cuts) {
        say(&self.server, bytes, cuts).await;
    }

    async fn answer(&mut self, choices: &[script::Choice], cuts: Cuts) {
        for choice in choices {
            let got = self.server.got().to_vec();
            let (is_behaved, is_all) = (self.is_behaved, got.len() == self.sent.len());
            let may_copy = |rest: &[u8]| !is_behaved || (is_all && is_end_of_pipeline(rest));
            let Some(said) = self.postgres.answer(&got, *choice, may_copy) else { break };
            self.is_speaking = true;
            self.server_says(&said, cuts).await;
            self.is_speaking = false;
            if self.postgres.has_closed {
                self.server.end(false);
            }
        }
    }

    /// Waits until the relay has done all it can: time passes only then.
    async fn settle(&self) -> Result<(), TestCaseError> {
        sleep(Duration::from_millis(1)).await;
        if self.client.is_window_open() && !self.client.is_deaf() {
            prop_assert!(self.server.is_all_read(), "the server is not listened to");
        }
        if self.server.is_window_open() && !self.server.is_deaf() {
            let is_heard = self.client.is_all_read() || self.model().said_goodbye;
            prop_assert!(is_heard, "the client is not listened to");
        }
        Ok(())
    }

    /// Time passes; a session that any rule ends within that time must not be there any more.
    async fn pause(&self, time: Duration) -> Result<(), TestCaseError> {
        self.settle().await?;
        let began = Instant::now();
        // What the client has not taken yet keeps a session open.
        let is_known_idle = self.is_behaved && self.is_truly_idle() == Some(true) && self.client.is_window_open();
        let are_open = self.client.is_window_open() && self.server.is_window_open();
        let idle_limit = self.rules.idle_limit.filter(|_| is_known_idle);
        let age_limit = self.rules.ends_at.filter(|_| is_known_idle).map(|ends_at| ends_at - began);
        let idle_close = (is_known_idle && self.is_draining.get()).then_some(IDLE_CLOSE);
        let close_limit = (are_open && self.client.has_ended()).then_some(CLOSE_LIMIT);

        sleep(time).await;

        for limit in [idle_limit, age_limit, idle_close, close_limit].into_iter().flatten() {
            prop_assert!(began.elapsed() <= limit + SLACK, "still there {:?} after {limit:?}", began.elapsed());
        }
        Ok(())
    }

    /// What the server itself would say, if what the relay knows is what it knows.
    pub(super) fn is_truly_idle(&self) -> Option<bool> {
        let model = self.model();
        // A goodbye is nothing to be at work for.
        let is_known = !self.has_lied
            && !self.is_speaking
            && !model.said_goodbye
            && self.server.is_all_read()
            && !self.server.has_ended();
        let got = self.server.got();
        let client = &model.client;
        let behind = client.bytes[..client.sound].strip_prefix(&*got)?;
        is_known.then(|| self.postgres.is_idle(&got, behind) && client.at_boundary)
    }

    /// One side leaves, and the session must end soon.
    pub(super) async fn finish(&self, script: &Script, relay: &mut Relay<Pipe, Pipe>) -> Result<Ended, TestCaseError> {
        if script.opens_windows {
            self.client.open_window(true);
            self.server.open_window(true);
        }
        // An end behind bytes that nobody takes is not seen; the kernel's probes and the daemon's stop are what is left.
        let can_be_seen = self.client.is_window_open() && self.server.is_window_open();
        match script.finale {
            Finale::ClientEnds if can_be_seen => self.client.end(true),
            Finale::ServerEnds if can_be_seen => self.server.end(false),
            _ => self.cut(),
        }
        let ended = timeout(CLOSE_LIMIT + SLACK, relay.run(&self.rules, &self.stop)).await;
        ended.ok().ok_or_else(|| TestCaseError::fail("it does not end"))
    }

    pub(super) fn model(&self) -> Model {
        Model::of(&self.log.borrow(), self.is_for_reuse)
    }
}

/// Nothing more was sent, or Sync or Flush: only then do clients of a server's kind begin a COPY.
fn is_end_of_pipeline(rest: &[u8]) -> bool {
    rest.is_empty() || [b"S\0\0\0\x04", b"H\0\0\0\x04"].iter().any(|last| rest == *last)
}

async fn say(peer: &Peer, bytes: &[u8], cuts: Cuts) {
    for piece in cuts.of(bytes) {
        peer.say(piece);
        yield_now().await;
    }
}

fn end_of(peer: &Peer, end: End) {
    match end {
        End::Half => peer.end(true),
        End::Close => peer.end(false),
        End::Reset => peer.fail(),
    }
}
