//! `crdb-proxy setup`: from a cluster's name to a settings file that the daemon takes, what it says on the way, and
//! that it leaves all or nothing.

mod answers;
mod terminal;

use crate::harness::{
    Authority, Terminal, TestProxy,
    cloud_api::{self, CLUSTER_ID, CloudApi, KEY, Role},
    process::Finished,
    proxy::run_daemon,
    settings::write_private,
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A cluster of two regions, the second without a service for private endpoints, and a folder to set up in.
struct Scene {
    api: CloudApi,
    folder: TempDir,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        let (api, authority) = (CloudApi::start(), Authority::new());
        let mut prod = cloud_api::cluster(CLUSTER_ID, "prod", "GCP", &["us-east1", "us-west2"]);
        prod["regions"][1]["private_endpoint_dns"] = json!("");
        api.state(|state| {
            state.clusters = vec![prod];
            authority.pem().clone_into(&mut state.ca);
        });
        let folder = tempfile::Builder::new().prefix("crdb-proxy-it-").tempdir().unwrap();
        write_private(&folder.path().join("app.pw"), "secret");
        Self { api, folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With a key and without a terminal.
    fn run(&self, words: &str) -> Finished {
        self.run_with(words, &[("COCKROACH_SERVER", &self.api.url()), ("COCKROACH_API_KEY", KEY)])
    }

    fn run_with(&self, words: &str, variables: &[(&str, &str)]) -> Finished {
        run_daemon(self.folder.path(), &words.split(' ').collect::<Vec<_>>(), variables)
    }

    /// With a key at a terminal.
    fn at_terminal(&self, words: &str) -> Terminal {
        let mut command = TestProxy::command_behind(&Terminal::PREFIX, self.folder.path());
        command.args(words.split(' ')).env("COCKROACH_SERVER", self.api.url()).env("COCKROACH_API_KEY", KEY);
        Terminal::start(command)
    }

    /// It failed with this exit code, said this, and left nothing.
    #[track_caller]
    fn assert_refused(&self, told: &Finished, code: i32, said: &str) {
        assert_eq!(told.status.code(), Some(code), "{}\n{}", told.stdout, told.stderr);
        assert!(told.stderr.contains(said), "{said}: {}", told.stderr);
        assert!(!told.stderr.contains("secret") && !told.stderr.contains("panick"), "{}", told.stderr);
        self.assert_left_nothing();
    }

    #[track_caller]
    fn assert_left_nothing(&self) {
        assert_eq!(names(self.folder.path()), ["app.pw"]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Without a trial: the hosts have no address here.
const FLAGS: &str = "setup --no-check --cluster prod --user app --password-file app.pw";

#[test]
fn flags_alone_write_settings_that_the_daemon_takes_where_it_looks_for_them() {
    let scene = Scene::new();

    let told = scene.run(FLAGS);

    let folder = scene.path(".config/crdb-proxy");
    assert_eq!(names(&folder), ["crdb-proxy.toml", "prod-ca.crt"], "{}", told.stderr);
    assert_eq!((mode(&scene.path(".config")), mode(&folder)), (0o700, 0o700));
    let (settings, ca) = (folder.join("crdb-proxy.toml"), folder.join("prod-ca.crt"));
    assert_eq!((mode(&settings), mode(&ca)), (0o600, 0o644));
    assert_eq!(fs::read_to_string(&ca).unwrap(), scene.authority.pem());
    let lines: Vec<_> = told.stdout.lines().collect();
    assert_eq!(lines[0], format!("cluster prod ({CLUSTER_ID}): ADVANCED on GCP, v25.4.1"));
    assert_eq!(lines[2], "  gcp-us-east1  public    prod-abc.gcp-us-east1.cockroachlabs.example");
    assert_eq!(
        lines[7],
        "                psc       none: its service is not created yet (crdb-proxy private-endpoint services)"
    );
    assert_eq!(
        lines[lines.len() - 4..],
        [
            format!("written {}: the CA certificate (mode 0644)", ca.display()),
            format!("written {}: the settings (mode 0600)", settings.display()),
            format!("next: crdb-proxy check --config {}", settings.display()),
            "then: crdb-proxy".to_owned(),
        ]
    );
    // No flag says where: it is the usual place.
    let checked = scene.run_with("config check", &[]);
    assert_eq!(checked.expect_success(), "the settings are sound");
    let shown = scene.run_with("config show --json", &[]).expect_success();
    for text in ["prod-abc.gcp-us-west2.cockroachlabs.example", CLUSTER_ID, "gcp-us-east1-public"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
}

#[test]
fn every_flag_is_heeded_and_the_folder_of_the_file_made() {
    let scene = Scene::new();

    let words = format!(
        "{FLAGS} --database shop --path psc,internal --region us-west2,us-east1 --psc-endpoint us-east1=my-psc \
         --config new/prod.toml"
    );
    scene.run(&words).expect_success();

    let text = fs::read_to_string(scene.path("new/prod.toml")).unwrap();
    for line in [
        "user = \"app\"",
        &format!("password = {{ file = \"{}\" }}", scene.path("app.pw").display()),
        &format!("cluster_id = \"{CLUSTER_ID}\""),
        "endpoint_name = \"my-psc\"",
        "host = \"private-prod-abc.gcp-us-east1.cockroachlabs.example\"",
        "database = \"shop\"",
        "regions = [\"gcp-us-west2\", \"gcp-us-east1\"]",
        "path = [\"psc\", \"internal\"]",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let checked = scene.run_with("config check --config new/prod.toml", &[]);
    assert_eq!(checked.expect_success(), "the settings are sound");
}

#[test]
fn a_cluster_is_found_by_its_id_too_and_on_other_clouds() {
    let scene = Scene::new();
    for (provider, region, shown) in [("AWS", "us-east-1", "aws-us-east-1"), ("AZURE", "eastus2", "azure-eastus2")] {
        scene.api.state(|state| state.clusters = vec![cloud_api::cluster(CLUSTER_ID, "prod", provider, &[region])]);
        let words = format!(
            "setup --no-check --cluster {CLUSTER_ID} --user app --password-env PW --path internal --config {provider}/prod.toml"
        );

        let told = scene.run(&words).expect_success();

        assert!(told.contains(&format!("  {shown}")) && !told.contains("psc"), "{told}");
        let text = fs::read_to_string(scene.path(&format!("{provider}/prod.toml"))).unwrap();
        assert!(text.contains(&format!("\nregions = [\"{shown}\"]\n")), "{text}");
    }
}

#[test]
fn the_same_again_changes_nothing_and_another_text_is_written_by_force_only() {
    let scene = Scene::new();
    let words = format!("{FLAGS} --config prod.toml");
    scene.run(&words).expect_success();
    let file = scene.path("prod.toml");
    let first = fs::read_to_string(&file).unwrap();

    let again = scene.run(&words).expect_success();
    assert!(again.contains("\nnothing has changed\n"), "{again}");

    let refused = scene.run(&format!("{words} --database shop"));
    assert_eq!(refused.status.code(), Some(2));
    let shown = format!("--- {0} as it is\n+++ {0} as it would be\n@@ -", file.display());
    assert!(refused.stdout.contains(&shown), "{}", refused.stdout);
    assert!(refused.stdout.contains("\n-database = \"defaultdb\"\n+database = \"shop\"\n"), "{}", refused.stdout);
    assert!(
        refused.stderr.ends_with(
            "prod.toml is there already and would change as shown, so nothing was written: --force replaces it, \
             --config names another place"
        ),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), first);

    let forced = scene.run(&format!("{words} --database shop --force")).expect_success();
    assert!(forced.contains(&format!("replaced {}: the settings (mode 0600)", file.display())), "{forced}");
    assert!(fs::read_to_string(&file).unwrap().contains("\ndatabase = \"shop\"\n"));
    assert_eq!(names(scene.folder.path()), ["app.pw", "prod-ca.crt", "prod.toml"]);
}

#[test]
fn what_stands_there_is_shown_without_its_secrets() {
    let scene = Scene::new();
    fs::write(scene.path("prod.toml"), "[cluster.prod]\npassword = \"hunter2\"\n").unwrap();

    let refused = scene.run(&format!("{FLAGS} --config prod.toml"));

    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.contains("-password = ***\n"), "{}", refused.stdout);
    assert!(!(refused.stdout + &refused.stderr).contains("hunter2"));

    fs::write(scene.path("prod.toml"), "hunter2\n-----BEGIN PRIVATE KEY-----\nhunter2\n").unwrap();
    let refused = scene.run(&format!("{FLAGS} --config prod.toml"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        refused.stderr.contains("prod.toml holds something else than settings of crdb-proxy"),
        "{}",
        refused.stderr
    );
    assert!(!(refused.stdout + &refused.stderr).contains("hunter2"));
    let forced = scene.run(&format!("{FLAGS} --config prod.toml --force")).expect_success();
    assert!(forced.contains("prod.toml: the settings") && !forced.contains("hunter2"), "{forced}");
}

#[test]
fn settings_ca_and_password_are_three_files_or_nothing_is_asked_shown_or_written() {
    let scene = Scene::new();
    let said = "would hold both";
    std::os::unix::fs::symlink("app.pw", scene.path("link")).unwrap();
    for config in ["app.pw", "./app.pw", "link"] {
        for more in ["", " --force"] {
            let told = scene.run(&format!("{FLAGS} --config {config}{more}"));

            assert_eq!((told.status.code(), told.stdout.as_str()), (Some(2), ""), "{}", told.stderr);
            assert!(told.stderr.contains(said) && !told.stderr.contains("secret"), "{}", told.stderr);
            assert_eq!(fs::read_to_string(scene.path("app.pw")).unwrap(), "secret");
        }
    }
    fs::remove_file(scene.path("link")).unwrap();
    scene.assert_refused(&scene.run(&format!("{FLAGS} --config prod-ca.crt")), 2, said);
    assert_eq!(scene.api.lines(), Vec::<String>::new());

    // What the cluster is called is known only once it was asked for.
    let by_id = FLAGS.replace("--cluster prod", &format!("--cluster {CLUSTER_ID}"));
    scene.assert_refused(&scene.run(&format!("{by_id} --config prod-ca.crt")), 2, said);
}

#[test]
fn where_one_file_cannot_be_written_none_is_left() {
    let scene = Scene::new();
    // A link to a folder that is not there, so that the settings, which come last, have no place.
    std::os::unix::fs::symlink("gone/prod.toml", scene.path("prod.toml")).unwrap();

    let told = scene.run(&format!("{FLAGS} --config prod.toml"));

    assert_eq!(told.status.code(), Some(2), "{}", told.stdout);
    assert!(told.stderr.contains("prod.toml cannot be written: No such file or directory"), "{}", told.stderr);
    assert_eq!(names(scene.folder.path()), ["app.pw", "prod.toml"]);
    assert!(fs::symlink_metadata(scene.path("prod.toml")).unwrap().is_symlink());
}

#[test]
fn another_ca_beside_the_file_stops_everything() {
    let scene = Scene::new();
    let old = Authority::new();
    fs::write(scene.path("prod-ca.crt"), old.pem()).unwrap();
    let words = format!("{FLAGS} --config prod.toml");

    let refused = scene.run(&words);

    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("prod-ca.crt holds another CA than"), "{}", refused.stderr);
    assert_eq!(names(scene.folder.path()), ["app.pw", "prod-ca.crt"]);
    assert_eq!(fs::read_to_string(scene.path("prod-ca.crt")).unwrap(), old.pem());

    let forced = scene.run(&format!("{words} --force")).expect_success();
    assert!(forced.contains("prod-ca.crt: the CA certificate (mode 0644)"), "{forced}");
    assert_eq!(fs::read_to_string(scene.path("prod-ca.crt")).unwrap(), scene.authority.pem());
}

#[test]
fn without_a_terminal_nothing_is_asked_and_all_that_is_missing_told_at_once() {
    let scene = Scene::new();

    let told = scene.run("setup --no-check --cluster prod --path psc --region us-east1");

    scene.assert_refused(&told, 2, "");
    assert_eq!(
        told.stderr,
        "crdb-proxy: there is no terminal to ask at, so flags must say what is needed:\n\
         crdb-proxy: --user is missing, the SQL user that every session logs in as (the cluster has app, maintenance)\n\
         crdb-proxy: --password-file, --password-env or --password-command is missing: where the user's password is\n\
         crdb-proxy: --psc-endpoint gcp-us-east1=NAME is missing, what the endpoint is called in your network"
    );
}

#[test]
fn a_flag_that_cannot_be_is_told_before_anything_is_asked() {
    let scene = Scene::new();

    let told = scene.run("setup --no-check --cluster prod --path private --psc-endpoint x --user app");

    scene.assert_refused(&told, 2, "--path: must be public, internal or psc");
    assert!(told.stderr.contains("--psc-endpoint: must be REGION=NAME"), "{}", told.stderr);
    assert_eq!(scene.api.lines(), Vec::<String>::new());
}

#[test]
fn a_user_or_database_that_the_cloud_does_not_list_is_told_and_taken() {
    let scene = Scene::new();

    let told =
        scene.run("setup --no-check --cluster prod --user ap --database shp --password-file app.pw --config prod.toml");

    let notes = "crdb-proxy: the Cloud lists no SQL user \"ap\", but app, maintenance; going on with it\n\
                 crdb-proxy: the Cloud lists no database \"shp\", but defaultdb, shop; going on with it\n";
    assert!(told.stderr.starts_with(notes), "{}", told.stderr);
    told.expect_success();
}

#[test]
fn a_role_that_may_not_list_users_is_told_and_suffices() {
    let scene = Scene::new();
    scene.api.state(|state| state.keys = [(KEY.to_owned(), Role::Monitor)].into());

    let told = scene.run(&format!("{FLAGS} --config prod.toml"));

    let note = "crdb-proxy: whether there is a user cannot be looked up: the API key's service account may not";
    assert!(told.stderr.starts_with(note), "{}", told.stderr);
    assert!(told.stderr.contains("give it the role"), "{}", told.stderr);
    told.expect_success();
}

#[test]
fn what_is_written_is_tried_and_stays_whatever_is_found() {
    let scene = Scene::new();

    let told = scene.run(&FLAGS.replace("--no-check ", ""));

    // The hosts have no address here.
    assert_eq!(told.status.code(), Some(11), "{}\n{}", told.stdout, told.stderr);
    assert!(told.stdout.contains("FAIL  gcp-us-east1-public"), "{}", told.stdout);
    let last = told.stdout.lines().last().unwrap();
    assert!(last.starts_with("the files stay; mend what is said above, then: crdb-proxy check --config "), "{last}");
    assert_eq!(names(&scene.path(".config/crdb-proxy")), ["crdb-proxy.toml", "prod-ca.crt"]);
}
