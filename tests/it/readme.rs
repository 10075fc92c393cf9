//! Every command of the README is run as it stands there, in order, in one folder.
//!
//! What is replaced: `HOST`, `KEY`, `CLUSTER_ID` and ports by those of local servers and of free ones. Cargo is
//! the real one, so the first run builds the release profile, which takes minutes; `tests/run` has done
//! that before. `tests/run` is what runs this test, so it is the one exception.

use crate::harness::{
    DEADLINE, PASSWORD, Postgres, TestProxy,
    cloud_api::{self, CloudApi},
    markdown::{self, Block},
    process::{self, Lines, mortal},
    settings::{Cluster, write_private},
};
use serde_json::json;
use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

#[test]
fn every_command_of_the_readme_does_what_the_readme_says() {
    let readme = markdown::read("README.md");
    let blocks = markdown::blocks(&readme);
    let mut reader = Reader::new(&blocks);
    let mut ran = 0;
    for block in &blocks {
        match block.language.as_str() {
            "sh" => ran += usize::from(reader.run(&block.text)),
            "text" => reader.compare(&block.text),
            _ => {}
        }
    }
    assert!(ran >= 17, "only {ran} commands were found");
    let password = fs::metadata(reader.folder.path().join("prod.pw")).unwrap();
    assert_eq!(password.permissions().mode() & 0o777, 0o600);
}

#[test]
fn commands_that_this_test_does_not_know_are_told_apart() {
    assert_eq!(action("tests/run"), Some(Action::Except));
    assert_eq!(action("export CRDB_PROXY_HOST=h\ncrdb-proxy"), Some(Action::Serve));
    assert_eq!(action("crdb-proxy config check --config f"), Some(Action::Run));
    assert_eq!(action("crdb-proxy endpoint enable e"), Some(Action::Run));
    assert_eq!(action("rm -r prod"), None);
    assert_eq!(action("crdb-proxies"), None);
}

#[test]
fn every_secret_source_of_the_readme_is_taken() {
    let readme = markdown::read("README.md");
    let blocks = markdown::blocks(&readme);
    let reader = Reader::new(&blocks);
    let sources = blocks.iter().filter(|block| block.language == "toml" && block.text.starts_with("password = "));
    let sources = sources.flat_map(|block| block.text.lines()).collect::<Vec<_>>();
    assert_eq!(sources.len(), 4);
    let file = fs::read_to_string(reader.folder.path().join("prod.toml")).unwrap();
    for source in sources {
        let changed = file.replace("password = { file = \"prod.pw\" }", source);
        fs::write(reader.folder.path().join("changed.toml"), changed).unwrap();
        fs::write(reader.folder.path().join("prod-ca.crt"), reader.server.authority().pem()).unwrap();
        // Every source but a command is read by the check.
        for secret in ["prod.pw", "NAME"] {
            fs::write(reader.folder.path().join(secret), "secret").unwrap();
        }
        let mut command = TestProxy::command(reader.folder.path());
        command.args(["config", "check", "--config", "changed.toml"]);
        command.env("NAME", "secret").env("CREDENTIALS_DIRECTORY", reader.folder.path());

        process::run(&mut command, "", DEADLINE).expect_success();
    }
}

#[test]
fn every_settings_file_of_the_readme_is_sound() {
    let readme = markdown::read("README.md");
    let blocks = markdown::blocks(&readme);
    let reader = Reader::new(&blocks);
    fs::write(reader.folder.path().join("prod-ca.crt"), reader.server.authority().pem()).unwrap();
    write_private(&reader.folder.path().join("prod.pw"), "secret");
    let files: Vec<_> =
        blocks.iter().filter(|block| block.language == "toml" && block.text.contains("[[listener]]")).collect();
    assert!(files.len() >= 2, "only {} files were found", files.len());
    for file in files {
        fs::write(reader.folder.path().join("shown.toml"), &file.text).unwrap();
        let mut command = TestProxy::command(reader.folder.path());
        command.args(["config", "check", "--config", "shown.toml"]);

        process::run(&mut command, "", DEADLINE).expect_success();
    }
}

#[test]
fn only_the_readme_has_commands_and_the_page_on_deployment() {
    let files = markdown::files();
    assert!(files.len() >= 8, "{files:?}");
    // image.rs runs those of that page.
    let run = ["README.md", "docs/deploy.md"];
    for file in files.iter().filter(|file| !run.iter().any(|run| file.ends_with(run))) {
        let blocks = markdown::blocks(&fs::read_to_string(file).unwrap());
        assert!(blocks.iter().all(|block| block.language != "sh"), "{}: nobody runs these", file.display());
    }
}

/// What is done with a block.
#[derive(Debug, PartialEq)]
enum Action {
    /// Run by whoever runs this.
    Except,
    /// Runs until it is ended.
    Demo,
    /// Runs until it is ended, and lets clients in.
    Serve,
    /// Ends by itself.
    Run,
    /// Ends by itself, once a password is typed.
    TypePassword,
}

fn action(script: &str) -> Option<Action> {
    let starts = |line: &str, command: &str| line == command || line.starts_with(&format!("{command} "));
    match script {
        "tests/run" => return Some(Action::Except),
        "cargo run --release -- demo" => return Some(Action::Demo),
        _ if script.starts_with("(umask 077; stty -echo;") => return Some(Action::TypePassword),
        _ => {}
    }
    let commands = script.lines().filter(|line| !line.starts_with([' ', '#']) && !line.starts_with("export "));
    let actions = commands.map(|line| match line {
        line if COMMANDS.iter().any(|run| starts(line, &format!("crdb-proxy {run}"))) => Some(Action::Run),
        line if starts(line, "crdb-proxy") => Some(Action::Serve),
        line if ["psql", "curl", "cargo install"].iter().any(|known| starts(line, known)) => Some(Action::Run),
        _ => None,
    });
    let mut actions = actions.collect::<Vec<_>>();
    if actions.len() == 1 { actions.pop().flatten() } else { None }
}

/// Somebody who follows the README.
struct Reader {
    folder: TempDir,
    server: Postgres,
    cloud: CloudApi,
    running: Running,
    /// What the last command wrote.
    output: String,
}

/// What runs in the other terminal.
enum Running {
    Nothing,
    Demo(Child, String),
    Daemon(Box<TestProxy>),
}

impl Reader {
    /// In an empty folder with the README's `prod.toml`, beside a local server.
    fn new(blocks: &[Block]) -> Self {
        let server = Postgres::start();
        let folder = tempfile::Builder::new().prefix("crdb-proxy-readme-").tempdir().unwrap();
        let cloud = CloudApi::start();
        let office = json!({"cidr_ip": "192.0.2.0", "cidr_mask": 24, "name": "office", "sql": true, "ui": true});
        cloud.state(|state| {
            state.allowlist.push(office);
            server.authority().pem().clone_into(&mut state.ca);
        });
        let reader = Self { folder, server, cloud, running: Running::Nothing, output: String::new() };
        for name in ["path", "installed"] {
            fs::create_dir(reader.folder.path().join(name)).unwrap();
        }
        let cargo = reader.folder.path().join("path/cargo");
        let installed = reader.folder.path().join("installed");
        let script = CARGO
            .replace("ROOT", env!("CARGO_MANIFEST_DIR"))
            .replace("REAL_HOME", &std::env::var("HOME").unwrap())
            .replace("REAL_TOOLCHAIN", &std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_default())
            .replace("REAL_CARGO", &std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
            .replace("PROFILE", &profile())
            .replace("INSTALLED", installed.to_str().unwrap());
        fs::write(&cargo, script).unwrap();
        fs::set_permissions(&cargo, Permissions::from_mode(0o755)).unwrap();
        let file = blocks.iter().find(|block| block.language == "toml" && block.text.starts_with("[cluster.prod]"));
        let file = reader.real(&file.expect("the README's prod.toml").text);
        fs::write(reader.folder.path().join("prod.toml"), file).unwrap();
        reader
    }

    /// Whether it was to be run at all.
    fn run(&mut self, script: &str) -> bool {
        let action = action(script).unwrap_or_else(|| panic!("this test does not know the command\n{script}"));
        let real = self.real(script);
        match action {
            Action::Except => return false,
            Action::Demo => self.start_demo(&real),
            Action::Serve => self.start_daemon(&real),
            Action::Run if script.starts_with("cargo install") => self.finish_within(&real, "", BUILD),
            Action::Run => self.finish(&real, "SELECT 1;\n"),
            Action::TypePassword => self.type_password(&real),
        }
        true
    }

    fn finish(&mut self, script: &str, input: &str) {
        self.finish_within(script, input, DEADLINE);
    }

    fn finish_within(&mut self, script: &str, input: &str, limit: Duration) {
        self.output = process::run(&mut self.shell(script), input, limit).expect_success();
        if let Running::Daemon(proxy) = &self.running {
            self.output = self.output.replace(&proxy.address().to_string(), "localhost:26257");
        }
    }

    /// At a terminal, which must not show what is typed.
    fn type_password(&mut self, script: &str) {
        let mut terminal = mortal(Path::new("script"), "KILL", None);
        terminal.args(["--quiet", "--return", "--command", script, "/dev/null"]).env("SHELL", "/bin/sh");
        let terminal = terminal.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut terminal = terminal.spawn().unwrap();
        let shown = Lines::of(terminal.stdout.take().unwrap());
        shown.find(|line| line.starts_with("Password").then_some(())).expect("a prompt");

        writeln!(terminal.stdin.as_ref().unwrap(), "{PASSWORD}").unwrap();

        assert!(shown.ended_within(DEADLINE), "it waits for more than one line");
        assert!(terminal.wait().unwrap().success(), "{:?}", shown.all());
        assert!(!shown.all().concat().contains(PASSWORD), "{:?}", shown.all());
        assert_eq!(fs::read_to_string(self.folder.path().join("prod.pw")).unwrap(), PASSWORD);
    }

    fn start_daemon(&mut self, script: &str) {
        self.stop();
        let script = format!("\n{script}").replace("\ncrdb-proxy", "\nexec crdb-proxy");
        let proxy = TestProxy::spawn(self.shell(&script), tempfile::tempdir().unwrap());
        let is_listener = |line: &serde_json::Value| line["listener.name"] != "admin";
        let name = proxy.wait_for_log(|line| line["message"] == "listening" && is_listener(line));
        let name = name["listener.name"].as_str().unwrap().to_owned();

        let user = proxy.client().value("select current_user");

        assert!(user == "app", "{user}");
        let labels = [("listener", name.as_str())];
        proxy.wait_for_metric("crdb_proxy_client_connections_active", &labels, 0.0);
        let lines = proxy.log_lines();
        let listening = lines.iter().filter(|line| line["message"] == "listening");
        self.output = listening.map(|line| format!("{} {}\n", line["message"], line["listener.name"])).collect();
        self.running = Running::Daemon(Box::new(proxy));
    }

    fn start_demo(&mut self, script: &str) {
        // Built first, so that what follows takes no longer than a program's start.
        self.finish_within("cargo build --release", "", BUILD);
        let mut command = self.shell(&format!("exec {script}"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let port_of = |line: &str| Some(line.split_once("demo@")?.1.split_once("/demo?")?.0.to_owned());
        let address = lines.find(port_of).expect("the demo's line to paste");
        lines.find(|line| line.starts_with("SQLite").then_some(())).expect("the end of the demo's text");
        // What the console says behind it, of an input that has ended, comes when it comes.
        let mut text = lines.all();
        text.truncate(text.iter().position(|line| line.starts_with("SQLite")).map_or(0, |place| place + 1));
        self.output = text.join("\n").replace(&address, "localhost:26257");
        self.running = Running::Demo(child, address);
    }

    fn stop(&mut self) {
        if let Running::Demo(mut child, _) = std::mem::replace(&mut self.running, Running::Nothing) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Holds what the README shows against what the last command wrote.
    fn compare(&self, shown: &str) {
        let mut rest = self.output.as_str();
        for line in shown.lines() {
            // A log line; its time is the README's own, its format the terminal's.
            let Some((_, log)) = line.split_once("  INFO ") else { continue };
            let (message, name) = log.split_once(" listener.name=").expect("a log line as the README has them");
            let name = name.split_once(' ').unwrap().0;
            // In this order.
            let (_, behind) =
                rest.split_once(&format!("{message:?} {name:?}")).unwrap_or_else(|| panic!("{line}\n{}", self.output));
            rest = behind;
        }
        if !shown.contains("  INFO ") {
            let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            assert_eq!(trimmed(shown), trimmed(&self.output));
        }
    }

    /// With the local server's names and ports.
    fn real(&self, text: &str) -> String {
        let port = self.server.address().port();
        let (sql, admin) = match &self.running {
            Running::Nothing => (String::new(), String::new()),
            Running::Demo(_, address) => (address.clone(), String::new()),
            Running::Daemon(proxy) => (proxy.address().to_string(), proxy.listener("admin")),
        };
        let text = text
            .replace("--cluster-id CLUSTER_ID", &format!("--cluster-id {}", cloud_api::CLUSTER_ID))
            .replace("API_KEY=KEY", &format!("API_KEY={}", cloud_api::KEY))
            .replace("HOST:26257", &format!("localhost:{port}"))
            .replace("--port 26257", &format!("--port {port}"))
            .replace("PORT=26257", &format!("PORT={port}"))
            .replace("port = 26257", &format!("port = {port}"))
            .replace("_HOST=HOST", "_HOST=localhost")
            .replace("--host HOST", "--host localhost")
            .replace("\"HOST\"", "\"localhost\"");
        if sql.is_empty() { text } else { text.replace("localhost:26257", &sql).replace("localhost:9257", &admin) }
    }

    /// The plainest shell, since the blocks are marked `sh`: as the reader's, but for the ports that the daemon
    /// takes (a command beside it is told where it is) and the format of its log.
    fn shell(&self, script: &str) -> Command {
        let folder = self.folder.path();
        let mut shell = mortal(Path::new("sh"), "KILL", None);
        let path = std::env::var("PATH").unwrap();
        let path = format!("{0}/path:{0}/installed/bin:{path}", folder.display());
        shell.args(["-e", "-c", script]).current_dir(folder).env_clear();
        shell.env("PATH", path).env("HOME", folder);
        let admin = match &self.running {
            Running::Daemon(proxy) => proxy.listener("admin"),
            _ => "127.0.0.1:0".to_owned(),
        };
        shell.env("CRDB_PROXY_LISTEN", "127.0.0.1:0").env("CRDB_PROXY_ADMIN", admin);
        shell.env("CRDB_PROXY_LOG_FORMAT", "json");
        shell.env("COCKROACH_SERVER", self.cloud.url());
        // With a key, `check` would look for the local server among the Cloud's clusters.
        if script.contains("crdb-proxy allowlist") {
            shell.env("COCKROACH_API_KEY", cloud_api::KEY);
        }
        shell
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Commands that end by themselves.
const COMMANDS: [&str; 15] = [
    "allowlist",
    "ca",
    "check",
    "completions",
    "config",
    "endpoint",
    "exec",
    "health",
    "man",
    "reload",
    "setup",
    "shutdown",
    "status",
    "url",
    "wait",
];

/// A build of the release profile, in case nobody has made one.
const BUILD: Duration = Duration::from_secs(15 * 60);

/// How whoever runs the tests has built the release profile: in another way it would be built once more.
fn profile() -> String {
    let set = std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PROFILE_RELEASE_"));
    set.map(|(name, value)| format!("{name}='{value}'")).collect::<Vec<_>>().join(" ")
}

/// The demo takes no variables, so its ports are given here. The toolchain is the one that runs the
/// tests: some packages name one of their own, which rustup would go and install.
const CARGO: &str = "#!/bin/sh
cd 'ROOT' || exit
export HOME='REAL_HOME' RUSTUP_TOOLCHAIN='REAL_TOOLCHAIN' PROFILE
[ \"$RUSTUP_TOOLCHAIN\" ] || unset RUSTUP_TOOLCHAIN
case \"$*\" in
'build --release') exec 'REAL_CARGO' build --quiet --locked --release ;;
'run --release -- demo') exec 'REAL_CARGO' run --quiet --locked --release -- demo --listen localhost:0 --admin off ;;
'install --locked --path .') exec 'REAL_CARGO' install --quiet --locked --path . --root 'INSTALLED' --no-track ;;
*) echo \"cargo $*: not known to this test\" >&2; exit 64 ;;
esac
";
