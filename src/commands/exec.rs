//! `exec`: a daemon for as long as a command runs, which finds it by its environment. Owns the order of things: the
//! daemon serves and is ready before the command begins, and drains when that has ended; neither is left without the
//! other.

mod command;
mod serving;
mod signals;

use self::{command::command, serving::Serving, signals::Relayed};
use super::CommandError;
use crate::{
    cli::ExecOrder,
    daemon::{self, Built, Control, StartError},
    diagnostics, listener,
    settings::{self, Flag, Inputs, ListenAddress, Loaded, Source, duration_from_text},
    sys::{self, End, Tied},
    upstream::World,
};
use std::{io, net::SocketAddr, num::NonZero, ops::RangeInclusive, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};
use tracing::warn;

/// Returns the command's exit code.
///
/// # Errors
/// The daemon does not start, or the command does not, which is tried once the former is ready.
pub fn exec(mut inputs: Inputs, order: &ExecOrder) -> Result<u8, CommandError> {
    let said = order.limit.as_deref().unwrap_or(USUAL);
    let limit = duration_from_text(said, SPANS);
    let limit = limit.map_err(|rule| CommandError::Said(2, format!("flag --limit: {rule}")))?;
    inputs.defaults = DEFAULTS.to_vec();
    let is_flag = |inputs: &Inputs, meant| inputs.flags.given.iter().any(|(flag, _)| *flag == meant);
    if !is_flag(&inputs, Flag::Admin) {
        // What a file or a variable says is the address of the daemon that runs all the time.
        inputs.flags.given.push((Flag::Admin, "off".to_owned()));
    }
    if order.free_port {
        if is_flag(&inputs, Flag::Listen) {
            return Err(CommandError::Said(2, "--free-port and --listen contradict each other; give one".to_owned()));
        }
        inputs.flags.given.push((Flag::Listen, FREE_PORT.to_owned()));
    }
    let mut loaded = settings::load(&inputs)?;
    if *loaded.provenance.of("sessions_max") == Source::Default {
        // More than a command opens, and on few machines a cause to warn about descriptors.
        loaded.settings.limits.sessions_max = SESSIONS_MAX;
    }
    command::check_listener(&loaded.settings, order)?;
    diagnostics::start(loaded.settings.log_format, loaded.settings.log_level);
    let runtime = daemon::runtime(loaded.settings.threads)?;
    let code = runtime.block_on(run(inputs, loaded, order, (said, limit)));
    // What still runs on blocking threads (a resolver that hangs) must not hold up the exit.
    runtime.shutdown_background();
    code
}

/// To be run by the first thread, which ends with the process: the command is tied to it.
async fn run(inputs: Inputs, mut loaded: Loaded, order: &ExecOrder, limit: Limit<'_>) -> Result<u8, CommandError> {
    let mut signals = Relayed::new().map_err(deaf)?;
    step_aside(&mut loaded);
    let settings = loaded.settings.clone();
    let built = tokio::select! {
        biased;
        number = signals.next_to_end() => return Ok(End::of_signal(number).exit_code()),
        built = Built::read(loaded) => built?,
    };
    for warning in &built.warnings {
        warn!("{warning}");
    }
    let (daemon, ender) = built.bind_without_signals(&World::of_machine())?;
    let control = daemon.control();
    let mut serving = Serving::begin(daemon.with_inputs(inputs), ender);
    let ended = tokio::select! {
        biased;
        // While there is no command they are for us.
        number = signals.next_to_end() => Ok(End::of_signal(number).exit_code()),
        () = serving.ended() => Err(serving.fault()),
        ready = ready(&control, limit) => match ready.and_then(|()| command(&settings, order, &control)) {
            Ok(command) => attend(command, &mut signals, &mut serving).await,
            Err(error) => Err(error),
        },
    };
    serving.end(&mut signals).await;
    ended
}

/// Has listeners take a free port where somebody has theirs that the file says: most likely the daemon that runs all the
/// time by the same file. The command is told the port either way. A Unix socket stays, since its folder says who may
/// come in.
fn step_aside(loaded: &mut Loaded) {
    for listener in &mut loaded.settings.listeners {
        let by_file =
            matches!(loaded.provenance.of(&format!("listener.{}.address", listener.name)), Source::File { .. });
        let free = match &listener.address {
            ListenAddress::Localhost(_) => ListenAddress::Localhost(0),
            ListenAddress::Tcp(address) => ListenAddress::Tcp(SocketAddr::new(address.ip(), 0)),
            ListenAddress::Unix(_) => continue,
        };
        if !by_file {
            continue;
        }
        if let Err(error) = listener::rehearse(listener.name.as_str(), &listener.address)
            && error.source.kind() == io::ErrorKind::AddrInUse
        {
            warn!(listener.name = %listener.name, listener.addr = error.address, "the address is taken; the command is led to a free port");
            Arc::make_mut(listener).address = free;
        }
    }
}

/// Waits until the daemon is ready to serve.
async fn ready(control: &Control, (said, limit): Limit<'_>) -> Result<(), CommandError> {
    let waiting = async {
        while control.unready_because().is_some() {
            sleep(PAUSE).await;
        }
    };
    let in_vain = |_| {
        let reason = control.unready_because().unwrap_or_default();
        CommandError::Said(1, format!("waited {said} in vain, and did not run the command: {reason}"))
    };
    timeout(limit, waiting).await.map_err(in_vain)
}

/// Runs the command to its end; its exit code.
async fn attend(
    command: std::process::Command,
    signals: &mut Relayed,
    serving: &mut Serving,
) -> Result<u8, CommandError> {
    // Heard before the command begins, or its end could be missed.
    let mut ends = signal(SignalKind::child()).map_err(deaf)?;
    let program = command.get_program().to_owned();
    let mut child = sys::spawn_tied(command).map_err(|error| command::unstartable(&program, &error))?;
    let lost = |error: io::Error| CommandError::Said(1, format!("how the command ended was not told: {error}"));
    let end = tokio::select! {
        biased;
        end = end_of(&mut child, &mut ends, signals) => end.map_err(lost)?,
        () = serving.ended() => {
            warn!("the daemon has ended, and so must the command");
            child.signal(libc::SIGTERM);
            let end = match timeout(END_LIMIT, end_of(&mut child, &mut ends, signals)).await {
                Ok(end) => end,
                Err(_elapsed) => {
                    child.signal(libc::SIGKILL);
                    end_of(&mut child, &mut ends, signals).await
                }
            };
            end.map_err(lost)?
        }
    };
    if serving.has_failed() { Err(serving.fault()) } else { Ok(end.exit_code()) }
}

/// Waits for the command's end, and passes signals on to it until then. Cancel safe.
async fn end_of(child: &mut Tied, ends: &mut Signal, signals: &mut Relayed) -> io::Result<End> {
    loop {
        if let Some(end) = child.try_wait()? {
            return Ok(end);
        }
        tokio::select! {
            _ = ends.recv() => {}
            number = signals.next() => {
                if !signals::has_come_to_all(number) {
                    child.signal(number);
                }
            }
        }
    }
}

fn deaf(error: io::Error) -> CommandError {
    StartError::Internal(format!("signals cannot be heard: {error}")).into()
}

/// As it was said, and as it is.
type Limit<'s> = (&'s str, Duration);

/// What counts where nobody says otherwise: nothing that is running already is in the way of it, and what it logs is
/// not in the way of what the command says.
const DEFAULTS: [(Flag, &str); 2] = [(Flag::Listen, FREE_PORT), (Flag::LogLevel, "warn")];
const SESSIONS_MAX: NonZero<usize> = NonZero::new(1000).unwrap();
const FREE_PORT: &str = "localhost:0";
const USUAL: &str = "30s";
const SPANS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const PAUSE: Duration = Duration::from_millis(50);
/// How long a command may take to end that has lost its daemon.
const END_LIMIT: Duration = Duration::from_secs(10);
