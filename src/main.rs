//! Arguments in, exit code out.

use crdb_proxy::{
    cli::{self, Command},
    daemon::{Built, StartError},
    diagnostics,
    settings::{self, Flags, Inputs, Loaded, LogFormat},
    upstream::{Resolve, SystemResolver},
};
use std::{io::Write, process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        // What was asked for, --help among it, goes where it belongs.
        Err(error) if !(error.use_stderr() && asks_for_json()) => error.exit(),
        Err(error) => return Failure { code: 2, text: error.to_string(), json: true }.report(),
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
    let ended = runtime.block_on(async {
        let built = Built::read(settings).await?;
        for warning in warnings.iter().chain(&built.warnings) {
            tracing::warn!("{warning}");
        }
        Ok::<_, Failure>(built.bind(&resolver())?.serve().await?)
    })?;
    // What still runs on blocking threads (a resolver that hangs) must not hold up the exit.
    runtime.shutdown_background();
    Ok(ended.exit_code())
}

fn check(flags: Flags) -> Result<u8, Failure> {
    let Loaded { settings, warnings, .. } = load(flags)?;
    diagnostics::start(settings.log_format, tracing::Level::WARN);
    let built = crdb_proxy::daemon::runtime(settings.threads)?.block_on(Built::read(settings))?;
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
        true => {
            diagnostics::plainly(&cli::help());
            Failure::new(2, faults.to_string())
        }
        false => {
            let json = asks_for_json() || faults.log_format() == Some(LogFormat::Json);
            Failure { code: 2, text: faults.to_string(), json }
        }
    })
}

/// Whether JSON lines were asked for, as far as that shows before arguments and settings are understood:
/// whoever reads the log by program reads why there is none, too.
fn asks_for_json() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let by_flag = arguments.windows(2).any(|pair| pair == ["--log-format", "json"])
        || arguments.iter().any(|argument| argument == "--log-format=json");
    by_flag || std::env::var_os("CRDB_PROXY_LOG_FORMAT").is_some_and(|format| format == "json")
}

fn resolver() -> Arc<dyn Resolve> {
    Arc::new(SystemResolver::default())
}

fn say(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(1, format!("standard output takes nothing: {error}")))
}

/// Why the program ends, in the words of its last line.
struct Failure {
    code: u8,
    text: String,
    json: bool,
}

impl Failure {
    fn new(code: u8, text: String) -> Self {
        Self { code, text, json: asks_for_json() }
    }

    fn report(&self) -> ExitCode {
        if self.json {
            diagnostics::start(LogFormat::Json, tracing::Level::INFO);
        }
        diagnostics::last_words(&self.text);
        ExitCode::from(self.code)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(1, error.to_string())
    }
}
