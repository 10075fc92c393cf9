//! The demo itself: the embedded cluster, the ordinary daemon in front of it, and what is typed.

use super::{EmbeddedCluster, lines_of_stdin};
use crate::{
    cli::DemoFlags,
    daemon::{self, Built, StartError},
    diagnostics,
    settings::{self, Cluster, Flag, Flags, Inputs, Listener, Loaded, LocalAccess, LogFormat, Settings},
    sys::{self, Passed},
    upstream::World,
};
use std::{io::Write, num::NonZero, path::PathBuf, sync::Arc, time::Duration};

/// Runs until a signal ends it, and returns the exit code. Settings files and variables play no part.
///
/// # Errors
/// A flag that makes no sense, an address that is taken, or a system that gives no threads or sockets.
pub fn run(flags: DemoFlags, world: &World) -> Result<u8, StartError> {
    let settings = settings_for(flags)?;
    diagnostics::start(LogFormat::Text, tracing::Level::WARN);
    let runtime = daemon::runtime(settings.threads)?;
    let ended = runtime.block_on(serve(settings, world))?;
    runtime.shutdown_background();
    Ok(ended.exit_code())
}

async fn serve(mut settings: Settings, world: &World) -> Result<daemon::Ended, StartError> {
    let internal = |error: std::io::Error| StartError::Internal(format!("the embedded cluster cannot start: {error}"));
    let embedded = EmbeddedCluster::start().await.map_err(internal)?;
    let cluster = embedded.cluster();
    let region = cluster.endpoints.first().and_then(|endpoint| endpoint.region.clone()).unwrap_or_default();
    settings.listeners = settings.listeners.iter().map(|listener| Arc::new(in_front_of(&cluster, listener))).collect();
    settings.clusters = vec![Arc::new(cluster)];
    // More than anybody tries out, and no cause for a warning about descriptors.
    settings.limits.sessions_max = SESSIONS_MAX;
    // Whoever tries it out does not want to wait a minute.
    settings.limits.failback_after = FAILBACK_AFTER;
    settings.limits.probe_down_interval = PROBE_INTERVAL;
    let daemon = Built::read(Loaded::of(settings)).await?.bind(world, Passed::default())?;

    // A name of both families reads better than either.
    let listening = match daemon.addresses().as_slice() {
        [first, _, ..] => first.rsplit_once(':').map_or(first.clone(), |(_, port)| format!("localhost:{port}")),
        [only] => only.clone(),
        [] => String::new(),
    };
    say(&embedded.facts(&listening, &region).to_string());
    if !sys::can_tell_users_apart() {
        say(LETS_IN_ALL);
    }
    let lines = lines_of_stdin().map_err(internal)?;
    tokio::select! {
        ended = daemon.serve() => Ok(ended),
        never = embedded.attend(lines, say) => match never {},
    }
}

fn settings_for(flags: DemoFlags) -> Result<Settings, StartError> {
    let mut given: Vec<_> = flags.listen.into_iter().map(|address| (Flag::Listen, address)).collect();
    given.extend(flags.admin.map(|address| (Flag::Admin, address)));
    // Stand-ins for what the embedded cluster brings once it runs.
    let stand_ins =
        [(Flag::Host, "demo.example"), (Flag::User, "demo"), (Flag::PasswordFile, "-"), (Flag::CaFile, "-")];
    given.extend(stand_ins.map(|(flag, value)| (flag, value.to_owned())));
    let inputs = Inputs {
        flags: Flags { config: None, url: None, given },
        defaults: Vec::new(),
        variables: Vec::new(),
        working_folder: PathBuf::from("."),
        home: None,
        usual_files: Vec::new(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    };
    settings::load(&inputs).map(|loaded| loaded.settings).map_err(|faults| StartError::Settings(faults.to_string()))
}

fn in_front_of(cluster: &Cluster, listener: &Listener) -> Listener {
    // Toy data: no reason to start nowhere but where users can be told apart.
    let access = if sys::can_tell_users_apart() { listener.access.clone() } else { LocalAccess::Any };
    Listener { cluster: cluster.name.clone(), database: super::DATABASE.to_owned(), access, ..listener.clone() }
}

fn say(text: &str) {
    // A closed terminal ends nothing.
    let _ = writeln!(std::io::stdout(), "{text}");
}

const LETS_IN_ALL: &str = "Warning: users cannot be told apart here (a user namespace, or another system than Linux), so \
     that every user of this machine may use the demo.\n";
const FAILBACK_AFTER: Duration = Duration::from_secs(3);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const SESSIONS_MAX: NonZero<usize> = NonZero::new(1000).unwrap();
