use super::*;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// A clock that stands still until it is moved, and variables of the test's own.
#[derive(Clone, Default)]
struct World {
    seconds: Arc<AtomicU64>,
    variables: Vec<(&'static str, OsString)>,
}

impl World {
    fn with(variables: &[(&'static str, &Path)]) -> Self {
        let own = |(name, value): &(&'static str, &Path)| (*name, value.as_os_str().to_owned());
        Self { seconds: Arc::default(), variables: variables.iter().map(own).collect() }
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn credentials(&self, source: SecretSource, strict: bool) -> Credentials {
        let (clock, variables) = (Arc::clone(&self.seconds), self.variables.clone());
        let surroundings = Surroundings {
            variable: Box::new(move |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.clone())
            }),
            now: Box::new(move || {
                let since = Duration::from_secs(clock.load(Ordering::SeqCst));
                SystemTime::UNIX_EPOCH + since
            }),
        };
        Credentials::with(source, strict, surroundings)
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    mode(path, 0o600);
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes the file look long unchanged, as a secret file usually is.
fn age(path: &Path) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

fn secret_file(folder: &Path, text: &str) -> (PathBuf, Credentials) {
    let path = folder.join("prod.pw");
    write(&path, text);
    let credentials = World::default().credentials(SecretSource::File(path.clone()), true);
    (path, credentials)
}

fn command(script: &str, limit: Duration, lifetime: Duration) -> SecretSource {
    SecretSource::Command {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        limit,
        lifetime,
        withheld: Arc::default(),
    }
}

/// A command that notes each run in `runs` and prints how often it ran.
fn counting(folder: &Path, also: &str) -> SecretSource {
    let runs = folder.join("runs");
    let script = format!("echo x >> {0}; {also}; wc -l < {0} | tr -d ' '", runs.display());
    command(&script, MINUTE, MINUTE)
}

fn runs(folder: &Path) -> usize {
    fs::read_to_string(folder.join("runs")).unwrap().lines().count()
}

async fn expect(credentials: &Credentials, text: &str, generation: u64) {
    let lease = credentials.current().await.unwrap();
    let said = String::from_utf8_lossy(lease.secret.expose()).into_owned();
    assert_eq!((said.as_str(), lease.generation), (text, generation));
}

/// Collects what is logged on this thread while the guard lives.
fn log() -> (tracing::subscriber::DefaultGuard, Log) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    (tracing::subscriber::set_default(subscriber), log)
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_file_is_read_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one\r\n");

    expect(&credentials, "one", 1).await;

    assert_eq!(credentials.describe(), format!("file {}", path.display()));
    assert_eq!(credentials.read_at(), Some(SystemTime::UNIX_EPOCH));
}

#[tokio::test]
async fn a_rewritten_file_counts_at_the_next_login() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one");
    expect(&credentials, "one", 1).await;

    write(&path, "two");

    expect(&credentials, "two", 2).await;
}

#[tokio::test]
async fn a_file_replaced_by_a_rename_counts_at_the_next_login() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one");
    age(&path);
    expect(&credentials, "one", 1).await;
    let new = folder.path().join("new");
    write(&new, "two");
    age(&new);

    fs::rename(&new, &path).unwrap();

    expect(&credentials, "two", 2).await;
}

#[tokio::test]
async fn a_swapped_symbolic_link_counts_at_the_next_login() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (version, text) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(root.join(version)).unwrap();
        write(&root.join(version).join("pw"), text);
        age(&root.join(version).join("pw"));
    }
    std::os::unix::fs::symlink("v1", root.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/pw", root.join("pw")).unwrap();
    let credentials = Credentials::new(SecretSource::File(root.join("pw")), true);
    expect(&credentials, "one", 1).await;

    std::os::unix::fs::symlink("v2", root.join("..tmp")).unwrap();
    fs::rename(root.join("..tmp"), root.join("..data")).unwrap();

    expect(&credentials, "two", 2).await;
}

#[tokio::test]
async fn an_unchanged_file_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prod.pw");
    write(&path, "one");
    age(&path);
    let world = World::default();
    let credentials = world.credentials(SecretSource::File(path), true);
    expect(&credentials, "one", 1).await;
    let read_at = credentials.read_at();
    world.pass(60);

    expect(&credentials, "one", 1).await;

    assert_eq!(credentials.read_at(), read_at);
}

#[tokio::test]
async fn a_file_that_says_the_same_keeps_its_generation() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one");
    expect(&credentials, "one", 1).await;

    write(&path, "one\n");

    expect(&credentials, "one", 1).await;
}

#[tokio::test]
async fn a_broken_file_leaves_the_last_secret_in_use_and_is_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one");
    expect(&credentials, "one", 1).await;
    let (_guard, log) = log();

    write(&path, "");
    expect(&credentials, "one", 1).await;
    expect(&credentials, "one", 1).await;
    fs::remove_file(&path).unwrap();
    expect(&credentials, "one", 1).await;
    expect(&credentials, "one", 1).await;
    write(&path, "two");
    expect(&credentials, "two", 2).await;

    let log = log.text();
    assert_eq!(log.matches("could not be read again").count(), 2, "{log}");
    assert_eq!(log.matches("is empty").count(), 1, "{log}");
    assert_eq!(log.matches("does not exist").count(), 1, "{log}");
    assert_eq!(log.matches("can be read again").count(), 1, "{log}");
}

#[tokio::test]
async fn the_last_readings_fault_is_told_until_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "s3cret");
    assert_eq!(credentials.fault(), None, "nothing was read yet");
    expect(&credentials, "s3cret", 1).await;
    age(&path);
    expect(&credentials, "s3cret", 1).await;
    assert_eq!(credentials.fault(), None);
    let fault_after = |change: &dyn Fn()| {
        change();
        let credentials = credentials.clone();
        async move {
            // The last good one, whatever is wrong with the next, and with a strict mode too.
            expect(&credentials, "s3cret", 1).await;
            credentials.fault().unwrap_or_default()
        }
    };

    let gone = fault_after(&|| fs::rename(&path, folder.path().join("away")).unwrap()).await;
    assert!(gone.contains("prod.pw does not exist; check its name"), "{gone}");
    fs::rename(folder.path().join("away"), &path).unwrap();
    expect(&credentials, "s3cret", 1).await;
    assert_eq!(credentials.fault(), None, "an unchanged file is as good as a new one");
    let open = fault_after(&|| mode(&path, 0o644)).await;
    assert!(open.contains("readable by others"), "{open}");
    let wrong = fault_after(&|| write(&path, "s3cret\0")).await;
    assert!(wrong.contains("NUL byte") && !wrong.contains("s3cret"), "{wrong}");

    write(&path, "two");
    expect(&credentials, "two", 2).await;
    assert_eq!(credentials.fault(), None);
}

#[tokio::test]
async fn a_first_reading_that_fails_is_told_as_well() {
    let credentials = Credentials::new(command("exit 7", MINUTE, MINUTE), false);

    credentials.current().await.unwrap_err();

    assert_eq!((credentials.fault().is_some(), credentials.read_at()), (true, None));
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_never_ends_is_a_fault_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (_, credentials) = secret_file(folder.path(), "one");
    // As one does on a file system that hangs.
    let reading = credentials.0.turns.now().lock_owned().await;

    credentials.current().await.unwrap_err();
    let fault = credentials.fault().unwrap_or_default();
    drop(reading);

    assert!(fault.contains("could not be read within 5s"), "{fault}");
    expect(&credentials, "one", 1).await;
    assert_eq!(credentials.fault(), None);
}

#[tokio::test(start_paused = true)]
async fn after_a_reading_that_never_ends_logins_go_on_at_once_and_the_source_is_read_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let (path, credentials) = secret_file(folder.path(), "one");
    expect(&credentials, "one", 1).await;
    let _reading = credentials.0.turns.now().lock_owned().await;
    write(&path, "two");
    expect(&credentials, "one", 1).await;
    let fault = credentials.fault().unwrap_or_default();
    assert!(credentials.hangs() && fault.contains("could not be read within 5s"), "{fault}");
    let begun = tokio::time::Instant::now();

    expect(&credentials, "one", 1).await;
    while credentials.hangs() {
        tokio::task::yield_now().await;
    }

    expect(&credentials, "two", 2).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(credentials.fault(), None);
}

#[tokio::test]
async fn readings_that_never_end_are_few() {
    let folder = tempfile::tempdir().unwrap();
    let (_, credentials) = secret_file(folder.path(), "one");
    let stuck: Vec<_> = (0..turns::READINGS_MAX).map(|_| credentials.0.turns.begin().unwrap()).collect();

    let error = credentials.current().await.unwrap_err().to_string();

    assert!(error.contains("does its file system answer?"), "{error}");
    assert!(credentials.0.turns.begin().is_none());
    drop(stuck);
    expect(&credentials, "one", 1).await;
}

#[test]
fn a_reading_that_ends_after_a_later_one_tells_nothing() {
    let mut known = Known::default();
    let (first, second) = (known.begin(), known.begin());

    assert!(known.end(second) && !known.end(first));
}

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

#[tokio::test]
async fn a_credential_outside_systemd_or_outside_its_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inside = World::with(&[("CREDENTIALS_DIRECTORY", folder.path())]);
    let without = World::default();

    for (world, name, text) in [
        (&without, "pw", "CREDENTIALS_DIRECTORY is not set"),
        (&inside, "../pw", "no plain file name"),
        (&inside, "..", "no plain file name"),
        (&inside, "a/b", "no plain file name"),
        (&inside, "pw", "does not exist"),
    ] {
        let credentials = world.credentials(SecretSource::Credential(name.into()), false);
        let error = credentials.current().await.unwrap_err().to_string();
        assert!(error.contains(text), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_variable_is_read_and_a_missing_one_is_named() {
    let world = World::with(&[("APP_PW", Path::new("one\n"))]);

    let there = world.credentials(SecretSource::Env("APP_PW".into()), true);
    let gone = world.credentials(SecretSource::Env("GONE".into()), true);

    expect(&there, "one", 1).await;
    assert_eq!(there.describe(), "variable APP_PW");
    let error = gone.current().await.unwrap_err().to_string();
    assert_eq!(error, "variable GONE is not set in the daemon's environment");
}

#[tokio::test]
async fn a_secret_of_the_connection_string_is_used_as_it_stands() {
    let url = SecretSource::Given { secret: Secret::new(b"one\n".to_vec()), by: "the connection string" };
    let credentials = Credentials::new(url, true);

    expect(&credentials, "one\n", 1).await;

    assert_eq!(credentials.describe(), "the connection string");
    assert_eq!(credentials.reread(1).await.unwrap().generation, 1);
}

#[tokio::test]
async fn a_folder_is_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = Credentials::new(SecretSource::File(folder.path().into()), false);

    let error = credentials.current().await.unwrap_err().to_string();

    assert!(error.contains("is not a regular file"), "{error}");
}

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
async fn a_refused_secret_is_read_anew_unless_a_newer_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = World::default().credentials(counting(folder.path(), ":"), true);
    expect(&credentials, "1", 1).await;

    let anew = credentials.reread(1).await.unwrap();
    let there_already = credentials.reread(1).await.unwrap();

    assert_eq!((anew.generation, there_already.generation), (2, 2));
    assert_eq!(runs(folder.path()), 2);
}

#[tokio::test]
async fn a_refused_file_is_read_even_if_it_looks_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prod.pw");
    write(&path, "one");
    age(&path);
    let world = World::default();
    let credentials = world.credentials(SecretSource::File(path), true);
    expect(&credentials, "one", 1).await;
    world.pass(60);

    let lease = credentials.reread(1).await.unwrap();

    assert_eq!(lease.generation, 1);
    assert_eq!(credentials.read_at(), Some(SystemTime::UNIX_EPOCH + MINUTE));
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
