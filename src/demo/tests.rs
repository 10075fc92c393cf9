//! The embedded cluster from outside: over TCP and TLS, by tokio-postgres and by hand.

mod statements;

use super::{region::State, *};
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_postgres::{Client, Config, Error, NoTls, error::SqlState, types::Type};
use tokio_rustls::{TlsConnector, client::TlsStream};

type Connection = JoinHandle<Result<(), Error>>;

async fn start() -> EmbeddedCluster {
    EmbeddedCluster::start_with(Duration::from_millis(200)).await.unwrap()
}

async fn tls(demo: &EmbeddedCluster, region: usize) -> io::Result<TlsStream<TcpStream>> {
    let endpoint = &demo.endpoints[region];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(demo.ca.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    assert_eq!(stream.read_u8().await?, b'S');
    TlsConnector::from(Arc::new(config)).connect(endpoint.tls_server_name.clone(), stream).await
}

async fn login(demo: &EmbeddedCluster, region: usize, password: &str) -> Result<(Client, Connection), Error> {
    let mut config = Config::new();
    config.user(USER).dbname("shop").password(password).ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config.connect_raw(tls(demo, region).await.unwrap(), NoTls).await?;
    Ok((client, tokio::spawn(connection)))
}

async fn connect(demo: &EmbeddedCluster, region: usize) -> Client {
    let password = String::from_utf8(demo.password.expose().to_vec()).unwrap();
    login(demo, region, &password).await.unwrap().0
}

fn code(error: &Error) -> &str {
    error.code().unwrap_or_else(|| panic!("{error:?}")).code()
}

/// Sends `bytes` in clear and reads to the end.
async fn clear(demo: &EmbeddedCluster, bytes: &[u8]) -> String {
    let endpoint = &demo.endpoints[0];
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_settings_name_three_public_endpoints_and_no_file() {
    let demo = start().await;

    let cluster = demo.cluster();

    let names: Vec<_> = cluster.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(names, ["gcp-us-east1-public", "gcp-us-west2-public", "gcp-europe-west1-public"]);
    assert!(matches!(cluster.ca, CaSource::Inline(_)));
    assert!(matches!(cluster.user.password, Some(SecretSource::Given { .. })));
}

#[tokio::test]
async fn a_session_knows_its_region_its_database_and_its_process() {
    let demo = start().await;
    let client = connect(&demo, 1).await;

    let row = client.query_one("SELECT gateway_region(), current_database(), version()", &[]).await.unwrap();

    assert_eq!(row.get::<_, &str>(0), "gcp-us-west2");
    assert_eq!(row.get::<_, &str>(1), "shop");
    assert!(row.get::<_, &str>(2).contains("SQLite"));
}

#[tokio::test]
async fn a_wrong_password_is_refused_with_28p01() {
    let demo = start().await;

    let error = login(&demo, 0, "guess").await.unwrap_err();

    assert_eq!(code(&error), "28P01");
}

#[tokio::test]
async fn whoever_does_not_ask_for_tls_reads_08p01() {
    let demo = start().await;
    let startup = b"\0\0\0\x13\0\x03\0\0user\0demo\0\0";

    let plain = clear(&demo, startup).await;
    let gss = clear(&demo, &[0, 0, 0, 8, 4, 210, 22, 48]).await;
    let hello = clear(&demo, &[22, 3, 1, 0, 200, 1, 0, 0]).await;

    assert!(plain.contains("08P01") && plain.contains("SSL connection required"), "{plain}");
    assert!(gss.contains("08P01"), "{gss}");
    assert!(hello.contains("08P01"), "{hello}");
}

#[tokio::test]
async fn clear_bytes_behind_the_ssl_request_never_reach_a_session() {
    let demo = start().await;
    let ahead = [&[0, 0, 0, 8, 4, 210, 22, 47], b"\0\0\0\x13\0\x03\0\0user\0demo\0\0".as_slice()].concat();

    let answer = clear(&demo, &ahead).await;

    assert!(answer.starts_with('S'), "{answer}");
    assert!(!answer.contains("SCRAM"), "{answer}");
}

#[tokio::test]
async fn parameters_and_results_go_through_in_binary() {
    let demo = start().await;
    let client = connect(&demo, 0).await;
    client
        .batch_execute("CREATE TABLE t (id SERIAL PRIMARY KEY, a INT2, b INT4, c FLOAT8, d BOOL, e STRING, f BYTEA)")
        .await
        .unwrap();

    let insert = "INSERT INTO t (a, b, c, d, e, f) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";
    let row =
        client.query_one(insert, &[&1_i16, &-2_i32, &1.5_f64, &true, &"three", &[0_u8, 255].as_slice()]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);

    let row =
        client.query_one("SELECT a, b, c, d, e, f, NULL::text, b < a FROM t WHERE id = $1", &[&1_i64]).await.unwrap();
    let types: Vec<_> = row.columns().iter().map(|column| column.type_().clone()).collect();
    let (int, real, text) = ((Type::INT2, Type::INT4), Type::FLOAT8, Type::TEXT);
    assert_eq!(types, [int.0, int.1, real, Type::BOOL, text.clone(), Type::BYTEA, text, Type::BOOL]);
    assert_eq!((row.get::<_, i16>(0), row.get::<_, i32>(1), row.get::<_, f64>(2)), (1, -2, 1.5));
    assert_eq!(
        (row.get::<_, bool>(3), row.get::<_, &str>(4), row.get::<_, &[u8]>(5)),
        (true, "three", &[0_u8, 255][..])
    );
    assert_eq!((row.get::<_, Option<&str>>(6), row.get::<_, bool>(7)), (None, true));
}

#[tokio::test]
async fn a_failed_transaction_takes_nothing_but_its_end() {
    let demo = start().await;
    let mut client = connect(&demo, 0).await;
    client.batch_execute("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();

    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    let error = transaction.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap_err();
    assert_eq!(code(&error), "23505");
    let error = transaction.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(code(&error), "25P02");
    transaction.rollback().await.unwrap();

    assert!(client.query("SELECT id FROM t", &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_savepoint_saves_a_failed_transaction() {
    let demo = start().await;
    let mut client = connect(&demo, 0).await;
    client.batch_execute("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();

    let mut transaction = client.transaction().await.unwrap();
    let inner = transaction.transaction().await.unwrap();
    inner.batch_execute("INSERT INTO t VALUES (1); SELECT * FROM missing").await.unwrap_err();
    inner.rollback().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (2)", &[]).await.unwrap();
    transaction.commit().await.unwrap();

    let ids: Vec<i64> = client.query("SELECT id FROM t", &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, [2]);
}

#[tokio::test]
async fn several_statements_in_one_text_are_one_transaction() {
    let demo = start().await;
    let client = connect(&demo, 0).await;
    client.batch_execute("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();

    client.batch_execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)").await.unwrap_err();
    assert!(client.query("SELECT id FROM t", &[]).await.unwrap().is_empty());

    client.batch_execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(client.query("SELECT id FROM t", &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_write_conflict_ends_in_40001_and_a_vanished_session_stands_in_nobodys_way() {
    let demo = start().await;
    let (first, second) = (connect(&demo, 0).await, connect(&demo, 1).await);
    first.batch_execute("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    first.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();

    let error = second.batch_execute("INSERT INTO t VALUES (2)").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE), "{error:?}");
    second.query_one("SELECT 1", &[]).await.unwrap();

    drop(first);
    while second.batch_execute("INSERT INTO t VALUES (2)").await.is_err() {}
    assert_eq!(second.query("SELECT id FROM t", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_idle_transaction_that_only_read_stands_in_nobodys_way() {
    let demo = start().await;
    let (first, second) = (connect(&demo, 0).await, connect(&demo, 0).await);
    first.batch_execute("CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    first.batch_execute("BEGIN; SELECT * FROM t").await.unwrap();

    second.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();

    assert_eq!(first.query("SELECT id FROM t", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_cancel_stops_a_sleep_and_a_busy_query_over_tls_and_in_clear() {
    let demo = start().await;
    let client = connect(&demo, 2).await;
    let busy = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r";

    for (query, over_tls) in [("SELECT pg_sleep(3600)", true), (busy, false)] {
        let token = client.cancel_token();
        let running = client.simple_query(query);
        tokio::pin!(running);
        let error = loop {
            // The first request may be there before the query is, which then has nothing to cancel.
            let cancel = async {
                match over_tls {
                    true => token.cancel_query_raw(tls(&demo, 0).await.unwrap(), NoTls).await,
                    false => {
                        let endpoint = &demo.endpoints[0];
                        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.unwrap();
                        token.cancel_query_raw(stream, NoTls).await
                    }
                }
            };
            tokio::select! {
                biased;
                done = &mut running => break done.unwrap_err(),
                cancelled = cancel => cancelled.unwrap(),
            }
        };
        assert_eq!(code(&error), "57014", "{query}");
    }
    client.query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_region_that_is_down_refuses_and_resets_and_comes_back_at_the_same_port() {
    let demo = start().await;
    let client = connect(&demo, 0).await;

    demo.regions[0].turn(State::Down).await.unwrap();
    assert_eq!(tls(&demo, 0).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(client.simple_query("SELECT 1").await.unwrap_err().code().is_none());
    connect(&demo, 1).await;

    demo.regions[0].turn(State::Up).await.unwrap();
    connect(&demo, 0).await.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_draining_region_lets_transactions_end_and_sends_everyone_else_away() {
    let demo = start().await;
    let password = String::from_utf8(demo.password.expose().to_vec()).unwrap();
    let (_idle, idle_connection) = login(&demo, 0, &password).await.unwrap();
    let (busy, busy_connection) = login(&demo, 0, &password).await.unwrap();
    busy.batch_execute("BEGIN").await.unwrap();

    demo.regions[0].turn(State::Draining).await.unwrap();

    assert_eq!(code(&idle_connection.await.unwrap().unwrap_err()), "57P01");
    assert_eq!(code(&login(&demo, 0, &password).await.unwrap_err()), "57P01");
    busy.simple_query("SELECT 1").await.unwrap();
    busy.simple_query("COMMIT").await.unwrap();
    assert_eq!(code(&busy_connection.await.unwrap().unwrap_err()), "57P01");

    demo.regions[0].turn(State::Up).await.unwrap();
    connect(&demo, 0).await;
}

#[tokio::test]
async fn clients_get_no_way_to_the_files_of_this_machine() {
    let demo = start().await;
    let client = connect(&demo, 0).await;

    for sql in ["ATTACH '/tmp/x' AS x", "VACUUM INTO '/tmp/x'", "PRAGMA journal_mode", "SELECT load_extension('x')"] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert!(["42501", "42883", "0A000"].contains(&code(&error)), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_typed_at_the_console_is_done_and_answered() {
    let demo = start().await;
    let (sender, lines) = tokio::sync::mpsc::channel(8);
    for line in ["down east", "status", "what", "drain west"] {
        sender.send(line.to_owned()).await.unwrap();
    }
    drop(sender);

    let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
    let attend = demo.attend(lines, |text| answers.send(text.to_owned()).unwrap());
    let mut texts = Vec::new();
    tokio::select! {
        never = attend => match never {},
        () = async { for _ in 0..4 { texts.push(answered.recv().await.unwrap()); } } => (),
    }

    assert!(texts[0].starts_with("gcp-us-east1 is down"), "{texts:?}");
    assert!(texts[1].starts_with("east     gcp-us-east1       down"), "{texts:?}");
    assert!(texts[2].contains("`help`"), "{texts:?}");
    // Who waits for psql next shall have been told why.
    let drained = &texts[3];
    assert!(drained.contains("next region") && drained.contains("`up west` ends that"), "{drained}");
    assert_eq!(tls(&demo, 0).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_full_region_says_so_with_53300() {
    let demo = start().await;
    demo.regions[0].shared.places.forget_permits(SESSIONS_MAX);

    let error = login(&demo, 0, "any").await.unwrap_err();

    assert_eq!(code(&error), "53300");
}

#[tokio::test]
async fn a_result_that_is_too_large_is_an_error_and_the_session_goes_on() {
    let demo = start().await;
    let client = connect(&demo, 0).await;
    let large = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 99) \
                 SELECT zeroblob(1000000) FROM r";

    assert_eq!(code(&client.simple_query(large).await.unwrap_err()), "54000");
    client.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_silent_is_closed_after_the_login_limit() {
    let demo = start().await;
    let begin = tokio::time::Instant::now();
    let (_client, server) = tokio::io::duplex(1024);

    let address = demo.regions[0].address;
    let ended = handshake::serve(server, address, Arc::clone(&demo.regions[0].shared)).await;

    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begin.elapsed().as_secs(), 10);
}
