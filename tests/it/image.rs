//! The container image: built as docs/deploy.md says, without engine or registry, and run as a cluster would run it,
//! with a read-only root and as nobody in particular.
//!
//! The program in it is another one than the other tests have: static, of the profile `image`. It is built by the
//! documentation's own commands; `tests/run` has done that before, else the first test takes minutes.

use crate::{
    drivers::environment,
    harness::{
        DEADLINE, FakeUpstream, Postgres, SettingsFile, TestProxy,
        certificates::CLUSTER_NAME,
        markdown::{self, root},
        names::{Answer, Names},
        postgres::program,
        process::{self, Finished, mortal},
        settings::Cluster,
    },
};
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    net::Ipv4Addr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

#[test]
fn the_image_is_one_small_program_that_is_run_by_a_number() {
    let Some(image) = Image::build("docker") else { return };
    let config = &image.inspect()["Docker"]["config"];

    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/crdb-proxy"]));
    assert_eq!(files_in(&image.mount()), ["crdb-proxy"], "no shell, and nothing else");
    let bytes = fs::metadata(image.mount().join("crdb-proxy")).unwrap().len();
    assert!((1_000_000..20_000_000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn the_labels_say_what_it_is_and_what_it_was_built_from() {
    let Some(image) = Image::build("docker") else { return };
    let labels = &image.inspect()["Docker"]["config"]["Labels"];

    let label = |name: &str| labels[format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default().to_owned();
    assert_eq!(label("title"), env!("CARGO_PKG_NAME"));
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("revision"), REVISION);
}

#[test]
fn the_health_check_is_the_programs_own_and_an_oci_image_loses_it() {
    let Some(image) = Image::build("docker") else { return };

    let check = &image.inspect()["Docker"]["config"]["Healthcheck"];
    assert_eq!(check["Test"], serde_json::json!(["CMD", "/crdb-proxy", "health"]));

    let image = Image::build("oci").unwrap();
    assert!(image.inspect()["Docker"]["config"]["Healthcheck"].is_null(), "docs/deploy.md says otherwise");
}

#[test]
fn it_serves_psql_as_nobody_with_a_read_only_root() {
    let Some(image) = Image::build("docker") else { return };
    let postgres = Postgres::start();
    let pod = Folders::new(&postgres);

    let mut proxy = TestProxy::spawn(image.run(&pod, &[]), tempfile::tempdir().unwrap());
    proxy.listener("app");
    let mut psql = Command::new(program("psql"));
    psql.args(["-XAt", "-p", "26257", "-U", "shop", "-d", "defaultdb", "-c", "select current_user", "-h"]);
    let answer = process::run(psql.arg(pod.path("run")), "", DEADLINE).expect_success();

    assert_eq!(answer, "app");
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    for line in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", proxy.pid())).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("its root");
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
    assert_eq!(proxy.metric("crdb_proxy_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn it_finds_its_settings_without_a_flag_and_has_no_demo() {
    let Some(image) = Image::build("docker") else { return };
    let postgres = Postgres::start();
    let pod = Folders::new(&postgres);
    let run = |arguments: &[&str]| process::run(&mut image.run(&pod, arguments), "", DEADLINE);

    let shown = run(&["config", "show"]).expect_success();
    let demo = run(&["demo"]);

    assert!(shown.contains("/etc/crdb-proxy/crdb-proxy.toml"), "{shown}");
    assert_eq!(demo.status.code(), Some(2), "{}", demo.stderr);
}

#[test]
fn its_health_check_succeeds_beside_the_daemon_and_fails_without_it() {
    let Some(image) = Image::build("docker") else { return };
    let postgres = Postgres::start();
    let pod = Folders::new(&postgres);
    let check = image.inspect()["Docker"]["config"]["Healthcheck"]["Test"].clone();
    let command = check.as_array().unwrap()[2..].iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>();
    let health = |pod: &Folders| process::run(&mut image.run(pod, &command), "", DEADLINE);

    let mut proxy = TestProxy::spawn(image.run(&pod, &[]), tempfile::tempdir().unwrap());
    proxy.listener("app");
    pod.say_admin(&proxy.listener("admin"));

    health(&pod).expect_success();
    assert_eq!(proxy.terminate(), 0);
    assert_eq!(health(&pod).status.code(), Some(1));
}

#[test]
fn the_static_program_asks_the_pods_resolver() {
    let Some(names) = Names::start() else { return };
    let Some(program) = static_program() else { return };
    let cluster = FakeUpstream::answering();
    names.set("db.test", Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));
    let server_name = format!("tls_server_name = \"{CLUSTER_NAME}\"");
    let settings = SettingsFile::trusting(&cluster.authority);
    let settings = settings.endpoint_at("first", "db.test", cluster.address().port(), &server_name);
    // In the place of the program that the other tests have, which is the first argument.
    let instead = format!("shift; exec '{}' \"$@\"", program.display());

    let proxy = names.resolving(settings).behind(&["sh", "-c", &instead, "sh"]).start();
    proxy.client();

    assert_eq!(names.lookups("db.test"), 1);
    let running = fs::read_link(format!("/proc/{}/exe", proxy.pid())).unwrap();
    assert_eq!(running, program);
}

#[test]
fn the_build_gets_what_it_needs_and_nothing_else() {
    let Some(buildah) = Buildah::new() else { return };
    let everything = buildah.path("Dockerfile");
    fs::write(&everything, "FROM scratch\nCOPY . /\n").unwrap();
    let file = everything.to_str().unwrap();
    buildah.run(&["build", "--isolation=chroot", "--file", file, "--tag", "context", root().to_str().unwrap()]);

    let context = buildah.mount("context");

    let mut names = fs::read_dir(&context).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["Cargo.lock", "Cargo.toml", "benches", "build.rs", "src"]);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"]).current_dir(&context);
    process::run(&mut cargo, "", DEADLINE).expect_success();
}

#[test]
fn the_linter_of_dockerfiles_has_nothing_to_say() {
    let linter = environment("python/bin/hadolint");
    let lint = |file: &Path| process::run(Command::new(&linter).arg("--no-color").arg(file), "", DEADLINE);
    let folder = tempfile::tempdir().unwrap();
    let careless = folder.path().join("Dockerfile");
    fs::write(&careless, "FROM debian\nRUN cd /tmp && apt-get install curl\n").unwrap();

    let said = lint(&root().join("Dockerfile"));

    assert!(said.status.success() && said.stdout.is_empty(), "{}", said.stdout);
    assert!(!lint(&careless).status.success());
}

#[test]
fn every_command_of_the_page_on_deployment_is_run_here() {
    let page = markdown::read("docs/deploy.md");
    let blocks = markdown::blocks(&page).into_iter().filter(|block| block.language == "sh").collect::<Vec<_>>();

    assert_eq!(blocks.len(), 1, "Image::build runs one");
    let manifest = markdown::read("Cargo.toml").parse::<toml::Table>().unwrap();
    let rust = manifest["package"]["rust-version"].as_str().unwrap().split_once('.').unwrap().1.parse::<u32>().unwrap();
    let dockerfile = markdown::read("Dockerfile");
    let used = dockerfile.split_once("library/rust:1.").unwrap().1.split_once('-').unwrap().0.parse::<u32>().unwrap();
    assert!(used >= rust && used >= 93, "the page says that this musl asks by TCP");
}

/// Buildah with a storage of its own, which goes with it.
struct Buildah {
    folder: TempDir,
}

impl Buildah {
    /// None, and the reason on the screen, where this is not root.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can build and run an image here");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("crdb-proxy-image-").tempdir().unwrap();
        let path = folder.path().display();
        // Plain folders: no overlay, which would have to be unmounted.
        let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{path}/root\"\nrunroot = \"{path}/run\"\n");
        fs::write(folder.path().join("storage.conf"), storage).unwrap();
        Some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn variables(&self) -> [(&'static str, PathBuf); 1] {
        [("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))]
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let mut buildah = mortal(Path::new("buildah"), "KILL", None);
        let finished = process::run(buildah.args(arguments).envs(self.variables()), "", DEADLINE);
        finished.expect_success().trim().to_owned()
    }

    /// The files of an image.
    fn mount(&self, image: &str) -> PathBuf {
        let container = self.run(&["from", "--pull-never", image]);
        self.run(&["mount", &container]).into()
    }
}

/// The image, built.
struct Image {
    buildah: Buildah,
    name: String,
}

impl Image {
    /// By the commands of docs/deploy.md, but for the folder, which is this test's own, and the revision.
    fn build(format: &str) -> Option<Self> {
        let buildah = Buildah::new()?;
        let script = documented_commands()
            .replace("target/image-root", buildah.path("image-root").to_str().unwrap())
            .replace("--format docker", &format!("--format {format} --build-arg REVISION={REVISION}"));
        shell(&script, &buildah.variables()).expect_success();
        let name = format!("localhost/crdb-proxy:{}", env!("CARGO_PKG_VERSION"));
        Some(Self { buildah, name })
    }

    fn inspect(&self) -> Value {
        serde_json::from_str(&self.buildah.run(&["inspect", "--type", "image", &self.name])).unwrap()
    }

    fn mount(&self) -> PathBuf {
        self.buildah.mount(&self.name)
    }

    /// The image's entry point with these arguments, as its user, with a read-only root and the pod's folders.
    fn run(&self, pod: &Folders, arguments: &[&str]) -> Command {
        let config = self.inspect()["Docker"]["config"].clone();
        let root = self.mount();
        for name in ["etc/crdb-proxy", "run/secrets/crdb-proxy", "run/crdb-proxy"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let mut command = mortal(Path::new("unshare"), "KILL", None);
        command.args(["--mount", "sh", "-e", "-c", IN_THE_IMAGE]).arg(&root).arg(pod.folder.path());
        command.arg(config["User"].as_str().unwrap()).arg(config["Entrypoint"][0].as_str().unwrap());
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(arguments).env_clear().env("PATH", path);
        command
    }
}

/// What a pod mounts: settings, secret, socket.
struct Folders {
    folder: TempDir,
}

impl Folders {
    /// With the settings of config/sidecar.toml, as they stand there but for the host, the database and a free port.
    fn new(postgres: &Postgres) -> Self {
        let folder = tempfile::Builder::new().prefix("crdb-proxy-pod-").tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let pod = Self { folder };
        for name in ["etc", "secrets", "run"] {
            fs::create_dir(pod.path(name)).unwrap();
        }
        let address = postgres.address();
        let settings = markdown::read("config/sidecar.toml")
            .replace(
                "\"prod-abc.gcp-us-east1.cockroachlabs.cloud\"",
                &format!("\"{}\"\nport = {}", address.ip(), address.port()),
            )
            .replace("database = \"shop\"", "database = \"defaultdb\"")
            .replace("\"0.0.0.0:9257\"", "\"127.0.0.1:0\"");
        fs::write(pod.path("etc/crdb-proxy.toml"), settings).unwrap();
        fs::write(pod.path("etc/prod-ca.crt"), postgres.authority().pem()).unwrap();
        let password = pod.path("secrets/password");
        fs::write(&password, crate::harness::PASSWORD).unwrap();
        fs::set_permissions(&password, Permissions::from_mode(0o400)).unwrap();
        for path in [password, pod.path("run")] {
            chown(path, Some(65532), Some(65532)).unwrap();
        }
        pod
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts the port that was free into the settings, where it would have stood from the beginning.
    fn say_admin(&self, address: &str) {
        let file = self.path("etc/crdb-proxy.toml");
        let settings = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", address);
        fs::write(file, settings).unwrap();
    }
}

/// The commands by which docs/deploy.md builds the image without engine or registry.
fn documented_commands() -> String {
    let page = markdown::read("docs/deploy.md");
    let block = markdown::blocks(&page).into_iter().find(|block| block.text.contains("buildah build")).unwrap();
    block.text.replace("x86_64-unknown-linux-musl", &format!("{}-unknown-linux-musl", std::env::consts::ARCH))
}

/// The program of the image.
fn static_program() -> Option<PathBuf> {
    let commands = documented_commands();
    shell(commands.lines().next().unwrap(), &[]).expect_success();
    let target = format!("target/{}-unknown-linux-musl/image/crdb-proxy", std::env::consts::ARCH);
    Some(root().join(target))
}

/// In the package's folder, by the toolchain that runs the tests.
fn shell(script: &str, variables: &[(&str, PathBuf)]) -> Finished {
    let script = script.replace("cargo build", &format!("'{}' build --quiet", env!("CARGO")));
    let mut shell = mortal(Path::new("sh"), "KILL", None);
    shell.args(["-e", "-c", &script]).current_dir(root()).envs(variables.iter().cloned());
    process::run(&mut shell, "", BUILD)
}

/// All files below a folder, by their paths from there.
fn files_in(folder: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    find.args([".", "-not", "-type", "d"]).current_dir(folder);
    let found = process::run(&mut find, "", DEADLINE).expect_success();
    found.lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
}

/// A build of the profile `image`, in case nobody has made one.
const BUILD: Duration = Duration::from_secs(15 * 60);

const REVISION: &str = "0123456789ab";

/// Arguments: root, the pod's folders, user, and the program with its own. What is mounted goes with the process.
const IN_THE_IMAGE: &str = "
root=$0 pod=$1 user=$2
shift 2
mount --bind \"$root\" \"$root\"
mount --bind \"$pod/etc\" \"$root/etc/crdb-proxy\"
mount -o remount,bind,ro \"$root/etc/crdb-proxy\"
mount --bind \"$pod/secrets\" \"$root/run/secrets/crdb-proxy\"
mount -o remount,bind,ro \"$root/run/secrets/crdb-proxy\"
mount --bind \"$pod/run\" \"$root/run/crdb-proxy\"
mount -o remount,bind,ro \"$root\"
exec setpriv --no-new-privs -- chroot --userspec=\"$user\" --groups= \"$root\" \"$@\"
";
