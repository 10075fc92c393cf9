//! Any client, any server, any limits: a session ends, for a reason, and no byte is out of place.
//!
//! A script is played against a relay over in-memory streams with the clock paused. What the relay was told, in its
//! order, is then read again by a model that shares no code with it, and a server that knows its own state says
//! what an idle point is. `PROPTEST_CASES` asks for more.

mod model;
mod pipe;
mod script;
mod server;

use super::{tests::live, *};
use crate::{
    session::closing,
    shutdown::{Drain, Leaver, Stopper, stop},
    wire::messages::{frame, whole},
};
use model::{ByRule, Model};
use pipe::{Log, Peer, Pipe, Side, Told, pipe};
use proptest::{prelude::*, test_runner::TestCaseError};
use script::{Aside, Cuts, End, Exchange, Finale, Script, Step};
use server::{Mode, Server};
use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout},
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_session_ends_for_a_reason_and_no_byte_is_out_of_place(script in script::scripts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(&script))?;
    }
}

fn config() -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { CASES };
    ProptestConfig { cases, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

async fn play(script: &Script) -> Result<(), TestCaseError> {
    let mut case = Case::new(script);
    let (mut relay, errors) = case.relay(script);
    let stop = case.stop.clone();
    let mut ended = None;
    for steps in script.steps.split(|step| *step == Step::Look) {
        let rules = case.rules;
        tokio::select! {
            biased;
            end = relay.run(&rules, &stop) => ended = Some(end),
            played = case.play(steps) => played?,
        }
        if ended.is_some() {
            break;
        }
        case.look(&relay)?;
    }
    let ended = match ended {
        Some(ended) => ended,
        None => case.finish(script, &mut relay).await?,
    };

    let idle_ends = [CloseReason::IdleLimit, CloseReason::AgeLimit, CloseReason::Drain];
    if idle_ends.contains(&ended.reason) {
        prop_assert!(case.is_truly_idle() != Some(false), "{ended:?} although it was at work");
    }
    let model = case.model();
    let (client_sound, server_sound) = (model.client.bytes.len() as u64, model.server.bytes.len() as u64);
    prop_assert_eq!((relay.totals().to_upstream, relay.totals().to_client), (client_sound, server_sound));
    let statements = model.server.messages.iter().filter(|message| matches!(message.kind, b'C' | b'I')).count();
    prop_assert_eq!(relay.totals().statements, statements as u64);
    let said = model.server.messages.iter().filter(|message| message.kind == b'E' && message.is_whole).count();
    prop_assert_eq!(errors.load(Relaxed), said, "errors that were counted");

    let closed = timeout(closing::LINGER * 2, closing::close(relay, &ended, Leaver::Daemon)).await;
    prop_assert!(closed.is_ok(), "the close goes on and on");
    case.check_end(&ended, &model)
}

/// Both peers of one relay, and what they know.
struct Case {
    is_behaved: bool,
    is_for_reuse: bool,
    log: Log,
    client: Peer,
    server: Peer,
    /// The relay's ends, until it has them.
    ends: Option<(Pipe, Pipe)>,
    postgres: Server,
    rules: Rules,
    stopper: Stopper,
    stop: Stop,
    sent: Vec<u8>,
    is_extended_open: bool,
    has_ended_copy: bool,
    /// Somebody said what no server can understand, or no server says.
    has_lied: bool,
    is_draining: Cell<bool>,
    is_cut: Cell<bool>,
}

impl Case {
    fn new(script: &Script) -> Self {
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
            is_draining: Cell::new(false),
            is_cut: Cell::new(false),
        }
    }

    /// The relay, which has a first query ahead of it; and how many errors it was told of.
    fn relay(&mut self, script: &Script) -> (Relay<Pipe, Pipe>, Arc<AtomicUsize>) {
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

    async fn play(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
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
                self.from_client(&bytes, *cuts).await;
            }
            Step::Client(said, cuts) => {
                self.has_lied |= said.iter().any(|said| !b"QPBDEHSCFdcfX".contains(&said.kind()));
                let bytes: Vec<u8> = said.iter().flat_map(script::Said::encode).collect();
                self.from_client(&bytes, *cuts).await;
            }
            Step::Answer(choices, cuts) => self.answer(choices, *cuts).await,
            Step::Aside(aside, cuts) => {
                let message = match aside {
                    Aside::Notice => frame(b'N', b"SNOTICE\0C00000\0Mhello\0\0"),
                    Aside::Parameter => frame(b'S', b"TimeZone\0UTC\0"),
                    Aside::Notification => frame(b'A', b"\0\0\0\x01channel\0payload\0"),
                };
                self.from_server(&message, *cuts).await;
            }
            Step::Server(said, cuts) => {
                self.has_lied = true;
                let bytes: Vec<u8> = said.iter().flat_map(script::Said::encode).collect();
                self.from_server(&bytes, *cuts).await;
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
        kinds.iter().flat_map(|kind| frame(*kind, if *kind == b'X' { b"" } else { b"body\0" })).collect()
    }

    async fn from_client(&mut self, bytes: &[u8], cuts: Cuts) {
        if !self.client.has_ended() {
            self.sent.extend(bytes);
        }
        say(&self.client, bytes, cuts).await;
    }

    async fn from_server(&self, bytes: &[u8], cuts: Cuts) {
        say(&self.server, bytes, cuts).await;
    }

    async fn answer(&mut self, choices: &[script::Choice], cuts: Cuts) {
        for choice in choices {
            let got = self.server.got().to_vec();
            let (is_behaved, is_all) = (self.is_behaved, got.len() == self.sent.len());
            let may_copy = |rest: &[u8]| !is_behaved || (is_all && (rest.is_empty() || rest == b"S\0\0\0\x04"));
            let Some(said) = self.postgres.answer(&got, *choice, may_copy) else { break };
            self.from_server(&said, cuts).await;
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
    fn is_truly_idle(&self) -> Option<bool> {
        let model = self.model();
        let is_known = !self.has_lied && self.server.is_all_read() && !self.server.has_ended();
        let got = self.server.got();
        let client = &model.client;
        let behind = client.bytes[..client.sound].strip_prefix(&*got)?;
        is_known.then(|| self.postgres.is_idle(&got, behind) && client.at_boundary)
    }

    fn look(&self, relay: &Relay<Pipe, Pipe>) -> Result<(), TestCaseError> {
        let (model, truth) = (self.model(), self.is_truly_idle());
        let is_idle = relay.talk.is_idle();
        prop_assert!(!is_idle || model.may_be_idle(), "taken for idle");
        prop_assert!(!is_idle || truth != Some(false), "taken for idle although the server is at work");
        let is_certain = self.is_behaved && truth == Some(true) && !model.said_goodbye;
        prop_assert!(is_idle || !is_certain, "not known to be idle");
        prop_assert_eq!(relay.talk.client_said_goodbye(), model.said_goodbye);
        prop_assert_eq!(relay.talk.server_said_fatal(), model.said_fatal);
        prop_assert_eq!(relay.talk.client_can_read_a_message(), model.server.at_boundary);
        prop_assert_eq!(relay.talk.server_can_read_a_message(), model.client.at_boundary);
        let is_plain = model.client.messages.iter().all(|message| matches!(message.kind, b'Q' | b'X'));
        prop_assert!(!relay.talk.was_plain() || is_plain);
        let names = model
            .client
            .messages
            .iter()
            .any(|message| message.kind == b'P' && message.body.first().is_some_and(|first| *first != 0));
        prop_assert_eq!(relay.talk.has_named_statement(), names);
        Ok(())
    }

    /// One side leaves, and the session must end soon.
    async fn finish(&self, script: &Script, relay: &mut Relay<Pipe, Pipe>) -> Result<Ended, TestCaseError> {
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
        ended.map_err(|_| TestCaseError::fail("it does not end"))
    }

    fn model(&self) -> Model {
        Model::of(&self.log.borrow(), self.is_for_reuse)
    }

    fn check_end(&self, ended: &Ended, model: &Model) -> Result<(), TestCaseError> {
        let by_rule = ByRule {
            idle_limit: self.rules.idle_limit.is_some(),
            is_too_old: self.rules.ends_at.is_some_and(|ends_at| ends_at <= Instant::now()),
            is_draining: self.is_draining.get(),
            is_cut: self.is_cut.get(),
        };
        prop_assert!(model.allows(ended.reason, by_rule), "{ended:?} after {model:?}");
        let is_known_idle = self.is_behaved && self.is_truly_idle() == Some(true);
        prop_assert!(!(ended.abandons_query && is_known_idle), "{ended:?} although nothing was left");

        let (got, sound) = (self.client.got(), &model.server.bytes[..model.server.sound]);
        let (theirs, ours) = got.split_at(got.len().min(sound.len()));
        let is_whole = !self.client.is_deaf() && self.client.is_window_open();
        prop_assert!(sound.starts_with(theirs), "the client got what the server did not say");
        prop_assert!(
            !is_whole || theirs.len() == sound.len(),
            "the client misses {} bytes",
            sound.len() - theirs.len()
        );
        check_last_words(ours, model.last_words(ended.reason), is_whole)?;
        prop_assert!(!is_whole || self.client.was_told_end());

        let (got, sound) = (self.server.got(), &model.client.bytes[..model.client.sound]);
        let (theirs, ours) = got.split_at(got.len().min(sound.len()));
        let is_whole = !self.server.is_deaf() && !self.server.was_window_ever_closed();
        prop_assert!(sound.starts_with(theirs), "the server got what the client did not say");
        prop_assert!(
            !is_whole || theirs.len() == sound.len(),
            "the server misses {} bytes",
            sound.len() - theirs.len()
        );
        let is_due = model.client.at_boundary && (self.is_for_reuse || !model.said_goodbye);
        prop_assert!(ours.is_empty() || (is_due && ours == b"X\0\0\0\x04"), "the server got {ours:?} of ours");
        prop_assert!(!is_whole || !is_due || !ours.is_empty(), "the server was not told goodbye");
        prop_assert!(!is_whole || self.server.was_told_end());
        Ok(())
    }
}

/// At most one message of ours, of the kind that is due, whole where it can be.
fn check_last_words(ours: &[u8], due: Option<&str>, is_whole: bool) -> Result<(), TestCaseError> {
    let Some(sqlstate) = due else {
        prop_assert!(ours.is_empty(), "the client got {ours:?} of ours");
        return Ok(());
    };
    match whole(ours) {
        Some((kind, body, size)) => {
            prop_assert_eq!((kind, size), (b'E', ours.len()));
            let start = format!("SFATAL\0VFATAL\0C{sqlstate}\0");
            prop_assert!(body.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(body));
        }
        None => prop_assert!(!is_whole, "the client was not told {sqlstate}"),
    }
    Ok(())
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

thread_local! {
    // Making one takes longer than a case.
    static LIVE: Arc<Live> = live();
}

const CASES: u32 = 1500;
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
const IDLE_CLOSE: Duration = Duration::from_secs(1);
const HURRY_AFTER: Duration = Duration::from_secs(20);
/// Timers are exact to the millisecond.
const SLACK: Duration = Duration::from_millis(50);
