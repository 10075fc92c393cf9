mod commands;
mod exposure;

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
