//! A headless Chromium with one page in it, told what to do over a pipe: a command and its answer, or an event,
//! is JSON that ends in a NUL. It needs neither a port nor a driver, so tests may run side by side.

use super::{
    DEADLINE,
    markdown::root,
    process::{Lines, mortal, tail},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// The browser and its page; ended when dropped, and what the page complained of shown if the test fails.
pub(crate) struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    answers: mpsc::Receiver<Value>,
    stderr: Arc<Lines>,
    /// Of the page's conversation.
    session: Value,
    sent: u64,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser and opens the page at `url`.
    #[track_caller]
    pub(crate) fn open(url: &str) -> Self {
        let mut browser = Self::start();
        let target = browser.tell("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.tell("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.tell(&format!("{domain}.enable"), json!({}));
        }
        browser.events.clear();
        browser.tell("Page.navigate", json!({"url": url}));
        browser.wait_for_event("Page.loadEventFired");
        browser
    }

    fn start() -> Self {
        let program = program();
        let profile = tempfile::Builder::new().prefix("crdb-proxy-browser-").tempdir().unwrap();
        // The pipes are expected as descriptors 3 and 4.
        let mut command = mortal(Path::new("sh"), "KILL", None);
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"]).arg(program);
        command.args(["--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--no-default-browser-check", "--disable-extensions", "--hide-scrollbars"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--no-proxy-server"]);
        // Its sandbox is not for root.
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.env("HOME", profile.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            let (mut reader, mut message) = (BufReader::new(stdout), Vec::new());
            while reader.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let (commands, stderr) = (child.stdin.take(), Lines::of(child.stderr.take().unwrap()));
        let (session, events) = (Value::Null, Vec::new());
        Self { child, commands, answers, stderr, session, sent: 0, events, _profile: profile }
    }

    /// Sends a command and gives its result.
    #[track_caller]
    pub(crate) fn tell(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut command = json!({"id": self.sent, "method": method, "params": parameters});
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        let commands = self.commands.as_mut().unwrap();
        commands.write_all(format!("{command}\0").as_bytes()).expect("the browser has ended");
        loop {
            let message = self.next(method);
            if message["id"] == self.sent {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    #[track_caller]
    fn wait_for_event(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.next(method);
            self.events.push(event);
        }
    }

    #[track_caller]
    fn next(&self, what: &str) -> Value {
        self.answers.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{what} did not come: {error}"))
    }

    /// What an expression is in the page; a promise is waited for.
    #[track_caller]
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.tell("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true; it is looked at anew whenever the page changes.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, expression: &str) {
        let limit = DEADLINE.as_millis();
        let promise = format!(
            "new Promise((done, fail) => {{
                const watch = new MutationObserver(look);
                const late = setTimeout(() => {{ watch.disconnect(); done(document.body.innerText); }}, {limit} - 2000);
                function look() {{
                    if (!({expression})) return;
                    watch.disconnect(); clearTimeout(late); done(true);
                }}
                watch.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
                look();
            }})"
        );
        let found = self.value(&promise);
        assert_eq!(found, true, "never came true: {expression}");
    }

    /// What the page complained of.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // What was said before this answer has arrived with it.
        self.value("0");
        self.events.iter().filter(is_complaint).map(|event| event["params"].to_string()).collect()
    }

    /// The addresses that the page asked for.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        self.value("0");
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.map(|event| text(&event["params"]["request"]["url"]).to_owned()).collect()
    }

    /// Shows the page in a window of this size, to somebody who likes this scheme: `dark` or `light`.
    pub(crate) fn show(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.tell("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("Emulation.setEmulatedMedia", scheme);
    }

    /// Lets so much time pass in the page as fast as it can; then its clock stands still.
    pub(crate) fn pass(&mut self, span: Duration) {
        let span = span.as_millis() as u64;
        let policy = json!({"policy": "pauseIfNetworkFetchesPending", "budget": span});
        self.tell("Emulation.setVirtualTimePolicy", policy);
        self.wait_for_event("Emulation.virtualTimeBudgetExpired");
    }

    /// Writes a picture of the whole page to `target/page/NAME.png`.
    pub(crate) fn picture(&mut self, name: &str) {
        let mut clip = self.tell("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        clip["scale"] = json!(1);
        let whole = json!({"captureBeyondViewport": true, "clip": clip});
        let picture = self.tell("Page.captureScreenshot", whole);
        let folder = root().join("target/page");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), STANDARD.decode(text(&picture["data"])).unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipe, and takes its own children along.
        drop(self.commands.take());
        if !self.stderr.ended_within(DEADLINE) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("--- the browser's log\n{}", tail(&self.stderr.all()));
            let complaints = self.events.iter().filter(is_complaint).map(ToString::to_string).collect::<Vec<_>>();
            eprintln!("--- what the page complained of\n{}", tail(&complaints));
        }
    }
}

/// An exception, an error or a warning, such as of the page's policy.
fn is_complaint(event: &&Value) -> bool {
    let is_bad = |level: &Value| ["error", "warning"].contains(&text(level));
    match text(&event["method"]) {
        "Runtime.exceptionThrown" => true,
        "Runtime.consoleAPICalled" => is_bad(&event["params"]["type"]),
        "Log.entryAdded" => is_bad(&event["params"]["entry"]["level"]),
        _ => false,
    }
}

fn program() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut found = std::env::split_paths(&folders).flat_map(|folder| names.map(|name| folder.join(name)));
    found
        .find(|path| path.exists())
        .expect("chromium is missing: `tests/run` installs it, or `apt-get install chromium`")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
