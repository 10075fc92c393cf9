//! The figures as they come, and what is made of them: medians, ratios to direct TLS of the same round, a table, JSON.

use crate::paths::{DIRECT, Path};
use serde_json::{Value, json};

/// A line of the table.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Measure {
    /// In the JSON file; scripts rely on it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) decimals: usize,
}

/// All figures.
#[derive(Default)]
pub(crate) struct Results {
    series: Vec<Series>,
}

/// One measure of one path, round by round.
struct Series {
    measure: Measure,
    path: &'static str,
    rounds: Vec<f64>,
}

impl Results {
    /// The figure of the next round.
    pub(crate) fn add(&mut self, measure: &Measure, path: &Path, figure: f64) {
        match self.series.iter_mut().find(|series| series.measure == *measure && series.path == path.name) {
            Some(series) => series.rounds.push(figure),
            None => self.series.push(Series { measure: *measure, path: path.name, rounds: vec![figure] }),
        }
    }

    /// A line for each measure and a column for each path; in Markdown, wide enough to be read as it is.
    pub(crate) fn markdown(&self, paths: &[&'static str]) -> String {
        let mut measures = Vec::new();
        for series in &self.series {
            if !measures.contains(&series.measure) {
                measures.push(series.measure);
            }
        }
        let title = |measure: &Measure| match measure.unit {
            "" => measure.title.to_owned(),
            unit => format!("{}, {unit}", measure.title),
        };
        let mut rows = vec![[&["measure"], paths].concat().into_iter().map(str::to_owned).collect()];
        for measure in &measures {
            let cells =
                paths.iter().map(|path| self.find(*measure, path).map_or("–".into(), |found| self.cell(found)));
            rows.push([title(measure)].into_iter().chain(cells).collect::<Vec<_>>());
        }
        layout(&rows)
    }

    pub(crate) fn json(&self) -> Value {
        let series = self.series.iter().map(|series| {
            let ratios = self.ratios(series);
            json!({
                "measure": series.measure.name,
                "unit": series.measure.unit,
                "path": series.path,
                "rounds": series.rounds,
                "median": median(&series.rounds),
                "ratios": ratios,
                "ratio": ratios.as_deref().map(median),
            })
        });
        series.collect()
    }

    /// The median; of what direct TLS has too the ratio to it, in parentheses; least and most of the rounds.
    fn cell(&self, series: &Series) -> String {
        let decimals = series.measure.decimals;
        let figure = format!("{:.decimals$}", median(&series.rounds));
        match self.ratios(series) {
            Some(_) if series.path == DIRECT => figure,
            Some(ratios) => format!("{figure} ({:.2}: {})", median(&ratios), span(&ratios, 2)),
            None if series.rounds.len() == 1 => figure,
            None => format!("{figure} ({})", span(&series.rounds, decimals)),
        }
    }

    /// To direct TLS of the same round.
    fn ratios(&self, series: &Series) -> Option<Vec<f64>> {
        let direct = self.find(series.measure, DIRECT)?;
        Some(series.rounds.iter().zip(&direct.rounds).map(|(figure, base)| figure / base).collect())
    }

    fn find(&self, measure: Measure, path: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.measure == measure && series.path == path)
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

fn span(figures: &[f64], decimals: usize) -> String {
    let (least, most) = (figures.iter().copied().fold(f64::MAX, f64::min), figures.iter().copied().fold(0.0, f64::max));
    format!("{least:.decimals$}–{most:.decimals$}")
}

fn layout(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
    let widths = (0..rows[0].len()).map(width).collect::<Vec<_>>();
    let mut lines = Vec::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        lines.push(format!("| {} |", cells.join(" | ")));
        if lines.len() == 1 {
            let dashes = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>();
            lines.push(format!("| {} |", dashes.join(" | ")));
        }
    }
    lines.join("\n")
}
