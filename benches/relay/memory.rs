//! What a session costs in memory that is idle, and has its upstream for itself.

use crate::{
    Plan,
    harness::DEADLINE,
    paths::{Path, Server, daemon},
    peers::{haproxy, pgbouncer},
    processes::settled_kib,
    table::{Measure, Results},
};
use tokio::{runtime::Runtime, task::JoinSet, time::timeout};
use tokio_postgres::{Client, Config, NoTls};

/// How many log in at once: the server gives a login the processor of a thousand queries.
const LOGINS: usize = 16;

/// Opens sessions through a fresh proxy, each of which asks one query, and looks at its memory before and after.
pub(crate) fn idle_sessions(server: &Server, plan: &Plan, results: &mut Results) {
    let runtime = Runtime::new().unwrap();
    for start in [|server: &Server| Ok(daemon(server)), pgbouncer, haproxy] {
        // What could not be started before has been told already.
        let Ok(path) = start(server) else { continue };
        eprintln!("{}, {}", NONE.title, path.name);
        let process = path.pid().unwrap();
        let before = settled_kib(process);
        results.add(&NONE, &path, before / 1024.0);
        let mut sessions = Vec::new();
        for &count in &plan.sessions {
            runtime.block_on(open(&path, &mut sessions, count));
            let measure = if count == 500 { FIVE_HUNDRED } else { THOUSAND };
            results.add(&measure, &path, (settled_kib(process) - before) / count as f64);
        }
        drop(sessions);
        drop(path);
        server.wait_until_empty();
    }
}

/// Opens sessions until there are `count`.
async fn open(path: &Path, sessions: &mut Vec<Client>, count: usize) {
    let config = path.connection.parse::<Config>().unwrap();
    while sessions.len() < count {
        let mut logins = JoinSet::new();
        for _ in 0..LOGINS.min(count - sessions.len()) {
            let config = config.clone();
            logins.spawn(async move {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(connection);
                client.simple_query("select 1").await?;
                Ok::<_, tokio_postgres::Error>(client)
            });
        }
        let opened = timeout(DEADLINE, logins.join_all()).await.expect("no answer in time");
        sessions.extend(opened.into_iter().map(Result::unwrap));
    }
}

const NONE: Measure = Measure { name: "memory_0", title: "memory without sessions", unit: "MiB", decimals: 1 };
const FIVE_HUNDRED: Measure =
    Measure { name: "memory_500", title: "memory of an idle session, 500 of them", unit: "KiB", decimals: 1 };
const THOUSAND: Measure =
    Measure { name: "memory_1000", title: "memory of an idle session, 1000 of them", unit: "KiB", decimals: 1 };
