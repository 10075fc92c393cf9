//! The search for secrets that every test's daemon is subject to finds one, wherever it is planted.

use crate::harness::{DEADLINE, FakeUpstream, PASSWORD, SettingsFile, TestClient, TestProxy, wire::Wire};
use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const CANARY: &str = "Canary-In-The-Mine";

#[test]
fn a_planted_secret_is_found_in_log_metrics_status_and_page() {
    let cluster = FakeUpstream::answering();
    // The listener's name is a label of metrics.
    let proxy = SettingsFile::of(&cluster).another_listener(CANARY, "").start();
    let socket = TcpStream::connect(proxy.listener(CANARY)).unwrap();
    let client = TestClient::log_in(Wire::new(socket), &[("user", "a"), ("application_name", CANARY)]);
    assert_eq!(proxy.leaks(), []);

    proxy.keep_secret(CANARY);
    // The page is one and the same text for all.
    proxy.keep_secret("AbortSignal.timeout(PATIENCE)");

    let channels: BTreeSet<_> = proxy.leaks().iter().map(|leak| leak.channel).collect();
    assert_eq!(channels, ["/", "/metrics", "/status", "log"].into());
    proxy.secrets().clear();
    drop(client);
}

#[test]
fn a_planted_secret_is_found_on_standard_output_and_in_what_a_daemon_said_last() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).listener(&format!("database = \"{CANARY}\""));
    let file = settings.write();
    let mut command = TestProxy::command(file.parent().unwrap());
    command.args(["config", "show", "--config"]).arg(&file);
    let mut shown = TestProxy::spawn(command, tempfile::tempdir().unwrap());
    shown.exit_code();

    shown.keep_secret(CANARY);

    assert_eq!(shown.leaks().iter().map(|leak| leak.channel).collect::<Vec<_>>(), ["stdout"]);
    let is_found_at_the_end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(shown))).is_err();
    assert!(is_found_at_the_end);
}

#[test]
fn files_variables_and_connection_strings_are_known_as_secrets_unasked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.pw"), "secret of a file\n").unwrap();
    fs::write(folder.path().join("c.key"), format!("-----BEGIN X-----\n{}\n-----END X-----\n", "k".repeat(64)))
        .unwrap();
    let mut command = Command::new("true");
    command.env("MY_TOKEN", "secret of a variable").arg("postgres://u:secret-of-a-url@h/d?password=secret-in-a-query");
    let secrets = crate::harness::hunt::Secrets::of(folder.path(), &command);
    secrets.add_cancel_key(&[0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef]);

    for secret in [
        PASSWORD,
        "secret of a file",
        "secret of a variable",
        "secret-of-a-url",
        "secret-in-a-query",
        &"k".repeat(64),
        "deadbeef",
        "222, 173, 190, 239",
    ] {
        assert_eq!(secrets.in_text("log", &format!("one\ntwo {secret}.")).len(), 1, "{secret}");
    }
    assert_eq!(secrets.in_text("log", "nothing"), []);
}

#[test]
fn no_secret_is_in_the_arguments_of_any_program_that_the_daemon_runs() {
    let cluster = FakeUpstream::answering();
    let given = [
        ("password = { file = \"app.pw\" }", ""),
        ("password = { env = \"APP_PASSWORD\" }", ""),
        ("password = { credential = \"app.pw\" }", ""),
        ("password = { command = [\"cat\", \"app.pw\"] }", "cat"),
    ];
    for (password, program) in given {
        let settings = SettingsFile::of(&cluster).password(password).variable("APP_PASSWORD", PASSWORD);
        let folder = settings.path("").display().to_string();
        let settings = settings.variable("CREDENTIALS_DIRECTORY", &folder);
        let traced = traced(settings);

        assert!(traced.contains("--config") && traced.contains(program), "{traced}");
        assert!(!traced.contains(PASSWORD), "{password}: {traced}");
    }
}

#[test]
fn no_connection_string_in_the_environment_is_in_the_arguments_of_any_program() {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster);
    let address = crate::harness::settings::Cluster::address(&cluster);
    let encoded = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let url = format!("postgres://app:{encoded}@{address}/d?sslrootcert={}", settings.path("ca.crt").display());
    let trace = settings.path("trace");
    let words = strace(&trace);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut command = TestProxy::command_behind(&words, &settings.path(""));
    command.env("CRDB_PROXY_URL", &url).args(["--listen", "127.0.0.1:0", "--admin", "off", "--log-format", "json"]);
    let mut proxy = TestProxy::spawn(command, tempfile::tempdir().unwrap());
    proxy.keep_secret(&encoded);
    proxy.client();
    proxy.terminate();

    let traced = whole(&trace);
    assert!(traced.contains("--listen"), "{traced}");
    assert!(!traced.contains(PASSWORD) && !traced.contains(&encoded), "{traced}");
}

#[test]
fn a_secret_among_the_arguments_of_a_program_is_found() {
    let cluster = FakeUpstream::answering();
    let settings =
        SettingsFile::of(&cluster).password(&format!("password = {{ command = [\"echo\", \"{PASSWORD}\"] }}"));

    let traced = traced(settings);

    assert!(traced.contains(PASSWORD), "{traced}");
}

#[test]
fn what_a_password_command_says_to_standard_error_is_in_no_output() {
    let cluster = FakeUpstream::answering();
    let script = format!("echo {CANARY} >&2; echo {CANARY} >/dev/stderr; cat app.pw; exit $(cat status)");
    let password = format!("password = {{ command = [\"sh\", \"-c\", \"{script}\"], lifetime = \"1ms\" }}");
    let settings = SettingsFile::of(&cluster).password(&password).file("status", "0").global("log_level = \"trace\"");
    let proxy = settings.listener("warm_max = 0").start();
    proxy.keep_secret(CANARY);
    proxy.client();
    fs::write(proxy.path("status"), "3").unwrap();

    proxy.client();

    proxy.wait_for_message("secret could not be read again; the last one stays in use");
}

/// The programs that a daemon ran with their arguments, after a client was served.
fn traced(settings: SettingsFile) -> String {
    let trace = settings.path("trace");
    let words = strace(&trace);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut proxy = settings.behind(&words).start();
    proxy.client();
    assert_eq!(proxy.terminate(), 0);
    whole(&trace)
}

/// Becomes the program and has a process beside it watch, so that the daemon is the test's own child.
fn strace(trace: &Path) -> Vec<String> {
    let trace = trace.to_str().unwrap();
    ["strace", "-D", "-f", "-e", "trace=execve", "-s", "4096", "-o", trace, "--"].map(str::to_owned).to_vec()
}

/// Waits for the last line of a trace: the daemon may be gone before it is written, and nothing announces it.
fn whole(trace: &Path) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let text = fs::read_to_string(trace).unwrap();
        if text.trim_end().ends_with("+++ exited with 0 +++") {
            return text;
        }
        assert!(Instant::now() < end, "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
