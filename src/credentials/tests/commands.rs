//! Secrets that a command prints.

use super::*;

#[tokio::test]
async fn a_command_runs_again_only_after_its_lifetime() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::default();
    let credentials = world.credentials(counting(folder.path(), ":"), true);

    expect(&credentials, "1", 1).await;
    world.pass(59);
    expect(&credentials, "1", 1).await;
    world.pass(1);
    expect(&credentials, "2", 2).await;

    assert_eq!(credentials.describe(), "command /bin/sh");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_logins_at_once_run_a_command_once() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = World::default().credentials(counting(folder.path(), ":"), true);

    let logins: Vec<_> = (0..1000)
        .map(|_| {
            let credentials = credentials.clone();
            tokio::spawn(async move { credentials.current().await.unwrap().generation })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), 1);
    }

    assert_eq!(runs(folder.path()), 1);
}

#[tokio::test]
async fn a_thousand_refused_logins_at_once_run_a_command_at_most_twice_more() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = World::default().credentials(counting(folder.path(), "echo same; exit"), true);
    expect(&credentials, "same", 1).await;

    let logins: Vec<_> = (0..1000)
        .map(|_| {
            let credentials = credentials.clone();
            tokio::spawn(async move { credentials.reread(1).await.unwrap().generation })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), 1);
    }

    assert!((2..=3).contains(&runs(folder.path())), "{}", runs(folder.path()));
}

#[tokio::test]
async fn a_failing_command_names_program_and_status_and_nothing_else() {
    let source = command("echo loud >&2; echo quiet; exit 7", MINUTE, MINUTE);
    let credentials = Credentials::new(source, true);

    let error = credentials.current().await.unwrap_err();

    let text = format!("{error} {error:?}");
    assert!(text.contains("command /bin/sh failed (exit status: 7)"), "{text}");
    assert!(!text.contains("loud") && !text.contains("quiet"), "{text}");
}

#[tokio::test]
async fn a_command_that_fails_later_leaves_its_last_output_in_use_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let once = format!("test $(wc -l < {}) = 1 || exit 7", folder.path().join("runs").display());
    let world = World::default();
    let credentials = world.credentials(counting(folder.path(), &once), true);
    expect(&credentials, "1", 1).await;

    world.pass(60);
    expect(&credentials, "1", 1).await;
    expect(&credentials, "1", 1).await;
    assert_eq!(runs(folder.path()), 2);
    world.pass(RETRY_PAUSE.as_secs());
    expect(&credentials, "1", 1).await;

    assert_eq!(runs(folder.path()), 3);
}

#[tokio::test]
async fn a_slow_command_is_told_with_its_limit() {
    let source = command("sleep 600", Duration::from_millis(50), MINUTE);
    let credentials = Credentials::new(source, true);

    let error = credentials.current().await.unwrap_err().to_string();

    assert!(error.contains("did not finish within 50ms and was killed"), "{error}");
}

#[tokio::test]
async fn a_login_that_is_given_up_does_not_end_the_command_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let made = std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    let wait = format!("cat {} > /dev/null", gate.display());
    let credentials = World::default().credentials(counting(folder.path(), &wait), true);
    let first = tokio::spawn({
        let credentials = credentials.clone();
        async move { credentials.current().await }
    });
    while !folder.path().join("runs").exists() {
        tokio::task::yield_now().await;
    }

    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fs::write(&gate, "go").unwrap();
    expect(&credentials, "1", 1).await;

    assert_eq!(runs(folder.path()), 1);
}
