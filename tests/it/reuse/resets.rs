//! What the server reads of a reset, and what becomes of one that it answers otherwise.

use crate::harness::{
    FakeUpstream, Script, Session, SettingsFile,
    wire::{Wire, command_complete, error, message, parameter_status, query, ready, sync, terminate},
};
use std::sync::{Arc, Mutex};

#[test]
fn the_server_reads_no_goodbye_and_exactly_the_reset() {
    let (cluster, heard) = recording(|_| [command_complete("OK"), ready(b'I')].concat());
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
    proxy.client().send(&terminate());
    cluster.wait_until(|seen| seen.ended == 1);
    assert_eq!(heard.lock().unwrap().drain(..).collect::<Vec<_>>(), ["X"], "a set that is not known is not reset");

    proxy.client().send(&terminate());
    proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", "ok")], 1.0);

    assert_eq!(*heard.lock().unwrap(), ["RESET ROLE", "DISCARD ALL"]);
}

#[test]
fn after_more_than_simple_queries_the_reset_asks_for_a_word_of_its_own() {
    let (cluster, heard) = recording(|_| [command_complete("OK"), ready(b'I')].concat());
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
    proxy.client();
    // Its goodbye is read after its session has ended here.
    cluster.wait_until(|seen| seen.ended == 1);
    heard.lock().unwrap().clear();

    let mut client = proxy.client();
    client.send(&sync());
    client.until(b'Z');
    client.send(&terminate());
    proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", "ok")], 1.0);

    let heard = heard.lock().unwrap();
    let word = heard[0].strip_prefix("RESET ROLE; SELECT '").and_then(|rest| rest.strip_suffix('\''));
    assert_eq!(word.map(str::len), Some(32), "{heard:?}");
    assert_eq!(heard[1..], ["DISCARD ALL"]);
}

#[test]
fn a_reset_that_fails_or_changes_what_the_server_reports_closes() {
    let refusing = |sql: &str| match sql {
        "DISCARD ALL" => [error("ERROR", "25001", "not now"), ready(b'I')].concat(),
        _ => [command_complete("OK"), ready(b'I')].concat(),
    };
    let changing = |sql: &str| match sql {
        "DISCARD ALL" => [parameter_status("client_encoding", "LATIN1"), command_complete("OK"), ready(b'I')].concat(),
        _ => [command_complete("OK"), ready(b'I')].concat(),
    };
    let in_transaction = |_: &str| [command_complete("OK"), ready(b'T')].concat();
    let answers: [(&str, Answer); 3] = [("failed", refusing), ("changed", changing), ("failed", in_transaction)];
    for (result, answer) in answers {
        let (cluster, _) = recording(answer);
        let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
        proxy.client();
        proxy.wait_for_closed("client_eof", 1.0);
        proxy.client();

        proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", result)], 1.0);
        // Those of both sessions; one more may stand ready.
        cluster.wait_until(|seen| seen.ended >= 2);
    }
}

#[test]
fn what_a_client_changes_in_a_way_that_the_server_reports_is_compared_after_the_reset() {
    // This server forgets to say that the time zone is what it was.
    let answer = |sql: &str| match sql {
        "SET" => [parameter_status("client_encoding", "LATIN1"), command_complete("SET"), ready(b'I')].concat(),
        _ => [command_complete("OK"), ready(b'I')].concat(),
    };
    let (cluster, _) = recording(answer);
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();

    proxy.client();
    proxy.client().query("SET");

    proxy.wait_for_metric("crdb_proxy_resets_total", &[("result", "changed")], 1.0);
}

#[test]
fn a_client_that_goes_on_after_terminate_still_gets_its_whole_answer() {
    let rows = message(b'D', &[7; 1000]).repeat(1000);
    let answer = [&rows[..], &command_complete("SELECT 1000"), &ready(b'I')].concat();
    let length = answer.len();
    let serve = move |mut wire: Wire| {
        while let Ok(message) = wire.next_message() {
            if message.tag == b'Q' && wire.try_send(&answer).is_err() {
                return;
            }
        }
    };
    let cluster = FakeUpstream::start(Script { session: Session::Run(Arc::new(serve)), ..Script::default() });
    let proxy = SettingsFile::of(&cluster).listener("reuse = true").start();
    proxy.client();
    proxy.wait_for_closed("client_eof", 1.0);
    let mut client = proxy.client();

    client.send(&[query("select"), terminate()].concat());
    // It has all of it in the kernel's hands.
    proxy.wait_for_status(|status| {
        status["sessions"].as_array().is_none_or(|all| all.iter().all(|session| session["state"] == "closing"))
    });
    client.send(&query("more"));

    assert_eq!(client.rest().len(), length);
}

/// A row with one column.
fn answer_with(word: &str) -> Vec<u8> {
    let row = [&[0, 1], &u32::try_from(word.len()).unwrap().to_be_bytes()[..], word.as_bytes()].concat();
    [message(b'D', &row), command_complete("SELECT 1"), ready(b'I')].concat()
}

/// What a server says to a query.
type Answer = fn(&str) -> Vec<u8>;

/// A cluster that answers each query by a function, and the queries that it has read, in order.
fn recording(answer: Answer) -> (FakeUpstream, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heard);
    let serve = move |mut wire: Wire| {
        while let Ok(message) = wire.next_message() {
            let text = String::from_utf8_lossy(&message.body).trim_end_matches('\0').to_owned();
            let bytes = match message.tag {
                // The reset's first query, whose answer has the word in it.
                b'Q' if text.starts_with("RESET ROLE; SELECT '") => {
                    [command_complete("RESET"), answer_with(text.split('\'').nth(1).unwrap())].concat()
                }
                b'Q' => answer(&text),
                b'S' => ready(b'I'),
                _ => Vec::new(),
            };
            match message.tag {
                b'Q' => noted.lock().unwrap().push(text),
                b'S' => {}
                tag => noted.lock().unwrap().push(char::from(tag).to_string()),
            }
            if wire.try_send(&bytes).is_err() {
                return;
            }
        }
    };
    let cluster = FakeUpstream::start(Script { session: Session::Run(Arc::new(serve)), ..Script::default() });
    (cluster, heard)
}
