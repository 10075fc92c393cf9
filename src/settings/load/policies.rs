//! What listeners may ask of their cluster's endpoints, and what is said where that leaves none.

use super::tests::{ONE_CLUSTER, World};
use crate::settings::{EndpointKind, Flag, Listener, Policy, Prefer, Regions, show};
use std::sync::Arc;

/// A public and a private endpoint in one region, and a public one in another.
const TWO_REGIONS: &str = "\
[cluster.prod]\nca = \"ca.crt\"\nuser = \"app\"\npassword = { file = \"p\" }\n\
[[cluster.prod.endpoint]]\nregion = \"gcp-us-east1\"\nhost = \"h1\"\n\
[[cluster.prod.endpoint]]\nregion = \"gcp-us-east1\"\nhost = \"h2\"\nkind = \"internal\"\n\
[[cluster.prod.endpoint]]\nregion = \"gcp-us-west2\"\nhost = \"h3\"\n";

fn world(listener: &str) -> World {
    World::of_file(&format!("{TWO_REGIONS}[[listener]]\n{listener}\n"))
}

fn listener(text: &str) -> Arc<Listener> {
    world(text).loaded().settings.listeners[0].clone()
}

/// The only fault of a listener, after the file and the line.
fn fault(text: &str) -> String {
    let faults = world(text).faults();
    assert_eq!(faults.len(), 1, "{text}: {faults:#?}");
    faults[0].split_once(": ").unwrap().1.to_owned()
}

fn names(regions: &[&str]) -> Vec<String> {
    regions.iter().map(ToString::to_string).collect()
}

#[test]
fn regions_are_a_list_or_the_nearest_of_all_or_of_some() {
    let regions = |text: &str| listener(&format!("path = [\"public\"]\nregions = {text}")).policy.regions.clone();

    assert_eq!(regions("[]"), Regions::Listed(vec![]));
    assert_eq!(regions("[\"us-west2\", \"gcp-us-east1\"]"), Regions::Listed(names(&["gcp-us-west2", "gcp-us-east1"])));
    assert_eq!(regions("\"nearest\""), Regions::Nearest(vec![]));
    assert_eq!(regions("{ nearest = [\"us-west2\"] }"), Regions::Nearest(names(&["gcp-us-west2"])));
    assert_eq!(regions("{ nearest = [] }"), Regions::Nearest(vec![]));
}

#[test]
fn path_preference_overflow_and_reuse_are_read_and_off_unless_set() {
    let set = listener("path = [\"internal\", \"public\"]\nprefer = \"region\"\noverflow = true\nreuse = true");
    let plain = listener("");

    let path = vec![EndpointKind::Internal, EndpointKind::Public];
    assert_eq!(set.policy, Policy { path, prefer: Prefer::Region, overflow: true, ..Policy::default() });
    assert!(set.reuse);
    assert_eq!((&plain.policy, plain.reuse), (&Policy::default(), false));
}

#[test]
fn a_listener_sets_its_own_number_of_warm_upstreams_above_the_daemons() {
    let warm = |text: &str| {
        let loaded = World::of_file(text).loaded();
        loaded.settings.listeners.iter().map(|listener| listener.warm_max).collect::<Vec<_>>()
    };
    let listeners = "[[listener]]\nwarm_max = 9\n[[listener]]\naddress = \"localhost:5\"\n";

    assert_eq!(warm(&format!("{ONE_CLUSTER}{listeners}")), [9, 4]);
    assert_eq!(warm(&format!("warm_max = 0\n{ONE_CLUSTER}{listeners}")), [9, 0]);
    assert_eq!(warm(&format!("{ONE_CLUSTER}[[listener]]\nwarm_max = 0\n")), [0]);
}

#[test]
fn what_cannot_be_read_is_told_with_the_rule() {
    let rule = "must be a list of regions in order, \"nearest\", or { nearest = [\"…\"] }";
    let cases = [
        ("regions = \"gcp-us-east1\"", rule),
        ("regions = 1", rule),
        ("regions = { farthest = [\"gcp-us-east1\"] }", rule),
        ("regions = {}", rule),
        ("regions = { nearest = [], other = 1 }", rule),
        ("regions = { nearest = \"gcp-us-east1\" }", "must be a list of text"),
        ("regions = [\"nearest\"]", "\"nearest\" is no region; must be a list"),
        ("regions = [1]", "must be text, not a number"),
        ("regions = [\"gcp-us-eest1\"]", "has the region \"gcp-us-eest1\"; did you mean \"gcp-us-east1\"?"),
        ("regions = { nearest = [\"x\"] }", "no endpoint of cluster \"prod\" has the region \"x\""),
        ("regions = [\"us-east1\", \"gcp-us-east1\"]", "names \"gcp-us-east1\" twice"),
        ("path = \"psc\"", "must be a list of text, like [\"psc\"]"),
        ("path = [\"vpn\"]", "\"vpn\": must be \"public\", \"internal\", \"psc\" or \"custom\""),
        ("path = [\"public\", \"public\"]", "names \"public\" twice"),
        ("prefer = \"paht\"", "must be \"path\" or \"region\""),
        ("overflow = \"yes\"", "must be true or false"),
        ("reuse = 1", "must be true or false"),
        ("warm_max = -1", "must be a whole number from 0 to 1000"),
        ("warm_max = 1001", "must be a whole number from 0 to 1000"),
    ];
    for (text, expected) in cases {
        let told = fault(text);
        let key = text.split(' ').next().unwrap();
        assert!(told.starts_with(&format!("listener \"listener-1\": {key}")), "{text}: {told}");
        assert!(told.contains(expected), "{text}: {told} does not say: {expected}");
    }
}

#[test]
fn a_path_that_leaves_no_endpoint_is_refused() {
    assert_eq!(
        fault("path = [\"psc\"]"),
        "listener \"listener-1\": path: leaves no endpoint: those of cluster \"prod\" are public, internal"
    );
    assert_eq!(
        fault("path = [\"internal\"]\nregions = [\"us-west2\"]"),
        "listener \"listener-1\": path: leaves no endpoint together with regions: those of cluster \"prod\" in \
         gcp-us-west2 are public"
    );
    let told = fault("regions = { nearest = [\"us-west2\"] }");
    assert!(told.starts_with("listener \"listener-1\": regions: leaves no endpoint: cluster \"prod\" has only public"));
    assert!(told.contains("path = [\"public\"]"), "{told}");
}

#[test]
fn a_path_that_cannot_be_read_is_not_judged_as_the_default_one() {
    assert!(fault("regions = [\"us-west2\"]\npath = [\"vpn\"]").contains("\"vpn\": must be"));
}

#[test]
fn no_endpoint_left_is_blamed_on_whoever_named_the_regions() {
    let faults = World::of_file(TWO_REGIONS).flag(Flag::Region, "us-west2").faults();

    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].starts_with("flag --region: listener \"listener-1\": regions: leaves no"), "{faults:#?}");
}

#[test]
fn a_region_that_the_path_leaves_out_is_warned_about() {
    let warnings = |text: &str| world(text).loaded().warnings;
    let both = "regions = [\"us-east1\", \"us-west2\"]";

    let told = warnings(&format!("{both}\npath = [\"internal\", \"psc\"]"));
    assert_eq!(
        told,
        ["listener \"listener-1\": regions: no endpoint of \"gcp-us-west2\" ever serves: path is internal, psc"]
    );
    let told = warnings(both);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("\"gcp-us-west2\" ever serves: without path only private ones"), "{told:?}");
    assert_eq!(warnings(&format!("{both}\npath = [\"public\"]")), Vec::<String>::new());
    assert_eq!(warnings("regions = \"nearest\""), Vec::<String>::new());
}

#[test]
fn reuse_needs_warm_upstreams() {
    let reuse = "[[listener]]\nreuse = true\n";
    let told = |root: &str, more: &str| {
        let faults = World::of_file(&format!("{root}{ONE_CLUSTER}{reuse}{more}")).faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    };

    for told in [told("", "warm_max = 0\n"), told("warm_max = 0\n", "")] {
        assert!(told.contains("reuse: needs a warm_max of at least 1"), "{told}");
    }
    assert!(told("warm_total_max = 0\n", "").contains("reuse: needs a warm_total_max of at least 1"));
    World::of_file(&format!("warm_max = 0\n{ONE_CLUSTER}{reuse}warm_max = 1\n")).loaded();
}

#[test]
fn a_faulty_endpoint_gives_the_listeners_that_ask_for_it_no_second_fault() {
    let broken = TWO_REGIONS.replace("host = \"h3\"", "host = \"\"");
    let listener = "[[listener]]\nregions = [\"us-west2\"]\npath = [\"psc\"]\n";

    let faults = World::of_file(&format!("{broken}{listener}")).faults();

    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains("host"), "{faults:#?}");
}

#[test]
fn the_nearest_is_asked_for_by_flag_and_variable_with_and_without_a_host() {
    let host = || World::default().url("postgresql://app:x@h/d?sslrootcert=system");
    let file = || World::of_file(&format!("{TWO_REGIONS}[[listener]]\nregions = [\"us-east1\"]\n"));
    for world in [host(), file()] {
        let by_flag = world.clone().flag(Flag::Region, "nearest");
        let by_variable = world.variable("CRDB_PROXY_REGION", "nearest");
        for loaded in [by_flag.loaded(), by_variable.loaded()] {
            assert_eq!(loaded.settings.listeners[0].policy.regions, Regions::Nearest(vec![]));
            assert_ne!(loaded.settings.clusters[0].endpoints[0].region.as_deref(), Some("nearest"));
        }
    }
    let listed = file().flag(Flag::Region, "nearest,us-east1").faults();
    assert!(listed[0].contains("\"nearest\" is no region"), "{listed:?}");
}

#[test]
fn a_region_of_a_stronger_layer_leaves_nothing_of_the_weaker_one() {
    let world = World::default().url("postgresql://app@h/d?sslrootcert=system").flag(Flag::PasswordFile, "p");
    let world = world.variable("CRDB_PROXY_REGION", "nearest").flag(Flag::Region, "gcp-us-east1");

    let settings = world.loaded().settings;

    assert_eq!(settings.clusters[0].endpoints[0].region.as_deref(), Some("gcp-us-east1"));
    assert_eq!(settings.listeners[0].policy, Policy::default());
}

#[test]
fn a_policy_is_shown_as_a_file_says_it() {
    let shown = |text: &str| show(&world(text).loaded());

    let plain = shown("");
    for line in ["regions = []", "path = []", "prefer = \"path\"", "overflow = false", "reuse = false", "warm_max = 4"]
    {
        assert!(plain.contains(&format!("\n{line}  # default\n")), "{line} is missing in\n{plain}");
    }
    assert!(shown("regions = \"nearest\"").contains("\nregions = \"nearest\"  # ../f"));
    let some = shown("regions = { nearest = [\"us-east1\"] }\npath = [\"internal\", \"public\"]");
    assert!(some.contains("\nregions = { nearest = [\"gcp-us-east1\"] }  # ../f"), "{some}");
    assert!(some.contains("\npath = [\"internal\", \"public\"]  # ../f"), "{some}");
}
