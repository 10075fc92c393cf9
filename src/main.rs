//! Arguments in, exit code out.

mod failure;

use crdb_proxy::{
    check::Wish,
    cli::{self, Command, Declined},
    commands,
    daemon::{self, Built},
    diagnostics,
    service_manager::ServiceManager,
    settings::{self, Flags, Inputs},
    sys,
    upstream::World,
};
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    sys::keep_memory_private();
    let done = match cli::parse(std::env::args_os()) {
        Ok(command) => obey(command),
        Err(Declined::Asked(answer)) => answer.exit(),
        Err(Declined::Wrong(sentence)) => Err(Failure::new(2, sentence)),
    };
    let code = done.map_or_else(|failure| failure.report(), ExitCode::from);
    diagnostics::finish();
    code
}

fn run(flags: Flags) -> Result<u8, Failure> {
    sys::leave_no_cores();
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
        let daemon = built.bind(&World::of_machine(), passed)?.with_inputs(inputs);
        Ok::<_, Failure>(daemon.with_service_manager(ServiceManager::from_env()).introduced().serve().await)
    })?;
    // What still runs on blocking threads (a resolver that hangs) must not hold up the exit.
    runtime.shutdown_background();
    Ok(ended.exit_code())
}

/// The commands beside `run`.
fn obey(command: Command) -> Result<u8, Failure> {
    let inputs = Inputs::of_process;
    Ok(match command {
        Command::Run(flags) => return run(flags),
        Command::Check { flags, cluster, failover, json } => {
            commands::walk(&inputs(flags), &Wish { cluster, failover }, json, &World::of_machine())
        }
        Command::ConfigCheck(flags) => commands::check(&inputs(flags)),
        Command::ConfigShow { flags, json } => commands::show(&inputs(flags), json),
        Command::ConfigDiff(flags) => commands::diff(&inputs(flags)),
        Command::Health(flags) => commands::health(&inputs(flags)),
        Command::Wait { flags, limit } => commands::wait(&inputs(flags), limit.as_deref()),
        Command::Shutdown { flags, wait } => commands::shutdown(&inputs(flags), wait),
        Command::Reload(flags) => commands::reload(&inputs(flags)),
        Command::Status { flags, watch, json } => commands::status(&inputs(flags), watch, json),
        Command::Url { flags, listener, format } => {
            commands::url(&inputs(flags), listener.as_deref(), format.as_deref())
        }
        Command::Exec { flags, order } => commands::exec(inputs(flags), &order),
        Command::Completions(shell) => commands::completions(shell),
        Command::Man => commands::man(),
        Command::Cloud { flags, cluster, order } => commands::cloud(&inputs(flags), cluster.as_deref(), &order),
        Command::Endpoint { flags, order } => commands::endpoint(&inputs(flags), &order),
        Command::Setup(flags) => commands::setup(&flags, &inputs(Flags::default()), &World::of_machine()),
        Command::CaFetch(flags) => commands::ca_fetch(&flags, &inputs(Flags::default())),
        #[cfg(feature = "demo")]
        Command::Demo(flags) => return Ok(crdb_proxy::demo::run(flags, &World::of_machine())?),
    }?)
}
