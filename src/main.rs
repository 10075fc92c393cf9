//! Arguments in, exit code out.

mod failure;

use crdb_proxy::{
    cli::{self, Command, Declined},
    control,
    daemon::{self, Built},
    diagnostics,
    service_manager::ServiceManager,
    settings::{self, Flags, Inputs},
    sys,
    upstream::World,
};
use failure::Failure;
use std::{io::Write, num::NonZero, process::ExitCode};

fn main() -> ExitCode {
    let done = match cli::parse(std::env::args_os()) {
        Ok(Command::Run(flags)) => run(flags),
        Ok(Command::ConfigCheck(flags)) => check(flags),
        Ok(Command::ConfigShow { flags, json }) => show(flags, json),
        Ok(Command::Endpoint { flags, order }) => endpoint(flags, &order),
        #[cfg(feature = "demo")]
        Ok(Command::Demo(flags)) => crdb_proxy::demo::run(flags, &World::of_machine()).map_err(Failure::from),
        Err(Declined::Asked(answer)) => answer.exit(),
        Err(Declined::Wrong(sentence)) => Err(Failure::new(2, sentence)),
    };
    let code = done.map_or_else(|failure| failure.report(), ExitCode::from);
    diagnostics::finish();
    code
}

fn run(flags: Flags) -> Result<u8, Failure> {
    let passed = sys::take_passed();
    let inputs = Inputs::of_process(flags);
    let loaded = settings::load(&inputs)?;
    diagnostics::start(loaded.settings.log_format, loaded.settings.log_level);
    let runtime = daemon::runtime(loaded.settings.threads)?;
    let ended = runtime.block_on(async {
        let built = Built::read(loaded).await?;
        for warning in &built.warnings {
            tracing::warn!("{warning}");
        }
        Ok::<_, Failure>(
            built
                .bind(&World::of_machine(), passed)?
                .with_inputs(inputs)
                .with_service_manager(ServiceManager::from_env())
                .serve()
                .await,
        )
    })?;
    // What still runs on blocking threads (a resolver that hangs) must not hold up the exit.
    runtime.shutdown_background();
    Ok(ended.exit_code())
}

fn check(flags: Flags) -> Result<u8, Failure> {
    let loaded = settings::load(&Inputs::of_process(flags))?;
    diagnostics::start(loaded.settings.log_format, tracing::Level::WARN);
    let built = daemon::runtime(loaded.settings.threads)?.block_on(Built::read(loaded))?;
    for warning in &built.warnings {
        say(&format!("warning: {warning}\n"))?;
    }
    say("the settings are sound\n")?;
    Ok(0)
}

fn show(flags: Flags, json: bool) -> Result<u8, Failure> {
    let loaded = settings::load(&Inputs::of_process(flags))?;
    say(&if json { settings::show_json(&loaded) } else { settings::show(&loaded) })?;
    Ok(0)
}

fn endpoint(flags: Flags, order: &control::Order) -> Result<u8, Failure> {
    let admin = settings::load_admin(&Inputs::of_process(flags))?;
    let taken = daemon::runtime(NonZero::<usize>::MIN)?.block_on(control::send(&admin, order))?;
    say(&format!("{taken}\n"))?;
    Ok(0)
}

fn say(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(1, format!("standard output takes nothing: {error}")))
}
