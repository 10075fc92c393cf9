//! What somebody sees while ways are tried: on a terminal a table that keeps up, elsewhere a line for each stage.

use crate::{
    check::{EndpointReport, Stage, Watch},
    diagnostics::{self, printable},
    lock::lock,
};
use std::{io::Write, sync::Mutex, time::Instant};

/// Writes to standard error, where it does not mix with what was found.
pub(super) struct Progress {
    is_shown: bool,
    is_live: bool,
    table: Mutex<Table>,
}

struct Table {
    began: Instant,
    /// Cluster, endpoint, and where it is.
    rows: Vec<(String, String, String)>,
    /// So many lines are on the screen.
    drawn: usize,
}

impl Progress {
    pub(super) fn new(is_shown: bool) -> Self {
        let table = Table { began: Instant::now(), rows: Vec::new(), drawn: 0 };
        Self { is_shown, is_live: diagnostics::has_reader(), table: Mutex::new(table) }
    }

    /// Takes the table away: what was found says more.
    pub(super) fn end(&self) {
        let mut table = lock(&self.table);
        if self.is_shown && self.is_live && table.drawn > 0 {
            write(&format!("\u{1b}[{}A\u{1b}[J", table.drawn));
            table.drawn = 0;
        }
    }

    fn note(&self, cluster: &str, endpoint: &str, place: String) {
        if !self.is_shown {
            return;
        }
        let mut table = lock(&self.table);
        if !self.is_live {
            return diagnostics::plainly(&printable(&format!("{cluster}, {endpoint}: {place}")));
        }
        match table.rows.iter_mut().find(|(of, name, _)| of == cluster && name == endpoint) {
            Some((_, _, known)) => *known = place,
            None => table.rows.push((cluster.to_owned(), endpoint.to_owned(), place)),
        }
        table.draw();
    }
}

impl Table {
    fn draw(&mut self) {
        let widest = self.rows.iter().map(|(_, endpoint, _)| endpoint.chars().count()).max().unwrap_or_default();
        let mut text = if self.drawn > 0 { format!("\u{1b}[{}A", self.drawn) } else { String::new() };
        for (_, endpoint, place) in &self.rows {
            let line: String = printable(&format!("  {endpoint:widest$}  {place}")).chars().take(LINE_MAX).collect();
            text += &format!("{line}\u{1b}[K\r\n");
        }
        text += &format!("  {} s\u{1b}[K\r\n", self.began.elapsed().as_secs());
        write(&text);
        self.drawn = self.rows.len().saturating_add(1);
    }
}

impl Watch for Progress {
    fn at(&self, cluster: &str, endpoint: &str, stage: Stage) {
        self.note(cluster, endpoint, format!("{} …", stage.name()));
    }

    fn done(&self, cluster: &str, endpoint: &EndpointReport) {
        let place = endpoint.failed_at.map_or("ok".to_owned(), |stage| format!("{stage} failed"));
        self.note(cluster, &endpoint.name, place);
    }
}

fn write(text: &str) {
    let mut stderr = std::io::stderr();
    // Nobody looks, then.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// A line that wraps would be two, and the next drawing one too high.
const LINE_MAX: usize = 79;
