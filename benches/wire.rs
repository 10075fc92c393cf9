//! What is done with the bytes of every message and every startup, by itself.
//!
//! `cargo bench --bench wire` runs it and shows allocations beside the times.
#![allow(clippy::expect_used, reason = "a measure of what fails is worth nothing")]

use crdb_proxy::wire::{Conversation, FirstMessage};
use divan::{AllocProfiler, Bencher, counter::BytesCount};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).saturating_add(4);
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// The answer to a query of one small row.
fn small_answer() -> Vec<u8> {
    [message(b'T', &[0; 33]), message(b'D', &[0; 11]), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

#[divan::bench]
fn a_query_and_its_answer(bencher: Bencher<'_, '_>) {
    let (query, answer) = (message(b'Q', b"select abalance from pgbench_accounts where aid = 1\0"), small_answer());
    let mut talk = Conversation::after_login();
    bencher.counter(BytesCount::new(query.len() + answer.len())).bench_local(move || {
        talk.follow_client(&query).expect("a query");
        talk.follow_server(&answer, &mut |_| ()).expect("its answer");
        assert!(talk.is_idle(), "it is answered");
    });
}

#[divan::bench(args = [16, 100, 1000, 10_000])]
fn rows_in_a_full_buffer(bencher: Bencher<'_, '_>, row_bytes: usize) {
    let row = message(b'd', &vec![7; row_bytes]);
    let rows = row.repeat((64 * 1024 / row.len()).max(1));
    let mut talk = Conversation::after_login();
    bencher
        .counter(BytesCount::new(rows.len()))
        .bench_local(move || talk.follow_server(&rows, &mut |_| ()).expect("rows"));
}

#[divan::bench]
fn a_startup_message(bencher: Bencher<'_, '_>) {
    let parameters = b"user\0me\0database\0shop\0application_name\0psql\0client_encoding\0UTF8\0\0";
    let length = u32::try_from(parameters.len() + 8).unwrap_or(u32::MAX);
    let startup = [&length.to_be_bytes()[..], &[0, 3, 0, 0], parameters].concat();
    bencher.bench_local(move || FirstMessage::parse(&startup, 10_000).expect("a startup message"));
}
