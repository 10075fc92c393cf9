//! Running a command whose output is a secret: no shell, a group of its own, bounded in time and
//! size. What it writes is never logged.

use super::{error::Fault, source::READ_MAX};
use crate::service_manager::VARIABLES;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
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
/// It does not find `withheld` variables: they hold other secrets, and any process of the same user can read them there.
///
/// Cancel safety: dropping it kills the command with all that it started.
pub(super) async fn run(argv: &[String], withheld: &[String], limit: Duration) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let not_started = |cause| Fault::NotStarted(Arc::new(cause));
    let (program, arguments) = argv.split_first().ok_or_else(|| not_started(io::ErrorKind::InvalidInput.into()))?;
    let mut command = Command::new(program);
    for variable in VARIABLES.into_iter().chain(withheld.iter().map(String::as_str)) {
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
        Err(_) if has_ended(&child) => return Err(Fault::HeldOpen { limit }),
        Err(_) => return Err(Fault::Slow { limit }),
    };
    group.release();
    if status.success() { Ok(output) } else { Err(Fault::Failed(status)) }
}

/// Whether it has ended by itself. It is left as it is, so that its number stays its own.
fn has_ended(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    pid_of(child).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok_and(|status| status.is_some()))
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
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
        Self(pid_of(child))
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
        let output = run(&shell("echo noise >&2; printf secret"), &[], LONG).await.unwrap();

        assert_eq!(output.as_slice(), b"secret");
    }

    #[tokio::test]
    async fn arguments_are_not_read_by_a_shell() {
        let argv = ["/bin/echo", "$HOME", "a  b"].map(str::to_owned);

        assert_eq!(run(&argv, &[], LONG).await.unwrap().as_slice(), b"$HOME a  b\n");
    }

    #[tokio::test]
    async fn a_command_that_reads_its_input_finds_none() {
        assert_eq!(run(&shell("cat; printf end"), &[], LONG).await.unwrap().as_slice(), b"end");
    }

    #[tokio::test]
    async fn a_failed_command_gives_its_status() {
        let fault = run(&shell("printf secret; exit 3"), &[], LONG).await.unwrap_err();

        assert!(matches!(fault, Fault::Failed(status) if status.code() == Some(3)), "{fault:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_apart() {
        let fault = run(&["/nonexistent/program".to_owned()], &[], LONG).await.unwrap_err();

        assert!(matches!(fault, Fault::NotStarted(_)), "{fault:?}");
    }

    #[tokio::test]
    async fn endless_output_is_cut_off_at_the_limit_of_a_secret() {
        let fault = run(&shell("exec cat /dev/zero"), &[], LONG).await.unwrap_err();

        assert!(matches!(fault, Fault::TooLong), "{fault:?}");
    }

    #[tokio::test]
    async fn a_slow_command_is_told_from_a_failed_one() {
        let fault = run(&shell("exec sleep 600"), &[], SHORT).await.unwrap_err();

        assert!(matches!(fault, Fault::Slow { .. }), "{fault:?}");
    }

    #[tokio::test]
    async fn a_command_that_ended_and_left_its_output_open_is_told_from_a_slow_one() {
        let fault = run(&shell("sleep 600 & printf secret"), &[], Duration::from_secs(1)).await.unwrap_err();

        assert!(matches!(fault, Fault::HeldOpen { .. }), "{fault:?}");
    }

    #[tokio::test]
    async fn a_command_does_not_find_variables_that_are_withheld() {
        let script = shell("tr '\\0' '\\n' < /proc/$$/environ | grep -q ^PATH= && printf none; printf %s \"$HOME\"");

        assert_ne!(run(&script, &[], LONG).await.unwrap().as_slice(), b"none");
        let withheld = ["HOME".to_owned()];
        assert_eq!(run(&script, &withheld, LONG).await.unwrap().as_slice(), b"none");
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let children = folder.path().join("children");
        let script = format!("sleep 600 & echo $! > {}; wait", children.display());
        let running = tokio::spawn(async move { run(&shell(&script), &[], LONG).await.map(drop) });
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
