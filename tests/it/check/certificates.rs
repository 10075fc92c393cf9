//! Certificates that are not accepted, each told by what the server really shows.

use super::Checked;
use crate::harness::{
    Authority, DEADLINE, FakeUpstream, Leaf, Postgres, Script, SettingsFile, TestProxy, certificates::Identity, process,
};

fn server(authority: Authority, identity: Identity) -> FakeUpstream {
    FakeUpstream::signed_by(authority, Script { identity: Some(identity), ..Script::default() })
}

#[test]
fn a_certificate_of_another_ca_is_told_with_its_issuer_and_fingerprint() {
    let another = Authority::new();
    let server = server(Authority::new(), another.server());

    let checked = Checked::of(&SettingsFile::of(&server));

    let said = checked.failed("certificate", 14, "unknown_ca");
    assert!(said.contains("crdb-proxy ca fetch --cluster-id ID") && said.contains("inspects TLS"), "{said}");
    let shown = &checked.endpoint()["certificates"][0];
    assert!(said.contains(shown["issuer"].as_str().unwrap()), "{said}\n{shown:#}");
    assert_eq!(shown["sha256"].as_str().unwrap().len(), 64, "{shown:#}");
    assert_ne!(shown["sha256"], checked.cluster()["ca_sha256"][0]);
}

#[test]
fn a_certificate_of_a_public_ca_is_a_basic_or_standard_clusters() {
    let public = Authority::named("Let's Encrypt R11");
    let server = server(Authority::new(), public.server());

    let said = Checked::of(&SettingsFile::of(&server)).failed("certificate", 14, "public_ca");

    assert!(said.contains("Basic and Standard") && said.contains("Let's Encrypt"), "{said}");
}

#[test]
fn dates_are_told_with_this_machines_clock() {
    for (years, id, words) in [
        ((2020, 2021), "certificate_expired", "clock is ahead"),
        ((2090, 2099), "certificate_not_yet_valid", "clock is behind"),
    ] {
        let authority = Authority::new();
        let identity = authority.sign(&Leaf { years, ..Leaf::default() });

        let said = Checked::of(&SettingsFile::of(&server(authority, identity))).failed("certificate", 14, id);

        assert!(said.contains(words) && said.contains("here it is 20"), "{said}");
    }
}

#[test]
fn a_name_that_does_not_fit_is_told_with_those_that_would() {
    let authority = Authority::new();
    let names = ["prod-abc.gcp-us-east1.cockroachlabs.cloud", "*.private-prod-abc.gcp-us-east1.cockroachlabs.cloud"];
    let identity = authority.sign(&Leaf { names: &names, ..Leaf::default() });

    let said = Checked::of(&SettingsFile::of(&server(authority, identity))).failed("certificate", 14, "name_mismatch");

    assert!(names.iter().all(|name| said.contains(name)) && said.contains("\"tls_server_name\""), "{said}");
}

#[test]
fn a_ca_file_that_is_not_there_is_told_with_others_that_are() {
    let settings = SettingsFile::trusting(&Authority::new()).endpoint("first", ([127, 0, 0, 1], 26257).into());
    std::fs::rename(settings.path("ca.crt"), settings.path("prod-ca.crt")).unwrap();
    let file = settings.write();
    let mut command = TestProxy::command(file.parent().unwrap());

    let finished = process::run(command.args(["check", "--config"]).arg(&file), "", DEADLINE);

    assert_eq!(finished.status.code(), Some(2));
    let said = finished.stderr;
    assert!(said.contains("ca.crt") && said.contains("prod-ca.crt") && said.contains("crdb-proxy ca fetch"), "{said}");
}

#[test]
fn postgresql_itself_is_found_well_and_says_who_it_is() {
    let postgres = Postgres::start();

    let checked = Checked::of(&SettingsFile::of(&postgres).listener("database = \"postgres\""));

    assert_eq!((checked.exit, checked.endpoint()["ok"].as_bool()), (0, Some(true)), "{:#}", checked.report);
    let stages: Vec<_> =
        checked.endpoint()["stages"].as_array().unwrap().iter().map(|stage| stage["stage"].clone()).collect();
    assert_eq!(stages, ["secret", "dns", "tcp", "tls", "certificate", "login", "database", "query"]);
    assert!(checked.endpoint()["server"]["version"].as_str().unwrap().starts_with("PostgreSQL"));
    assert!(checked.endpoint()["tls"]["version"].as_str().unwrap().starts_with("TLSv1."));
}
