//! A settings file for the daemon under test, and the files that it names, in a folder of its own.

use super::{Authority, PASSWORD, TestProxy, certificates::Identity, passing};
use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::{fd::BorrowedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Something that the daemon can be a client of.
pub(crate) trait Cluster {
    /// What its certificate is to be verified against.
    fn authority(&self) -> &Authority;

    /// Where it listens.
    fn address(&self) -> SocketAddr;
}

/// Settings of one cluster and, unless told otherwise, one endpoint and one listener on a free port.
pub(crate) struct SettingsFile {
    folder: TempDir,
    global: String,
    cluster: String,
    user: String,
    password: String,
    /// Tables of users, which stand instead of those two.
    users: String,
    endpoints: String,
    listener: String,
    appendix: String,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    arguments: Vec<String>,
}

impl SettingsFile {
    /// The user `app` with its password, `cluster` as the only endpoint.
    pub(crate) fn of(cluster: &impl Cluster) -> Self {
        Self::trusting(cluster.authority()).endpoint("first", cluster.address())
    }

    /// Trusts `authority`; has no endpoint yet.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        let settings = Self {
            folder: tempfile::Builder::new().prefix("crdb-proxy-it-").tempdir().unwrap(),
            global: String::new(),
            cluster: String::new(),
            user: "app".into(),
            password: "password = { file = \"app.pw\" }".into(),
            users: String::new(),
            endpoints: String::new(),
            listener: "address = \"127.0.0.1:0\"".into(),
            appendix: String::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            arguments: Vec::new(),
        };
        settings.file("ca.crt", authority.pem()).file("app.pw", PASSWORD)
    }

    /// Another endpoint at `address`, which the usual certificate's name stands for.
    pub(crate) fn endpoint(self, name: &str, address: SocketAddr) -> Self {
        self.endpoint_at(name, &address.ip().to_string(), address.port(), "")
    }

    /// Another endpoint, with more lines of its own.
    pub(crate) fn endpoint_at(mut self, name: &str, host: &str, port: u16, lines: &str) -> Self {
        self.endpoints += &format!(
            "[[cluster.test.endpoint]]\nname = \"{name}\"\nregion = \"{name}\"\nkind = \"public\"\n\
             host = \"{host}\"\nport = {port}\n{lines}\n"
        );
        self
    }

    /// All endpoints so far are of this kind.
    pub(crate) fn kind(mut self, kind: &str) -> Self {
        self.endpoints = self.endpoints.replace("kind = \"public\"", &format!("kind = \"{kind}\""));
        self
    }

    /// A line of the first block.
    pub(crate) fn global(mut self, line: &str) -> Self {
        self.global += &format!("{line}\n");
        self
    }

    /// For what is measured: the log as it is by default, where tests want all of it.
    pub(crate) fn usual_log(self) -> Self {
        self.global("log_level = \"info\"")
    }

    /// A line of the cluster's block.
    pub(crate) fn cluster(mut self, line: &str) -> Self {
        self.cluster += &format!("{line}\n");
        self
    }

    /// A line of the listener's block.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.listener += &format!("\n{line}");
        self
    }

    /// Where the listener listens, instead of a free port.
    pub(crate) fn address(mut self, address: &str) -> Self {
        self.listener = self.listener.replacen("127.0.0.1:0", address, 1);
        self
    }

    /// One more listener on a free port.
    pub(crate) fn another_listener(self, name: &str, lines: &str) -> Self {
        self.appendix(&format!(
            "[[listener]]\nname = \"{name}\"\ncluster = \"test\"\naddress = \"127.0.0.1:0\"\n{lines}\n"
        ))
    }

    /// More blocks at the end of the file.
    pub(crate) fn appendix(mut self, text: &str) -> Self {
        self.appendix += text;
        self
    }

    /// The SQL user.
    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = user.into();
        self
    }

    /// The `password = …` line, or nothing.
    pub(crate) fn password(mut self, line: &str) -> Self {
        self.password = line.into();
        self
    }

    /// A user with a table of its own, beside others; the usual one is none of them unless it gets one.
    pub(crate) fn sql_user(mut self, name: &str, lines: &str) -> Self {
        self.users += &format!("[cluster.test.user.{name}]\n{lines}\n");
        self
    }

    /// A certificate and key as `NAME.crt` and `NAME.key`.
    pub(crate) fn identity(self, name: &str, identity: &Identity) -> Self {
        self.file(&format!("{name}.crt"), &identity.certificate).file(&format!("{name}.key"), &identity.key)
    }

    /// A file beside the settings, readable by its owner only.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        write_private(&self.path(name), text);
        self
    }

    /// A variable of the daemon's environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What was said by [`Self::variable`].
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A hard limit of open descriptors.
    pub(crate) fn descriptors(self, limit: usize) -> Self {
        self.behind(&["prlimit", &format!("--nofile={limit}:{limit}"), "--"])
    }

    /// Starts the daemon by a program that becomes it: these words, then the daemon's own command line.
    pub(crate) fn behind(mut self, words: &[&str]) -> Self {
        self.wrapper.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// A further argument on the daemon's command line.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Where a file beside the settings is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text of the settings file.
    pub(crate) fn text(&self) -> String {
        let Self { global, cluster, user, password, users, endpoints, listener, appendix, .. } = self;
        let only = if users.is_empty() { format!("user = \"{user}\"\n{password}") } else { String::new() };
        let admin = if global.contains("admin =") { "" } else { "admin = \"127.0.0.1:0\"" };
        format!(
            "{admin}\n{global}\n[cluster.test]\nca = \"ca.crt\"\n{only}\n{cluster}\n\
             {endpoints}\n{users}\n[[listener]]\nname = \"main\"\ncluster = \"test\"\n{listener}\n\n{appendix}"
        )
    }

    /// Writes the file and starts the daemon as a service manager does, with these sockets under these names.
    pub(crate) fn start_with(self, sockets: &[(&str, BorrowedFd<'_>)]) -> TestProxy {
        let names = sockets.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(":");
        self.variable("LISTEN_FDNAMES", &names).start_nameless(&sockets.iter().map(|(_, fd)| *fd).collect::<Vec<_>>())
    }

    /// The same without a word about names.
    pub(crate) fn start_nameless(mut self, sockets: &[BorrowedFd<'_>]) -> TestProxy {
        self.wrapper.extend(passing::wrapper(sockets));
        self.start_after(|command| passing::keep_open(command, sockets))
    }

    /// Writes the file and starts the daemon with it.
    pub(crate) fn start(self) -> TestProxy {
        self.start_after(|_| {})
    }

    fn start_after(self, prepare: impl FnOnce(&mut Command)) -> TestProxy {
        let wrapper = self.wrapper.iter().map(String::as_str).collect::<Vec<_>>();
        let mut command = TestProxy::command_behind(&wrapper, self.folder.path());
        command.arg("--config").arg(self.write()).args(["--log-format", "json"]).args(&self.arguments);
        if !self.says_a_level() {
            // So that whatever a test meets is in the log when that is searched for secrets. Trace would be gigabytes.
            command.env("CRDB_PROXY_LOG_LEVEL", "debug");
        }
        command.envs(self.environment());
        prepare(&mut command);
        TestProxy::spawn(command, self.folder)
    }

    fn says_a_level(&self) -> bool {
        let arguments = self.arguments.iter().map(String::as_str);
        let variables = self.environment().map(|(name, _)| name);
        let said = [self.global.as_str(), self.appendix.as_str()];
        said.into_iter()
            .chain(arguments)
            .chain(variables)
            .any(|text| ["log_level", "log-level", "LOG_LEVEL"].iter().any(|level| text.contains(level)))
    }

    /// Writes the file; gives its path.
    pub(crate) fn write(&self) -> PathBuf {
        let path = self.path("crdb-proxy.toml");
        write_private(&path, &self.text());
        path
    }
}

/// Writes a file that only its owner may read, in one step as a rotation would.
pub(crate) fn write_private(path: &Path, text: &str) {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).unwrap();
    fs::set_permissions(&unfinished, Permissions::from_mode(0o600)).unwrap();
    fs::rename(unfinished, path).unwrap();
}
