//! Stopping gently: for a while as if nothing were, then new clients are refused and sessions end at their idle
//! points, then the rest is cut off.

use super::{Daemon, Ended, signals, wishes};
use crate::{
    admin::Admin,
    diagnostics,
    metrics::labels::DaemonState,
    settings::LogFormat,
    shutdown::{Drain, Phase},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};

impl Daemon {
    /// Stops; `by` is what demanded it. A second signal stops at once.
    pub(super) async fn drain(self, by: &'static str) -> Ended {
        let Self { admin, mut serving, stopper, mut wishes, mut telling, .. } = self;
        telling.stopping(&admin);
        let hurried = Notify::new();
        let gently = async {
            let limits = admin.view().settings.limits.clone();
            let enter = |phase| {
                stopper.enter(phase);
                serving.enter(phase);
            };
            // Whoever stops it by hand does not want to wait, and what a command leaves behind sends nobody here.
            let is_sudden = ["SIGINT", signals::COMMAND_ENDED].contains(&by);
            if !limits.drain_delay.is_zero() && !is_sudden {
                admin.metrics.set_state(DaemonState::Delaying);
                enter(Phase::Delaying);
                info!(signal = by, drain_delay = ?limits.drain_delay, "stopping soon; clients are still served");
                tokio::select! {
                    () = sleep(limits.drain_delay) => {}
                    () = hurried.notified() => {}
                }
            }
            admin.metrics.set_state(DaemonState::Draining);
            let now = Instant::now();
            let drain = Drain { idle_close: limits.idle_close, hurry_from: now + limits.drain_limit / 2 };
            enter(Phase::Draining(drain));
            let open = admin.sessions.admitted();
            info!(signal = by, sessions.open = open, drain_limit = ?limits.drain_limit, "draining");
            if is_sudden && admin.view().settings.log_format == LogFormat::Text {
                tell_person(open, if by == "SIGINT" { "Ctrl-C again" } else { "Ctrl-C" });
            }
            let is_clean = timeout_at(now + limits.drain_limit, admin.sessions.all_ended()).await.is_ok();
            let ended = count_cut(&admin, is_clean);
            enter(Phase::Cutting);
            serving.all_ended().await;
            ended
        };
        let told_again = async {
            if by == wishes::DEMANDED {
                // Service managers send their signal after a command has asked for the same: it is the first one.
                let signal = wishes.next_stop_at_once().await;
                info!(signal, "draining already; another signal ends it at once");
                if signal == "SIGINT" {
                    hurried.notify_one();
                }
            }
            wishes.next_stop_at_once().await
        };
        tokio::select! {
            biased;
            signal = told_again => {
                info!(signal, "told again to stop");
                Ended::AtOnce
            }
            ended = gently => ended,
            () = telling.keep_alive_in_a_drain(&admin) => Ended::AtOnce,
        }
    }
}

/// Whoever has pressed Ctrl-C or whose command has ended, and sees nothing happen, wants to know why.
fn tell_person(open: usize, key: &str) {
    if open > 0 && diagnostics::has_reader() {
        let sessions = if open == 1 { "session" } else { "sessions" };
        diagnostics::show(format!("{open} {sessions} open; {key} ends at once\n"));
    }
}

fn count_cut(admin: &Admin, is_clean: bool) -> Ended {
    match admin.sessions.unended() {
        cut if cut > 0 && !is_clean => {
            warn!(sessions.cut = cut, "drain_limit has passed; sessions are cut off");
            Ended::Cut(cut)
        }
        _ => Ended::Clean,
    }
}
