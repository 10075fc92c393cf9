//! `crdb-proxy ca fetch`: the file that it leaves, what it says of it, and that it never puts another CA in the place
//! of a trusted one by itself.

use crate::harness::{
    Authority,
    cloud_api::{CLUSTER_ID, CloudApi, Fault},
    process::Finished,
    proxy::{closed_port, run_daemon},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;

fn api(ca: &str) -> CloudApi {
    let api = CloudApi::start();
    api.state(|state| ca.clone_into(&mut state.ca));
    api
}

fn fetch_from(server: &str, folder: &TempDir, words: &str) -> Finished {
    let words = format!("ca fetch {words}");
    run_daemon(folder.path(), &words.split(' ').collect::<Vec<_>>(), &[("COCKROACH_SERVER", server)])
}

fn fetch(api: &CloudApi, folder: &TempDir, more: &str) -> Finished {
    let words = format!("--cluster-id {CLUSTER_ID} --output prod-ca.crt {more}");
    fetch_from(&api.url(), folder, words.trim_end())
}

/// As openssl computes it.
fn sha256(file: &Path) -> String {
    let mut command = std::process::Command::new("openssl");
    let output = command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase()
}

fn names(folder: &TempDir) -> Vec<String> {
    fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// It failed with this exit code, said this, and left nothing.
#[track_caller]
fn assert_left_nothing(told: &Finished, folder: &TempDir, code: i32, said: &str) {
    assert_eq!((told.status.code(), told.stdout.as_str()), (Some(code), ""), "{}", told.stderr);
    assert!(told.stderr.contains(said), "{said}: {}", told.stderr);
    assert_eq!(names(folder), Vec::<String>::new());
}

#[test]
fn the_certificate_is_written_for_everybody_to_read_and_its_fingerprint_shown() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let api = api(authority.pem());

    let told = fetch(&api, &folder, "");

    let file = folder.path().join("prod-ca.crt");
    assert_eq!(fs::read_to_string(&file).unwrap(), authority.pem());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let lines: Vec<_> = told.stdout.lines().collect();
    assert_eq!(lines[0], "prod-ca.crt: written");
    assert_eq!(lines[1], format!("CA certificate of cluster {CLUSTER_ID}:"));
    assert_eq!(lines[2], format!("  SHA-256 {}", sha256(&file)));
    assert!(lines[3].ends_with(", 2020-01-01 to 2100-01-01"), "{}", told.stdout);
    assert_eq!(
        told.stderr,
        "crdb-proxy: nothing but this network vouches for this CA so far: fetch it over another one (a phone's, a \
         server's) too, and compare the SHA-256"
    );
    assert_eq!(told.status.code(), Some(0));
    assert_eq!(names(&folder), ["prod-ca.crt"]);
    let asked = api.asked();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization"), "no key is needed, so none is sent");
}

#[test]
fn without_a_name_the_file_is_called_by_the_clusters_id() {
    let folder = tempfile::tempdir().unwrap();
    let api = api(Authority::new().pem());

    fetch_from(&api.url(), &folder, &format!("--cluster-id {CLUSTER_ID}")).expect_success();

    assert_eq!(names(&folder), [format!("{CLUSTER_ID}-ca.crt")]);
}

#[test]
fn the_same_ca_again_is_unchanged_also_where_the_file_trusts_more() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (api, file) = (api(authority.pem()), folder.path().join("prod-ca.crt"));
    let bundle = format!("# both, while the CA is changed\r\n{}{}", Authority::new().pem(), authority.pem());
    for text in [authority.pem().to_owned(), bundle] {
        fs::write(&file, &text).unwrap();

        let told = fetch(&api, &folder, "");

        assert_eq!((told.status.code(), told.stderr.as_str()), (Some(0), ""));
        assert!(told.stdout.starts_with("prod-ca.crt: unchanged, it holds this CA already\n"), "{}", told.stdout);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn another_ca_is_put_in_place_of_a_trusted_one_by_force_only() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prod-ca.crt");
    let api = api(new.pem());
    fs::write(&file, new.pem()).unwrap();
    let of_new = sha256(&file);
    fs::write(&file, old.pem()).unwrap();
    let of_old = sha256(&file);

    let refused = fetch(&api, &folder, "");

    assert_eq!((refused.status.code(), refused.stdout.as_str()), (Some(2), ""));
    let lines: Vec<_> = refused.stderr.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "crdb-proxy: prod-ca.crt holds another CA than {} gives for cluster {CLUSTER_ID}, and was left as it is",
            api.url()
        )
    );
    assert_eq!(lines[1..3], ["crdb-proxy: in the file:".to_owned(), format!("crdb-proxy:   SHA-256 {of_old}")]);
    assert_eq!(lines[4..6], ["crdb-proxy: fetched:".to_owned(), format!("crdb-proxy:   SHA-256 {of_new}")]);
    assert_eq!(
        lines[7],
        "crdb-proxy: Either the cluster's CA was changed, or something on this network answers in the Cloud's place (a \
         proxy that opens TLS connections does). Fetch it over another network and compare; what is the same there is \
         the cluster's, and --force replaces the file"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), old.pem());

    let forced = fetch(&api, &folder, "--force").expect_success();

    assert!(forced.starts_with("prod-ca.crt: replaced\n"), "{forced}");
    assert_eq!(fs::read_to_string(&file).unwrap(), new.pem());
    assert_eq!(names(&folder), ["prod-ca.crt"]);
}

#[test]
fn what_is_no_certificate_is_replaced_by_force_only() {
    let folder = tempfile::tempdir().unwrap();
    let api = api(Authority::new().pem());
    fs::write(folder.path().join("prod-ca.crt"), "notes of mine").unwrap();

    let refused = fetch(&api, &folder, "");

    assert_eq!(refused.status.code(), Some(2));
    let expected = "crdb-proxy: CA file prod-ca.crt holds no certificate: it is not PEM text (no BEGIN line that is \
                    understood); it was left as it is: --force replaces it";
    assert_eq!(refused.stderr, expected);
    fetch(&api, &folder, "--force").expect_success();
}

#[test]
fn what_stands_around_the_certificate_is_not_kept() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let api = api(&format!("\u{1b}]0;evil\u{7}junk\n{}\u{1b}[2J\n", authority.pem()));

    fetch(&api, &folder, "").expect_success();

    assert_eq!(fs::read_to_string(folder.path().join("prod-ca.crt")).unwrap(), authority.pem());
}

#[test]
fn what_is_fetched_must_be_a_ca_that_can_be_trusted_now() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let hint = "nothing was written; does this network answer in the Cloud's place? Try another one";
    for (ca, said) in [
        (Authority::expired().pem(), "expired on 2010-01-01"),
        (&authority.server().certificate, "holds the certificate of a server or client, not of a CA"),
        (&authority.pem().repeat(3000), "is over 1 MiB"),
        ("<html>-----BEGIN CERTIFICATE-----", "it holds a web page; was the download refused?"),
    ] {
        let told = fetch(&api(ca), &folder, "");

        assert_left_nothing(&told, &folder, 1, said);
        assert!(told.stderr.ends_with(hint), "{}", told.stderr);
    }
}

#[test]
fn whatever_else_is_answered_is_told_in_a_sentence_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let portal = "<!DOCTYPE html><html>Welcome to our hotel</html>";
    for (ca, said) in [(portal, "answers what the Cloud API would not"), ("", "answers what the Cloud API would not")] {
        assert_left_nothing(&fetch(&api(ca), &folder, ""), &folder, 1, said);
    }
    let with_fault = |fault: Fault| {
        let api = api(Authority::new().pem());
        api.always(fault);
        fetch(&api, &folder, "")
    };
    assert_left_nothing(&with_fault(Fault::Long), &folder, 1, "answers with more than");
    assert_left_nothing(&with_fault(Fault::HalfWay), &folder, 1, "ended half-way");
    assert_left_nothing(&with_fault(Fault::Redirect("http://portal.example/".to_owned())), &folder, 1, "points to");
    let elsewhere = fetch_from(
        &api(Authority::new().pem()).url(),
        &folder,
        "--cluster-id 00000000-0000-0000-0000-000000000000 --output prod-ca.crt",
    );
    assert_left_nothing(&elsewhere, &folder, 1, "the Cloud API has no ");
    let nobody = fetch_from(&format!("http://{}", closed_port()), &folder, &format!("--cluster-id {CLUSTER_ID}"));
    assert_left_nothing(&nobody, &folder, 1, "cannot be reached: no connection");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let api = api("");
    api.always(Fault::Hang);

    let told = fetch(&api, &folder, "");

    assert_left_nothing(&told, &folder, 1, "has not answered within 10s");
}

#[test]
fn a_name_in_place_of_an_id_is_told_apart_without_a_question() {
    let folder = tempfile::tempdir().unwrap();
    let api = api("");
    for id in ["prod", "../../etc/passwd", "01234567-89ab-cdef-0123-456789abcdeg"] {
        let told = fetch_from(&api.url(), &folder, &format!("--cluster-id {id}"));

        assert_left_nothing(&told, &folder, 2, "--cluster-id is not the ID of a cluster, which looks like 0123");
    }
    assert_eq!(api.lines(), Vec::<String>::new());
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();

    let told = fetch_from(
        &api(Authority::new().pem()).url(),
        &folder,
        &format!("--cluster-id {CLUSTER_ID} --output no/ca.crt"),
    );

    assert_left_nothing(&told, &folder, 2, "no/ca.crt cannot be written: No such file or directory");
}
