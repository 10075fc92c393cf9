//! What was found, for people. Pure.

use crate::{
    check::{Advice, ClusterReport, EndpointReport, ListenerReport, Report, StageReport, Wish},
    commands::look::{Look, wrapped},
    diagnostics::printable,
};
use std::fmt::Write;

/// All of it, the verdict last.
pub(super) fn told(report: &Report, wish: &Wish, look: &Look) -> String {
    let mut text = String::new();
    for cluster in &report.clusters {
        text += &of_cluster(cluster, look);
    }
    for listener in &report.listeners {
        text += &of_listener(listener, look);
    }
    text + &verdict(report, wish, look)
}

fn of_cluster(cluster: &ClusterReport, look: &Look) -> String {
    let secret = cluster.secret.as_deref().map_or("no secret".to_owned(), |source| format!("the secret from {source}"));
    let whom = match cluster.users.as_slice() {
        [] | [_] => format!("{} with {secret}", cluster.user),
        several => several.join(", "),
    };
    let mut text = format!("{}\n", printable(&format!("cluster {}, as {whom}", cluster.name)));
    if let Some(cloud) = &cluster.cloud {
        let said = [&cloud.plan, &cloud.state, &cloud.operation_status, &cloud.cockroach_version];
        let said: Vec<_> = said.into_iter().flatten().map(String::as_str).collect();
        let unknown = match cloud.unknown.as_slice() {
            [] => String::new(),
            some => format!(" (the key's role may not read: {})", some.join(", ")),
        };
        if cloud.error.is_none() {
            let _ = writeln!(text, "  {}", printable(&format!("Cloud API: {}{unknown}", said.join(", "))));
        }
    }
    for endpoint in &cluster.endpoints {
        text += &of_endpoint(endpoint, look);
    }
    text += &cluster.notes.iter().map(|note| advice(note, "note", look)).collect::<String>();
    text + "\n"
}

fn of_endpoint(endpoint: &EndpointReport, look: &Look) -> String {
    let mark = mark(endpoint.ok, look);
    let target = printable(&format!("{}  {}:{}", endpoint.name, endpoint.host, endpoint.port));
    let mut text = format!("\n  {mark}  {target}\n");
    for stage in &endpoint.stages {
        text += &of_stage(stage, look);
        if stage.stage == "tcp" && endpoint.addresses.len() > 1 {
            for address in &endpoint.addresses {
                let error = address.error.as_deref().map(printable).unwrap_or_default();
                let ms = address.ms.map_or(error, |ms| format!("{ms:.1} ms"));
                let _ = writeln!(text, "{:27}{}  {ms}", "", printable(&address.address));
            }
        }
    }
    if endpoint.failed_at == Some("certificate")
        && let Some(shown) = endpoint.certificates.first()
    {
        let _ = writeln!(text, "        {:<12}{:10}  by {}", "shown", "", printable(&shown.issuer));
        let _ = writeln!(text, "        {:<12}{}", "SHA-256", shown.sha256);
    }
    if let Some(region) = endpoint.server.as_ref().and_then(|server| server.region.as_deref()) {
        let _ = writeln!(text, "        {:<12}{:10}  {}", "gateway", "", printable(region));
    }
    text += &endpoint.advice.iter().map(|found| advice(found, "what", look)).collect::<String>();
    text + &endpoint.notes.iter().map(|note| advice(note, "note", look)).collect::<String>()
}

fn of_stage(stage: &StageReport, look: &Look) -> String {
    let (ill, plain) = colours(look, "\u{1b}[31m");
    let (begin, end) = if stage.ok { ("", "") } else { (ill, plain) };
    let ms = if stage.ms == 0.0 { String::new() } else { format!("{:.1} ms", stage.ms) };
    let line = format!("        {:<12}{ms:>10}  {}", stage.stage, printable(&stage.found));
    format!("{begin}{}{end}\n", wrapped(&line, &" ".repeat(32), look.width))
}

fn of_listener(listener: &ListenerReport, look: &Look) -> String {
    let way = match listener.endpoints.as_slice() {
        [] => "no endpoint".to_owned(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first}, then {}", rest.join(", ")),
    };
    let ready = match listener.failover.as_slice() {
        [] => "nothing could take over".to_owned(),
        [only] => format!("{only} could take over"),
        some => format!("{} could take over", some.join(", ")),
    };
    let line =
        format!("listener {} at {}, database {}: {way}; {ready}", listener.name, listener.address, listener.database);
    let text = format!("{}\n", wrapped(&printable(&line), "  ", look.width));
    text + &listener.notes.iter().map(|note| advice(note, "note", look)).collect::<String>()
}

fn advice(advice: &Advice, title: &str, look: &Look) -> String {
    let parts = [(title, &advice.symptom), ("likely", &advice.cause), ("do", &advice.fix)];
    let lines = parts.into_iter().map(|(title, said)| {
        format!("{}\n", wrapped(&format!("        {title:<8}{}", printable(said)), HANG, look.width))
    });
    lines.collect()
}

fn verdict(report: &Report, wish: &Wish, look: &Look) -> String {
    let endpoints: Vec<_> = report.clusters.iter().flat_map(|cluster| &cluster.endpoints).collect();
    let well = endpoints.iter().filter(|endpoint| endpoint.ok).count();
    let count = match (well, endpoints.len()) {
        (1, 1) => "the only endpoint is well".to_owned(),
        (0, 1) => "the only endpoint is not well".to_owned(),
        (well, all) => format!("{well} of {all} endpoints well"),
    };
    let why = match report.exit {
        0 => String::new(),
        1 if wish.failover => ", but a listener has no endpoint that could take over (exit 1)".to_owned(),
        18 => ", but the Cloud API could not be asked (exit 18)".to_owned(),
        code => format!(" (exit {code})"),
    };
    format!("\n{}  {count}{why}\n", mark(report.ok, look))
}

fn mark(is_ok: bool, look: &Look) -> String {
    let (colour, word) = if is_ok { ("\u{1b}[32m", "ok  ") } else { ("\u{1b}[31m", "FAIL") };
    let (begin, end) = colours(look, colour);
    format!("{begin}{word}{end}")
}

fn colours(look: &Look, colour: &'static str) -> (&'static str, &'static str) {
    if look.with_colours { (colour, "\u{1b}[0m") } else { ("", "") }
}

const HANG: &str = "                ";
