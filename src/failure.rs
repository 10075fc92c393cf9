//! Why the program ends, and how that is told. Owns the last line and the exit code; before settings are
//! understood it also guesses in which format the operator reads.

use crdb_proxy::{
    cli,
    commands::CommandError,
    daemon::StartError,
    diagnostics,
    settings::{Faults, LogFormat},
};
use std::process::ExitCode;

/// An exit code other than 0, and the words to go with it.
pub(crate) struct Failure {
    code: u8,
    text: String,
    json: bool,
}

impl Failure {
    /// In the format that was asked for.
    pub(crate) fn new(code: u8, text: String) -> Self {
        Self { code, text, json: asks_for_json() }
    }

    /// Tells it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.json {
            diagnostics::start(LogFormat::Json, tracing::Level::INFO);
        }
        diagnostics::last_words(&self.text);
        ExitCode::from(self.code)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        let failure = Self::new(2, faults.to_string());
        let json = failure.json || faults.log_format() == Some(LogFormat::Json);
        // Whoever typed the bare name of the program wants to know what it is; others made a slip.
        if faults.is_nothing_given() && !json && std::env::args_os().len() <= 1 {
            diagnostics::plainly(&cli::help());
        }
        Self { json, ..failure }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Settings(faults) => faults.into(),
            CommandError::Start(error) => error.into(),
            CommandError::Control(error) => Self::new(error.exit_code(), error.to_string()),
            CommandError::Cloud(error) => Self::new(error.exit_code(), error.to_string()),
            CommandError::Said(code, text) => Self::new(code, text),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(1, error.to_string())
    }
}

/// Whether JSON lines were asked for, as far as that shows before arguments and settings are understood:
/// whoever reads the log by program reads why there is none, too.
fn asks_for_json() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let by_flag = arguments.windows(2).any(|pair| pair == ["--log-format", "json"])
        || arguments.iter().any(|argument| argument == "--log-format=json");
    by_flag || std::env::var_os("CRDB_PROXY_LOG_FORMAT").is_some_and(|format| format == "json")
}
