//! The form of manifests and compose files, and that they agree with the settings that they show.

use super::{Pod, Shown, containers, documents, files, judge, list, shown_settings, text};
use crate::harness::markdown::{self, root};
use serde_json::Value;
use std::fs;

/// The first Kubernetes with native sidecars, and the newest whose schema is at hand.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

/// One without native sidecars.
const OLD: &str = "1.25";

#[test]
fn every_manifest_keeps_to_the_schemas_of_kubernetes() {
    let files = files("kubernetes", "yaml");
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let path = root().join(&file);
        let old = file.contains("without-native-sidecars").then_some(OLD);
        for version in VERSIONS.into_iter().chain(old) {
            let judged = judge(&["kubernetes", path.to_str().unwrap(), version]);

            assert!(judged.status.success(), "{file}, {version}: {}", judged.stderr);
        }
    }
}

#[test]
fn a_manifest_that_breaks_a_schema_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.yaml");
    let sound = markdown::read("deploy/kubernetes/unix-socket.yaml");
    fs::write(&broken, sound.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")).unwrap();

    let judged = judge(&["kubernetes", broken.to_str().unwrap(), VERSIONS[0]]);
    let sidecar = root().join("deploy/kubernetes/job.yaml");
    let too_old = judge(&["kubernetes", sidecar.to_str().unwrap(), OLD]);

    assert!(!judged.status.success() && judged.stderr.contains("readOnlyRootFileSystem"), "{}", judged.stderr);
    assert!(!too_old.status.success() && too_old.stderr.contains("restartPolicy"), "{}", too_old.stderr);
}

#[test]
fn every_compose_file_keeps_to_the_specification() {
    let files = files("compose", "yaml");
    assert!(files.len() >= 2, "{files:?}");
    for file in &files {
        judge(&["compose", root().join(file).to_str().unwrap()]).expect_success();
    }
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("compose.yaml");
    fs::write(&broken, markdown::read(&files[0]).replace("read_only", "readonly")).unwrap();

    let judged = judge(&["compose", broken.to_str().unwrap()]);

    assert!(!judged.status.success() && judged.stderr.contains("readonly"), "{}", judged.stderr);
}

#[test]
fn every_settings_file_that_is_shown_is_sound() {
    for (place, settings) in shown_settings() {
        let checked = Shown::checked(&settings).check();

        assert!(checked.status.success(), "{place}: {}", checked.stderr);
        assert!(!checked.stderr.contains("WARN"), "{place}: {}", checked.stderr);
    }
}

#[test]
fn a_stop_has_time_for_the_whole_drain() {
    let mut graces = Vec::new();
    for pod in Pod::all() {
        let grace = pod.spec["terminationGracePeriodSeconds"].as_f64().expect("a grace period");
        graces.push((pod.file, grace, pod.settings));
    }
    for file in files("compose", "yaml") {
        let daemon = &documents(&file)[0]["services"]["crdb-proxy"];
        let settings = compose_settings(daemon);
        graces.push((file, seconds(text(&daemon["stop_grace_period"])), settings));
    }
    for (file, grace, settings) in graces {
        let settings = Shown::checked(&settings);
        let drain = seconds(&settings.effective("drain_delay")) + seconds(&settings.effective("drain_limit"));

        assert!(grace >= drain + 5.0, "{file}: {grace} s of grace for a drain of {drain} s");
        assert!(drain >= 25.0, "{file}: {drain}");
    }
}

#[test]
fn probes_ask_where_the_shown_settings_answer() {
    let mut asked = Vec::new();
    for pod in Pod::all() {
        let admin = pod.settings.lines().find_map(|line| line.strip_prefix("admin = ")).expect("an admin address");
        let admin = admin.trim_matches('"').to_owned();
        for probe in probes(&pod) {
            let get = &probe["httpGet"];
            assert_eq!(
                format!("0.0.0.0:{}", get["port"]),
                admin,
                "{}: the kubelet comes to the pod's address",
                pod.file
            );
            asked.push(text(&get["path"]).to_owned());
        }
        if admin.starts_with("localhost:") {
            assert!(containers(&pod.spec).any(|other| other.to_string().contains(&format!("http://{admin}/"))));
        }
    }
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["/livez", "/readyz", "/startupz"]);
}

#[test]
fn secrets_and_settings_are_mounted_as_folders_where_the_daemon_looks_for_them() {
    for pod in Pod::all() {
        let all = pod.spec.to_string();
        assert!(!all.contains("subPath"), "{}: a subPath never sees a new secret", pod.file);
        let secret = pod.volume_at("/run/secrets/crdb-proxy");
        // Read through the pod's fsGroup, and by nobody else.
        assert_eq!(secret["secret"]["defaultMode"], 0o440, "{}", pod.file);
        assert!(pod.spec["securityContext"]["fsGroup"].is_u64(), "{}", pod.file);
        assert!(pod.settings.contains("file = \"/run/secrets/crdb-proxy/password\""), "{}", pod.file);
        let sources = pod.volume_at("/etc/crdb-proxy")["projected"]["sources"].to_string();
        assert!(sources.contains("\"crdb-proxy-ca\""), "{}: {sources}", pod.file);
        let documents = documents(&pod.file);
        let map = documents.iter().find(|document| document["kind"] == "ConfigMap").unwrap();
        assert!(sources.contains(&map["metadata"]["name"].to_string()), "{}: {sources}", pod.file);
        for other in containers(&pod.spec).filter(|container| container["name"] != "crdb-proxy") {
            assert!(!other["volumeMounts"].to_string().contains("secret"), "{}: {other}", pod.file);
        }
    }
}

#[test]
fn the_first_example_lets_one_container_at_the_socket() {
    let pod = Pod::named("unix-socket.yaml");
    assert!(pod.volume_at("/run/crdb-proxy")["emptyDir"].is_object());
    let mounts = |container: &&Value| container["volumeMounts"].to_string().contains("crdb-proxy-socket");

    let names = containers(&pod.spec).filter(mounts).map(|container| text(&container["name"])).collect::<Vec<_>>();

    assert_eq!(names, ["crdb-proxy", "shop"]);
    let users = containers(&pod.spec).map(|container| &container["securityContext"]["runAsUser"]).collect::<Vec<_>>();
    assert_ne!(users[0], users[1], "the example is about different users");
}

#[test]
fn every_pod_is_locked_down_and_resolves_the_clusters_name_at_once() {
    for pod in Pod::all() {
        let security = &pod.daemon["securityContext"];
        for (key, value) in
            [("runAsNonRoot", true), ("readOnlyRootFilesystem", true), ("allowPrivilegeEscalation", false)]
        {
            assert_eq!(security[key], value, "{}: {key}", pod.file);
        }
        assert_eq!(security["capabilities"]["drop"][0], "ALL", "{}", pod.file);
        for container in containers(&pod.spec) {
            let security = &container["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{}: {container}", pod.file);
            assert_eq!(security["allowPrivilegeEscalation"], false, "{}: {container}", pod.file);
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{}: {container}", pod.file);
        }
        assert_eq!(security["runAsUser"], 65532, "{}", pod.file);
        assert_eq!(pod.spec["enableServiceLinks"], false, "{}", pod.file);
        assert_eq!(pod.spec["dnsConfig"]["options"], serde_json::json!([{ "name": "ndots", "value": "1" }]));
        let image = format!("registry.example/crdb-proxy:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(pod.daemon["image"], image, "{}", pod.file);
    }
    for file in files("compose", "yaml") {
        let daemon = &documents(&file)[0]["services"]["crdb-proxy"];
        assert_eq!(daemon["read_only"], true, "{file}");
        assert_eq!(daemon["cap_drop"][0], "ALL", "{file}");
        assert_eq!(daemon["image"], format!("registry.example/crdb-proxy:{}", env!("CARGO_PKG_VERSION")), "{file}");
    }
}

#[test]
fn native_sidecars_are_those_of_all_pods_but_one() {
    for pod in Pod::all() {
        let native = list(&pod.spec["initContainers"]).iter().any(|container| container["restartPolicy"] == "Always");

        assert_eq!(native, !pod.file.contains("without-native-sidecars"), "{}", pod.file);
    }
}

#[test]
fn the_network_policy_lets_names_and_the_cluster_through() {
    let policy = &documents("deploy/kubernetes/network-policy.yaml")[0];
    let ports = |rules: &Value| {
        let ports = list(rules).iter().flat_map(|rule| list(&rule["ports"]));
        ports.map(|port| format!("{} {}", text(&port["protocol"]), port["port"])).collect::<Vec<_>>()
    };

    assert_eq!(ports(&policy["spec"]["egress"]), ["UDP 53", "TCP 53", "TCP 26257"]);
    assert!(ports(&policy["spec"]["ingress"]).contains(&"TCP 9257".to_owned()));
    let labels = documents("deploy/kubernetes/localhost.yaml")[1]["spec"]["template"]["metadata"]["labels"].clone();
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], labels);
}

#[test]
fn meshes_leave_the_way_to_the_cluster_alone() {
    let documents = documents("deploy/kubernetes/localhost.yaml");
    let notes = &documents[1]["spec"]["template"]["metadata"]["annotations"];

    for mesh in ["traffic.sidecar.istio.io/excludeOutboundPorts", "config.linkerd.io/skip-outbound-ports"] {
        assert_eq!(notes[mesh], "26257", "{mesh}");
    }
}

#[test]
fn compose_files_share_a_socket_or_a_network_and_mount_secrets_as_a_folder() {
    let socket = &documents("deploy/compose/compose.yaml")[0]["services"];
    assert_eq!(socket["app"]["depends_on"]["crdb-proxy"]["condition"], "service_healthy");
    assert!(list(&socket["app"]["volumes"]).contains(&Value::from("socket:/run/crdb-proxy")));
    let network = &documents("deploy/compose/compose.localhost.yaml")[0]["services"];
    assert_eq!(network["crdb-proxy"]["network_mode"], "service:app");
    // Else it would stay in the network of an application that is no more.
    let after = &network["crdb-proxy"]["depends_on"]["app"];
    assert_eq!((&after["condition"], &after["restart"]), (&"service_started".into(), &true.into()));
    for services in [socket, network] {
        let mounts = list(&services["crdb-proxy"]["volumes"]);
        assert!(mounts.contains(&Value::from("./secrets:/run/secrets/crdb-proxy:ro")), "{mounts:?}");
        assert_eq!(services["crdb-proxy"]["healthcheck"]["test"], serde_json::json!(["CMD", "/crdb-proxy", "health"]));
        // What the health check asks is what the daemon was told, whatever becomes of the file.
        assert_eq!(services["crdb-proxy"]["environment"]["CRDB_PROXY_ADMIN"], "localhost:9257");
        assert!(!compose_settings(&services["crdb-proxy"]).contains("\nadmin = "));
    }
}

/// Every probe of the daemon's container.
pub(super) fn probes(pod: &Pod) -> Vec<Value> {
    let kinds = ["startupProbe", "readinessProbe", "livenessProbe"];
    kinds.iter().map(|kind| pod.daemon[kind].clone()).filter(Value::is_object).collect()
}

/// The settings file that a compose file mounts.
fn compose_settings(daemon: &Value) -> String {
    let mounts = list(&daemon["volumes"]).iter().map(text);
    let mut settings = mounts.filter_map(|mount| mount.strip_suffix(":/etc/crdb-proxy/crdb-proxy.toml:ro"));
    markdown::read(&format!("deploy/compose/{}", settings.next().expect("settings").trim_start_matches("./")))
}

/// `25s`, `1min` and `0s` as seconds.
fn seconds(span: &str) -> f64 {
    let number = span.trim_end_matches(char::is_alphabetic);
    let unit = match &span[number.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        other => panic!("{other:?} of {span}"),
    };
    number.parse::<f64>().unwrap() * unit
}
