//! Files that others can read or have written.

use super::*;

#[tokio::test]
async fn a_file_that_has_become_another_users_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prod.pw");
    write(&path, "one");
    let credentials = World::default().credentials(SecretSource::File(path.clone()), false);
    expect(&credentials, "one", 1).await;
    write(&path, "theirs");
    if std::os::unix::fs::lchown(&path, Some(65534), None).is_err() {
        eprintln!("skipped: only root can give a file to another user");
        return;
    }

    expect(&credentials, "one", 1).await;

    let fault = credentials.fault().unwrap_or_default();
    assert!(fault.contains("belongs to user 65534") && fault.contains("chown root"), "{fault}");
    let after_a_restart = World::default().credentials(SecretSource::File(path.clone()), false);
    expect(&after_a_restart, "theirs", 1).await;
    write(&path, "theirs again");
    expect(&after_a_restart, "theirs again", 2).await;
}

#[tokio::test]
async fn each_way_to_change_a_file_has_a_cause_and_a_fix_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one");
    mode(&path, 0o622);
    let (cause, fix) = credentials.current().await.unwrap_err().likely();
    assert!(cause.contains("umask") && fix.ends_with(&format!("chmod go-w {}", path.display())), "{cause} {fix}");
    mode(&path, 0o600);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    if std::os::unix::fs::lchown(&link, Some(65534), None).is_err() {
        eprintln!("skipped: only root can give a link to another user");
        return;
    }

    let error = Credentials::new(SecretSource::File(link.clone()), true).current().await.unwrap_err();

    let (cause, fix) = error.likely();
    assert!(cause.contains("another user made the link"), "{cause}");
    assert!(fix.contains(&format!("make {} as root", link.display())), "{fix}");
}

#[tokio::test]
async fn a_command_whose_program_others_can_write_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    write(&program, "#!/bin/sh\necho one\n");
    mode(&program, 0o755);
    let argv = vec![program.display().to_string()];
    let source = SecretSource::Command { argv, limit: MINUTE, lifetime: MINUTE, withheld: Arc::default() };
    let world = World::default();
    let credentials = world.credentials(source.clone(), true);
    credentials.try_out().await.unwrap();
    expect(&credentials, "one", 1).await;

    mode(&program, 0o775);
    world.pass(60);
    expect(&credentials, "one", 1).await;

    let fault = credentials.fault().unwrap_or_default();
    assert!(fault.contains("who could run commands as the daemon's user"), "{fault}");
    let error = Credentials::new(source, true).try_out().await.unwrap_err().to_string();
    assert!(error.ends_with(&format!("chmod go-w {}", program.display())), "{error}");
}

#[tokio::test]
async fn a_file_that_others_can_read_is_warned_about_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prod.pw");
    write(&path, "one");
    mode(&path, 0o640);
    let credentials = World::default().credentials(SecretSource::File(path.clone()), false);
    let (_guard, log) = log();

    expect(&credentials, "one", 1).await;
    fs::write(&path, "two").unwrap();
    expect(&credentials, "two", 2).await;

    let log = log.text();
    assert_eq!(log.matches("readable by others").count(), 1, "{log}");
    assert!(log.contains("0640"), "{log}");
    assert!(!log.contains("one") && !log.contains("two"), "{log}");
}

#[tokio::test]
async fn a_file_that_others_can_read_is_refused_by_strict_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one");
    mode(&path, 0o604);

    let error = credentials.current().await.unwrap_err().to_string();

    assert!(error.contains("prod.pw is readable by others (mode 0604)"), "{error}");
    mode(&path, 0o600);
    expect(&credentials, "one", 1).await;
}

#[tokio::test]
async fn a_systemd_credential_is_found_and_its_mode_is_no_concern() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pw");
    write(&path, "one");
    mode(&path, 0o440);
    let world = World::with(&[("CREDENTIALS_DIRECTORY", folder.path())]);

    let credential = world.credentials(SecretSource::Credential("pw".into()), true);
    let file = world.credentials(SecretSource::File(path), true);

    expect(&credential, "one", 1).await;
    expect(&file, "one", 1).await;
    assert_eq!(credential.describe(), "credential pw");
}
