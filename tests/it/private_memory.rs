//! What the daemon holds in memory is nobody else's to read, and no core of it ever lies on a disk.

use crate::harness::{DEADLINE, FakeUpstream, SettingsFile, process};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
};

/// As the daemon's user, whose processes may look into each other as a rule; where the machine would leave cores.
const AS_NOBODY: &str = "chown -R nobody . && exec setpriv --reuid nobody --regid nogroup --clear-groups -- prlimit --core=unlimited -- \"$@\"";

#[test]
fn no_process_of_the_daemons_user_reads_its_memory_and_no_core_is_left_of_it() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can run the daemon as another user");
        return;
    }
    let cluster = FakeUpstream::answering();
    // The password's command says what it inherits.
    let command = r#"password = { command = ["sh", "-c", "cat /proc/self/limits > limits.txt && cat app.pw"], lifetime = "15min" }"#;
    let settings = SettingsFile::of(&cluster).password(command);
    let mut proxy = settings.behind(&["sh", "-c", AS_NOBODY, "sh"]).start();
    proxy.client();
    let of_daemon = format!("/proc/{}", proxy.pid());

    // As proc(5) has it: these belong to root where a process may not be dumped, and to its user where it may.
    let owner = fs::metadata(format!("{of_daemon}/environ")).unwrap().uid();
    let mut look = process::mortal("setpriv".as_ref(), "KILL", None);
    look.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--", "cat"]);
    let looked = process::run(look.arg(format!("{of_daemon}/environ")), "", DEADLINE);
    let limits = fs::read_to_string(format!("{of_daemon}/limits")).unwrap();
    let of_command = fs::read_to_string(proxy.path("limits.txt")).unwrap();
    // The soft and the hard one.
    let cores = |limits: &str| {
        let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        cores.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };

    assert_eq!(owner, 0);
    assert!(looked.stderr.contains("Permission denied"), "{}", looked.stderr);
    assert_eq!((cores(&limits), cores(&of_command)), (vec!["0".to_owned(); 2], vec!["0".to_owned(); 2]));
    assert!(proxy.metric("process_open_fds", &[]).unwrap() > 5.0, "it can still look at itself");
    proxy.signal(Signal::ABORT);
    let ended = proxy.ended();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}
