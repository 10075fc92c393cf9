//! What loading takes, refuses, and says about it.

use super::*;
use crate::settings::{
    AdminAddress, AuthKind, CaSource, EndpointKind, Flag, ListenAddress, LocalTls, Policy, Regions, show, show_json,
};
use std::fs;

/// A valid file with one cluster; the folder shows as `/f`, the working folder as `/w`.
pub(super) const ONE_CLUSTER: &str = "\
[cluster.prod]\nca = \"ca.crt\"\nuser = \"app\"\npassword = { file = \"p\" }\n\
[[cluster.prod.endpoint]]\nhost = \"h\"\n";

/// Inputs to be set up in a line, and the folder that their file lives in.
#[derive(Clone, Default)]
pub(super) struct World {
    inputs: Inputs,
    file: Option<String>,
}

impl World {
    pub(super) fn of_file(text: &str) -> Self {
        Self { file: Some(text.to_owned()), ..Self::default() }
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.inputs.variables.push((name.into(), value.into()));
        self
    }

    pub(super) fn flag(mut self, flag: Flag, said: &str) -> Self {
        self.inputs.flags.given.push((flag, said.to_owned()));
        self
    }

    pub(super) fn url(mut self, url: &str) -> Self {
        self.inputs.flags.url = Some(url.to_owned());
        self
    }

    /// Loads from a folder of its own, and then calls that folder `/f` and the working folder `/w`.
    fn load(mut self) -> Result<Loaded, Faults> {
        let root = tempfile::tempdir().unwrap();
        let (folder, working) = (root.path().join("f"), root.path().join("w"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&working).unwrap();
        self.inputs.working_folder = working;
        self.inputs.cores = 3;
        self.inputs.home.get_or_insert_with(|| "/h".into());
        if let Some(text) = &self.file {
            let file = folder.join("crdb-proxy.toml");
            fs::write(&file, text).unwrap();
            // Whatever the umask says.
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            self.inputs.flags.config = Some("../f/crdb-proxy.toml".into());
        }
        load(&self.inputs)
    }

    pub(super) fn loaded(self) -> Loaded {
        self.load().unwrap_or_else(|faults| panic!("{faults}"))
    }

    pub(super) fn faults(self) -> Vec<String> {
        match self.load() {
            Ok(_) => panic!("no fault"),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }
}

#[test]
fn a_connection_string_alone_makes_one_cluster_and_one_listener() {
    let url = "postgresql://app@prod.gcp-us-east1.cockroachlabs.cloud:26257/bank?sslmode=verify-full\
               &sslrootcert=$HOME/L/ca.crt&application_name=shop&connect_timeout=3";
    let loaded = World::default().url(url).flag(Flag::PasswordFile, "pw").loaded();

    let Settings { clusters, listeners, .. } = &loaded.settings;
    let (cluster, listener) = (&clusters[0], &listeners[0]);
    assert_eq!((clusters.len(), listeners.len()), (1, 1));
    assert_eq!((cluster.name.as_str(), cluster.user.name.as_str()), ("default", "app"));
    assert_eq!(cluster.ca, CaSource::File("/h/L/ca.crt".into()));
    assert!(matches!(&cluster.user.password, Some(SecretSource::File(path)) if path.ends_with("w/pw")));
    let endpoint = &cluster.endpoints[0];
    assert_eq!(endpoint.name.as_str(), "default");
    assert_eq!(endpoint.tls_server_name.to_str(), "prod.gcp-us-east1.cockroachlabs.cloud");
    assert_eq!((endpoint.kind, endpoint.port), (EndpointKind::Public, 26257));
    assert_eq!(listener.name.as_str(), "listener-1");
    assert_eq!(listener.address, ListenAddress::Localhost(26257));
    assert_eq!(listener.database, "bank");
    assert_eq!(listener.session_parameters, [("application_name".to_owned(), "shop".to_owned())]);
    assert_eq!(loaded.settings.admin, AdminAddress::Localhost(9257));
    assert_eq!(loaded.settings.threads.get(), 2, "of three cores");
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("connect_timeout"), "{:?}", loaded.warnings);
}

#[test]
fn the_connection_parameters_do_the_same_as_a_connection_string() {
    let loaded = World::default()
        .flag(Flag::Host, "db.example.com")
        .flag(Flag::Port, "26258")
        .flag(Flag::User, "app")
        .flag(Flag::Database, "bank")
        .flag(Flag::CaFile, "system")
        .flag(Flag::Region, "gcp-us-east1")
        .flag(Flag::Listen, "localhost:1")
        .flag(Flag::Listen, "127.0.0.1:2")
        .variable("CRDB_PROXY_PASSWORD", "hunter2")
        .loaded();

    let cluster = &loaded.settings.clusters[0];
    assert_eq!(cluster.ca, CaSource::System);
    assert_eq!(cluster.user.password, Some(SecretSource::Env("CRDB_PROXY_PASSWORD".into())));
    let endpoint = &cluster.endpoints[0];
    assert_eq!((endpoint.host.as_str(), endpoint.port), ("db.example.com", 26258));
    assert_eq!(endpoint.name.as_str(), "gcp-us-east1-public");
    let listeners = &loaded.settings.listeners;
    assert_eq!(listeners.len(), 2);
    assert_eq!(listeners[1].name.as_str(), "listener-2");
    assert!(listeners.iter().all(|listener| listener.database == "bank" && listener.policy == Policy::default()));
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn every_broken_rule_is_told_at_once_with_source_key_and_rule() {
    let file = "\
connect_limit = 10
drain_limit = \"0s\"
startup_bytes_max = 2000000
sesions_max = 1

[cluster.prod]
ca = \"ca.crt\"
user = \"\"
password = \"hunter2\"

[[cluster.prod.endpoint]]
host = \"h:26257\"
port = 70000

[[listener]]
name = \"main\"
database_ = \"hunter2\"
tls = \"on\"
";
    let faults = World::of_file(file).variable("CRDB_PROXY_LOG_LEVL", "debug").flag(Flag::LogFormat, "xml").faults();

    let at = |line| format!("../f/crdb-proxy.toml:{line}: ");
    let expected = [
        "flag --log-format = \"xml\": must be \"text\" or \"json\"".to_owned(),
        "variable CRDB_PROXY_LOG_LEVL: no setting has this name; did you mean \"CRDB_PROXY_LOG_LEVEL\"?".to_owned(),
        at(1) + "connect_limit = 10: needs a unit: \"500ms\", \"10s\", \"5min\" or \"2h\"",
        at(2) + "drain_limit = \"0s\": must be from 1ms to 8760h",
        at(3) + "startup_bytes_max = 2000000: must be a whole number from 64 to 1048576",
        at(4) + "sesions_max: unknown key; did you mean \"sessions_max\"?",
        at(8) + "cluster \"prod\": user = \"\": must not be empty",
    ];
    assert_eq!(faults[..7], expected, "{faults:#?}");
    assert!(faults[7].starts_with(&(at(9) + "cluster \"prod\": password: a secret must not stand")));
    assert!(faults[8].starts_with(&(at(12) + "cluster \"prod\": endpoint \"default\": host = ")));
    assert!(faults[9].starts_with(&(at(13) + "cluster \"prod\": endpoint \"default\": port = 70000: ")));
    assert_eq!(faults[10], at(17) + "listener \"main\": database_: unknown key; did you mean \"database\"?");
    assert!(faults[11].starts_with(&(at(18) + "listener \"main\": tls = \"on\": must be \"off\", \"allow\" or")));
    assert_eq!(faults.len(), 12, "{faults:#?}");
    assert!(!faults.concat().contains("hunter2"), "{faults:#?}");
}

/// The only fault of a file that consists of [`ONE_CLUSTER`] and more.
fn fault_of(more: &str) -> String {
    let faults = World::of_file(&format!("{ONE_CLUSTER}{more}")).faults();
    assert_eq!(faults.len(), 1, "{more}: {faults:#?}");
    faults[0].clone()
}

#[test]
fn each_rule_between_keys_has_its_sentence() {
    let endpoint = |text: &str| fault_of(&format!("[[cluster.prod.endpoint]]\n{text}\n"));
    let listener = |text: &str| fault_of(&format!("[[listener]]\n{text}\n"));
    let second = |text: &str| listener(&format!("address = \"localhost:5\"\n[[listener]]\n{text}"));
    let cases = [
        (endpoint("host = \"x\"\nname = \"default\""), "another endpoint of this cluster has the same name"),
        (endpoint("host = \"H\"\nname = \"b\""), "the same host and port as endpoint \"default\""),
        (endpoint("name = \"b\""), "host: missing"),
        (endpoint("host = \"x\"\nname = \"b c\""), "must be 1 to 63 of"),
        (endpoint("host = \"x\"\nname = \"b\"\nkind = \"vpn\""), "\"custom\""),
        (endpoint("host = \"x\"\nname = \"b\"\ntls_server_name = \"a b\""), "must be a host name or an IP"),
        (endpoint("host = \"x\"\nregion = \"\""), "region"),
        (endpoint("host = \"x\"\nregion = \"nearest\""), "is no region"),
        (listener("cluster = \"prd\""), "no cluster of this name; did you mean \"prod\"?"),
        (listener("regions = [\"gcp-us-east1\"]"), "no endpoint of cluster \"prod\" has the region"),
        (listener("tls = \"allow\""), "needs tls_cert and tls_key"),
        (listener("tls_cert = \"c\""), "tls_key: missing; tls_cert and tls_key go together"),
        (listener("address = \"unix:x\"\ntls = \"allow\"\ntls_cert = \"c\"\ntls_key = \"k\""), "Unix socket"),
        (listener("address = \"0.0.0.0:5\""), "unsafe_allow_remote = true (--unsafe-allow-remote)"),
        (listener("mode = \"0999\"\naddress = \"unix:x\""), "permission bits"),
        (listener("address = \"localhost:9257\""), "taken by the admin address"),
        (listener("session_parameters = { USER = \"x\" }"), "set by the cluster's user"),
        (listener("session_parameters = { \"crdb:remote_addr\" = \"x\" }"), "never sent"),
        (listener("session_parameters = { a = \"1\", A = \"2\" }"), "set twice"),
        (listener("session_parameters = { a = \"\\u0000\" }"), "NUL"),
        (listener("database = \"a\\u0000\""), "NUL"),
        (second("address = \"127.0.0.1:5\""), "taken by listener \"listener-1\""),
        (second("name = \"listener-1\""), "another listener has the same name"),
        (fault_of("[listener]\nname = \"x\"\n"), "[[listener]], once for each"),
        (
            fault_of(
                "[cluster.two]\nca = \"c\"\nuser = \"u\"\ncert = \"c\"\nkey = \"k\"\n\
                   [[cluster.two.endpoint]]\nhost = \"h\"\n",
            ),
            "there are several clusters",
        ),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "{said} does not say: {expected}");
    }
}

#[test]
fn each_rule_of_a_cluster_has_its_sentence() {
    let fault = |from: &str, to: &str| {
        assert!(ONE_CLUSTER.contains(from));
        let faults = World::of_file(&ONE_CLUSTER.replace(from, to)).faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    };
    let (ca, password) = ("ca = \"ca.crt\"\n", "password = { file = \"p\" }\n");
    let cases = [
        (fault(ca, ""), "crdb-proxy ca fetch --cluster-id ID (no key needed)"),
        (fault(password, ""), "--password-file, --password-command or CRDB_PROXY_PASSWORD"),
        (fault(password, "cert = \"c\"\n"), "key: missing; cert and key go together"),
        (fault(password, "auth = \"jwt\"\ncert = \"c\"\nkey = \"k\"\n"), "sends the secret as a token"),
        (fault(password, "auth = \"md5\"\npassword = { env = \"E\" }\n"), "must be \"password\" or \"jwt\""),
        (fault("user = \"app\"\n", ""), "user: missing"),
        (fault("[[cluster.prod.endpoint]]\nhost = \"h\"\n", ""), "no endpoint to dial"),
        (fault("[[cluster.prod.endpoint]]", "[cluster.prod.endpoint]"), "must be a list"),
        (fault("host = \"h\"", "host = \"h1,h2\""), "must be one host"),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "{said} does not say: {expected}");
    }
}

#[test]
fn numbers_and_spans_of_the_first_block_have_their_bounds() {
    let load = |line: &str| World::of_file(&format!("{line}\n{ONE_CLUSTER}"));
    let cases = [
        ("warm_max", "0", "1001", "from 0 to 1000"),
        ("warm_max", "1000", "-1", "from 0 to 1000"),
        ("warm_total_max", "0", "100001", "from 0 to 100000"),
        ("probe_interval", "\"1s\"", "\"999ms\"", "from 1s to 8760h"),
        ("probe_down_interval", "\"100ms\"", "\"99ms\"", "from 100ms to 8760h"),
        ("dns_refresh", "\"1ms\"", "\"off\"", "whole number and a unit"),
        ("failback_after", "\"1ms\"", "\"0s\"", "from 1ms to 8760h"),
        ("warm_idle", "\"1ms\"", "300", "needs a unit"),
        ("warm_age", "\"1s\"", "\"999ms\"", "from 1s to 8760h"),
    ];
    for (key, taken, refused, rule) in cases {
        load(&format!("{key} = {taken}")).loaded();
        let faults = load(&format!("{key} = {refused}")).faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(faults[0].contains(key) && faults[0].contains(rule), "{} does not say: {rule}", faults[0]);
    }
}

#[test]
fn a_broken_cluster_gives_its_listeners_no_second_fault() {
    let text = ONE_CLUSTER.replace("user = \"app\"\n", "") + "[[listener]]\ncluster = \"prod\"\n";

    assert_eq!(World::of_file(&text).faults().len(), 1);
}

#[test]
fn a_broken_connection_string_is_one_fault() {
    let faults = World::default().url("postgresql://app:hunter2@h@").faults();

    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(!faults[0].contains("hunter2"), "{faults:#?}");
}

#[test]
fn an_ip_may_be_dialled_without_a_server_name() {
    for host in ["10.0.0.1", "::1"] {
        let text = ONE_CLUSTER.replace("\"h\"", &format!("\"{host}\""));

        let endpoint = World::of_file(&text).loaded().settings.clusters[0].endpoints[0].clone();

        assert_eq!(endpoint.tls_server_name.to_str(), host);
    }
}

#[test]
fn a_client_certificate_may_stand_instead_of_a_password_and_a_jwt_beside_it() {
    let read = |to| World::of_file(&ONE_CLUSTER.replace("password = { file = \"p\" }", to)).loaded();

    let cluster = read("cert = \"c\"\nkey = \"k\"").settings.clusters[0].clone();
    assert!(cluster.user.password.is_none() && cluster.user.client_certificate.is_some());
    let cluster = read("auth = \"jwt\"\npassword = { env = \"TOKEN\" }").settings.clusters[0].clone();
    assert_eq!(cluster.user.auth, AuthKind::Jwt);
}

#[test]
fn a_remote_listener_needs_tls_and_a_password_or_is_warned_about() {
    let listener = |text: &str| World::of_file(&format!("{ONE_CLUSTER}[[listener]]\naddress = \"0.0.0.0:5\"\n{text}"));
    let tls = "tls = \"require\"\ntls_cert = \"c\"\ntls_key = \"k\"\n";

    let safe = listener(&format!("{tls}local_password = {{ file = \"l\" }}\n")).loaded();
    assert_eq!(safe.warnings, Vec::<String>::new());
    assert!(matches!(safe.settings.listeners[0].tls, LocalTls::Require(_)));
    let unsafely = listener("unsafe_allow_remote = true\n").loaded();
    assert!(unsafely.warnings[0].contains("every host that can reach 0.0.0.0:5"), "{:?}", unsafely.warnings);
    assert_eq!(listener(tls).faults().len(), 1);
    let by_flag = listener("").flag(Flag::UnsafeAllowRemote, "true").loaded();
    assert_eq!(by_flag.warnings.len(), 1);
}

#[test]
fn regions_are_understood_in_the_spelling_of_the_cloud_api() {
    let text = "[[cluster.prod.endpoint]]\nregion = \"gcp-us-east1\"\nhost = \"h1\"\n\
                [[listener]]\nregions = [\"us-east1\"]\n";

    let loaded = World::of_file(&format!("{ONE_CLUSTER}{text}")).loaded();

    let regions = Regions::Listed(vec!["gcp-us-east1".to_owned()]);
    assert_eq!(loaded.settings.listeners[0].policy.regions, regions);
}

#[test]
fn flags_that_mean_one_thing_are_refused_beside_several() {
    let second = "[cluster.two]\nca = \"c\"\nuser = \"u\"\npassword = { file = \"p\" }\n\
                  [[cluster.two.endpoint]]\nhost = \"h\"\n";
    let listeners = "[[listener]]\ncluster = \"prod\"\n[[listener]]\ncluster = \"two\"\naddress = \"localhost:5\"\n";
    let two = format!("{ONE_CLUSTER}{second}{listeners}");
    let only = |world: World| {
        let faults = world.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    };

    let user = only(World::of_file(&two).flag(Flag::User, "x"));
    assert!(user.starts_with("flag --user: the file has 2 clusters"), "{user}");
    let listen = only(World::of_file(&two).flag(Flag::Listen, "localhost:1"));
    assert!(listen.starts_with("flag --listen: the file has 2 listeners"), "{listen}");
    let endpoints = format!("{ONE_CLUSTER}[[cluster.prod.endpoint]]\nname = \"b\"\nhost = \"x\"\n");
    let host = only(World::of_file(&endpoints).variable("CRDB_PROXY_HOST", "x"));
    assert!(host.starts_with("variable CRDB_PROXY_HOST: the file's cluster has 2 endpoints"), "{host}");
    let one = format!("{ONE_CLUSTER}[[listener]]\n");
    let several = only(World::of_file(&one).variable("CRDB_PROXY_LISTEN", "localhost:1, localhost:2"));
    assert!(several.contains("several addresses cannot replace"), "{several}");
    let passwords = World::of_file(ONE_CLUSTER)
        .variable("CRDB_PROXY_PASSWORD", "hunter2")
        .variable("CRDB_PROXY_PASSWORD_FILE", "p");
    assert!(only(passwords).contains("give one of them"));
}

#[test]
fn service_links_of_kubernetes_are_ignored_with_one_warning() {
    let loaded = World::of_file(ONE_CLUSTER)
        .variable("CRDB_PROXY_PORT", "tcp://10.0.0.1:26257")
        .variable("CRDB_PROXY_SERVICE_HOST", "10.0.0.1")
        .variable("CRDB_PROXY_SERVICE_PORT", "26257")
        .variable("CRDB_PROXY_SERVICE_PORT_SQL", "26257")
        .variable("CRDB_PROXY_PORT_26257_TCP_ADDR", "10.0.0.1")
        .variable("CRDB_PROXY_ADMIN_PORT", "udp://10.0.0.1:26257")
        .loaded();

    assert_eq!(loaded.settings.clusters[0].endpoints[0].port, 26257);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("enableServiceLinks: false"), "{:?}", loaded.warnings);
}

#[test]
fn a_variable_that_a_secret_names_is_no_unknown_one() {
    let text = ONE_CLUSTER.replace("file = \"p\"", "env = \"CRDB_PROXY_SECRET\"");

    World::of_file(&text).variable("CRDB_PROXY_SECRET", "hunter2").loaded();

    assert_eq!(World::of_file(ONE_CLUSTER).variable("CRDB_PROXY_SECRET", "x").faults().len(), 1);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_a_fault_without_its_value() {
    use std::os::unix::ffi::OsStringExt;
    let mut world = World::of_file(ONE_CLUSTER);
    let value = OsString::from_vec(b"hunter2\xff".to_vec());
    world.inputs.variables.push(("CRDB_PROXY_URL".into(), value));

    assert_eq!(world.faults(), ["variable CRDB_PROXY_URL: is not UTF-8"]);
}

#[test]
fn with_nothing_given_the_usual_files_are_looked_for_and_else_help_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let usual = folder.path().join("crdb-proxy.toml");
    let mut world = World::default();
    world.inputs.usual_files = vec![folder.path().join("none.toml"), usual.clone()];

    let nothing = world.clone().load().unwrap_err();
    fs::write(&usual, ONE_CLUSTER).unwrap();
    let found = world.clone().loaded();
    let with_host = world.url("postgresql://a:b@h?sslrootcert=system").loaded();

    assert!(nothing.is_nothing_given());
    assert!(nothing.to_string().contains("none.toml"), "{nothing}");
    assert_eq!(found.settings.file.as_deref(), Some(usual.as_path()));
    assert_eq!(with_host.settings.file, None);
}

#[test]
fn relative_paths_count_from_the_folder_of_a_symbolic_link_and_not_from_where_it_leads() {
    let root = tempfile::tempdir().unwrap();
    let (real, link) = (root.path().join("real"), root.path().join("link"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&link).unwrap();
    fs::write(real.join("f.toml"), ONE_CLUSTER).unwrap();
    std::os::unix::fs::symlink(real.join("f.toml"), link.join("f.toml")).unwrap();
    let mut inputs = Inputs { working_folder: "/w".into(), cores: 1, ..Inputs::default() };
    inputs.flags.config = Some(link.join("f.toml"));

    let loaded = load(&inputs).unwrap();

    assert_eq!(loaded.settings.clusters[0].ca, CaSource::File(link.join("ca.crt")));
}

#[test]
fn a_file_that_a_variable_names_and_that_is_missing_says_both() {
    let faults = World::default().variable("CRDB_PROXY_CONFIG", "none.toml").faults();

    assert_eq!(faults, ["none.toml: no such file; check the path (named by variable CRDB_PROXY_CONFIG)"]);
}

#[test]
fn a_password_in_a_connection_string_is_warned_about_on_the_command_line_only() {
    let url = "postgresql://a:hunter2@h?sslrootcert=system";

    let argument = World::default().url(url).loaded();
    let variable = World::default().variable("CRDB_PROXY_URL", url).loaded();

    assert!(argument.warnings[0].contains("process list"), "{:?}", argument.warnings);
    assert!(!argument.warnings[0].contains("hunter2"));
    assert_eq!(variable.warnings, Vec::<String>::new());
}

#[test]
fn what_is_shown_is_a_settings_file_that_means_the_same() {
    let text = format!(
        "{ONE_CLUSTER}[[listener]]\nname = \"a.b\"\naddress = \"unix:/run/x\"\nmode = \"0660\"\n\
         session_parameters = {{ application_name = \"x \\\"y\\\" z\" }}\nsession_age_limit = \"90s\"\n\
         local_password = {{ command = [\"p\", \"a b\"], lifetime = \"1h\" }}\n\
         regions = \"nearest\"\npath = [\"public\"]\nprefer = \"region\"\noverflow = true\nwarm_max = 0\n\
         [[listener]]\naddress = \"localhost:5\"\ntls = \"allow\"\ntls_cert = \"c\"\ntls_key = \"k\"\nreuse = true\n\
         regions = {{ nearest = [\"us-east1\"] }}\n\
         [[cluster.prod.endpoint]]\nkind = \"psc\"\nregion = \"gcp-us-east1\"\nhost = \"h\"\nendpoint_name = \"n\"\n"
    );
    let text = format!("admin_post = true\nwarm_total_max = 7\nprobe_down_interval = \"100ms\"\n{text}");
    let first = World::of_file(&text).loaded();

    let again = World::of_file(&show(&first)).loaded();

    let without_file = |loaded: Loaded| Settings { file: None, ..loaded.settings };
    assert_eq!(without_file(again), without_file(first));
}

#[test]
fn each_shown_value_has_its_source_and_no_secret_is_shown() {
    let pem = "-----BEGIN%20CERTIFICATE-----%0AMAAA";
    let url = format!("postgresql://app:hunter2@h?sslinline=true&sslrootcert={pem}");
    let loaded = World::default().url(&url).variable("CRDB_PROXY_LOG_LEVEL", "debug").loaded();

    let shown = show(&loaded);

    for line in [
        "log_level = \"debug\"  # variable CRDB_PROXY_LOG_LEVEL\n",
        "log_format = \"text\"  # default\n",
        "user = \"app\"  # connection string\n",
        "# password: from the connection string, not shown\n",
        "# ca: from the connection string, not shown\n",
    ] {
        assert!(shown.contains(line), "{line} is missing in\n{shown}");
    }
    for text in [shown, show_json(&loaded), format!("{loaded:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
