//! Arguments in, exit code out.

use crdb_proxy::{
    cli::{self, Command},
    daemon::{Built, StartError},
    diagnostics,
    settings::{self, Flags, Inputs, Loaded},
    upstream::{Resolve, SystemResolver},
};
use std::{io::Write, process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    let done = match command {
        Command::Run(flags) => run(flags),
        Command::ConfigCheck(flags) => check(flags),
        Command::ConfigShow { flags, json } => show(flags, json),
        #[cfg(feature = "demo")]
        Command::Demo(flags) => crdb_proxy::demo::run(flags, &resolver()).map_err(Failure::from),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

fn run(flags: Flags) -> Result<u8, Failure> {
    let Loaded { settings, warnings, .. } = load(flags)?;
    diagnostics::start(settings.log_format, settings.log_level);
    let runtime = crdb_proxy::daemon::runtime(settings.threads)?;
    let built = Built::read(settings)?;
    for warning in warnings.iter().chain(&built.warnings) {
        tracing::warn!("{warning}");
    }
    let ended = runtime.block_on(async { Ok::<_, Failure>(built.bind(&resolver())?.serve().await?) })?;
    // What still runs on blocking threads (a resolver that hangs) must not hold up the exit.
    runtime.shutdown_background();
    Ok(ended.exit_code())
}

fn check(flags: Flags) -> Result<u8, Failure> {
    let Loaded { settings, warnings, .. } = load(flags)?;
    let built = Built::read(settings)?;
    for warning in warnings.iter().chain(&built.warnings) {
        say(&format!("warning: {warning}\n"))?;
    }
    say("the settings are sound\n")?;
    Ok(0)
}

fn show(flags: Flags, json: bool) -> Result<u8, Failure> {
    let loaded = load(flags)?;
    say(&if json { settings::show_json(&loaded) } else { settings::show(&loaded) })?;
    Ok(0)
}

fn load(flags: Flags) -> Result<Loaded, Failure> {
    settings::load(&Inputs::of_process(flags)).map_err(|faults| match faults.is_nothing_given() {
        true => Failure { code: 2, text: cli::help() },
        false => Failure { code: 2, text: faults.to_string() },
    })
}

fn resolver() -> Arc<dyn Resolve> {
    Arc::new(SystemResolver)
}

fn say(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure { code: 1, text: format!("standard output takes nothing: {error}") })
}

/// Why the program ends, in the words of its last line.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn report(&self) -> ExitCode {
        diagnostics::last_words(&self.text);
        ExitCode::from(self.code)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self { code: error.exit_code(), text: error.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { code: 1, text: error.to_string() }
    }
}
