use super::*;
use crate::{
    metrics::Metrics,
    sessions::Sessions,
    settings::Name,
    shutdown::{Drain, Stopper, stop},
    wire::messages::frame,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

impl Path for DuplexStream {
    fn set_user_timeout(&self, _: Option<Duration>) {}
    fn sent(&self) -> Option<crate::sys::Sent> {
        None
    }
}

/// Both ends of a relay over in-memory streams, so that the clock can be paused.
struct Bench {
    client: DuplexStream,
    server: DuplexStream,
    relay: Relay<DuplexStream, DuplexStream>,
    stopper: Stopper,
    stop: Stop,
}

fn bench(read_ahead: ReadAhead<'_>) -> Bench {
    let live = live();
    let (client, ours) = duplex(1 << 16);
    let (server, theirs) = duplex(1 << 16);
    let (stopper, stop) = stop();
    Bench {
        client,
        server,
        relay: Relay::new(ours, theirs, read_ahead, Conversation::after_login(), 4096, live, Arc::new(|_| ())),
        stopper,
        stop,
    }
}

pub(super) fn live() -> Arc<Live> {
    let name = Name::new("main").unwrap();
    let metrics = Arc::new(Metrics::new().unwrap().listener(&name, 1));
    Arc::clone(&Arc::new(Sessions::default()).register(&name, "test".into(), &metrics))
}

pub(super) fn rules() -> Rules {
    Rules {
        idle_limit: None,
        ends_at: None,
        close_limit: Duration::from_secs(10),
        tcp_user_timeout: Duration::from_secs(30),
    }
}

async fn read(stream: &mut DuplexStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).await.unwrap();
    read
}

fn ready() -> Vec<u8> {
    frame(b'Z', b"I")
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_as_they_came() {
    let Bench { mut client, mut server, mut relay, stop, .. } = bench(ReadAhead::default());
    let (query, answer) = (frame(b'Q', &[7; 9000]), [frame(b'D', &[8; 9000]), frame(b'C', b"x\0"), ready()].concat());

    let rules = rules();
    let talk = async {
        client.write_all(&query).await.unwrap();
        assert_eq!(read(&mut server, query.len()).await, query);
        server.write_all(&answer).await.unwrap();
        assert_eq!(read(&mut client, answer.len()).await, answer);
        client.write_all(&frame(b'X', b"")).await.unwrap();
    };
    let (ended, ()) = tokio::join!(relay.run(&rules, &stop), talk);

    assert_eq!(ended.reason, CloseReason::ClientTerminate);
    assert_eq!(relay.totals().statements, 1);
    assert_eq!(relay.totals().to_client, answer.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn bytes_read_ahead_go_first() {
    let (early, notice) = (frame(b'Q', b"early\0"), frame(b'N', b"hello\0"));
    let Bench { mut client, mut server, mut relay, stop, .. } = bench(ReadAhead { client: &early, upstream: &notice });

    let rules = rules();
    let talk = async {
        assert_eq!(read(&mut server, early.len()).await, early);
        assert_eq!(read(&mut client, notice.len()).await, notice);
        server.write_all(&ready()).await.unwrap();
        read(&mut client, 6).await;
        drop(client);
    };
    let (ended, ()) = tokio::join!(relay.run(&rules, &stop), talk);

    assert_eq!(ended.reason, CloseReason::ClientEof);
}

#[tokio::test(start_paused = true)]
async fn answers_still_flow_to_a_client_that_has_said_all_it_has_to_say() {
    let Bench { mut client, mut server, mut relay, stop, .. } = bench(ReadAhead::default());

    let rules = rules();
    let talk = async {
        client.write_all(&frame(b'Q', b"select 1\0")).await.unwrap();
        client.shutdown().await.unwrap();
        read(&mut server, 14).await;
        server.write_all(&[frame(b'C', b"x\0"), ready()].concat()).await.unwrap();
        read(&mut client, 13).await;
    };
    let (ended, ()) = tokio::join!(relay.run(&rules, &stop), talk);

    assert_eq!((ended.reason, ended.abandons_query), (CloseReason::ClientEof, false));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_waited_for_no_longer_than_the_close_limit() {
    let Bench { mut client, server: _server, mut relay, stop, .. } = bench(ReadAhead::default());
    client.write_all(&frame(b'Q', b"select forever\0")).await.unwrap();
    client.shutdown().await.unwrap();

    let began = tokio::time::Instant::now();
    let ended = relay.run(&rules(), &stop).await;

    assert_eq!((ended.reason, ended.abandons_query), (CloseReason::ClientEof, true));
    assert!((10..12).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_is_told_apart_from_one_that_said_why() {
    for (last_words, reason) in [
        (frame(b'E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0"), CloseReason::UpstreamFatal),
        (frame(b'N', b"SNOTICE\0\0"), CloseReason::UpstreamEof),
        (b"D\0\0\0\xffhalf".to_vec(), CloseReason::UpstreamEof),
        (b"D\0\0\0\x01".to_vec(), CloseReason::UpstreamProtocol),
    ] {
        let Bench { mut client, mut server, mut relay, stop, .. } = bench(ReadAhead::default());
        server.write_all(&last_words).await.unwrap();
        drop(server);

        let ended = relay.run(&rules(), &stop).await;
        drop(relay);

        assert_eq!(ended.reason, reason);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, if reason == CloseReason::UpstreamProtocol { vec![] } else { last_words });
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_said_why_it_ends_and_does_not_close_is_not_waited_for() {
    let Bench { mut client, mut server, mut relay, stop, .. } = bench(ReadAhead::default());
    let last_words = frame(b'E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0");
    server.write_all(&last_words).await.unwrap();

    let ended = tokio::time::timeout(Duration::from_secs(5), relay.run(&rules(), &stop)).await.unwrap();

    assert_eq!(ended.reason, CloseReason::UpstreamFatal);
    assert_eq!(read(&mut client, last_words.len()).await, last_words);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_messages_ends_its_session_and_only_whole_ones_pass() {
    let Bench { mut client, mut server, mut relay, stop, .. } = bench(ReadAhead::default());
    let whole = frame(b'Q', b"a\0");
    client.write_all(&[&whole[..], b"Q\0\0\0\0rest"].concat()).await.unwrap();

    let ended = relay.run(&rules(), &stop).await;
    drop(relay);

    assert_eq!((ended.reason, ended.abandons_query), (CloseReason::ClientProtocol, true));
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, whole);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_silent_session_and_leaves_a_transaction_alone() {
    let Bench { mut client, mut server, mut relay, stopper, stop } = bench(ReadAhead::default());
    let (begin, commit) = (frame(b'Q', b"begin\0"), frame(b'Q', b"commit\0"));
    let drain =
        Drain { idle_close: Duration::from_secs(1), hurry_from: tokio::time::Instant::now() + Duration::from_secs(60) };
    stopper.enter(Phase::Draining(drain));

    let talk = async {
        client.write_all(&begin).await.unwrap();
        read(&mut server, begin.len()).await;
        server.write_all(&frame(b'Z', b"T")).await.unwrap();
        let early = tokio::time::timeout(Duration::from_secs(600), client.read_to_end(&mut Vec::new())).await;
        assert!(early.is_err(), "cut inside a transaction");
        client.write_all(&commit).await.unwrap();
        read(&mut server, commit.len()).await;
        server.write_all(&ready()).await.unwrap();
    };
    let rules = rules();
    let (ended, ()) = tokio::join!(relay.run(&rules, &stop), talk);

    assert_eq!(ended.reason, CloseReason::Drain);
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_comes_later_reaches_a_relay_that_waits() {
    let Bench { client: _client, server: _server, mut relay, stopper, stop } = bench(ReadAhead::default());
    let rules = Rules { idle_limit: None, ..rules() };

    let stopping = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        stopper.enter(Phase::Draining(Drain {
            idle_close: Duration::from_secs(3600),
            hurry_from: tokio::time::Instant::now() + Duration::from_secs(3600),
        }));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        stopper.enter(Phase::Cutting);
    };
    let (ended, ()) = tokio::join!(relay.run(&rules, &stop), stopping);

    assert_eq!(ended.reason, CloseReason::DrainLimit);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sent_no_message_is_named_as_that_although_the_client_does_not_read() {
    let live = live();
    let (_client, ours) = duplex(4);
    let (mut server, theirs) = duplex(1 << 16);
    let (_stopper, stop) = stop();
    let talk = Conversation::after_login();
    let mut relay = Relay::new(ours, theirs, ReadAhead::default(), talk, 4096, live, Arc::new(|_| ()));
    server.write_all(&[&ready()[..], b"D\0\0\0\x01"].concat()).await.unwrap();

    let ended = relay.run(&rules(), &stop).await;

    assert_eq!(ended.reason, CloseReason::UpstreamProtocol);
    assert!(ended.detail.unwrap().contains("length"));
}
