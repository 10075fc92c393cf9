//! The text that the demo prints when it is ready. Pure: facts in, words out.

use std::{fmt, time::Duration};

/// What a user wants to know first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where the daemon listens, as a user writes it: `localhost:26257`, `127.0.0.1:40001`.
    pub listening: String,
    /// The region that new sessions go to.
    pub region: String,
    /// All regions with their distance, there and back.
    pub regions: Vec<(String, Duration)>,
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let away = |(name, distance): &(String, Duration)| format!("{name} {} ms", distance.as_millis());
        let (chosen, others): (Vec<_>, Vec<_>) = self.regions.iter().partition(|(name, _)| *name == self.region);
        let chosen = chosen.first().map_or_else(|| self.region.clone(), |region| away(region));
        let others: Vec<_> = others.into_iter().map(away).collect();
        writeln!(
            f,
            "The demo is ready: an embedded cluster of {} regions, and the daemon in front of it.",
            self.regions.len()
        )?;
        writeln!(f)?;
        writeln!(f, "  listening  {}", self.listening)?;
        writeln!(f, "  region     {chosen} away (others: {})", others.join(", "))?;
        writeln!(f, "  connect    psql 'postgresql://demo@{}/demo?sslmode=disable'", self.listening)?;
        writeln!(f)?;
        writeln!(f, "Type `down east` here to lose a region, and `up east` to bring it back; `help` lists the rest.")?;
        writeln!(f, "Ctrl-C ends the demo.")?;
        write!(f, "SQLite plays the database: it is only for trying things out, and forgets everything at the end.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_address_the_region_and_a_line_to_paste() {
        let facts = Facts {
            listening: "localhost:40001".to_owned(),
            region: "gcp-us-west2".to_owned(),
            regions: vec![
                ("gcp-us-east1".to_owned(), Duration::from_millis(2)),
                ("gcp-us-west2".to_owned(), Duration::from_millis(30)),
            ],
        };

        let text = facts.to_string();

        assert!(text.contains("  region     gcp-us-west2 30 ms away (others: gcp-us-east1 2 ms)"), "{text}");
        assert!(text.contains("psql 'postgresql://demo@localhost:40001/demo?sslmode=disable'"), "{text}");
        assert!(text.contains("`down east`") && text.contains("`up east`") && !text.contains("drain"), "{text}");
        assert!(text.contains("SQLite"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
