//! Running a command whose output is a secret: no shell, a group of its own, bounded in time and
//! size. What it writes is never logged.

use super::{error::Fault, source::READ_MAX};
use crate::service_manager::VARIABLES;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

/// The command's standard output, once it has ended with success.
///
/// Cancel safety: dropping it kills the command with all that it started.
pub(super) async fn run(argv: &[String], limit: Duration) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let not_started = |cause| Fault::NotStarted(Arc::new(cause));
    let (program, arguments) = argv.split_first().ok_or_else(|| not_started(io::ErrorKind::InvalidInput.into()))?;
    let mut command = Command::new(program);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(not_started)?;
    // Declared after the child, so dropped before it: the group's number is still the child's.
    let mut group = Group::of(&child);
    let (output, status) = match timeout(limit, finish(&mut child)).await {
        Ok(finished) => finished?,
        Err(_) => return Err(Fault::Slow { limit }),
    };
    group.release();
    if status.success() { Ok(output) } else { Err(Fault::Failed(status)) }
}

/// Reads to the end first and waits second: an unreaped child keeps its number, so that until then
/// nobody else's group can be killed by mistake.
async fn finish(child: &mut Child) -> Result<(Zeroizing<Vec<u8>>, ExitStatus), Fault> {
    let mut output = Zeroizing::new(Vec::with_capacity(READ_MAX.saturating_add(64)));
    if let Some(stdout) = child.stdout.take() {
        let limit = u64::try_from(READ_MAX).unwrap_or(u64::MAX);
        stdout.take(limit).read_to_end(&mut output).await?;
    }
    if output.len() >= READ_MAX {
        return Err(Fault::TooLong);
    }
    let status = child.wait().await?;
    Ok((output, status))
}

/// A command's process group, killed when dropped unless released.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let number = child.id().and_then(|id| i32::try_from(id).ok());
        Self(number.and_then(Pid::from_raw))
    }

    /// The command has ended; what it left running on purpose (an agent) goes on.
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails only when nothing of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn the_output_of_a_command_is_taken_and_its_errors_are_not() {
        let output = run(&shell("echo noise >&2; printf secret"), LONG).await.unwrap();

        assert_eq!(output.as_slice(), b"secret");
    }

    #[tokio::test]
    async fn arguments_are_not_read_by_a_shell() {
        let argv = ["/bin/echo", "$HOME", "a  b"].map(str::to_owned);

        assert_eq!(run(&argv, LONG).await.unwrap().as_slice(), b"$HOME a  b\n");
    }

    #[tokio::test]
    async fn a_command_that_reads_its_input_finds_none() {
        assert_eq!(run(&shell("cat; printf end"), LONG).await.unwrap().as_slice(), b"end");
    }

    #[tokio::test]
    async fn a_failed_command_gives_its_status() {
        let fault = run(&shell("printf secret; exit 3"), LONG).await.unwrap_err();

        assert!(matches!(fault, Fault::Failed(status) if status.code() == Some(3)), "{fault:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_apart() {
        let fault = run(&["/nonexistent/program".to_owned()], LONG).await.unwrap_err();

        assert!(matches!(fault, Fault::NotStarted(_)), "{fault:?}");
    }

    #[tokio::test]
    async fn endless_output_is_cut_off_at_the_limit_of_a_secret() {
        let fault = run(&shell("exec cat /dev/zero"), LONG).await.unwrap_err();

        assert!(matches!(fault, Fault::TooLong), "{fault:?}");
    }

    #[tokio::test]
    async fn a_slow_command_is_told_from_a_failed_one() {
        let fault = run(&shell("exec sleep 600"), SHORT).await.unwrap_err();

        assert!(matches!(fault, Fault::Slow { .. }), "{fault:?}");
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let children = folder.path().join("children");
        let script = format!("sleep 600 & echo $! > {}; wait", children.display());
        let running = tokio::spawn(async move { run(&shell(&script), LONG).await.map(drop) });
        let child = || std::fs::read_to_string(&children).ok()?.strip_suffix('\n')?.parse().ok();
        while child().is_none() {
            tokio::task::yield_now().await;
        }

        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());

        gone(child().unwrap()).await;
    }

    /// Waits until the process has ended; a zombie that nobody reaps counts as ended.
    async fn gone(process: i32) {
        let state = Path::new("/proc").join(process.to_string()).join("stat");
        let alive = || std::fs::read_to_string(&state).is_ok_and(|text| !text.contains(") Z "));
        let wait = async {
            while alive() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, wait).await.expect("the process lives on");
    }
}
