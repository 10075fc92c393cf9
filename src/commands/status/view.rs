//! How a status looks: pure, from what the daemon said to lines that fit the terminal, or to whole ones for
//! whatever else reads them. Nothing that came from a peer of the daemon gets through as a control character.

use crate::{
    commands::look::{Look, wrapped},
    control::status::{Cluster, Endpoint, Listening, Refusal, Secret, Session, Status, User},
    diagnostics::printable,
    settings::ListenAddress,
};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, presets};
use std::{fmt::Write, time::Duration};

/// What was known before, and how long ago that was.
pub(super) struct Before<'a> {
    pub(super) status: &'a Status,
    pub(super) span: Duration,
}

/// All of it, one table below the other. Numbers count from the daemon's start, or are rates since `before`.
pub(super) fn told(status: &Status, before: Option<Before<'_>>, look: &Look) -> String {
    // Another daemon has begun to count anew.
    let before = before.filter(|before| before.status.started_at == status.started_at);
    let mut text = headline(status, look);
    for table in [listeners(status, before.as_ref()), endpoints(status), sessions(status)].into_iter().flatten() {
        let _ = write!(text, "\n{}", drawn(table, look));
    }
    let left_out = status.sessions.len().saturating_sub(SESSIONS_MAX);
    let left_out = u64::try_from(left_out).unwrap_or(u64::MAX).saturating_add(status.sessions_left_out);
    if left_out > 0 {
        let _ = writeln!(text, "{left_out} more sessions");
    }
    text + &refusals(status, look)
}

fn headline(status: &Status, look: &Look) -> String {
    let (well, ill, bold, plain) =
        if look.with_colours { ("\u{1b}[32m", "\u{1b}[33m", "\u{1b}[1m", "\u{1b}[0m") } else { ("", "", "", "") };
    let (colour, ready) = if status.ready { (well, "ready") } else { (ill, "not ready") };
    let (version, state, since) =
        (printable(&status.version), printable(&status.state), printable(status.started_at.get(..19).unwrap_or("")));
    let mut text = format!("{bold}crdb-proxy {version}{plain}  {colour}{state}, {ready}{plain}  since {since}Z\n");
    let reasons = status.reasons.iter().map(|reason| ("not ready", reason));
    let faults = status.config.last_error.iter().map(|fault| ("last reload refused", fault));
    let restart = status.config.needs_restart.iter().map(|key| ("needs a restart", key));
    let secrets = status.clusters.iter().flat_map(secrets);
    let exposed = status.clusters.iter().flat_map(|cluster| &cluster.endpoints);
    let reasons_of = exposed.filter_map(|endpoint| Some((endpoint.name.as_str(), endpoint.reason.as_ref()?)));
    let is_news = |listener: &&Listening| listener.why.as_deref().is_some_and(|why| !USUAL.contains(&why));
    let moved = status.listeners.iter().filter(is_news);
    let moved = moved.filter_map(|listener| Some((listener.name.as_str(), listener.why.as_ref()?)));
    let note = |(title, said): (&str, &String)| format!("{title}: {said}");
    let rest = restart.chain(moved).chain(reasons_of).map(note);
    for note in reasons.chain(faults).map(note).chain(secrets).chain(rest) {
        let _ = writeln!(text, "{ill}{}{plain}", wrapped(&printable(&note), "  ", look.width));
    }
    text
}

/// What is wrong with it, if anything is.
/// Of each user that has a fault; a daemon that is older tells of the first one alone.
fn secrets(cluster: &Cluster) -> Vec<String> {
    let of_user = |user: &User| secret(user.secret.as_ref()?, &format!("{} ({})", cluster.name, user.name));
    match cluster.users.as_slice() {
        [] | [_] => cluster.secret.iter().filter_map(|own| secret(own, &cluster.name)).collect(),
        several => several.iter().filter_map(of_user).collect(),
    }
}

fn secret(secret: &Secret, cluster: &str) -> Option<String> {
    let error = secret.error.as_ref()?;
    let in_use = secret.read_at.as_ref().map(|at| format!(" (the one read at {at} stays in use)"));
    Some(format!("secret of {cluster}: {error}{}", in_use.unwrap_or_default()))
}

/// The first row is the heading; columns after so many are numbers.
struct Rows {
    words: usize,
    rows: Vec<Vec<String>>,
}

fn listeners(status: &Status, before: Option<&Before<'_>>) -> Option<Rows> {
    let heading = if before.is_some() {
        ["LISTENER", "ADDRESS", "ENDPOINT", "OPEN", "NEW/S", "REF/S", "STMT/S", "ERR/S", "IN/S", "OUT/S"]
    } else {
        ["LISTENER", "ADDRESS", "ENDPOINT", "OPEN", "NEW", "REF", "STMT", "ERR", "IN", "OUT"]
    };
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for listener in &status.listeners {
        let known = before.and_then(|before| {
            let known = before.status.listeners.iter().find(|known| known.name == listener.name)?;
            Some((known, before.span))
        });
        let number = |of: fn(&Listening) -> u64| match (known, before) {
            (Some((known, span)), _) => rate(of(listener), of(known), span),
            // It is new: there is no rate yet.
            (None, Some(_)) => "-".to_owned(),
            (None, None) => short(of(listener)),
        };
        rows.push(vec![
            listener.name.clone(),
            place(&listener.addresses),
            listener.endpoint.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}", listener.sessions),
            number(|listener| listener.accepted),
            number(|listener| listener.refused),
            number(|listener| listener.statements),
            number(|listener| listener.errors),
            number(|listener| listener.bytes_to_upstream),
            number(|listener| listener.bytes_to_client),
        ]);
    }
    (rows.len() > 1).then_some(Rows { words: 3, rows })
}

/// Both loopback addresses at one port are one name.
fn place(addresses: &[String]) -> String {
    match ListenAddress::of_sockets(addresses) {
        Some(ListenAddress::Localhost(port)) => format!("localhost:{port}"),
        _ => addresses.join(", "),
    }
}

fn endpoints(status: &Status) -> Option<Rows> {
    let heading = ["ENDPOINT", "CLUSTER", "HOST", "STATE", "TRIED", "MS", "OPEN", "READY"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let row = |cluster: &Cluster, endpoint: &Endpoint| {
        let order = endpoint.by_hand.as_ref().map(|order| format!(", {}", order.order));
        vec![
            endpoint.name.clone(),
            cluster.name.clone(),
            endpoint.host.clone(),
            format!("{}{}", endpoint.state, order.unwrap_or_default()),
            endpoint.tried_at.as_ref().and_then(|at| age(at, status)).unwrap_or_else(|| "-".to_owned()),
            endpoint.latency_ms.map_or_else(|| "-".to_owned(), |latency| format!("{latency:.1}")),
            endpoint.sessions.to_string(),
            endpoint.warm.to_string(),
        ]
    };
    for cluster in &status.clusters {
        rows.extend(cluster.endpoints.iter().map(|endpoint| row(cluster, endpoint)));
    }
    (rows.len() > 1).then_some(Rows { words: 4, rows })
}

fn sessions(status: &Status) -> Option<Rows> {
    let heading = ["CLIENT", "LISTENER", "ENDPOINT", "DATABASE", "APPLICATION", "STATE", "ID", "STMT"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let or_dash =
        |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let row = |session: &Session| {
        vec![
            session.client.clone(),
            session.listener.clone(),
            or_dash(&session.endpoint),
            or_dash(&session.database),
            or_dash(&session.application_name),
            session.state.clone(),
            session.id.to_string(),
            short(session.statements),
        ]
    };
    rows.extend(status.sessions.iter().take(SESSIONS_MAX).map(row));
    (rows.len() > 1).then_some(Rows { words: 6, rows })
}

/// The newest, each in a line of its own that is wrapped.
fn refusals(status: &Status, look: &Look) -> String {
    let newest = status.refusals.iter().take(REFUSALS_MAX);
    let mut text: String = newest.map(|refusal| told_refusal(refusal, status, look)).collect();
    if !text.is_empty() {
        text.insert_str(0, "\nLAST REFUSALS\n");
    }
    text
}

fn told_refusal(refusal: &Refusal, status: &Status, look: &Look) -> String {
    let age = age(&refusal.at, status).map_or_else(|| refusal.at.clone(), |age| format!("{age} ago"));
    let times = if refusal.count > 1 { format!("{} times, last", refusal.count) } else { "once,".to_owned() };
    let line = format!("{}  {times} {age}, at {}: {}", refusal.sqlstate, refusal.listener, refusal.message);
    let hang = " ".repeat("08001  ".len());
    let mut text = format!("{}\n", wrapped(&printable(&line), &hang, look.width));
    let fits = |hint: &&String| look.width.is_none() || hint.chars().count() <= HINT_LETTERS_MAX;
    if let Some(hint) = refusal.hint.as_ref().filter(fits) {
        let _ = writeln!(text, "{}", wrapped(&format!("{hang}{}", printable(hint)), &hang, look.width));
    }
    text
}

/// At a terminal as wide as that may be: columns of names give way until it fits, states and numbers do not.
fn drawn(Rows { words, rows }: Rows, look: &Look) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_truncation_indicator("…");
    match look.width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for row in &rows {
        let mut cells = Row::from(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
        cells.max_height(1);
        table.add_row(cells);
    }
    // Names are known to whoever chose them; what became of them is not.
    let state = rows.first().and_then(|heading| heading.iter().position(|title| title == "STATE"));
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if place >= words {
            column.set_constraint(ColumnConstraint::ContentWidth).set_cell_alignment(CellAlignment::Right);
        } else if state == Some(place) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How long ago it was when the daemon told, if both times are times.
fn age(at: &str, status: &Status) -> Option<String> {
    let time = |text| humantime::parse_rfc3339(text).ok();
    let seconds = time(&status.now)?.duration_since(time(at)?).unwrap_or_default().as_secs();
    let unit = AGES.iter().find(|(_, scale)| seconds >= *scale);
    Some(unit.map_or_else(|| format!("{seconds}s"), |(unit, scale)| format!("{}{unit}", seconds / scale)))
}

/// How many a second; never less than none.
fn rate(now: u64, before: u64, span: Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
    short(now.saturating_sub(before).saturating_mul(1000) / ms)
}

/// Short enough for a column: 999, 1.2k, 34M.
fn short(number: u64) -> String {
    let unit = UNITS.iter().find(|(_, scale)| number >= *scale);
    match unit {
        None => number.to_string(),
        Some((unit, scale)) if number / scale < 10 => {
            format!("{}.{}{unit}", number / scale, number % scale / (scale / 10))
        }
        Some((unit, scale)) => format!("{}{unit}", number / scale),
    }
}

/// Why a listener's sessions go where they go while all is well.
const USUAL: [&str; 2] = ["first in order", "nearest"];
const UNITS: [(&str, u64); 5] =
    [("P", 1_000_000_000_000_000), ("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000)];
const AGES: [(&str, u64); 3] = [("d", 86400), ("h", 3600), ("min", 60)];
/// More fit on no screen; `--json` has them.
const SESSIONS_MAX: usize = 100;
const REFUSALS_MAX: usize = 3;
/// A longer hint would fill the screen.
const HINT_LETTERS_MAX: usize = 200;

#[cfg(test)]
mod tests;
