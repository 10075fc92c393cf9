//! Any client, any server, any limits: a session ends, for a reason, and no byte is out of place.
//!
//! A script is played against a relay over in-memory streams with the clock paused. What the relay was told, in its
//! order, is then read again by a model that shares no code with it, and a server that knows its own state says
//! what an idle point is. `PROPTEST_CASES` asks for more.

mod case;
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
use case::Case;
use model::{ByRule, Model};
use pipe::Pipe;
use proptest::{prelude::*, test_runner::TestCaseError};
use script::{Script, Step};
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

    prop_assert!(relay.upstream.has_settled());
    // Before the close, which reads what the relay has not seen.
    let truth = case.is_truly_idle();
    let idle_ends = [CloseReason::IdleLimit, CloseReason::AgeLimit, CloseReason::Drain];
    if idle_ends.contains(&ended.reason) {
        prop_assert!(truth != Some(false), "{ended:?} although it was at work");
    }
    let is_known_idle = case.is_behaved && truth == Some(true);
    prop_assert!(!(ended.abandons_query && is_known_idle), "{ended:?} although nothing was left");
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

impl Case {
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

    fn check_end(&self, ended: &Ended, model: &Model) -> Result<(), TestCaseError> {
        let by_rule = ByRule {
            idle_limit: self.rules.idle_limit.is_some(),
            is_too_old: self.rules.ends_at.is_some_and(|ends_at| ends_at <= Instant::now()),
            is_draining: self.is_draining.get(),
            is_cut: self.is_cut.get(),
        };
        prop_assert!(model.allows(ended.reason, by_rule), "{ended:?} after {model:?}");

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
