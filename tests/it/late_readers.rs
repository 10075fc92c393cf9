//! Clients that stop reading for a while: nothing that the server said is lost to them, whatever ends
//! the session meanwhile.

use crate::harness::{
    FakeUpstream, SettingsFile, TestClient, TestProxy,
    client::connect_unix,
    wire::{Wire, command_complete, message, query, ready},
};
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_stop_cuts_no_answer_short() {
    let mut stalled = stalled("idle_close = \"50ms\"");

    stalled.proxy.signal(Signal::TERM);
    stalled.proxy.wait_for_message("draining");
    stalled.goes_on_after(Duration::from_millis(1500));

    assert_eq!(stalled.client.refusal().sqlstate(), "57P01");
    assert_eq!(stalled.proxy.exit_code(), 0);
}

#[test]
fn an_idle_limit_cuts_no_answer_short() {
    let mut stalled = stalled("session_idle_limit = \"1s\"");

    stalled.goes_on_after(Duration::from_millis(2500));

    assert_eq!(stalled.client.refusal().sqlstate(), "57P05");
}

#[test]
fn an_age_limit_cuts_no_answer_short() {
    let mut stalled = stalled("session_age_limit = \"3s\"");

    stalled.goes_on_after(Duration::from_millis(4500));

    assert_eq!(stalled.client.refusal().sqlstate(), "57P01");
}

#[test]
fn a_client_that_has_said_its_last_gets_every_answer() {
    let mut stalled = stalled("");

    stalled.client.half_close();
    stalled.goes_on_after(Duration::from_millis(1500));

    assert_eq!(stalled.client.rest(), b"");
    stalled.proxy.wait_for_closed("client_eof", 1.0);
}

#[test]
fn an_upstream_that_closes_is_noticed_although_the_client_does_not_read() {
    let mut stalled = stalled("close_limit = \"300ms\"");

    stalled.session.half_close();

    stalled.proxy.wait_for_active(0.0);
}

/// A client that stopped reading. All of its queries are answered and the daemon has read the answers,
/// so the session stands at an idle point; but the last bytes of them are stuck in the daemon.
struct Stalled {
    proxy: TestProxy,
    client: TestClient,
    session: Wire,
    answers: usize,
    _cluster: FakeUpstream,
}

fn stalled(setting: &str) -> Stalled {
    let cluster = FakeUpstream::by_hand();
    let settings = SettingsFile::of(&cluster).global(setting);
    // What a Unix socket holds is small, and the client can see all of it; TCP's buffers are megabytes.
    let path = settings.path(".s.PGSQL.26257");
    let proxy = settings.address(&format!("unix:{}", path.display())).start();
    proxy.listener("main");
    let mut client = TestClient::log_in(connect_unix(&path), &[("user", "anyone")]);
    let mut session = cluster.session();
    let mut answers = 0;
    loop {
        client.send(&query("select"));
        session.message();
        session.send(&answer());
        answers += 1;
        // Counted when the daemon has read it and tried to write it.
        let labels = [("listener", "main"), ("direction", "to_client")];
        let read = answers * ANSWER_BYTES;
        proxy.wait_for_metric("crdb_proxy_bytes_total", &labels, read as f64);
        if client.unread() < read {
            return Stalled { proxy, client, session, answers, _cluster: cluster };
        }
        assert!(answers < 4096, "the daemon's writes never stalled");
    }
}

impl Stalled {
    /// Reads nothing for `span`, for which the session must last; then reads all answers.
    #[track_caller]
    fn goes_on_after(&mut self, span: Duration) {
        assert!(self.proxy.never_says("session closed", span), "closed over bytes that were on their way");
        for number in 1..=self.answers {
            let bytes = self.client.bytes_of(ANSWER_BYTES);
            assert!(bytes == answer(), "answer {number} of {} is not what was sent", self.answers);
        }
    }
}

/// A row and its end in exactly one TLS record, so that the daemon reads all of it or nothing.
fn answer() -> Vec<u8> {
    let end = [command_complete("SELECT 1"), ready(b'I')].concat();
    [message(b'D', &vec![b'x'; ANSWER_BYTES - 5 - end.len()]), end].concat()
}

const ANSWER_BYTES: usize = 1 << 14;
