//! `crdb-proxy demo` as somebody meets it who has no cluster: its terminal, its one line to paste.

use crate::{
    drivers::{environment, script},
    harness::{
        DEADLINE, TestProxy,
        process::{self, Finished, Lines},
    },
};
use rustix::process::Signal;
use std::{
    io::Write,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

#[test]
fn the_printed_line_opens_a_database_that_does_what_people_try_first() {
    let demo = Demo::start();
    let tried = "create table t (n int primary key, s text);\n\
        insert into t values (1, 'one'), (2, 'two');\n\
        begin; delete from t; rollback;\n\
        select s from t where n = 2;\n\
        select count(*) from t;\n";

    let finished = demo.psql(tried);

    assert_eq!(finished.expect_success(), "two\n2");
}

#[test]
fn psql_lists_databases_and_describes_tables() {
    let demo = Demo::start();
    let tried = "create table t (id int primary key, s text not null default 'x', b bool);\n\\d t\n\\l\n";

    let printed = demo.psql(tried).expect_success();

    let expected = "id|bigint||not null|\ns|text||not null|'x'\nb|boolean|||\ndemo|demo|UTF8|";
    assert!(printed.starts_with(expected), "{printed}");
}

#[test]
fn a_query_is_cancelled_by_the_interrupt_key() {
    let demo = Demo::start();
    let mut psql = demo.paste("-c 'select 1' -c 'select pg_sleep(60)'");
    let mut child = psql.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = Lines::of(child.stderr.take().unwrap());
    Lines::of(child.stdout.take().unwrap()).find(|line| (line == "1").then_some(())).expect("the first answer");

    // The sleep is sent right after the first answer, but nothing says when: an interrupt that comes
    // too soon ends psql itself or does nothing, so it is sent until psql has ended.
    while !stderr.ended_within(Duration::from_millis(200)) {
        process::signal(&child, Signal::INT);
    }

    child.wait().unwrap();
    assert!(stderr.all().concat().contains("cancel"), "{:?}", stderr.all());
}

#[test]
fn drivers_at_their_default_settings_get_along_with_it() {
    let mut python = Command::new(environment("python/bin/python"));
    python.arg(script("psycopg_3.py")).arg("--");
    let mut node = Command::new("node");
    node.arg(script("node_postgres.js")).env("NODE_PATH", environment("node/node_modules"));
    let mut java = Command::new("java");
    java.args(["-cp", "/usr/share/java/postgresql.jar"]).arg(script("Jdbc.java"));

    for mut driver in [python, node, java] {
        let demo = Demo::start();
        driver.env("HOST", "127.0.0.1").env("PORT", demo.port()).env("STEPS", "transaction prepared");
        let printed = process::run(&mut driver, "", DEADLINE).expect_success();
        assert_eq!(printed, "transaction\nprepared", "{driver:?}");
    }
}

#[test]
fn a_region_that_is_down_is_replaced_by_the_next_until_it_is_up_again() {
    let mut demo = Demo::start();
    assert_eq!(demo.region(), "gcp-us-east1");

    demo.types("down east");
    assert_eq!(demo.region(), "gcp-us-west2");

    demo.types("down west");
    assert_eq!(demo.region(), "gcp-europe-west1");

    demo.types("up east");
    demo.wait_for_region("gcp-us-east1");
}

#[test]
fn a_draining_region_is_passed_over_until_it_is_up_again() {
    let mut demo = Demo::start();
    assert_eq!(demo.region(), "gcp-us-east1");

    demo.types("drain east");
    assert_eq!(demo.region(), "gcp-us-west2");

    demo.types("up east");
    demo.wait_for_region("gcp-us-east1");
}

#[test]
fn the_end_of_its_input_does_not_end_it_and_a_signal_does() {
    let mut demo = Demo::start();

    drop(demo.stdin.take());

    let told = demo.stdout.find(|line| line.contains("console is closed").then(|| line.to_owned()));
    assert_eq!(told.expect("a last line"), "The console is closed; the demo goes on, and Ctrl-C ends it.");
    assert_eq!(demo.region(), "gcp-us-east1");
    process::signal(&demo.child, Signal::INT);
    assert!(demo.stdout.ended_within(DEADLINE), "it did not end");
    assert!(demo.child.wait().unwrap().success());
}

#[test]
fn a_demo_that_cannot_tell_users_apart_says_that_it_lets_in_all() {
    let words = ["unshare", "--user", "--map-root-user"];
    let can = Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success());
    if !can {
        println!("skipped: no user namespaces here");
        return;
    }

    let demo = Demo::start_behind(&words);

    assert!(demo.stdout.find(|line| line.contains("every user of this machine").then_some(())).is_some());
    assert!(!demo.region().is_empty());
}

/// The demo in a terminal of ours.
struct Demo {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Lines>,
    connect: String,
    _folder: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        Self::start_behind(&[])
    }

    /// With these words in front of the command.
    fn start_behind(words: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = TestProxy::command_behind(words, folder.path());
        command.args(["demo", "--listen", "127.0.0.1:0", "--admin", "off"]);
        // A demo that is killed leaves its files; there they go with the test's.
        command.env("TMPDIR", folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let pasted = |line: &str| line.find("psql '").map(|start| line[start..].to_owned());
        let connect = stdout.find(pasted).unwrap_or_else(|| panic!("no line to paste in {:?}", stdout.all()));
        Self { child, stdin, stdout, connect, _folder: folder }
    }

    /// The printed line in a shell, with further arguments.
    fn paste(&self, arguments: &str) -> Command {
        let mut shell = Command::new("sh");
        // exec, so that a signal to the child is one to psql.
        shell.args(["-c", &format!("exec {} -XAtq {arguments}", self.connect)]);
        shell
    }

    fn psql(&self, script: &str) -> Finished {
        process::run(&mut self.paste("-v ON_ERROR_STOP=1"), script, DEADLINE)
    }

    /// The region that serves a new client.
    fn region(&self) -> String {
        self.psql("select gateway_region();\n").expect_success()
    }

    /// Waits until this region serves new clients. Nothing in the terminal says when that begins, so one
    /// client after the other asks.
    fn wait_for_region(&self, wanted: &str) {
        let by = Instant::now() + DEADLINE;
        while self.region() != wanted {
            assert!(Instant::now() < by, "new clients do not get to {wanted}");
        }
    }

    fn port(&self) -> String {
        let after = self.connect.rsplit_once("127.0.0.1:").expect("an address").1;
        after.split('/').next().unwrap().to_owned()
    }

    /// Types a line, and waits for what it says.
    fn types(&mut self, line: &str) {
        let before = self.stdout.all().len();
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.stdout.find_after(before, |_| Some(())).expect("a further line");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the demo's terminal\n{}", self.stdout.all().join("\n"));
        }
    }
}
