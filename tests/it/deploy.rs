//! The examples in `deploy/` are right: their forms, the settings that they show, and what they do with the
//! daemon's own binary. Here: reading them. What cannot be had here is an orchestrator, so the parts of a kubelet
//! that matter (probes, owners of volumes, rotation by symbolic link) are played by the tests.

mod manifests;
mod monitoring;
mod pods;

use crate::{
    drivers::environment,
    harness::{
        DEADLINE, TestProxy,
        markdown::{self, root},
        process::{self, Finished},
        proxy::run_daemon,
        settings::{Cluster, write_private},
    },
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A workload of Kubernetes with the daemon in it.
struct Pod {
    /// Where it is shown.
    file: String,
    /// Its `spec`.
    spec: Value,
    /// The daemon's container.
    daemon: Value,
    /// The daemon's settings.
    settings: String,
}

impl Pod {
    /// Every one that is shown.
    fn all() -> Vec<Self> {
        let pods = files("kubernetes", "yaml").iter().filter_map(|file| Self::of(file)).collect::<Vec<_>>();
        assert!(pods.len() >= 4, "only {} pods were found", pods.len());
        pods
    }

    /// The one in this file.
    fn named(file: &str) -> Self {
        Self::of(&format!("deploy/kubernetes/{file}")).expect(file)
    }

    fn of(file: &str) -> Option<Self> {
        let documents = documents(file);
        let workload = documents.iter().find(|document| ["Deployment", "Job"].contains(&text(&document["kind"])))?;
        let spec = workload["spec"]["template"]["spec"].clone();
        let is_daemon = |container: &&Value| container["name"] == "crdb-proxy";
        let daemon = containers(&spec).find(is_daemon).expect("a container crdb-proxy").clone();
        let settings = documents.iter().find(|document| document["kind"] == "ConfigMap").expect("a ConfigMap");
        let settings = text(&settings["data"]["crdb-proxy.toml"]).to_owned();
        Some(Self { file: file.to_owned(), spec, daemon, settings })
    }

    /// The volume that the daemon finds at this path.
    fn volume_at(&self, path: &str) -> &Value {
        let mounts = list(&self.daemon["volumeMounts"]);
        let mount = mounts.iter().find(|mount| mount["mountPath"] == path);
        let mount = mount.unwrap_or_else(|| panic!("{}: nothing is mounted at {path}", self.file));
        list(&self.spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"]).expect("the volume")
    }
}

/// Settings as they are shown, with what a reader puts in their place: files, the cluster's host, free ports.
struct Shown {
    folder: TempDir,
}

impl Shown {
    /// For a daemon that is checked only.
    fn checked(settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("crdb-proxy-deploy-").tempdir().unwrap();
        let shown = Self { folder };
        for name in ["run", "secrets"] {
            fs::create_dir(shown.path(name)).unwrap();
        }
        write_private(&shown.path("secrets/password"), crate::harness::PASSWORD);
        write_private(&shown.path("prod-ca.crt"), crate::harness::Authority::new().pem());
        let settings = settings
            .replace("/run/secrets/crdb-proxy", shown.path("secrets").to_str().unwrap())
            .replace("/run/crdb-proxy", shown.path("run").to_str().unwrap())
            .replace("/etc/crdb-proxy", shown.folder.path().to_str().unwrap());
        assert!(!settings.contains("\"/run/") && !settings.contains("\"/etc/"), "{settings}");
        fs::write(shown.path("crdb-proxy.toml"), settings).unwrap();
        shown
    }

    /// For a daemon that serves before `cluster`.
    fn before(settings: &str, cluster: &impl Cluster) -> Self {
        let shown = Self::checked(settings);
        write_private(&shown.path("prod-ca.crt"), cluster.authority().pem());
        let address = cluster.address();
        // Two endpoints may not be one place by the same name.
        let mut hosts = [address.ip().to_string(), "localhost".to_owned()].into_iter();
        let mut real = |line: &str| match line.split_once(" = ") {
            Some(("host", _)) => format!("host = \"{}\"\nport = {}", hosts.next().unwrap(), address.port()),
            Some(("address", "\"localhost:26257\"")) => "address = \"127.0.0.1:0\"".to_owned(),
            // The database that every server of these tests has.
            Some(("database", _)) => "database = \"defaultdb\"".to_owned(),
            Some(("drain_delay", _)) => "drain_delay = \"10ms\"".to_owned(),
            _ => line.to_owned(),
        };
        let file = fs::read_to_string(shown.path("crdb-proxy.toml")).unwrap();
        let lines = file.lines().map(&mut real).collect::<Vec<_>>();
        fs::write(shown.path("crdb-proxy.toml"), lines.join("\n")).unwrap();
        shown
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(self) -> TestProxy {
        self.start_behind(&[])
    }

    /// Starts it by a program that becomes it.
    fn start_behind(self, prefix: &[&str]) -> TestProxy {
        let mut command = TestProxy::command_behind(prefix, self.folder.path());
        command.arg("--config").arg(self.path("crdb-proxy.toml")).env("CRDB_PROXY_ADMIN", "127.0.0.1:0");
        TestProxy::spawn(command, self.folder)
    }

    fn check(&self) -> Finished {
        run_daemon(self.folder.path(), &["config", "check", "--config", "crdb-proxy.toml"], &[])
    }

    /// The effective value of a key of the first block.
    fn effective(&self, key: &str) -> String {
        let arguments = ["config", "show", "--json", "--config", "crdb-proxy.toml"];
        let shown = run_daemon(self.folder.path(), &arguments, &[]).expect_success();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let values = list(&shown["tables"][0]["values"]).iter();
        text(&values.clone().find(|value| value["key"] == key).expect(key)["value"]).to_owned()
    }
}

/// Every settings file that is shown, with the place where.
fn shown_settings() -> Vec<(String, String)> {
    let mut shown = Pod::all().into_iter().map(|pod| (pod.file, pod.settings)).collect::<Vec<_>>();
    let files = files("compose", "toml");
    assert!(files.len() >= 2, "{files:?}");
    shown.extend(files.into_iter().map(|file| (file.clone(), markdown::read(&file))));
    shown.push(("config/sidecar.toml".to_owned(), markdown::read("config/sidecar.toml")));
    shown
}

/// The files of a folder in `deploy/`, as paths from the package's root.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join("deploy").join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let of_kind = names.filter(|name| Path::new(name).extension().is_some_and(|found| found == extension));
    let mut files = of_kind.map(|name| format!("deploy/{folder}/{name}")).collect::<Vec<_>>();
    files.sort();
    files
}

/// What a YAML file holds.
#[track_caller]
fn documents(file: &str) -> Vec<Value> {
    let json = judge(&["json", root().join(file).to_str().unwrap()]).expect_success();
    serde_json::from_str(&json).unwrap()
}

/// Has a file read or judged by what `tests/run` installs for that.
fn judge(arguments: &[&str]) -> Finished {
    let mut python = Command::new(environment("python/bin/python"));
    python.arg(root().join("tests/deploy/manifests.py")).args(arguments);
    process::run(&mut python, "", DEADLINE)
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(&spec["initContainers"]).iter().chain(list(&spec["containers"]))
}

/// A list, which is empty where there is none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text, which is empty where there is none.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
