//! The last stages: what can be asked once logged in.

use super::{Failure, Seen, Walk, failed, well};
use crate::{
    check::{
        Stage,
        report::{ServerReport, ms},
    },
    credentials::Lease,
    upstream::{AskError, Upstream},
    wire::{Answer, SqlState},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Who is asked, and what it must not repeat.
struct Asked<'a> {
    upstream: Upstream,
    secret: &'a [u8],
}

impl Asked<'_> {
    async fn ask(&mut self, sql: &str) -> Result<Answer, AskError> {
        self.upstream.ask(sql, self.secret).await
    }
}

impl Walk<'_> {
    pub(super) async fn ask(&self, seen: &mut Seen, upstream: Upstream, lease: Option<&Lease>) -> Result<(), Failure> {
        let secret = lease.map_or(&[][..], |lease| lease.secret.expose());
        let mut upstream = Asked { upstream, secret };
        let began = self.begin(Stage::Database);
        let existing = databases(&mut upstream).await;
        let missing = match &existing {
            Ok(existing) => self.databases.iter().find(|name| !existing.contains(*name)).cloned(),
            // CockroachDB lets anybody in to a database that is not there, and says so at the first query.
            Err(AskError::Server(error)) if error.sqlstate == SqlState::NO_DATABASE => self.databases.first().cloned(),
            // Who may not read the list learns by SELECT 1 below.
            Err(_) => None,
        };
        if let Some(name) = missing {
            let existing = existing.unwrap_or_default();
            seen.stages.push(failed(Stage::Database, began.elapsed(), format!("there is no \"{name}\"")));
            upstream.upstream.leave().await;
            return Err(Failure::NoDatabase { name, existing });
        }
        seen.stages.push(well(Stage::Database, began.elapsed(), self.databases.join(", ")));

        let began = self.begin(Stage::Query);
        let mut best: Option<Duration> = None;
        for _ in 0..SAMPLES {
            let asked = Instant::now();
            if let Err(error) = upstream.ask("SELECT 1").await {
                let said = match &error {
                    AskError::Server(error) => format!("{}: {}", error.sqlstate, error.message),
                    AskError::Lost(error) => format!("the connection was lost ({error})"),
                    AskError::Late => "no answer in time".to_owned(),
                };
                seen.stages.push(failed(Stage::Query, began.elapsed(), said));
                return Err(Failure::Query(error));
            }
            let took = asked.elapsed();
            best = Some(best.map_or(took, |best| best.min(took)));
        }
        let server = self.describe(&mut upstream, best).await;
        let ms = server.latency_ms.unwrap_or_default();
        seen.stages.push(well(Stage::Query, began.elapsed(), format!("SELECT 1 in {ms:.1} ms")));
        seen.server = Some(server);
        upstream.upstream.leave().await;
        Ok(())
    }

    /// What the server says of itself; one that does not say is not asked twice.
    async fn describe(&self, upstream: &mut Asked<'_>, best: Option<Duration>) -> ServerReport {
        let version = upstream.ask("SELECT version()").await.ok().and_then(|answer| answer.value().map(str::to_owned));
        let is_cockroach = version.as_deref().is_some_and(|version| version.contains("CockroachDB"));
        let region = match is_cockroach {
            true => upstream.ask("SELECT gateway_region()").await.ok(),
            false => None,
        };
        ServerReport {
            client_address: client_address(upstream, is_cockroach).await,
            version,
            region: region.and_then(|answer| answer.value().map(str::to_owned)),
            latency_ms: best.map(ms),
        }
    }
}

async fn databases(upstream: &mut Asked<'_>) -> Result<Vec<String>, AskError> {
    let answer = match upstream.ask("SELECT datname FROM pg_catalog.pg_database ORDER BY 1 LIMIT 1000").await {
        // CockroachDB has no catalogue to look at in a database that is not there, but this.
        Err(AskError::Server(_)) => upstream.ask("SHOW DATABASES").await?,
        other => other?,
    };
    Ok(answer.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// This machine as the server sees it: behind address translation nobody else knows.
async fn client_address(upstream: &mut Asked<'_>, is_cockroach: bool) -> Option<String> {
    let sql = if is_cockroach {
        "SELECT client_address FROM [SHOW SESSIONS] WHERE session_id = current_setting('session_id')"
    } else {
        "SELECT host(inet_client_addr())"
    };
    let answer = upstream.ask(sql).await.ok()?;
    let said = answer.value()?;
    let address = said.parse::<SocketAddr>().map(|address| address.ip());
    address.or_else(|_| said.parse()).ok().map(|address: IpAddr| address.to_string())
}

/// The first query may meet caches that are cold.
const SAMPLES: usize = 3;
