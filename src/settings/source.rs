//! Where a value came from, and what is wrong with it. Owns the text of a broken rule; a value that
//! is or may contain a secret must never get into a [`Fault`].

use super::LogFormat;
use std::{collections::BTreeMap, error::Error, fmt, num::NonZero, sync::Arc};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The settings file.
    File {
        /// As the operator wrote it.
        path: Arc<str>,
        /// Counted from 1; absent when the file as a whole is meant.
        line: Option<NonZero<usize>>,
        /// Counted from 1, in characters; only for faults of TOML itself.
        column: Option<NonZero<usize>>,
    },
    /// The variable of this name.
    Variable(String),
    /// The flag of this name, without dashes.
    Flag(&'static str),
    /// The connection string, from the command line or from `CRDB_PROXY_URL`.
    ConnectionString,
    /// The command line as a whole.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => {
                f.write_str(path)?;
                for number in [line, column].into_iter().flatten() {
                    write!(f, ":{number}")?;
                }
                Ok(())
            }
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::ConnectionString => f.write_str("connection string"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the value stands, or where it is missing; [`Source::Default`], which is not told, when it is
    /// missing and that is nobody's doing.
    pub source: Source,
    /// The key with the cluster, endpoint or listener it belongs to; may be empty.
    pub key: String,
    /// As it was written, or that it is not shown; absent where it is missing or is no scalar.
    pub value: Option<String>,
    /// What it must be, or what to do.
    pub rule: String,
}

impl fmt::Display for Fault {
    /// `prod.toml:12: listener "main": tls = "on": must be …`; a flag or variable that shows its
    /// value needs no key beside its own name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source == Source::Default {
            return write!(f, "{}: {}", self.key, self.rule);
        }
        write!(f, "{}", self.source)?;
        let named = matches!(self.source, Source::Flag(_) | Source::Variable(_));
        match &self.value {
            Some(value) if named => write!(f, " = {value}")?,
            Some(value) => write!(f, ": {} = {value}", self.key)?,
            None if self.key.is_empty() => (),
            None => write!(f, ": {}", self.key)?,
        }
        write!(f, ": {}", self.rule)
    }
}

/// Every broken rule at once; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    nothing_given: bool,
    log_format: Option<LogFormat>,
}

impl Faults {
    /// Takes the faults in the order in which they are shown.
    pub(super) fn new(list: Vec<Fault>) -> Self {
        Self { list, nothing_given: false, log_format: None }
    }

    /// There is no file, no connection string and no host: the reader needs `--help`, not a list.
    pub(super) fn nothing_given(list: Vec<Fault>) -> Self {
        Self { list, nothing_given: true, log_format: None }
    }

    /// Adds what could be read of how the faults are to be told.
    pub(super) fn in_format(self, log_format: LogFormat) -> Self {
        Self { log_format: Some(log_format), ..self }
    }

    /// How log lines were asked to look, as far as the settings could be read.
    pub fn log_format(&self) -> Option<LogFormat> {
        self.log_format
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter()
    }

    /// Whether the daemon was started with nothing at all, and found no file in the usual places.
    pub fn is_nothing_given(&self) -> bool {
        self.nothing_given
    }
}

impl fmt::Display for Faults {
    /// One line each, without a line feed at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl Error for Faults {}

/// The source of every value that somebody set, by path: `log_level`, `cluster.prod.user`,
/// `cluster.prod.endpoint.NAME.host`, `listener.main.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance(BTreeMap<String, Source>);

impl Provenance {
    /// The source of the value at this path.
    pub fn of(&self, path: &str) -> &Source {
        self.0.get(path).unwrap_or(&Source::Default)
    }

    /// Remembers who set the value at this path.
    pub(super) fn record(&mut self, path: String, source: Source) {
        self.0.insert(path, source);
    }
}

/// ` did you mean "x"?` after a semicolon, or nothing, for the known name nearest to `written`.
pub(super) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(written, known).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}

/// The known name that is at most a third of its letters away from `written`.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if written.len() > 100 {
        return None;
    }
    let distance = |name: &&str| strsim::damerau_levenshtein(written, name);
    let best = known.into_iter().min_by_key(distance)?;
    (distance(&best) <= (best.len() / 3).max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_source_key_and_rule() {
        let line = NonZero::new(12);
        let fault = Fault {
            source: Source::File { path: "prod.toml".into(), line, column: None },
            key: "listener \"main\": database_".into(),
            value: None,
            rule: format!("unknown key{}", did_you_mean("database_", ["tls", "database"])),
        };

        assert_eq!(
            fault.to_string(),
            r#"prod.toml:12: listener "main": database_: unknown key; did you mean "database"?"#
        );
    }

    #[test]
    fn a_flag_with_a_value_is_not_followed_by_the_key_it_sets() {
        let fault = Fault {
            source: Source::Flag("port"),
            key: "cluster \"default\": port".into(),
            value: Some("\"abc\"".into()),
            rule: "must be a number".into(),
        };

        assert_eq!(fault.to_string(), "flag --port = \"abc\": must be a number");
    }

    #[test]
    fn nothing_far_away_is_suggested() {
        assert_eq!(did_you_mean("frobnicate", ["tls", "database"]), "");
    }
}
