//! What the settings say for every flag, as the daemon's own reader understands it, and what is told where flags do
//! not suffice. Nobody is asked here; `tests/it` sits at a terminal.

use super::*;
use crate::{
    cloud::Known,
    settings::{self, EndpointKind, Listener, Regions, SecretSource, Settings},
};
use std::{path::PathBuf, sync::Arc};

const FILE: &str = "/home/app/.config/crdb-proxy/crdb-proxy.toml";

/// What is needed where nobody can be asked.
fn least() -> SetupFlags {
    SetupFlags {
        cluster: "prod".to_owned(),
        user: Some("app".to_owned()),
        password_env: Some("PROD_PASSWORD".to_owned()),
        ..SetupFlags::default()
    }
}

fn settle(found: &Found, flags: &SetupFlags) -> Result<Choice, String> {
    let inputs = Inputs { working_folder: "/srv".into(), usual_files: vec![FILE.into()], ..Inputs::default() };
    let wishes = Wishes::read(flags, &inputs).map_err(|error| error.to_string())?;
    block_on(Choice::settle(&wishes, found, false)).map_err(|error| error.to_string())
}

fn text(found: &Found, change: impl FnOnce(&mut SetupFlags)) -> String {
    let mut flags = least();
    change(&mut flags);
    let choice = settle(found, &flags).unwrap_or_else(|told| panic!("{told}"));
    let folder = PathBuf::from(FILE).parent().unwrap().to_owned();
    text::text(found, &choice, &folder, &folder.join("prod-ca.crt")).unwrap()
}

fn loaded_of(found: &Found, change: impl FnOnce(&mut SetupFlags)) -> Settings {
    let text = text(found, change);
    let loaded = settings::load_text(&text, Path::new(FILE), None).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    assert_eq!(loaded.warnings, Vec::<String>::new(), "{text}");
    loaded.settings
}

fn loaded(change: impl FnOnce(&mut SetupFlags)) -> Settings {
    loaded_of(&Found::example(), change)
}

fn listener(settings: &Settings) -> Arc<Listener> {
    Arc::clone(&settings.listeners[0])
}

fn hosts(settings: &Settings) -> Vec<&str> {
    settings.clusters[0].endpoints.iter().map(|endpoint| endpoint.host.as_str()).collect()
}

fn told(change: impl FnOnce(&mut SetupFlags)) -> String {
    let mut flags = least();
    change(&mut flags);
    settle(&Found::example(), &flags).err().expect("it was taken")
}

#[test]
fn the_least_that_can_be_said_serves_by_every_public_endpoint_the_nearest_first() {
    let settings = loaded(|_| ());

    let (cluster, listener) = (&settings.clusters[0], listener(&settings));
    assert_eq!((cluster.name.as_str(), cluster.user.name.as_str()), ("prod", "app"));
    assert_eq!(cluster.ca, settings::CaSource::File("/home/app/.config/crdb-proxy/prod-ca.crt".into()));
    assert_eq!(cluster.user.password, Some(SecretSource::Env("PROD_PASSWORD".to_owned())));
    let names: Vec<_> = cluster.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(names, ["gcp-us-east1-public", "gcp-us-west2-public"]);
    assert_eq!(hosts(&settings)[0], "prod-abc.gcp-us-east1.cockroachlabs.cloud");
    assert_eq!((listener.name.as_str(), listener.database.as_str()), ("main", "defaultdb"));
    assert!(matches!(listener.policy.regions, Regions::Nearest(_)), "{listener:?}");
    assert_eq!(listener.policy.path, [EndpointKind::Public]);
}

#[test]
fn every_flag_reaches_the_settings() {
    assert_eq!(loaded(|flags| flags.user = Some("it's \"me\"".to_owned())).clusters[0].user.name, "it's \"me\"");
    assert_eq!(listener(&loaded(|flags| flags.database = Some("shop".to_owned()))).database, "shop");

    let internal = loaded(|flags| flags.path = Some("internal,public".to_owned()));
    assert_eq!(listener(&internal).policy.path, [EndpointKind::Internal, EndpointKind::Public]);
    assert_eq!(hosts(&internal).len(), 4);
    assert!(hosts(&internal)[0].starts_with("internal-prod-abc.gcp-us-east1"), "{internal:?}");

    // As the Cloud API has it, too.
    let west = loaded(|flags| flags.region = Some("us-west2,gcp-us-east1".to_owned()));
    assert!(hosts(&west)[0].contains("us-west2"), "{west:?}");
    let regions = format!("{:?}", listener(&west).policy.regions);
    assert!(regions.contains("gcp-us-west2") && regions.contains("gcp-us-east1"), "{regions}");

    let command = loaded(|flags| {
        flags.password_env = None;
        flags.password_command = Some("vault read secret".to_owned());
    });
    assert!(matches!(&command.clusters[0].user.password, Some(SecretSource::Command { argv, .. }) if argv.len() == 3));
}

#[test]
fn a_password_file_beside_the_settings_is_named_from_there_on_and_another_one_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("the password");
    std::fs::write(&file, "secret").unwrap();

    let settings = loaded(|flags| {
        flags.password_env = None;
        flags.password_file = Some(file.clone());
    });

    assert_eq!(settings.clusters[0].user.password, Some(SecretSource::File(file)));
}

#[test]
fn an_endpoint_of_private_service_connect_is_dialled_by_its_own_name_in_front_of_the_clouds() {
    let settings = loaded(|flags| {
        flags.path = Some("psc,public".to_owned());
        flags.psc_endpoint = vec!["us-east1=my-psc".to_owned()];
    });

    let endpoints = &settings.clusters[0].endpoints;
    assert_eq!(endpoints[0].name.as_str(), "gcp-us-east1-psc");
    assert_eq!(endpoints[0].host, "my-psc.private-prod-abc.gcp-us-east1.cockroachlabs.cloud");
    assert_eq!(endpoints.len(), 3);
    assert_eq!(listener(&settings).policy.path, [EndpointKind::Psc, EndpointKind::Public]);

    // Whoever names one means to use it.
    let alone = loaded(|flags| {
        flags.region = Some("gcp-us-east1".to_owned());
        flags.psc_endpoint = vec!["gcp-us-east1=my-psc".to_owned()];
    });
    assert_eq!(listener(&alone).policy.path, [EndpointKind::Psc]);
    assert_eq!(alone.clusters[0].endpoints.len(), 1);
}

#[test]
fn the_only_region_is_named() {
    let mut found = Found::example();
    found.regions.truncate(1);

    let settings = loaded_of(&found, |_| ());

    assert!(format!("{:?}", listener(&settings).policy.regions).contains("gcp-us-east1"));
}

#[test]
fn ways_that_are_not_used_stand_there_as_comments_that_load_once_they_are_none() {
    let text = text(&Found::example(), |flags| flags.region = Some("gcp-us-west2".to_owned()));

    let spare: Vec<_> = text.lines().filter(|line| line.starts_with("# host = ")).collect();
    assert_eq!(spare.len(), 4, "{text}");
    assert!(text.contains("# endpoint_name = \"ENDPOINT_NAME\""), "{text}");
    let (before, rest) = text.split_once("# There are these too").unwrap();
    let (spare, after) = rest.split_once("\n[[listener]]").unwrap();
    let used: Vec<_> = spare.lines().skip(1).map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    let used = format!("{before}\n{}\n[[listener]]{after}", used.join("\n").replace("ENDPOINT_NAME", "my-psc"));
    let settings =
        settings::load_text(&used, Path::new(FILE), None).unwrap_or_else(|faults| panic!("{faults}")).settings;
    assert_eq!(settings.clusters[0].endpoints.len(), 5);
}

#[test]
fn a_cluster_whose_names_are_odd_makes_a_sound_file_or_none() {
    let mut found = Found::example();
    found.name = settings::Name::new("a.b").unwrap();
    assert_eq!(loaded_of(&found, |_| ()).clusters[0].name.as_str(), "a.b");

    found.regions[1].public = Some("x\"\n[cluster.evil]\nuser = \"x".to_owned());
    let used = text(&found, |_| ());
    assert!(settings::load_text(&used, Path::new(FILE), None).is_err(), "{used}");
    assert!(!used.lines().any(|line| line == "[cluster.evil]"), "{used}");

    // As a comment it is one line.
    found.regions[1].internal = found.regions[1].public.take();
    let spare = text(&found, |flags| flags.region = Some("gcp-us-east1".to_owned()));
    assert!(settings::load_text(&spare, Path::new(FILE), None).is_ok(), "{spare}");
    assert!(!spare.lines().any(|line| line.starts_with("[cluster.evil")), "{spare}");
}

#[test]
fn where_nobody_can_be_asked_all_that_is_missing_is_told_at_once() {
    let told = told(|flags| {
        (flags.user, flags.password_env) = (None, None);
        flags.path = Some("psc".to_owned());
        flags.region = Some("gcp-us-east1".to_owned());
    });

    assert_eq!(
        told,
        "there is no terminal to ask at, so flags must say what is needed:\n\
         --user is missing, the SQL user that every session logs in as (the cluster has app, root)\n\
         --password-file, --password-env or --password-command is missing: where the user's password is\n\
         --psc-endpoint gcp-us-east1=NAME is missing, what the endpoint is called in your network"
    );
}

#[test]
fn what_the_cluster_does_not_have_is_told_with_what_it_has() {
    let region = told(|flags| flags.region = Some("gcp-us-west1".to_owned()));
    assert_eq!(region, "--region: the cluster has no region \"gcp-us-west1\", but gcp-us-east1, gcp-us-west2");

    let twice = told(|flags| flags.region = Some("us-west2,gcp-us-west2".to_owned()));
    assert_eq!(twice, "--region: gcp-us-west2 stands there twice");

    let no_service = told(|flags| {
        flags.path = Some("psc".to_owned());
        flags.region = Some("gcp-us-west2".to_owned());
    });
    assert!(no_service.contains("create the service first (see crdb-proxy private-endpoint services)"), "{no_service}");

    let lost = told(|flags| {
        flags.path = Some("psc".to_owned());
        flags.psc_endpoint = vec!["gcp-us-east1=a".to_owned()];
    });
    let expected = "--path: psc leads nowhere in region gcp-us-west2; add another path, or name the regions";
    assert_eq!(lost, expected);

    let unused = told(|flags| {
        flags.path = Some("public".to_owned());
        flags.psc_endpoint = vec!["gcp-us-east1=a".to_owned(), "gcp-us-north1=b".to_owned()];
    });
    assert_eq!(unused.lines().count(), 2, "{unused}");
    assert!(unused.contains("--psc-endpoint: --path does not have psc"), "{unused}");

    let gone = told(|flags| {
        flags.password_env = None;
        flags.password_file = Some("gone.pw".into());
    });
    assert!(gone.starts_with("--password-file: /srv/gone.pw does not exist; put the user's password there"), "{gone}");
}

#[test]
fn the_table_has_every_way_in_and_says_what_is_missing_for_one() {
    let found = Found::example();

    assert_eq!(
        found.told(),
        "cluster prod\n  \
         region        path      host\n  \
         gcp-us-east1  public    prod-abc.gcp-us-east1.cockroachlabs.cloud\n                \
         internal  internal-prod-abc.gcp-us-east1.cockroachlabs.cloud\n                \
         psc       ENDPOINT_NAME.private-prod-abc.gcp-us-east1.cockroachlabs.cloud\n  \
         gcp-us-west2  public    prod-abc.gcp-us-west2.cockroachlabs.cloud\n                \
         internal  internal-prod-abc.gcp-us-west2.cockroachlabs.cloud\n                \
         psc       none: its service is not created yet (crdb-proxy private-endpoint services)\n"
    );
    assert!(matches!(found.users, Known::Is(_)));
}
