//! Alerts, dashboard and scrape settings speak of metrics that the daemon exports, with labels and values that it
//! gives them.

use super::{documents, list, text};
use crate::{
    drivers::environment,
    harness::{DEADLINE, FakeUpstream, SettingsFile, markdown, markdown::root, process},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn every_metric_label_and_value_of_alerts_and_dashboard_is_exported() {
    let exported = exported();
    let (mut metrics, mut values) = (BTreeSet::new(), 0);
    for (place, query) in queries() {
        for selector in selectors(&query) {
            let labels = exported.get(&selector.metric);
            let labels = labels.unwrap_or_else(|| panic!("{place}: {} is not exported", selector.metric));
            for (label, wanted) in &selector.labels {
                // Those that Prometheus adds.
                if ["job", "instance"].contains(&label.as_str()) {
                    continue;
                }
                let known = labels.get(label).unwrap_or_else(|| panic!("{place}: {query} has no label {label}"));
                for value in wanted.split('|') {
                    assert!(known.contains(value), "{place}: {label} is never {value:?} in {query}");
                    values += 1;
                }
            }
            metrics.insert(selector.metric);
        }
    }
    assert!(metrics.len() > 25 && values > 20, "only {metrics:?} and {values} values");
}

#[test]
fn a_label_that_a_query_sums_by_exists() {
    let exported = exported();
    let mut compared = 0;
    for (place, query) in queries() {
        let mut known = BTreeSet::from(["job", "instance", "le"].map(str::to_owned));
        known.extend(selectors(&query).iter().flat_map(|selector| exported[&selector.metric].keys().cloned()));
        for by in query.split(" by (").skip(1) {
            for label in by.split(')').next().unwrap().split(',') {
                assert!(known.contains(label.trim()), "{place}: {query} sums by {label}");
                compared += 1;
            }
        }
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn a_query_of_something_else_is_told_apart() {
    let found = selectors("sum by (a) (rate(crdb_proxy_x_bucket{job=\"$job\",reason=~\"a|b\"}[5m])) / process_y > 0");

    let labels = vec![("job".to_owned(), "$job".to_owned()), ("reason".to_owned(), "a|b".to_owned())];
    assert_eq!(found[0], Selector { metric: "crdb_proxy_x_bucket".into(), labels });
    assert_eq!(found[1], Selector { metric: "process_y".into(), labels: vec![] });
    assert!(!exported().contains_key("crdb_proxy_x_bucket"));
}

#[test]
fn promtool_takes_the_alerts_and_each_of_them_fires() {
    let Some(promtool) = promtool() else { return };
    let alerts = documents("deploy/prometheus/alerts.yml");
    let alerts = list(&alerts[0]["groups"][0]["rules"]).iter().map(|rule| text(&rule["alert"]).to_owned());
    let tested = documents("tests/deploy/alerts.yml");
    let cases = list(&tested[0]["tests"]).iter().flat_map(|test| list(&test["promql_expr_test"]));
    let fired = cases.flat_map(|case| list(&case["exp_samples"])).map(|sample| text(&sample["labels"]));
    let fired = fired.map(|labels| labels.split('"').nth(1).unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(fired, alerts.collect::<BTreeSet<_>>());

    run(&promtool, &["check", "rules", "deploy/prometheus/alerts.yml"]);
    run(&promtool, &["test", "rules", "tests/deploy/alerts.yml"]);
}

#[test]
fn promtool_takes_the_scrape_settings_and_every_query_of_the_dashboard() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut scrape = documents("deploy/prometheus/prometheus.yml").remove(0);
    let of_pods = scrape["scrape_configs"][0].as_object_mut().unwrap();
    // Debian's Prometheus is built without this way to find targets.
    assert_eq!(of_pods.remove("kubernetes_sd_configs").unwrap(), json!([{ "role": "pod" }]));
    let settings = folder.path().join("prometheus.yml");
    fs::write(&settings, scrape.to_string()).unwrap();
    fs::copy(root().join("deploy/prometheus/alerts.yml"), folder.path().join("alerts.yml")).unwrap();
    let rules = queries().into_iter().enumerate().map(|(number, (_, query))| {
        let query = query.replace("$__rate_interval", "5m");
        json!({ "record": format!("query:{number}"), "expr": query })
    });
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": rules.collect::<Vec<_>>() }] });
    let dashboard = folder.path().join("dashboard.yml");
    fs::write(&dashboard, rules.to_string()).unwrap();

    run(&promtool, &["check", "config", settings.to_str().unwrap()]);
    run(&promtool, &["check", "rules", dashboard.to_str().unwrap()]);
}

#[test]
fn pods_are_scraped_at_the_port_that_the_manifests_name() {
    let relabel = documents("deploy/prometheus/prometheus.yml")[0]["scrape_configs"][0]["relabel_configs"][0].clone();
    assert_eq!(relabel["regex"], "true;crdb-proxy");
    let mut named = 0;
    for pod in super::Pod::all() {
        let text = markdown::read(&pod.file);
        let port = list(&pod.daemon["ports"]).iter().find(|port| port["name"] == "crdb-proxy");
        assert_eq!(port.is_some(), text.contains("prometheus.io/scrape"), "{}", pod.file);
        if let Some(port) = port {
            assert!(text.contains(&format!("prometheus.io/port: \"{}\"", port["containerPort"])), "{}", pod.file);
            named += 1;
        }
    }
    assert_eq!(named, 2);
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let panels = list(&dashboard["panels"]);
    let ids = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect::<BTreeSet<_>>();
    assert_eq!(ids.len(), panels.len(), "two panels share an ID");
    for panel in panels {
        let place = &panel["gridPos"];
        let sum = |at: &str, size: &str| place[at].as_u64().unwrap() + place[size].as_u64().unwrap();
        assert!(sum("x", "w") <= 24, "{panel}");
        assert!(panel["type"] == "row" || !list(&panel["targets"]).is_empty(), "{panel}");
    }
    let variables = list(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["name"]));
    assert_eq!(variables.collect::<Vec<_>>(), ["datasource", "job", "instance"]);
}

/// A metric with what a query says about its labels.
#[derive(Debug, PartialEq)]
struct Selector {
    metric: String,
    labels: Vec<(String, String)>,
}

/// The metrics in a query. Matchers use lists (`a|b`) and no other patterns.
fn selectors(query: &str) -> Vec<Selector> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = |at: &usize| ["crdb_proxy_", "process_"].iter().any(|prefix| query[*at..].starts_with(prefix));
    let starts = (0..query.len()).filter(|at| query.is_char_boundary(*at)).filter(begins);
    let found = starts.map(|at| {
        let word = &query[at..];
        let (metric, after) = word.split_at(word.find(|c| !is_word(c)).unwrap_or(word.len()));
        let inside = after.strip_prefix('{').and_then(|inside| inside.split('}').next()).unwrap_or_default();
        Selector { metric: metric.to_owned(), labels: matchers(inside) }
    });
    found.collect()
}

fn matchers(inside: &str) -> Vec<(String, String)> {
    let parts = inside.split("\",").filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (label, value) = part.trim_end_matches('"').split_once('"').expect(inside);
        (label.trim_end_matches(['=', '~', '!']).trim().to_owned(), value.to_owned())
    });
    pairs.collect()
}

/// Every query that is shown, with its place.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    let alerts = documents("deploy/prometheus/alerts.yml");
    for rule in list(&alerts[0]["groups"][0]["rules"]) {
        queries.push((text(&rule["alert"]).to_owned(), text(&rule["expr"]).to_owned()));
    }
    let dashboard = dashboard();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            queries.push((text(&panel["title"]).to_owned(), text(&target["expr"]).to_owned()));
        }
    }
    for variable in list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"]["query"]);
        let (metric, _) = query.strip_prefix("label_values(").unwrap().rsplit_once(',').unwrap();
        queries.push((query.to_owned(), metric.to_owned()));
    }
    assert!(queries.len() > 45, "only {} queries were found", queries.len());
    queries
}

fn dashboard() -> Value {
    serde_json::from_str(&markdown::read("deploy/grafana/crdb-proxy.json")).unwrap()
}

/// What a daemon with every optional part exports: each series' name, its labels and their values.
fn exported() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let cluster = FakeUpstream::answering();
    let settings = SettingsFile::of(&cluster).identity("own", &cluster.authority.client("app"));
    let settings = settings.identity("local", &cluster.authority.server());
    let settings = settings.cluster("cert = \"own.crt\"\nkey = \"own.key\"");
    let tls = "tls = \"allow\"\ntls_cert = \"local.crt\"\ntls_key = \"local.key\"";
    let metrics = settings.listener(tls).start().metrics();
    let mut exported = BTreeMap::<_, BTreeMap<_, BTreeSet<_>>>::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = exported.entry(name.to_owned()).or_default();
        for (label, value) in matchers(labels.trim_end_matches('}')) {
            known.entry(label).or_default().insert(value);
        }
    }
    assert!(exported.len() > 40, "{exported:?}");
    exported
}

/// Where `tests/run` puts Prometheus' own checker; the reason on the screen where it is not.
fn promtool() -> Option<PathBuf> {
    let installed = environment("promtool/promtool");
    if installed.exists() {
        return Some(installed);
    }
    println!("skipped: no promtool at {}; tests/run fetches it where Debian's packages are", installed.display());
    None
}

#[track_caller]
fn run(promtool: &Path, arguments: &[&str]) {
    process::run(Command::new(promtool).args(arguments).current_dir(root()), "", DEADLINE).expect_success();
}
